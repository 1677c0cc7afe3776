"""Experiment ``paper-2d``: targets in the plane, one pass of a network against steps of MCMC, and coverage of modes."""

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from ...targets.base import TARGETS
from ..figures import draw_panels
from ..leaderboard import Results
from ..look import COLOURS, LOOK, RATIO, save, set_title
from ..store import write_csvs
from .equal_steps import equal_steps_table
from .quality import MANY_MODES, Rows, qualities, step_curves
from .rivals import against_rivals
from .shipped import Cells, draws_to_ship, read_panels, write_panels
from .step_figures import steps_figure

METRICS = {  # of which less is better, with what titles and axes of figures call them
    "primary": ("Primary ratio (worse of sliced W2 and mode TV, over the floor)", RATIO),
    "sliced_w2": ("Sliced W2", "sliced W2 / floor"),
    "ksd_paper": ("Squared KSD of width 1", "squared KSD / floor"),
}
ONE_PASS = ("dft", "fisher", "kl", "ksd_ns", "dft_plus", "dft_plus_unfinished", "smc_gmm")
LEVELS = ("DFT", "Fisher", "KL", "DFT+", "SVGD")  # shown beside chains
SHOWN = ("DFT", "Fisher", "KL", "KSD-NS", "SVGD", "DFT+", "MALA 500 steps")  # whose draws are shown
N_SHIPPED = 1_000


def write_tables(store: Path, results: Results, to: Path) -> None:
    """Write step_curves.csv, equal_steps.csv, rivals.csv and panels.npz into ``to``."""
    rows, runs = Rows.of(results.plan.runs), results.plan.runs
    one_pass = list(dict.fromkeys(run.sampler_label for run in runs if run.sampler in ONE_PASS))
    quality = qualities(results.metrics, list(METRICS))
    tables = {
        "step_curves": step_curves(quality, results.costs, rows),
        "equal_steps": equal_steps_table(quality, results.costs, rows, one_pass),
        "rivals": against_rivals(results.metrics, results.costs, rows, one_pass),
    }
    write_csvs(to, tables)
    write_panels(to, draws_to_ship(store, results, SHOWN, N_SHIPPED))


def write_figures(folder: Path) -> list[Path]:
    """Draw steps_METRIC, modes and draws (.png, .svg) from the CSVs and panels.npz of ``folder``."""
    to = folder / "figures"
    to.mkdir(parents=True, exist_ok=True)
    curves = pd.read_csv(folder / "step_curves.csv", keep_default_na=False, na_values=[""])
    curves["chain"] = curves["chain"].fillna("")
    written: list[Path] = []
    with matplotlib.rc_context(LOOK):
        for metric, (name, y_label) in METRICS.items():
            part = curves[curves["metric"] == metric]
            if len(part):
                title = f"{name} after k steps of MCMC from the start, and after one pass"
                note = "geometric means and 95% intervals over seeds; dashed: the floor of exact draws"
                figure = steps_figure(part, LEVELS, y_label=y_label, title=f"{title}: {note}")
                written += save(figure, to / f"steps_{metric}")
        coverage = modes_figure(pd.read_csv(folder / "metrics.csv"))
        if coverage is not None:
            written += save(coverage, to / "modes")
        written += save(draws_figure(read_panels(folder)), to / "draws")
    return written


def modes_figure(metrics: pd.DataFrame) -> Figure | None:
    """Share of the modes that were found and total variation of their weights, every seed a dot, a column per target.

    Where seeds have no value it says how many have one.

    Args:
        metrics: as ``evaluate_store`` returns it.
    Returns:
        None if no target has three modes or more, and both metrics.
    """
    ok = metrics[metrics["value"].notna()]
    values = ok.pivot(index=["target", "sampler", "seed"], columns="metric", values="value")
    if not {"modes_asked", "modes_found", "mode_tv"} <= set(values.columns):
        return None
    asked = values.groupby("target", sort=False)["modes_asked"].max()
    targets = [target for target in dict.fromkeys(metrics["target"]) if asked.get(target, 0) >= MANY_MODES]
    if not targets:
        return None
    samplers = list(dict.fromkeys(metrics["sampler"]))
    size = (2.0 * len(targets) + 1.5, 2 * (0.17 * len(samplers) + 0.6) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(targets), sharey=True, sharex="row", squeeze=False)
    n_seeds = metrics["seed"].nunique()
    floors = metrics[metrics["metric"] == "mode_tv"].groupby("target")["floor"].max()
    place = {name: len(samplers) - 1 - index for index, name in enumerate(samplers)}
    for column, target in enumerate(targets):
        part = values.loc[target].reset_index()
        y = part["sampler"].map(place)
        for axis, x in zip(axes[:, column], (part["modes_found"] / part["modes_asked"], part["mode_tv"]), strict=True):
            axis.plot(x, y, "o", ms=4, color=COLOURS[0], alpha=0.5, mew=0, clip_on=False)
            mean = x.groupby(part["sampler"]).mean()
            axis.plot(mean, mean.index.map(place), "|", ms=9, mew=1.5, color=COLOURS[4], zorder=3)
            axis.set_yticks([*place.values()], [*place])
            axis.tick_params(axis="y", labelsize=7, length=0)
            axis.grid(axis="y", color="0.92", lw=0.7)
            axis.set(xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(-0.7, len(samplers) - 0.3))
            for name, n_known in part.groupby("sampler").size().reindex(samplers, fill_value=0).items():
                if n_known < n_seeds:
                    what = f"{n_known} of {n_seeds} seeds" if n_known else "no value"
                    axis.text(0.02, place[str(name)] + 0.15, what, fontsize=6, va="center", color="0.4")
        axes[0, column].set_title(f"{target}: {asked[target]:g} modes")
        axes[0, column].set_xlabel("share of modes found")
        axes[1, column].set_xlabel("mode TV")
        axes[1, column].axvline(floors[target], color="0.6", lw=1, ls="--", zorder=0)
    set_title(
        figure,
        "Modes found (above, more is better) and total variation of mode weights (below, less is better; dashed: the "
        "floor of exact draws): dots are seeds, bars their means",
    )
    return figure


def draws_figure(panels: dict[str, Cells]) -> Figure:
    """Draws over the density, a row of panels per target: the exact law, then each row of the suite that is shown.

    Args:
        panels: as ``shipped.read_panels`` returns them; targets are registered under their labels.
    """
    n_columns = 1 + max(map(len, panels.values()))
    figure = Figure(figsize=(1.45 * n_columns + 0.3, 1.45 * len(panels) + 0.7), layout="constrained")
    axes = figure.subplots(len(panels), n_columns, squeeze=False)
    for number, (own, (label, cells)) in enumerate(zip(axes, panels.items(), strict=True)):
        draw_panels(own, TARGETS.get(label), cells)
        for axis in own:
            axis.set(xticks=[], yticks=[])
            axis.set_title(axis.get_title() if number == 0 else "", fontsize=9)
            axis.spines[["top", "right"]].set_visible(True)
            for spine in axis.spines.values():
                spine.set(color="0.8", linewidth=0.6)
        for axis in own[1 + len(cells) :]:
            axis.set_visible(False)
        own[0].set_ylabel(label)
    n = max((len(cell) for cells in panels.values() for cell in cells.values() if not isinstance(cell, str)), default=0)
    set_title(figure, f"{n:,} draws of each row of the first seed over the regions that hold 50, 90 and 99% of the law")
    return figure
