"""The leaderboard, or a slice of it, as LaTeX for a paper: pdflatex with the package booktabs is enough."""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..targets.registry import unknown
from .costs import COSTS
from .latex_text import escape
from .leaderboard import Results
from .markdown import MARKDOWN_COSTS, places
from .ranks import PRIMARY

MAX_VALUES = 4  # columns of values that fit a text block of 16 cm in this font
PAYS = {"break_even_equivalents": "pays from (eq.)", "break_even_seconds": "pays from (s)"}
TITLES = {**{cost: cost.replace("_", " ") for cost in COSTS}, **{v: k for k, v in MARKDOWN_COSTS.items()}, **PAYS}
NONE = "--"


@dataclass(frozen=True)
class Group:
    """The columns of one target: its rows by sampler, whether they are ranked, metrics and costs that have values."""

    target: str
    rows: pd.DataFrame
    is_ranked: bool
    metrics: list[str]
    costs: list[str]

    @property
    def n_values(self) -> int:
        """Columns of values."""
        return len(self.metrics) + len(self.costs)

    @property
    def n_columns(self) -> int:
        """Columns, that of the places included."""
        return self.is_ranked + self.n_values


def latex(
    results: Results,
    *,
    targets: Sequence[str] = (),
    samplers: Sequence[str] = (),
    metrics: Sequence[str] = (),
    costs: Sequence[str] = (),
    max_values: int = MAX_VALUES,
) -> str:
    """Tables with samplers in rows and the metrics of one target after the other in columns.

    Places and the letters of ties are those of the whole leaderboard, whatever part of it is shown.

    Args:
        results: see ``leaderboard.collect``.
        targets: labels, in this order; default all.
        samplers: labels, in this order; default all, by their place.
        metrics: names of values; default those that rank rows, ``ranks.PRIMARY``.
        costs: ``TITLES``; default none.
        max_values: columns of values per table; more targets go to a further table, the metrics of one stay together.
    Returns:
        One or more ``table`` environments; in a cell the mean, half of its 95% t-interval if there are seeds, the ratio
        to the floor, bold at the floor; rows that are not ok show their status instead.
    Raises:
        UnknownNameError: for a name that the leaderboard has not.
    """
    board = results.board
    offered = list(dict.fromkeys(results.metrics["metric"]))
    shown = _known("metric", metrics, offered) or [name for name in PRIMARY if name in offered] or offered[:2]
    paid = _known("cost", costs, TITLES)
    order = _known("sampler", samplers, set(board["sampler"]))
    groups = [
        _group(board, target, order, shown, paid)
        for target in _known("target", targets, set(board["target"])) or dict.fromkeys(board["target"])
    ]
    tables = list(_tables(groups, max_values))
    labels = ["-".join(_plain(name) for name in (results.plan.suite, table[0].target)) for table in tables]
    lines = [f"% leaderboard of the suite {' '.join(results.plan.suite.split())}; needs \\usepackage{{booktabs}}"]
    for number, (table, label) in enumerate(zip(tables, labels, strict=True), 1):
        caption = f"Suite {escape(results.plan.suite)}"
        caption += f", table {number} of {len(tables)}" if len(tables) > 1 else ""
        if number == 1:
            caption += f". {_legend(groups, is_slice=bool(order))}"
        else:
            caption += f"; signs as in Table~\\ref{{tab:{labels[0]}}}."
        rows = [name for name in order or _by_place(table, results) if any(name in group.rows.index for group in table)]
        lines += _environment(table, rows, caption, label)
    return "\n".join([*lines, ""])


def _known(kind: str, names: Sequence[str], known: Collection[str]) -> list[str]:
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return list(dict.fromkeys(names))


def _group(board: pd.DataFrame, target: str, samplers: Collection[str], metrics: list[str], costs: list[str]) -> Group:
    rows = board[board["target"] == target].set_index("sampler", drop=False)
    rows = rows[rows["sampler"].isin(samplers or rows["sampler"])]
    return Group(
        target=target,
        rows=rows,
        is_ranked=bool(rows["rank"].notna().any()),
        metrics=[name for name in metrics if rows[f"{name}_mean"].notna().any()] or metrics[:1],
        costs=[name for name in costs if rows[name].notna().any()],
    )


def _tables(groups: list[Group], max_values: int) -> Iterator[list[Group]]:
    """Groups side by side, as many as the width takes."""
    table: list[Group] = []
    for group in groups:
        if table and sum(other.n_values for other in (*table, group)) > max_values:
            yield table
            table = []
        table.append(group)
    yield table


