"""The commands ``run`` and ``paper``, and what they share with ``leaderboard``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, DeviceOption, FloorsOption, Plugins, Scale, check_device, names_in
from .terminal import print_overview, progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from .leaderboard import Results

Only = Annotated[list[str] | None, typer.Option(help="Names or labels to keep, separated by commas; repeatable.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default one per core, on CUDA one.")]
Longest = Annotated[
    float | None, typer.Option(min=1, help="Seconds; runs that are estimated to take longer stay missing.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would run with estimates of the time, and run nothing.")
]


def run(
    suite: Annotated[str, typer.Argument(help="Name of a shipped suite, or a TOML file.")],
    store: Annotated[
        Path | None,
        typer.Option(help="Directory of the results; default store/SUITE, with --budget store/SUITE_BUDGET."),
    ] = None,
    only_targets: Only = None,
    only_samplers: Only = None,
    scale: Annotated[Scale, typer.Option(help="small keeps what the suite's table [small] says.")] = Scale.FULL,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds instead of the suite's.")] = None,
    budget: Annotated[
        float | None, typer.Option(min=1, help="Gradient equivalents of fit and draw together, instead of the suite's.")
    ] = None,
    workers: Workers = None,
    device: DeviceOption = Device.CPU,
    plugin: Plugins = None,
    floors: FloorsOption = True,
    longest: Longest = None,
    dry_run: DryRun = False,
) -> None:
    """Run a suite, continue where an earlier call stopped, and print its leaderboard."""
    import dataclasses

    from ..targets.meter import Budget
    from .plan import load_suite
    from .work import Work

    chosen = load_suite(suite, scale=scale.value)
    if seeds is not None:
        chosen = dataclasses.replace(chosen, seeds=seeds)
    if budget is not None:
        chosen = dataclasses.replace(chosen, budget=Budget(total=budget))
    check_device(device)
    directory = store or Path("store") / (chosen.name if budget is None else f"{chosen.name}_{budget:g}")
    work = Work(
        suite=chosen,
        store=directory,
        workers=_n_workers(workers, device),
        device=device.value,
        only_targets=names_in(only_targets),
        only_samplers=names_in(only_samplers),
        plugins=plugin or [],
        longest=longest,
    )
    typer.echo(work.summary())
    if dry_run:
        typer.echo("\n".join(work.lines()))
        return
    failures = work.execute()
    write_and_print(directory, directory, device, floors=floors)
    _end_with(failures)


def paper(
    store: Annotated[Path, typer.Option(help="Directory of the stores, one per suite.")] = Path("store") / "paper",
    to: Annotated[Path | None, typer.Option(help="Directory of tables, figures and claims; default the store.")] = None,
    scale: Annotated[Scale, typer.Option(help="small: 2 seeds, fewer rows; each suite's [small] says.")] = Scale.SMALL,
    only: Annotated[
        list[str] | None, typer.Option(help="Suites, separated by commas; repeatable; default all.")
    ] = None,
    workers: Workers = None,
    device: DeviceOption = Device.CPU,
    floors: FloorsOption = True,
    longest: Longest = None,
    dry_run: DryRun = False,
) -> None:
    """Run the paper's experiments, continue where an earlier call stopped, and write tables, figures and claims."""
    import pandas as pd

    from .paper.experiments import chosen_suites
    from .paper.report import write_paper
    from .plan import load_suite
    from .work import Work, summary_of_all

    check_device(device)
    works = [
        Work(
            suite=load_suite(name, scale=scale.value),
            store=store / name,
            workers=_n_workers(workers, device),
            device=device.value,
            longest=longest,
        )
        for name in chosen_suites(names_in(only))
    ]
    for work in works:
        typer.echo(work.summary())
    typer.echo(summary_of_all(works))
    if dry_run:
        return
    failures = [work.execute() for work in works]
    for path in write_paper(store, to or store, device=device.value, compute_floors=floors):
        typer.echo(path)
    _end_with(pd.concat(failures))


def write_and_print(store: Path, to: Path, device: Device, *, floors: bool) -> "Results":
    """Evaluate a store, write the files of its leaderboard into ``to`` and print the overview."""
    from .evaluate import evaluate_store
    from .markdown import overview
    from .report import write_leaderboard
    from .store import Store

    with progress_bar("evaluations", len(Store(store).plan().runs)) as progress:
        metrics = evaluate_store(
            store,
            device=device.value,
            compute_floors=floors,
            on_start=lambda run: progress.start(run.title),
            on_end=lambda run: progress.end(run.title),
        )
    results = write_leaderboard(store, to, metrics=metrics)
    print_overview(overview(results.board))
    tables = "leaderboard.csv, overall.csv, kpis.csv, metrics.csv, costs.csv, provenance.json"
    typer.echo(f"written: {to / 'leaderboard.html'}, leaderboard.md, {tables}")
    return results


def _n_workers(workers: int | None, device: Device) -> int:
    from .engine import n_cores

    return workers or (1 if device is Device.CUDA else n_cores())


def _end_with(failures: "pd.DataFrame") -> None:
    """Name the runs that did not end by themselves; then the exit code is 1."""
    for _, row in failures.iterrows():
        typer.echo(
            f"{row['status']}: {row['target']} / {row['sampler']} / seed {row['seed']}: {row['reason']}", err=True
        )
    if len(failures):
        raise typer.Exit(1)
