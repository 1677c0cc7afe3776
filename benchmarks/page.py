"""The leaderboard as one HTML file that needs nothing else: tables to sort and filter, fronts, draws, provenance."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..metrics.base import METRICS
from ..targets.base import TARGETS
from .catalogue import NOT_YET, describe, facts_of, log_z_text
from .costs import COSTS
from .fronts import Front, front
from .in_words import at_floor, in_words, letters, number
from .leaderboard import Results, provenance
from .markdown import places
from .panels import Panels
from .ranks import PRIMARY, friedman
from .store import Plan

CHIEF = ("sliced_w2", "mode_tv", "modes_found", "mmd2")  # metrics shown at first; the others are a click away
COST_COLUMNS = {  # title, what it is, whether it is shown at first
    "fit_gradient_equivalents": ("paid once, eq.", "Gradient equivalents of training, adaptation and warm-up.", True),
    "gradient_equivalents_per_effective_draw": (
        "per draw, eq.", "Gradient equivalents per effective draw, after what is paid once.", True,
    ),
    "fit_seconds": ("paid once, s", "Seconds of training, adaptation and warm-up.", True),
    "microseconds_per_effective_draw": ("per draw, µs", "Microseconds per effective draw.", True),
    "best_microseconds_per_draw": ("per draw, best batch, µs", "Microseconds per draw in the best batch.", False),
    "peak_memory_mb": ("memory, MB", "Peak memory of the worker.", False),
}  # fmt: skip
NAME = re.compile("\x02(.*?)\x03", flags=re.DOTALL)
BAR = 110  # width of the bar of a ratio


@dataclass(frozen=True)
class Certificate:
    """What is known of a target's truth, as texts; empty where it is unknown."""

    target: str
    key: str
    dim: int
    log_z: str
    n_modes: str
    truth: str
    verdict: str
    reason: str
    source: str


@dataclass(frozen=True)
class Column:
    """A column of the tables of targets: class of its cells, title, what it means, whether it is shown at first."""

    key: str
    title: str
    help: str
    is_shown: bool


@dataclass(frozen=True)
class Cell:
    """A number: text, what follows it in small print, value to sort by, lines shown on hover and focus."""

    text: str
    note: str = ""
    sort: str = ""
    tip: str = ""
    is_at_floor: bool = False


@dataclass(frozen=True)
class Bar:
    """Place of a ratio and its interval on a logarithmic axis, in units of the drawing; nan is not drawn."""

    x: float
    low: float
    high: float
    floor: float


@dataclass(frozen=True)
class Row:
    """A row of a target's table."""

    name: str
    place: str
    tie_letters: list[str]
    rank: str
    is_best: bool
    status: str
    n_runs: str
    loss: str
    ratio: Cell
    bar: Bar | None
    cells: list[Cell]


@dataclass(frozen=True)
class Section:
    """All that is shown of a target."""

    id: str
    target: str
    is_development: bool
    sentences: list[list[str]]
    certificate: Certificate
    columns: list[Column]
    rows: list[Row]
    reasons: list[tuple[str, str, str]]
    fronts: list[Front]
    panels: Panels | None


def certificates_of(plan: Plan) -> dict[str, Certificate]:
    """What the package knows of every target of a plan, by its label."""
    found = {}
    for run in plan.runs:
        if run.target_label in found:
            continue
        row = describe(run.target)
        facts, verdict, reason = row.facts, row.verdict, row.reason
        if run.target_parameters:
            facts = facts_of(TARGETS.get(run.target, **run.target_parameters))
            changed = ", ".join(f"{name} = {value}" for name, value in run.target_parameters.items())
            verdict, reason = NOT_YET, f"certificates are of registered parameters; here {changed}"
        found[run.target_label] = Certificate(
            target=run.target_label,
            key=f"{run.target}@{run.target_version}",
            dim=facts.dim,
            log_z=log_z_text(facts),
            n_modes="" if facts.n_modes is None else str(facts.n_modes),
            truth={"exact": "exact draws", "reference": "reference draws", "none": "none"}[facts.truth],
            verdict=verdict,
            reason=reason,
            source=row.source,
        )
    return found