def _by_place(table: list[Group], results: Results) -> list[str]:
    """Samplers in the order of the ranks on a single target, or of the mean ranks on all of them."""
    if len(table) == 1:
        by = ["rank", "primary_ratio"]
        return list(table[0].rows.sort_values(by, kind="stable", na_position="last")["sampler"])
    return list(dict.fromkeys([*results.overall["sampler"], *results.board["sampler"]]))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _environment(table: list[Group], samplers: list[str], caption: str, label: str) -> list[str]:
    heads, rules, titles, last = ["sampler"], [], [""], 1
    for group in table:
        is_development = bool(group.rows["development"].any())
        title = escape(group.target) + (r"$^\dag$" if is_development else "")
        heads.append(f"\\multicolumn{{{group.n_columns}}}{{c}}{{{title}}}")
        rules.append(f"\\cmidrule(lr){{{last + 1}-{last + group.n_columns}}}")
        titles += ["place"] if group.is_ranked else []
        titles += [escape(name) for name in (*group.metrics, *(TITLES[cost] for cost in group.costs))]
        last += group.n_columns
    body = [_line([escape(name), *(cell for group in table for cell in _cells(group, name))]) for name in samplers]
    return [
        r"\begin{table}", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{3pt}", f"\\caption{{{caption}}}",
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{@{{}}l{''.join('l' * group.is_ranked + 'r' * group.n_values for group in table)}@{{}}}}",
        r"\toprule", _line(heads), "".join(rules), _line(titles), r"\midrule", *body, r"\bottomrule",
        r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cells(group: Group, sampler: str) -> list[str]:
    """The cells of a row; a status takes the place of all its metrics."""
    row = next((row for name, row in group.rows.iterrows() if name == sampler), None)
    if row is None:
        return [NONE] * group.n_columns
    place = [escape(places(row)).replace("{-}", "--")] if group.is_ranked else []
    paid = [_cost(cost, float(row[cost])) for cost in group.costs]
    if row["status"] == "ok":
        return [*place, *(_cell(row, name) for name in group.metrics), *paid]
    status = escape(str(row["status"]).replace("_", " "))
    if row["n_seeds"] > 1:
        status += f" ({row['n_ok']}/{row['n_seeds']})"
    return [*place, f"\\multicolumn{{{len(group.metrics)}}}{{c}}{{{status}}}", *paid]


def _cell(row: "pd.Series[Any]", name: str) -> str:
    mean, high, ratio = (float(row[f"{name}_{part}"]) for part in ("mean", "high", "ratio"))
    if math.isnan(mean):
        return NONE
    text = measured(mean, high - mean) + ("" if math.isnan(ratio) else f"\\;({_short(ratio)})")
    return f"{{\\boldmath${text}$}}" if row[f"{name}_at_floor"] >= 0.5 else f"${text}$"


def _cost(name: str, value: float) -> str:
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "never" if name in PAYS else r"$\infty$"
    return f"${measured(value, math.nan)}$"


def measured(mean: float, half_width: float) -> str:
    """A mean with half of its interval, two digits of it, in math mode; three digits of a mean without."""
    size = max(abs(mean), 0.0 if math.isnan(half_width) else half_width)
    exponent = math.floor(math.log10(size)) if size > 0 and not 1e-3 <= size < 1e6 else 0
    value, half = mean / 10.0**exponent, half_width / 10.0**exponent
    if half > 0:
        decimals = _decimals(half, 2) if value == 0 else min(_decimals(half, 2), _decimals(value, 4))
    else:
        decimals = 0 if value == round(value) else _decimals(value, 3)
    text = _fixed(value, decimals)
    if not math.isnan(half):
        text = f"{text} \\pm {_fixed(half, decimals)}"
    power = f"\\times 10^{{{exponent}}}"
    if exponent:
        return f"{text} {power}" if math.isnan(half) else f"({text}) {power}"
    return text


def _decimals(value: float, digits: int) -> int:
    """Decimals that show so many digits of a value other than zero."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _fixed(value: float, decimals: int) -> str:
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace(",", "{,}")  # + 0.0: no minus before a zero


def _short(ratio: float) -> str:
    """Two digits of a ratio, and no more than two decimals."""
    return _fixed(ratio, min(2, _decimals(ratio, 2)) if ratio else 0)


def _legend(groups: list[Group], *, is_slice: bool) -> str:
    """What the cells of the tables mean."""
    seeds = sorted({int(n) for group in groups for n in group.rows["n_seeds"]})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    has_seeds = seeds[-1] > 1
    parts = [
        f"Mean over {many} seeds $\\pm$ half of its 95\\% $t$-interval." if has_seeds else "One seed: no intervals.",
        r"In brackets, the ratio to the floor, the value that exact draws of the same number reach; bold is at the "
        r"floor, no worse than the 95\% point of exact draws for at least half of the seeds.",
    ]
    if any(group.is_ranked for group in groups):
        whole = ", all of the leaderboard's rows counted" if is_slice else ""
        parts.append(
            "Place: the places that a row may have; rows that share a letter are not told apart by paired tests over "
            rf"seeds (Holm, 5\%){whole}."
        )
    if any((group.rows["status"] != "ok").any() for group in groups):
        parts.append("Rows that are not ok show their status and how many runs were.")
    if any(group.rows["development"].any() for group in groups):
        parts.append(r"$^\dag$Development target: settings of some samplers were chosen here.")
    return " ".join(parts)
