"""The command line: ``samplerbench list | run | leaderboard | compare | figures | judge | ...``; imports wait."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..targets.registry import UnknownNameError
from .cli_run import paper, run, write_and_print
from .options import Device, DeviceOption, FloorsOption, Plugins, Slice, StoreArgument, check_device, names_in
from .terminal import print_section, print_table, progress_bar

if TYPE_CHECKING:
    from .subject import Row

app = typer.Typer(
    name="samplerbench",
    help="Benchmark suite for samplers of unnormalised densities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Kind(StrEnum):
    """What ``list`` shows."""

    ALL = "all"
    TARGETS = "targets"
    SAMPLERS = "samplers"
    METRICS = "metrics"
    SUITES = "suites"


class PluginKind(StrEnum):
    """What ``check`` examines."""

    SAMPLER = "sampler"
    TARGET = "target"
    METRIC = "metric"


MAX_DETAILED = 5  # targets whose checks are shown one by one; more are shown by their verdicts

app.command()(run)
app.command()(paper)


@app.command("list")
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")] = Kind.ALL, plugin: Plugins = None) -> None:
    """List targets with what is known of their truth, samplers, metrics and suites, each with one line."""
    from ..metrics.base import METRICS
    from ..samplers.base import SAMPLERS
    from ..targets.base import TARGETS
    from ..targets.registry import load_plugin
    from .catalogue import TARGET_COLUMNS, describe, target_line
    from .plan import load_suite, suite_names

    for path in plugin or []:
        load_plugin(path)
    if kind in (Kind.ALL, Kind.TARGETS):
        print_section("targets", [target_line(describe(name)) for name in TARGETS.names()], header=TARGET_COLUMNS)
    for registry, shown in ((SAMPLERS, Kind.SAMPLERS), (METRICS, Kind.METRICS)):
        if kind in (Kind.ALL, shown):
            entries = [registry.entry(name) for name in registry.names()]
            print_section(shown.value, [(f"{entry.name}@{entry.version}", entry.summary) for entry in entries])
    if kind in (Kind.ALL, Kind.SUITES):
        print_section("suites", [(name, load_suite(name).description) for name in suite_names()])


@app.command()
def leaderboard(
    store: StoreArgument,
    to: Annotated[Path | None, typer.Option(help="Directory of the files; default the store.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Also write tables for a paper to this file.")] = None,
    targets: Slice = None,
    samplers: Slice = None,
    metrics: Slice = None,
    costs: Slice = None,
    device: DeviceOption = Device.CPU,
    floors: FloorsOption = True,
) -> None:
    """Evaluate a store: leaderboard (HTML, CSV, Markdown, LaTeX), overall, key figures, metrics, costs, provenance."""
    from .store import write_text

    check_device(device)
    chosen = {
        name: names_in(values)
        for name, values in (("targets", targets), ("samplers", samplers), ("metrics", metrics), ("costs", costs))
    }
    if latex is None and any(chosen.values()):
        given = ", ".join(f"--{name}" for name, values in chosen.items() if values)
        raise ValueError(f"{given}: what --latex FILE shows; the other files hold everything, and --latex is not given")
    results = write_and_print(store, to or store, device, floors=floors)
    if latex is not None:
        from .latex import latex as tables

        shown = tables(
            results, targets=chosen["targets"], samplers=chosen["samplers"], metrics=chosen["metrics"],
            costs=chosen["costs"],
        )  # fmt: skip
        write_text(latex, shown)
        typer.echo(f"written: {latex}")


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A store, a folder that `leaderboard` wrote, or a metrics.csv.")],
    after: Annotated[Path, typer.Argument(help="Another.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit code 1 if something is worse.")
    ] = False,
    level: Annotated[
        float, typer.Option(help="Chance of a single false finding among all cells, and one less the intervals' cover.")
    ] = 0.05,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Names to compare, separated by commas; repeatable; default all.")
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="More seconds are a regression too.")] = False,
    to: Annotated[Path | None, typer.Option(help="Also write all rows as CSV to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all rows as JSON; the words go to stderr.")] = False,
    device: DeviceOption = Device.CPU,
    plugin: Plugins = None,
) -> None:
    """Say what changed between two leaderboards beyond the noise of seeds: quality, evaluations, seconds, statuses."""
    from ..targets.registry import load_plugin
    from .compare import compare_runs, regressions
    from .compare_files import read_runs, summary, texts, to_json, write_csv

    if not 0 < level < 1:
        raise ValueError(f"--level must be between 0 and 1, got {level}")
    check_device(device)
    for path in plugin or []:
        load_plugin(path)
    sides = [read_runs(path, device=device.value) for path in (before, after)]
    try:
        table = compare_runs(*sides, level=level, metrics=names_in(metrics))
    except ValueError as error:
        raise ValueError(f"{before} and {after} do not compare: {error}") from error
    if to:
        write_csv(table, to)
    changed = texts(table, time=time)
    if as_json:
        typer.echo(to_json(table))
    elif len(changed):
        print_table(changed)
    typer.echo(summary(table), err=as_json)
    worse = regressions(table, time=time)
    if fail_on_regression and len(worse):
        typer.echo(f"{len(worse)} regressions", err=True)
        raise typer.Exit(1)


@app.command()
def figures(
    store: Annotated[
        Path | None,
        typer.Argument(
            help="Directory of a store, as `run` made it, or of tables alone, as `leaderboard` wrote them, whose costs "
            "and ranks are drawn; with --paper, as `paper` made it."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Directory of the figures; default STORE/figures, with --paper STORE.")
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper", help="Tables, figures and claims of the paper; without STORE from results/paper alone."
        ),
    ] = False,
    device: DeviceOption = Device.CPU,
) -> None:
    """Draw every figure of a store as PNG and SVG, or all that belongs to the paper's experiments."""
    check_device(device)
    if paper:
        from .paper.report import redraw, redraw_shipped, write_paper

        if store is not None:
            written = write_paper(store, to or store, device=device.value)
        else:
            written = redraw(to) if to else redraw_shipped()
    elif store is None:
        raise ValueError("figures needs the directory of a store, or --paper")
    else:
        from .figures import write_figures, write_leaderboard_figures

        folder = to or store / "figures"
        if (store / "leaderboard.csv").is_file() and not (store / "plan.json").exists():
            written = write_leaderboard_figures(store, folder)
        else:
            written = write_figures(store, folder, device=device.value)
    for path in written:
        typer.echo(path)