def page(results: Results, panels: Sequence[Panels], certificates: dict[str, Certificate]) -> str:
    """The HTML page; the same arguments give the same bytes, and it loads nothing.

    Args:
        results: see ``leaderboard.collect``.
        panels: of the targets in the plane, see ``panels.panels_of``.
        certificates: of every target by its label, see ``certificates_of``.
    """
    board, plan = results.board, results.plan
    drawn = {part.target: part for part in panels}
    sections = [
        _section(k, str(target), part, results, certificates[str(target)], drawn.get(str(target)))
        for k, (target, part) in enumerate(board.groupby("target", sort=False))
    ]
    script = _file("leaderboard.js")
    origin = provenance(plan, results.records)
    html = _environment().get_template("leaderboard.html.jinja").render(
        plan=plan,
        sections=sections,
        overall=_overall(results, sections),
        friedman=friedman(results.places),
        statuses=list(dict.fromkeys(board["status"])),
        all_columns=list({column.key: column for section in sections for column in section.columns}.values()),
        origin=origin,
        environments=[sorted(environment.items()) for environment in origin["environments"]],
        configurations={
            name: (entry["version"], json.dumps(entry["configuration"], indent=1, sort_keys=True))
            for name, entry in origin["samplers"].items()
        },
        number=number,
        style=Markup(_file("leaderboard.css")),  # our own files, not data
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    return html.encode("utf-8", "replace").decode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _file(name: str) -> str:
    return (resources.files(__package__ or "") / "templates" / name).read_text(encoding="utf-8")


def _section(
    k: int, target: str, part: pd.DataFrame, results: Results, certificate: Certificate, panels: Panels | None
) -> Section:
    part = part.sort_values(["rank", "primary_ratio"], kind="stable", na_position="last")
    names = [name for name in dict.fromkeys(results.metrics["metric"]) if part[f"{name}_mean"].notna().any()]
    costs = [name for name in COST_COLUMNS if part[name].notna().any()]
    bars = _bars(part)
    n_samples = max(run.n_samples for run in results.plan.runs if run.target_label == target)
    rows = [
        Row(
            name=str(row["sampler"]),
            place=places(row).removesuffix(row["tie_group"]).strip().replace("-", "–"),
            tie_letters=sorted(letters(row["tie_group"])),
            rank=_sort(row["rank"]),
            is_best=bool(row["is_best"]),
            status=str(row["status"]),
            n_runs=f"{row['n_ok']}/{row['n_seeds']}",
            loss=str(row["loss"] or ""),
            ratio=_ratio(row),
            bar=bar,
            cells=[
                *(_metric(row, name) for name in names),
                *(_cost(row[name], name) for name in costs),
                *_pays(row),
            ],
        )
        for bar, (_, row) in zip(bars, part.iterrows(), strict=True)
    ]
    return Section(
        id=f"target-{k}",
        target=target,
        is_development=bool(part["development"].any()),
        sentences=[NAME.split(sentence) for sentence in in_words(part, mark=lambda name: f"\x02{name}\x03")],
        certificate=certificate,
        columns=[
            *(_metric_column(name) for name in names),
            *(Column(f"c-{list(COSTS).index(name)}", *COST_COLUMNS[name]) for name in costs),
            *_PAYS,
        ],
        rows=rows,
        reasons=[
            (str(row["sampler"]), str(row["status"]), str(row["reason"] or row["loss"]))
            for _, row in part.iterrows()
            if row["reason"] or row["loss"]
        ],
        fronts=_fronts(part, n_samples),
        panels=panels,
    )


def _metric_column(name: str) -> Column:
    known = name in METRICS.names()
    summary = METRICS.entry(name).summary if known else "Comes with another metric; no floor of its own."
    judges = " One of the two metrics that decide places." if name in PRIMARY else ""
    return Column(f"m-{re.sub('[^a-z0-9]', '-', name.lower())}", name, summary + judges, name in CHIEF)


_PAYS = [
    Column(
        "p-equivalents", "pays from, draws",
        "Number of draws from which the row costs fewer gradient equivalents, training included, than the cheapest row "
        "whose quality is no worse.", True,
    ),
    Column("p-seconds", "pays from, by time", "The same, counted in seconds on the machine of the runs.", False),
    Column(
        "p-bias", "bias shows at, draws",
        "Number of draws at which the bias of the row is as large as the noise of exact draws.", False,
    ),
]  # fmt: skip


def _sort(value: float) -> str:
    """What the script sorts by: empty where there is nothing."""
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def _metric(row: "pd.Series[Any]", name: str) -> Cell:
    value, ratio = row[f"{name}_mean"], row[f"{name}_ratio"]
    if math.isnan(value):
        return Cell("–")
    lines = [f"{name}: {number(value, 4)}"]
    if not math.isnan(row[f"{name}_low"]):
        lines.append(f"95% interval {number(row[f'{name}_low'])} to {number(row[f'{name}_high'])}")
    if not math.isnan(ratio):
        lines.append(
            f"floor {number(row[f'{name}_floor'])}; {number(ratio)} times the floor; z {number(row[f'{name}_z'])}"
        )
        lines.append(f"at the floor in {100 * row[f'{name}_at_floor']:.0f}% of the runs")
    is_at_floor = bool(row[f"{name}_at_floor"] >= 0.5)
    note = "" if math.isnan(ratio) else f"{number(ratio, 2)}×"
    return Cell(number(value), note, _sort(value), "\n".join(lines), is_at_floor)


def _ratio(row: "pd.Series[Any]") -> Cell:
    ratio = row["primary_ratio"]
    if math.isnan(ratio):
        return Cell("–", tip=str(row["loss"] or row["reason"] or "not every run has a value and a floor"))
    lines = [f"{number(ratio)} times the floor of exact draws"]
    if not math.isnan(row["primary_low"]):
        interval = f"{number(row['primary_low'])} to {number(row['primary_high'])}"
        lines.append(f"95% interval {interval}, {row['n_seeds']} seeds")
    lines += [
        f"{name}: {number(row[f'{name}_ratio'])} times its floor {number(row[f'{name}_floor'])}"
        for name in PRIMARY
        if f"{name}_ratio" in row and not math.isnan(row[f"{name}_ratio"])
    ]
    if not math.isnan(row["rank"]):
        counts = (int(row["n_better"]), int(row["n_tied"]), int(row["n_worse"]))
        lines.append("better rows: {}, not told apart: {}, worse: {}".format(*counts))
    return Cell(number(ratio), "", _sort(ratio), "\n".join(lines), at_floor(row))


def _cost(value: float, name: str) -> Cell:
    text = "<0.01" if name == "fit_seconds" and 0 < value < 0.01 else number(value)
    return Cell(text, sort=_sort(value))


def _pays(row: "pd.Series[Any]") -> list[Cell]:
    cells = []
    for unit in ("equivalents", "seconds"):
        value, against = row[f"break_even_{unit}"], row[f"break_even_{unit}_against"]
        if not isinstance(against, str):
            cells.append(Cell("–", tip="No row of no worse quality to set it against."))
            continue
        low, high = (number(row[f"break_even_{unit}_{end}"]) for end in ("low", "high"))
        lines = [
            f"against {against}: of no worse quality, cheapest for the draws of a run",
            f"95% interval {low} to {high}",
        ]
        text = "never" if math.isinf(value) else "at once" if value == 0 else number(value)
        cells.append(Cell(text, f"vs {against}", _sort(value), "\n".join(lines)))
    shows = row["bias_shows_at"]
    tip = "Not seen: at the floor in at least half of the runs." if math.isinf(shows) else ""
    return [*cells, Cell("not seen" if math.isinf(shows) else number(shows), sort=_sort(shows), tip=tip)]


def _bars(part: pd.DataFrame) -> list[Bar | None]:
    """Ratios on one axis per target; intervals end at its borders."""
    ratios = part["primary_ratio"].dropna()
    if ratios.empty:
        return [None] * len(part)
    low, high = math.log(min(0.8, ratios.min())), math.log(max(2.0, ratios.max()))
    low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)

    def place(ratio: float) -> float:
        if math.isnan(ratio):
            return math.nan
        share = (math.log(max(ratio, 1e-300)) - low) / (high - low) if math.isfinite(ratio) else 1.0
        return round(BAR * min(max(share, 0.0), 1.0), 1)

    return [
        None
        if math.isnan(row["primary_ratio"])
        else Bar(place(row["primary_ratio"]), place(row["primary_low"]), place(row["primary_high"]), place(1.0))
        for _, row in part.iterrows()
    ]


