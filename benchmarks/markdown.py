"""The leaderboard as Markdown, and as tables for a terminal."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from .kpis import KPIS
from .leaderboard import Results
from .markdown_text import escape
from .number_text import NONE, number_text
from .ranks import MIN_SEEDS
from .store import Plan
from .unranked import why_no_mean_ranks, why_unranked

DEVELOPMENT_MARK = " †"

OVERVIEW = ("sliced_w2", "mode_tv", "mmd2")
OVERVIEW_COSTS = {
    "fit s": "fit_seconds",
    "µs/draw": "microseconds_per_draw",
    "eq./eff. draw": "gradient_equivalents_per_effective_draw",
}
MARKDOWN_COSTS = {
    "fit s": "fit_seconds",
    "draw µs": "microseconds_per_draw",
    "draw µs, best batch": "best_microseconds_per_draw",
    "grad. eq. fit": "fit_gradient_equivalents",
    "grad. eq. / eff. draw": "gradient_equivalents_per_effective_draw",
}


def markdown(results: Results, figures: pd.DataFrame) -> str:
    """The leaderboard for reading: ranks over targets, then per target a table, bold at the floor, and key figures."""
    plan, board = results.plan, results.board
    description = escape(plan.description)
    lines = [f"# Leaderboard: {escape(plan.suite)}", "", description, "", *_LEGEND, *_definitions(figures)]
    lines += _overall(results)
    for target, part in board.groupby("target", sort=False):
        mark = DEVELOPMENT_MARK if part["development"].any() else ""
        why = why_unranked(part)
        lines += ["", f"## {escape(str(target))}{mark}", "", *([f"No ranks: {why}.", ""] if why else [])]
        lines += _table(part, plan)
        reasons = [
            f"* {escape(row['sampler'])}: {escape(row['reason'])}" for _, row in part.iterrows() if row["reason"]
        ]
        lines += ["", *reasons] if reasons else []
        lines += _key_figures(part, figures[figures["target"] == target])
    return "\n".join([*lines, ""])


def _overall(results: Results) -> list[str]:
    """Mean ranks over targets, or why there are none."""
    board, overall = results.board, results.overall
    marked = list(dict.fromkeys(board.loc[board["development"], "target"]))
    notes = [f"{DEVELOPMENT_MARK.strip()} {_DEVELOPMENT}"] if marked else []
    if overall.empty:
        return ["", "## Overall", "", f"No ranks: {why_no_mean_ranks(board)}.", *(["", *notes] if notes else [])]
    header = ["sampler", "mean rank", "95% interval", "targets", "best or tied with the best", "losses"]
    lines = ["", "## Overall", "", _line(header), _line(["---"] * len(header))]
    for _, row in overall.iterrows():
        interval = NONE if math.isnan(row["rank_low"]) else f"{row['rank_low']:.1f} to {row['rank_high']:.1f}"
        counts = (row["n_targets"], row["n_best"], row["n_losses"])
        lines.append(_line([escape(row["sampler"]), f"{row['mean_rank']:.1f}", interval, *map(str, counts)]))
    return [*lines, "", _RANKS, *(["", *notes] if notes else [])]


def _table(part: pd.DataFrame, plan: Plan) -> list[str]:
    """The rows of one target, in the order of their ranks."""
    shown = [metric.name for metric in plan.metrics if part[f"{metric.name}_mean"].notna().any()]
    costs = {title: cost for title, cost in MARKDOWN_COSTS.items() if part[cost].notna().any()}
    is_ranked = part["rank"].notna().any()
    names = map(escape, shown)
    header = [*(["place"] if is_ranked else []), "sampler", "status", *names, *costs, "pays from", "device"]
    lines = [_line(header), _line(["---"] * len(header))]
    for _, row in by_rank(part).iterrows():
        status = row["status"] if row["n_seeds"] == 1 else f"{row['status']} ({row['n_ok']}/{row['n_seeds']})"
        values = (*(_cell(row, name) for name in shown), *(number_text(row[cost]) for cost in costs.values()))
        place = [places(row)] if is_ranked else []
        lines.append(_line([*place, escape(row["sampler"]), status, *values, _pays(row), escape(row["device"])]))
    return lines


def _definitions(figures: pd.DataFrame) -> list[str]:
    """Of the key figures that some row has, one line each."""
    shown = [f"* **{kpi.title}**: {kpi.definition}" for kpi in KPIS if (figures["kpi"] == kpi.name).any()]
    return ["", "Key figures, in the second table of each target:", "", *shown] if shown else []


def _key_figures(part: pd.DataFrame, figures: pd.DataFrame) -> list[str]:
    """Key figures of one target, rows in the order of their ranks; a cell is empty where its figure does not apply."""
    shown = [kpi for kpi in KPIS if (figures["kpi"] == kpi.name).any()]
    if not shown:
        return []
    texts = figures.pivot(index="sampler", columns="kpi", values="text")[[kpi.name for kpi in shown]].fillna("")
    header = ["sampler", *(kpi.title for kpi in shown)]
    rows = [
        _line([escape(name), *map(escape, texts.loc[name])]) for name in by_rank(part)["sampler"] if name in texts.index
    ]
    return ["", _line(header), _line(["---"] * len(header)), *rows]


def by_rank(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of one target in the order of their ranks, those without one last."""
    return part.sort_values(["rank", "primary_ratio"], kind="stable", na_position="last")


