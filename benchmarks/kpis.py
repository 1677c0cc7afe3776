"""Key figures in plain words: what a sampler's runs on a target found, what they got wrong and what they cost.

One number and one short text per key figure, with a definition that needs no other page. A figure that does not apply
(no modes known, a metric that the suite does not compute) is absent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from .leaderboard import Results
from .number_text import number_text
from .ranks import PRIMARY, scores

COLUMNS = ("target", "sampler", "kpi", "value", "text", "unit")


@dataclass(frozen=True)
class Cell:
    """The runs of one sampler on one target.

    Attributes:
        metrics: its rows of ``evaluate_store``.
        costs: its rows of ``run_costs``.
        scores: its rows of ``ranks.scores``.
    """

    metrics: pd.DataFrame
    costs: pd.DataFrame
    scores: pd.DataFrame

    @property
    def n_runs(self) -> int:
        """Runs that were planned."""
        return int(self.metrics["seed"].nunique())

    def values(self, *names: str) -> pd.DataFrame:
        """Values of metrics, a row per run that has all of them; no rows if the suite lacks one."""
        rows = self.metrics[self.metrics["metric"].isin(names)]
        return rows.pivot(index="seed", columns="metric", values="value").reindex(columns=list(names)).dropna()


@dataclass(frozen=True)
class Reading:
    """What a key figure says of a cell: value, text, and the number of runs behind them."""

    value: float
    text: str
    n_runs: int


@dataclass(frozen=True)
class KPI:
    """A key figure.

    Attributes:
        name: in ``kpis.csv``.
        title: head of its column.
        unit: of the value.
        definition: one sentence.
        read: its reading of a cell; None where it does not apply.
    """

    name: str
    title: str
    unit: str
    definition: str
    read: Callable[[Cell], Reading | None]


def kpis(results: Results) -> pd.DataFrame:
    """Key figures of every sampler on every target; see ``kpi_table``."""
    return kpi_table(results.metrics, results.costs)


def kpi_table(metrics: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Key figures of every sampler on every target.

    Args:
        metrics: what ``evaluate_store`` returned.
        costs: what ``costs.run_costs`` returned.
    Returns:
        One row per target, sampler and key figure that applies: target, sampler, kpi (a name in ``KPIS``), value, text,
        unit. Where some runs have no value, the text ends with how many have: ``[4/5 runs]``.
    """
    judged = scores(metrics)
    rows = []
    for (target, sampler), part in metrics.groupby(["target", "sampler"], sort=False):
        cell = Cell(part, *(table[_is_of(table, target, sampler)] for table in (costs, judged)))
        for kpi in KPIS:
            found = kpi.read(cell)
            if found is not None:
                runs = "" if found.n_runs == cell.n_runs else f" [{found.n_runs}/{cell.n_runs} runs]"
                rows.append((target, sampler, kpi.name, found.value, found.text + runs, kpi.unit))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_of(table: pd.DataFrame, target: object, sampler: object) -> "pd.Series[bool]":
    return (table["target"] == target) & (table["sampler"] == sampler)


def _modes_found(cell: Cell) -> Reading | None:
    runs = cell.values("modes_found", "modes_asked")
    runs = runs[runs["modes_asked"] > 0]
    if runs.empty:
        return None
    found, asked = runs["modes_found"].mean(), runs["modes_asked"].mean()
    share = float((runs["modes_found"] / runs["modes_asked"]).mean())
    return Reading(share, f"{share:.0%} ({number_text(found)} of {number_text(asked)})", len(runs))


def _rarest_found(cell: Cell) -> Reading | None:
    runs = cell.values("rarest_found", "rarest_asked")
    if runs.empty:
        return None
    mass, asked = float(runs["rarest_found"].max()), float(runs["rarest_asked"].min())
    return Reading(mass, f"{number_text(mass)} (of {number_text(asked)})", len(runs))