def _fronts(part: pd.DataFrame, n_samples: int) -> list[Front]:
    per_draw = part["gradient_equivalents_per_effective_draw"]
    drawings = (
        front(part, per_draw, "gradient equivalents per effective draw"),
        front(part, part["microseconds_per_effective_draw"], "microseconds per effective draw"),
        front(
            part, part["fit_gradient_equivalents"] + n_samples * per_draw,
            f"gradient equivalents in total for {n_samples:,} draws",
        ),
    )  # fmt: skip
    return [drawing for drawing in drawings if drawing]


@dataclass(frozen=True)
class Standing:
    """A row over all targets: mean rank and interval, counts, and a cell per target."""

    name: str
    mean_rank: Cell
    interval: tuple[float, float, float] | None
    n_targets: str
    n_best: str
    n_losses: str
    cells: list[tuple[Cell, bool, str]]


def _overall(results: Results, sections: Sequence[Section]) -> list[Standing]:
    """Every row, by mean rank; those that were ranked nowhere come last."""
    ranked = {str(row["sampler"]): row for _, row in results.overall.iterrows()}
    names = [*ranked, *(str(name) for name in dict.fromkeys(results.board["sampler"]) if name not in ranked)]
    width = max((row["rank_high"] for row in ranked.values() if not math.isnan(row["rank_high"])), default=math.nan)
    width = max([width, *(row["mean_rank"] for row in ranked.values())]) if ranked else 1.0
    standings = []
    for name in names:
        row = ranked.get(name)
        found = [next((row for row in section.rows if row.name == name), None) for section in sections]
        cells = [
            (
                place.ratio,
                place.is_best,
                " ".join([place.place, "".join(place.tie_letters)]) if place.rank else place.status,
            )
            if place
            else (Cell("–"), False, "")
            for place in found
        ]
        if row is None:
            standings.append(Standing(name, Cell("–"), None, "", "", "", cells))
            continue
        low, high = row["rank_low"], row["rank_high"]
        tip = "" if math.isnan(low) else f"95% interval over {row['n_targets']} targets: {low:.1f} to {high:.1f}"
        ends = (row["mean_rank"], row["mean_rank"]) if math.isnan(low) else (low, high)
        interval = tuple(round(BAR * max(x, 0.0) / width, 1) for x in (row["mean_rank"], *ends))
        standings.append(
            Standing(
                name,
                Cell(f"{row['mean_rank']:.1f}", sort=_sort(row["mean_rank"]), tip=tip),
                (interval[0], interval[1], interval[2]),
                *(str(row[key]) for key in ("n_targets", "n_best", "n_losses")),
                cells,
            )
        )
    return standings