def places(row: "pd.Series[Any]") -> str:
    """The places that a row may have, and the letters of the rows that it is tied with: ``2-4 b``."""
    if math.isnan(row["rank"]):
        return NONE
    first, last = 1 + int(row["n_better"]), 1 + int(row["n_better"] + row["n_tied"])
    return f"{first if first == last else f'{first}-{last}'} {row['tie_group']}".strip()


def _pays(row: "pd.Series[Any]") -> str:
    """Draws from which the row costs fewer gradient equivalents than the cheapest one of no worse quality."""
    value, against = row["break_even_equivalents"], row["break_even_equivalents_against"]
    if not isinstance(against, str):
        return NONE
    return f"{'never' if math.isinf(value) else number_text(value)} (vs {escape(against)})"


def overview(board: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The leaderboard for a terminal: per target its name and a frame of texts, the ratios of the chief metrics."""
    for target, part in board.groupby("target", sort=False):
        table = part[["sampler", "status"]].copy()
        for name in OVERVIEW:
            if f"{name}_mean" in part and part[f"{name}_mean"].notna().any():
                table[f"{name} ratio"] = [
                    _bold(number_text(row[f"{name}_ratio"], 2), row, name) for _, row in part.iterrows()
                ]
        if "modes_found_mean" in part and part["modes_found_mean"].notna().any():
            table["modes"] = [number_text(value) for value in part["modes_found_mean"]]
        for title, cost in OVERVIEW_COSTS.items():
            table[title] = [number_text(value) for value in part[cost]]
        yield str(target), table


_LEGEND = (
    "Each cell is the mean over seeds. In brackets, the ratio to the floor: the value that exact draws of the same "
    "number reach. **Bold** is at the floor: no worse than the 95% point of exact draws, for at least half of the "
    "seeds. Metrics without a floor are bare numbers. A gradient equivalent is the cost of one score of one point "
    "(log density alone 0.5, Hessian-vector product 2). An effective draw (eff. draw): draws of chains count by their "
    "effective sample size, weighted draws by Kish's. Place: the places that a row may have; rows that share a letter "
    f"are not told apart by paired tests over seeds (Holm, 5%), which take {MIN_SEEDS} seeds or more. Pays from: the "
    "number of draws from which the row costs fewer gradient equivalents, training included, than the cheapest row "
    "whose quality is no worse, which is never one that restarts a chain for every draw.",
)
_RANKS = (
    "Mean of the ranks on the targets, with a t-interval over them; none of one target, or where all ranks of a row "
    "are equal. Rows that are ranked on fewer targets than others come last: means over different targets do not "
    "compare. A row of which a run failed, is missing, diverged or went over its budget is last on that target, and "
    "that is a loss."
)
_DEVELOPMENT = (
    "Development target: settings of some samplers were chosen here. Shown, and left out of the mean ranks of all rows."
)


def _cell(row: "pd.Series[Any]", name: str) -> str:
    value, ratio = row[f"{name}_mean"], row[f"{name}_ratio"]
    if math.isnan(value):
        return NONE
    text = number_text(value) if math.isnan(ratio) else f"{number_text(value)} ({number_text(ratio, digits=2)})"
    return _bold(text, row, name)


def _bold(text: str, row: "pd.Series[Any]", name: str) -> str:
    """Bold where at least half of the seeds are at the floor."""
    return f"**{text}**" if row[f"{name}_at_floor"] >= 0.5 else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