@app.command()
def judge(
    draws: Annotated[Path, typer.Argument(help="CSV, NPY, NPZ, Parquet, or ArviZ's InferenceData as NetCDF.")],
    target: Annotated[str, typer.Option(help="Name of the target that the draws are meant for.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON; the words go to stderr.")] = False,
    against: Annotated[Path | None, typer.Option(help="A leaderboard.csv in which the draws get a place.")] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Names, separated by commas; repeatable; default all that apply, but for c2st and w1."),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(help="Columns or variables that are the coordinates, in order, separated by commas."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the truth draws and of resampling weighted ones.")] = 0,
    device: DeviceOption = Device.CPU,
    floors: FloorsOption = True,
    plugin: Plugins = None,
) -> None:
    """Judge draws made anywhere: every metric with its floor, a verdict, and the place in a leaderboard."""
    from ..metrics.base import METRICS
    from ..targets.base import TARGETS
    from ..targets.registry import load_plugin
    from .draws_file import read_draws
    from .judge import judge_draws, remarks, texts, to_json, verdict
    from .place import place_of, read_leaderboard

    check_device(device)
    for path in plugin or []:
        load_plugin(path)
    TARGETS.entry(target)
    names = [METRICS.get(name).name for name in names_in(metrics)]
    board = read_leaderboard(against, target) if against else None
    reading = read_draws(draws, variables=names_in(variables))
    typer.echo(reading.text, err=as_json)
    with progress_bar("metrics", len(names or METRICS.names())) as progress:
        try:
            table = judge_draws(
                reading.draws, target, metrics=names, seed=seed, device=device.value, compute_floors=floors,
                on_start=progress.start, on_end=progress.end,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{error}; {reading.text}") from error
    if as_json:
        typer.echo(to_json(table))
    else:
        print_table(texts(table))
    for line in (*remarks(table), verdict(table)):
        typer.echo(line, err=as_json)
    if board is not None:
        typer.echo(place_of(reading.draws, target, board, seed=seed, device=device.value), err=as_json)


@app.command()
def certify(
    targets: Annotated[list[str] | None, typer.Argument(help="Names of targets; default all.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="With fewer draws, paths and nodes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
    to: Annotated[Path | None, typer.Option(help="Also write the whole table as CSV to this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default one per core.")] = None,
    plugin: Plugins = None,
) -> None:
    """Check that density, draws, log Z and mode masses of targets are one law; exit code 1 if a check fails."""
    from ..targets.base import TARGETS
    from ..targets.registry import load_plugin
    from .certify import certify_targets, failed, line_of, summary, to_json
    from .engine import n_cores
    from .store import write_text

    for path in plugin or []:
        load_plugin(path)
    names = list(dict.fromkeys(targets or TARGETS.names()))
    with progress_bar("certificates", len(names)) as progress:

        def report(name: str, rows: "list[Row]", seconds: float) -> None:
            progress.start(name)
            progress.end(name, line_of(rows, seconds))

        chosen = plugin or []
        table = certify_targets(
            names, fast=fast, seed=seed, workers=workers or n_cores(), plugins=chosen, on_end=report
        )
    if to:
        write_text(to, table.to_csv(index=False, float_format="%.10g"))
    if as_json:
        typer.echo(to_json(table))
    else:
        print_table(table if len(names) <= MAX_DETAILED else summary(table))
    if failed(table):
        raise typer.Exit(1)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Name of a sampler, a target or a metric.")],
    kind: Annotated[PluginKind | None, typer.Option(help="Which of them, if several have the name.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON; the lines go to stderr.")
    ] = False,
    plugin: Plugins = None,
) -> None:
    """Check a plug-in against its contract, a line per check, seconds to minutes; exit code 1 if a check fails."""
    from .check import check_plugin, failed, line_of, summary, to_json

    found = check_plugin(
        name,
        kind=kind.value if kind else None,
        plugins=plugin or [],
        on_end=lambda finding: typer.echo(line_of(finding), err=as_json),
    )
    typer.echo(to_json(found) if as_json else summary(found))
    if failed(found):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors that the user can mend are one line on stderr and exit code 2."""
    try:
        app()
    except (UnknownNameError, ValueError, OSError) as error:
        _fail(error)
    except RuntimeError as error:
        from .store import StoreError

        if not isinstance(error, StoreError):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    typer.echo(f"samplerbench: {error}", err=True)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
