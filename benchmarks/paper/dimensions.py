"""Suite ``paper-dimensions``: how quality and cost grow with the dimension."""

from collections.abc import Collection, Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from ...targets.base import TARGETS
from ..leaderboard import Results
from ..look import LOOK, ratio_axis, save, set_title, style
from ..plan import RunSpec
from ..ranks import scores
from ..store import write_csvs
from .marks import mark_lost
from .rivals import no_worse
from .run_values import run_values, value_names
from .scaling import exponents_table

SIDESTEP = 1.05  # between samplers, so that points of one dimension do not hide each other
ONE_PASS = ("dft", "fisher", "kl", "dft_plus")  # samplers; all others of the suite are their rivals
PAID = (
    "fit_gradient_equivalents", "draw_gradient_equivalents", "gradient_equivalents_per_effective_draw", "fit_seconds",
    "draw_seconds", "microseconds_per_draw", "microseconds_per_effective_draw",
)  # fmt: skip
SHOWN = {
    "primary_ratio": "worse of sliced W2\nand mode TV / floor",
    "well_error_ratio": "largest error of a\nwell's weight / floor",
    "fit_seconds": "seconds of training\nor burn-in",
    "microseconds_per_effective_draw": "microseconds\nper effective draw",
}
FITTED = (
    "primary_ratio", "sliced_w2_ratio", "mode_tv_ratio", "well_error_ratio", "fit_seconds", "microseconds_per_draw",
    "microseconds_per_effective_draw", "gradient_equivalents_per_effective_draw",
)  # fmt: skip


def write_tables(store: Path, results: Results, to: Path) -> None:
    """Write dimensions.csv and exponents.csv into ``to``."""
    runs = run_table(results.plan.runs, results.metrics, results.costs)
    known = [name for name in FITTED if name in runs]
    were_run = runs[runs["status"] != "missing"]
    tables = {"dimensions": dimensions_table(runs, results.metrics), "exponents": exponents_table(were_run, known)}
    write_csvs(to, tables)


def write_figures(folder: Path) -> list[Path]:
    """Draw figures/dimensions and figures/exponents from dimensions.csv and exponents.csv in ``folder``."""
    table, exponents = (pd.read_csv(folder / f"{name}.csv") for name in ("dimensions", "exponents"))
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    with matplotlib.rc_context(LOOK):
        written = save(dimensions_figure(table, exponents), figures / "dimensions")
        return [*written, *save(exponents_figure(exponents), figures / "exponents")]


