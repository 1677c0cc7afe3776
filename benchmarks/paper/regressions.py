"""Suite ``paper-blr``: predictions of posteriors of logistic regressions, beside those of reference draws."""

import math
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...metrics.base import METRICS
from ...targets.base import TARGETS, HasReference
from ...targets.draws import Draws
from ..leaderboard import Results
from ..look import LOOK, save, set_title, style
from ..ranks import half_width
from ..store import Plan, write_csv
from ..truth import TruthSource

PREDICTIVE = ("accuracy", "nll", "ece")
SHOWN = {
    "accuracy": "accuracy",
    "nll": "negative log likelihood, nats per row",
    "ece": "calibration error",
    "moment_bias2": "squared moment bias / variance",
}
COLUMNS = ["target", "sampler", "metric", "n_ok", "n_seeds", "mean", "low", "high", "reference", "excess", "floor"]
ROW_HEIGHT = 0.24  # inches


def write_tables(store: Path, results: Results, to: Path) -> None:
    """predictive.csv, see ``predictive_table``."""
    table = predictive_table(results.metrics, reference_values(results.plan))
    write_csv(to / "predictive.csv", table)


def write_figures(folder: Path) -> list[Path]:
    """For each target predictive_TARGET (.png, .svg), from predictive.csv."""
    table, written = pd.read_csv(folder / "predictive.csv"), []
    (folder / "figures").mkdir(exist_ok=True)
    with matplotlib.rc_context(LOOK):
        for target, of_target in table.groupby("target", sort=False):
            written += save(predictive_figure(str(target), of_target), folder / "figures" / f"predictive_{target}")
    return written


def reference_values(plan: Plan) -> pd.DataFrame:
    """What the predictive metrics are for all reference draws of the targets of a plan: target, metric, value.

    Raises:
        ValueError: for a target without reference draws, naming it.
    """
    rows: list[tuple[str, str, float]] = []
    for label, run in {run.target_label: run for run in plan.runs}.items():
        target = TARGETS.get(run.target, **run.target_parameters)
        if not isinstance(target, HasReference):
            raise ValueError(f"a target of this experiment must have reference draws, {label} has none")
        draws, truth = Draws(samples=target.reference()), TruthSource(target).fixed
        rows += [(label, name, METRICS.get(name)(draws, truth, seed=0)[name]) for name in PREDICTIVE]
    return pd.DataFrame(rows, columns=["target", "metric", "value"])


def predictive_table(metrics: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """One row per target, sampler and metric.

    Args:
        metrics: of ``evaluate_store``.
        references: of ``reference_values``.
    Returns:
        target, sampler, metric, n_ok (runs with a value), n_seeds, mean over those, low and high (95% t-interval),
        reference (the value of reference draws), excess (mean less reference), floor (of metrics that have one).
    """
    wanted = metrics[metrics["metric"].isin(SHOWN)]
    known = references.set_index(["target", "metric"])["value"].to_dict()
    rows = []
    for (target, sampler, metric), cell in wanted.groupby(["target", "sampler", "metric"], sort=False):
        values = cell["value"].dropna()
        half = half_width(values.to_numpy())
        reference = known.get((target, metric), math.nan)
        mean, floor = values.mean(), cell["floor"].max()
        place = (target, sampler, metric, len(values), len(cell))
        row = (*place, mean, mean - half, mean + half, reference, mean - reference, floor)
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def predictive_figure(target: str, table: pd.DataFrame) -> Figure:
    """A panel per metric, a line per sampler: mean and 95% interval over seeds; dashed what reference draws reach.

    Where seeds have no value it says how many have one.

    Args:
        target: its label.
        table: rows of ``predictive_table`` of that target.
    """
    samplers = list(dict.fromkeys(table["sampler"]))
    figure = Figure(figsize=(11.5, 1.3 + ROW_HEIGHT * len(samplers)), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axis, (metric, name) in zip(panels, SHOWN.items(), strict=True):
        cells = table[table["metric"] == metric].set_index("sampler")
        _panel(axis, samplers, cells)
        axis.set_xlabel(name)
        if metric == "moment_bias2":
            axis.set_xscale("log")
    panels[0].set_yticks(range(len(samplers)), samplers)
    panels[0].set_ylim(len(samplers) - 0.5, -0.5)
    set_title(figure, f"{target}: predictions on held-out rows and moments; dashed: reference draws")
    return figure


def _panel(axis: Axes, samplers: list[str], cells: pd.DataFrame) -> None:
    table = cells.reset_index()[["sampler", "mean", "low", "high", "n_ok", "n_seeds"]].to_numpy().tolist()
    known = {name: numbers for name, *numbers in table}
    for place, sampler in enumerate(samplers):
        mean, low, high, n_ok, n_seeds = known.get(sampler, (math.nan, math.nan, math.nan, 0, 0))
        if math.isnan(mean):
            axis.text(
                0.5, place, "no value", transform=axis.get_yaxis_transform(), ha="center", va="center", color="0.4"
            )
            continue
        if not math.isnan(low):
            axis.plot([low, high], [place, place], color=style(0)["color"], linewidth=1)
        axis.plot(mean, place, **style(0))
        if n_ok < n_seeds:
            axis.text(
                0.99, place, f"{n_ok} of {n_seeds} seeds", transform=axis.get_yaxis_transform(),
                ha="right", va="center", color="0.4", fontsize=7,
            )  # fmt: skip
    line = float(cells["reference"].fillna(cells["floor"]).max())
    if not math.isnan(line):
        axis.axvline(line, color="0.4", linestyle="--", linewidth=1)
    axis.grid(axis="y", color="0.92")
    axis.set_axisbelow(True)