def _first_hit(cell: Cell) -> Reading | None:
    runs = cell.values("first_hit", "first_hit_exact", "first_hit_censored")
    if runs.empty:
        return None
    mean, n_censored = float(runs["first_hit"].mean()), int(runs["first_hit_censored"].sum())
    never = f", none in {n_censored} of {len(runs)} runs" if n_censored else ""
    text = f"{number_text(mean)} (exact draws {number_text(runs['first_hit_exact'].mean())}{never})"
    return Reading(mean, text, len(runs))


def _error_of_averages(cell: Cell) -> Reading | None:
    values = cell.values("moment_bias2")["moment_bias2"]
    if values.empty:
        return None
    error = math.sqrt(values.median())
    floor = cell.metrics.loc[cell.metrics["metric"] == "moment_bias2", "floor"].mean()
    beside = "" if math.isnan(floor) else f" (exact draws {number_text(math.sqrt(floor), 2)})"
    return Reading(error, f"{number_text(error, 2)}{beside}", len(values))


def _cost(once: str, per_draw: str, size: float) -> Callable[[Cell], Reading | None]:
    """Cost of 1,000 effective draws, and what is paid once."""

    def read(cell: Cell) -> Reading | None:
        runs = cell.costs[[once, per_draw]].dropna()
        if runs.empty:
            return None
        value = float(1_000 * size * runs[per_draw].mean())
        return Reading(value, f"{number_text(value)} (+ {number_text(runs[once].mean())})", len(runs))

    return read


def _spread(cell: Cell) -> Reading | None:
    known = cell.scores["score"].dropna()
    if len(known) < 2:
        return None
    value = math.exp(known.max() - known.min())
    return Reading(value, f"{number_text(value, 2)}x", len(known))


def _at_floor(cell: Cell) -> Reading | None:
    primary = cell.metrics[cell.metrics["metric"].isin(PRIMARY) & ~cell.metrics["reason"].str.startswith("needs ")]
    if primary["floor"].isna().all():
        return None
    passed = primary["status"].eq("ok") & primary["at_floor"].eq(True)
    n_passed = int(passed.groupby(primary["seed"]).all().sum())
    return Reading(n_passed / cell.n_runs, f"{n_passed} of {cell.n_runs}", cell.n_runs)


KPIS: tuple[KPI, ...] = (
    KPI(
        "modes_found",
        "modes found",
        "share",
        "share of the modes that hold at least a quarter of their mass; asked for are those in which exact draws would "
        "leave 20 or more.",
        _modes_found,
    ),
    KPI(
        "rarest_found",
        "rarest mode found",
        "mass",
        "mass under the law of the rarest mode found in the worst run, beside that of the rarest asked for; smaller is "
        "better.",
        _rarest_found,
    ),
    KPI(
        "first_hit",
        "draws to first rare hit",
        "draws",
        "draws until the first one in the rarest mode, the mean over runs, beside the mean of the geometric law that "
        "exact draws follow; a run without one counts with all its draws, in both.",
        _first_hit,
    ),
    KPI(
        "error_of_averages",
        "error of averages",
        "standard deviations",
        "error of the worst average (of a coordinate or its square, in the target's view) in standard deviations of "
        "what is averaged, the median run, beside the median of exact draws.",
        _error_of_averages,
    ),
    KPI(
        "equivalents_per_1000",
        "grad. eq. per 1,000 draws",
        "gradient equivalents",
        "gradient equivalents of 1,000 effective draws (of chains by their effective sample size, of weighted draws by "
        "Kish's); after the plus what is paid once (training, adaptation, burn-in).",
        _cost("fit_gradient_equivalents", "gradient_equivalents_per_effective_draw", 1.0),
    ),
    KPI(
        "seconds_per_1000",
        "seconds per 1,000 draws",
        "seconds",
        "the same in seconds of the device in the table above.",
        _cost("fit_seconds", "microseconds_per_effective_draw", 1e-6),
    ),
    KPI(
        "spread",
        "spread over seeds",
        "factor",
        "largest over smallest primary ratio (the worse one of sliced_w2 and mode_tv to its floor) among the seeds.",
        _spread,
    ),
    KPI(
        "at_floor",
        "runs at the floor",
        "share of runs",
        "runs that ended as planned and of which no primary metric is above the 95% point of exact draws.",
        _at_floor,
    ),
)