def run_table(plan: Collection[RunSpec], metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """A row per run, with its place on the axis of dimensions.

    Labels of targets are "FAMILY d=DIM"; a row "SAMPLER d=DIM" is the part of the row SAMPLER that needs other settings
    there.

    Args:
        plan: runs.
        metrics: what ``evaluate_store`` returned.
        costs: what ``costs.run_costs`` returned.
    Returns:
        family, dim, sampler, seed, status, is_one_pass, the columns of ``run_values`` and those of PAID; fit_seconds is
        0 where nothing is evaluated before the first draw.
    """
    dims = {run.target_label: TARGETS.get(run.target, **run.target_parameters).dim for run in plan}
    one_pass = {run.run_id for run in plan if run.sampler in ONE_PASS}
    runs = run_values(metrics).reset_index()
    runs = runs.merge(costs[["target", "sampler", "seed", *PAID]], on=["target", "sampler", "seed"], how="left")
    runs["fit_seconds"] = runs["fit_seconds"].where(runs["fit_gradient_equivalents"] != 0, 0.0)
    return runs.assign(
        family=runs["target"].str.partition(" d=")[0],
        dim=runs["target"].map(dims),
        row=runs["sampler"],
        sampler=runs["sampler"].str.partition(" d=")[0],
        is_one_pass=runs["run_id"].isin(one_pass),
    )


def dimensions_table(runs: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Every row of every target.

    Args:
        runs: of ``run_table``.
        metrics: what ``evaluate_store`` returned.
    Returns:
        family, dim, sampler, target, is_one_pass, n_seeds, n_ok; medians over the runs that have one: ratios to the
        floor (NAME_ratio), values of metrics without floor, and costs; of those in SHOWN also NAME_min and NAME_max.
        Of one-pass rows: rival, of the MCMC and SMC rows of no worse primary ratio (``rivals.no_worse``) the one with
        the cheapest effective draw in time, and times_cheaper, how many draws one of its effective draws buys.
    """
    names = [*value_names(runs[[name for name in runs if name not in _PLACES]]), *PAID]
    names = [name for name in dict.fromkeys(names) if runs[name].notna().any()]
    rows = []
    for key, cell in runs.groupby(["family", "dim", "sampler"], sort=False):
        family, dim, sampler = key
        row: dict[str, object] = {"family": family, "dim": dim, "sampler": sampler, "target": cell["target"].iloc[0]}
        row |= {"is_one_pass": cell["is_one_pass"].iloc[0], "n_seeds": len(cell)}
        row |= {"n_ok": int((cell["status"] == "ok").sum()), **cell[names].astype(float).median()}
        for name in SHOWN:
            if name in names:
                row |= {f"{name}_{end}": getattr(cell[name].astype(float), end)() for end in ("min", "max")}
        rows.append(row)
    return _with_rivals(pd.DataFrame(rows), runs, metrics)


_PLACES = ("run_id", "target", "sampler", "seed", "status", "is_finite", "family", "dim", "row", "is_one_pass", *PAID)


def _with_rivals(table: pd.DataFrame, runs: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """The columns rival and times_cheaper of one-pass rows."""
    of_row = runs.groupby(["target", "row"])[["microseconds_per_effective_draw", "is_one_pass"]].median()
    shown = runs.drop_duplicates(["target", "row"]).set_index(["target", "row"])["sampler"]
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for target, part in scores(metrics).groupby("target", sort=False):
        score, own = part.pivot(index="sampler", columns="seed", values="score"), of_row.loc[target]
        is_one_pass = own["is_one_pass"].astype(bool)
        for name in own.index[is_one_pass]:
            rivals = no_worse(score, name, list(own.index[~is_one_pass]))
            prices = own["microseconds_per_effective_draw"].reindex(rivals).dropna()
            if len(prices):
                times = prices.min() / own["microseconds_per_effective_draw"][name]
                found[str(target), str(shown[target, name])] = str(prices.idxmin()), float(times)
    rows = [found.get(key, ("", float("nan"))) for key in zip(table["target"], table["sampler"], strict=True)]
    return table.assign(rival=[name for name, _ in rows], times_cheaper=[times for _, times in rows])


def dimensions_figure(table: pd.DataFrame, exponents: pd.DataFrame) -> Figure:
    """Quality, time of training and time of a draw over the dimension, a row of panels per family, with fitted lines.

    Args:
        table: of ``dimensions_table``.
        exponents: of ``scaling.exponents_table``.
    """
    samplers, families = list(dict.fromkeys(table["sampler"])), list(dict.fromkeys(table["family"]))
    shown = [name for name in SHOWN if name in table]
    figure = Figure(figsize=(3.0 * len(shown) + 1.8, 2.9 * len(families) + 0.8), layout="constrained")
    axes = figure.subplots(len(families), len(shown), squeeze=False)
    for family, row in zip(families, axes, strict=True):
        for name, axis in zip(shown, row, strict=True):
            part = table[(table["family"] == family) & (table[name] > 0)]
            if part.empty:
                axis.remove()
                continue
            for sampler, line in part.groupby("sampler", sort=False):
                _line(axis, name, line, samplers, str(sampler))
            laws = exponents[(exponents["family"] == family) & (exponents["quantity"] == name)]
            _laws(axis, laws[laws["exponent"].notna()], samplers)
            _dimension_axis(axis, sorted(set(table["dim"])))
            axis.set(title=family, ylabel=SHOWN[name])
            if name.endswith("_ratio"):
                axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
            ratio_axis(axis)
    handles = [Line2D([], [], ls="", ms=6, **style(index)) for index in range(len(samplers))]
    figure.legend(handles, samplers, loc="outside right center", frameon=False)
    text = (
        "Quality and cost over the dimension: median and range over seeds. Lines: power laws, dotted where the points"
    )
    set_title(figure, f"{text} curve significantly; x: runs were lost")
    return figure


def _line(axis: Axes, name: str, line: pd.DataFrame, samplers: Sequence[str], sampler: str) -> None:
    index = samplers.index(sampler)
    x = line["dim"] * SIDESTEP ** (index - (len(samplers) - 1) / 2)
    look = style(index)
    axis.plot(x, line[name], ls="", ms=5.5, zorder=3, **look)
    axis.vlines(x, line[f"{name}_min"], line[f"{name}_max"], color=look["color"], lw=1.0, alpha=0.7, zorder=2)
    mark_lost(axis, x[line["n_ok"] < line["n_seeds"]], look["color"])


def _laws(axis: Axes, laws: pd.DataFrame, samplers: Sequence[str]) -> None:
    for _, law in laws.iterrows():
        index = samplers.index(law["sampler"])
        shift = SIDESTEP ** (index - (len(samplers) - 1) / 2)
        ends = [float(dim) for dim in (str(law["dims"]).split()[0], str(law["dims"]).split()[-1])]
        y = [law["factor"] * end ** law["exponent"] for end in ends]
        is_curved = str(law["is_power_law"]) == "False"
        axis.plot(
            [end * shift for end in ends],
            y,
            ls=":" if is_curved else "-",
            lw=1.0,
            color=style(index)["color"],
            zorder=1,
        )


def _dimension_axis(axis: Axes, dims: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(dims, [str(dim) for dim in dims])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xticks([], minor=True)
    axis.set_xlabel("dimension")


def exponents_figure(exponents: pd.DataFrame) -> Figure:
    """Exponents with their intervals, a panel per quantity, a marker per family; open where points curve.

    Args:
        exponents: of ``scaling.exponents_table``.
    """
    known = exponents[exponents["exponent"].notna()]
    samplers, families = (list(dict.fromkeys(known[name])) for name in ("sampler", "family"))
    shown = [name for name in SHOWN if name in set(known["quantity"])]
    figure = Figure(figsize=(2.7 * len(shown) + 2.6, 0.42 * len(samplers) + 1.7), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for name, axis in zip(shown, axes, strict=True):
        part = known[known["quantity"] == name]
        for index, family in enumerate(families):
            look = {**style(index), "mew": 1.2}
            for _, row in part[part["family"] == family].iterrows():
                y = samplers.index(row["sampler"]) + 0.24 * (index - (len(families) - 1) / 2)
                is_curved = str(row["is_power_law"]) == "False"
                colours = {"mfc": "white" if is_curved else look["color"], "mec": look["color"]}
                axis.plot(row["exponent"], y, ls="", ms=6, zorder=3, **{**look, **colours})
                axis.hlines(y, row["low"], row["high"], color=look["color"], lw=1.2)
        axis.axvline(0.0, color="0.6", lw=1, ls="--", zorder=0)
        axis.set(xlabel="exponent", title=SHOWN[name])
    axes[0].set_yticks(range(len(samplers)), samplers)
    axes[0].invert_yaxis()
    handles = [Line2D([], [], ls="", ms=6, **style(index)) for index in range(len(families))]
    figure.legend(handles, families, loc="outside right center", frameon=False)
    text = "Exponents a of quantity ~ dimension^a, 95% intervals over runs; open: the points curve, no single exponent"
    set_title(figure, text)
    return figure
