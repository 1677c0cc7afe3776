"""The leaderboard as one HTML file that needs nothing else: tables to sort and filter, fronts, draws, provenance."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..targets.base import TARGETS
from .break_even import restarted_rows
from .catalogue import NOT_YET, describe, facts_of, log_z_text
from .costs import COSTS
from .friedman import friedman
from .fronts import Front, front
from .in_words import in_words, letters
from .kpis import KPI, KPIS
from .leaderboard import Results, provenance
from .markdown import by_rank, places
from .number_text import number_text
from .page_cells import (
    COST_COLUMNS,
    PAYS,
    Column,
    bars,
    cost_cell,
    metric_cell,
    metric_column,
    pays_cells,
    ratio_cell,
    sort_value,
)
from .page_overall import Row, standings
from .panels import Panels
from .store import Plan
from .unranked import why_no_mean_ranks

NAME = re.compile("\x02(.*?)\x03", flags=re.DOTALL)


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
class Section:
    """All that is shown of a target."""

    id: str
    target: str
    is_development: bool
    sentences: list[list[str]]
    certificate: Certificate
    columns: list[Column]
    rows: list[Row]
    reasons: list[tuple[str, str, str]]  # sampler, status and why of rows that are not ok
    remarks: list[tuple[str, str]]  # sampler and remark of the others
    fronts: list[Front]
    panels: Panels | None
    key_figures: list[KPI]
    key_rows: list[tuple[str, list[tuple[str, str]]]]  # sampler; text and sort value of each key figure


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


def page(
    results: Results, panels: Sequence[Panels], certificates: dict[str, Certificate], figures: pd.DataFrame
) -> str:
    """The HTML page; the same arguments give the same bytes, and it loads nothing.

    Args:
        results: see ``leaderboard.collect``.
        panels: of the targets in the plane, see ``panels.panels_of``.
        certificates: of every target by its label, see ``certificates_of``.
        figures: key figures, see ``kpis.kpis``.
    """
    plan = results.plan
    board = results.board
    drawn = {part.target: part for part in panels}
    sections = [
        _section(
            k, str(target), part, results, certificates[str(target)], drawn.get(str(target)),
            figures[figures["target"] == target],
        )
        for k, (target, part) in enumerate(board.groupby("target", sort=False))
    ]  # fmt: skip
    script = _file("leaderboard.js")
    origin = provenance(plan, results.records)
    html = _environment().get_template("leaderboard.html.jinja").render(
        plan=plan,
        sections=sections,
        overall=standings(results, [section.rows for section in sections]),
        no_mean_ranks=why_no_mean_ranks(board),
        friedman=friedman(results.places),
        statuses=list(dict.fromkeys(board["status"])),
        key_figures=[kpi for kpi in KPIS if (figures["kpi"] == kpi.name).any()],
        all_columns=list({column.key: column for section in sections for column in section.columns}.values()),
        origin=origin,
        environments=[sorted(environment.items()) for environment in origin["environments"]],
        configurations={
            name: (entry["version"], json.dumps(entry["configuration"], indent=1, sort_keys=True))
            for name, entry in origin["samplers"].items()
        },
        number=number_text,
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
    k: int,
    target: str,
    part: pd.DataFrame,
    results: Results,
    certificate: Certificate,
    panels: Panels | None,
    figures: pd.DataFrame,
) -> Section:
    part = by_rank(part)
    known = {name: f"m{k}" for k, name in enumerate(dict.fromkeys(results.metrics["metric"]))}
    names = [name for name in known if part[f"{name}_mean"].notna().any()]
    costs = [name for name in COST_COLUMNS if part[name].notna().any()]
    drawn = bars(part)
    is_not_ok = (part["status"] != "ok") | (part["loss"] != "")
    restarted = {name for label, name in restarted_rows(results.plan.runs) if label == target}
    n_samples = max(run.n_samples for run in results.plan.runs if run.target_label == target)
    rows = [
        Row(
            name=str(row["sampler"]),
            place=places(row).removesuffix(row["tie_group"]).strip().replace("-", "–"),
            tie_letters=sorted(letters(row["tie_group"])),
            rank=sort_value(row["rank"]),
            is_best=bool(row["is_best"]),
            status=str(row["status"]),
            n_runs=f"{row['n_ok']}/{row['n_seeds']}",
            loss=str(row["loss"] or ""),
            ratio=ratio_cell(row),
            bar=bar,
            cells=[
                *(cost_cell(row[name], name) for name in costs),
                *pays_cells(row),
                *(metric_cell(row, name) for name in names),
            ],
        )
        for bar, (_, row) in zip(drawn, part.iterrows(), strict=True)
    ]
    return Section(
        id=f"target-{k}",
        target=target,
        is_development=bool(part["development"].any()),
        sentences=[NAME.split(sentence) for sentence in in_words(part, restarted, lambda name: f"\x02{name}\x03")],
        certificate=certificate,
        columns=[
            *(Column(f"c{list[str](COSTS).index(name)}", *COST_COLUMNS[name]) for name in costs),
            *PAYS,
            *(metric_column(known[name], name) for name in names),
        ],
        rows=rows,
        reasons=[
            (str(row["sampler"]), str(row["status"]), str(row["reason"] or row["loss"]))
            for _, row in part[is_not_ok].iterrows()
        ],
        remarks=[
            (str(row["sampler"]), str(row["reason"])) for _, row in part[~is_not_ok & (part["reason"] != "")].iterrows()
        ],
        fronts=_fronts(part, n_samples),
        panels=panels,
        key_figures=[kpi for kpi in KPIS if (figures["kpi"] == kpi.name).any()],
        key_rows=_key_rows(figures, [str(name) for name in part["sampler"]]),
    )


def _key_rows(figures: pd.DataFrame, samplers: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Texts and sort values of the key figures of every sampler, as in ``KPIS``; blank where one is absent."""
    columns = (figures[name].tolist() for name in ("sampler", "kpi", "text", "value"))
    found = {(name, kpi): (text, sort_value(value)) for name, kpi, text, value in zip(*columns, strict=True)}
    names = [kpi.name for kpi in KPIS if (figures["kpi"] == kpi.name).any()]
    return [(sampler, [found.get((sampler, name), ("", "")) for name in names]) for sampler in samplers]


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
