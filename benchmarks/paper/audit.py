"""The audit sheet: rare draws one by one, so that a reader sees whether a fault that was found is a true one.

A draw is typical of its mode when its log density is in the range that holds 99% of the mode's exact draws; one that is
not, or lies outside every mode, may be an artefact, such as a bridge between modes. Exact draws have both too: one in a
hundred and one in a thousand.
"""

import math

import pandas as pd
import torch

from ..number_text import number_text
from .rare_draws import FaultTarget, ModeDraws
from .rare_modes import OUTSIDE, weight_text

N_PER_MODE, N_OUTSIDE, N_COORDINATES = 5, 5, 3
COLUMNS = [
    "target", "sampler", "seed", "kind", "mode", "weight", *(f"x{k + 1}" for k in range(N_COORDINATES)), "log_prob",
    "log_prob_low", "log_prob_high", "distance", "distance_high", "typical",
]  # fmt: skip


def audit_rows(draws: ModeDraws, target: FaultTarget) -> list[dict[str, object]]:
    """Rows of audit.csv: of every fault the first draws, the rarest first, then the farthest outside all modes.

    Args:
        draws: of one run.
        target: of that run.
    Returns:
        At most 5 rows of each mode but the heaviest and 5 of the outside, with the keys ``COLUMNS``: target, sampler,
        seed, kind ("fault" or "outside"), mode (outside: the nearest) and its weight, x1 to x3 (the first coordinates),
        log_prob in nats, log_prob_low and log_prob_high (the range of 99% of the mode's exact draws), distance from the
        mode's centre in standard deviations, distance_high (which 99.5% of its exact draws do not exceed), typical (1
        if log_prob is in that range; outside: 0).
    """
    masses = target.modes.masses
    faults = [mode for mode in masses.argsort(stable=True).tolist() if mode != target.heaviest]
    rows: list[dict[str, object]] = []
    for mode in faults:
        places = (draws.mode == mode).nonzero()[:N_PER_MODE, 0].tolist()
        rows += [_row(draws, target, place, mode, "fault") for place in places]
    outside = (draws.mode == OUTSIDE).nonzero()[:, 0]
    if len(outside):
        nearest, mode_of = torch.stack([known.distances(draws.x[outside]) for known in target.typical]).min(0)
        farthest = nearest.argsort(descending=True, stable=True)[:N_OUTSIDE].tolist()
        rows += [_row(draws, target, int(outside[k]), int(mode_of[k]), "outside") for k in farthest]
    return rows


def _row(draws: ModeDraws, target: FaultTarget, place: int, mode: int, kind: str) -> dict[str, object]:
    label, sampler, seed = draws.run.cell
    known, x, log_prob = target.typical[mode], draws.x[place], draws.log_prob[place]
    coordinates = [*x[:N_COORDINATES].tolist(), *[math.nan] * (N_COORDINATES - len(x))]
    is_typical = kind == "fault" and bool(known.holds(log_prob))
    values = (
        label, sampler, seed, kind, mode, target.modes.masses[mode].item(), *coordinates, log_prob.item(),
        *known.log_prob, known.distances(x[None]).item(), known.distance, int(is_typical),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def audit_markdown(audit: pd.DataFrame, modes: pd.DataFrame) -> str:
    """The audit sheet to read: for each target and sampler what its rare draws are, and examples.

    Args:
        audit: rows of ``audit_rows``, of one seed.
        modes: rows of ``rare_modes.mode_rows``; those of the same seed are told.
    """
    seed = int(modes["seed"].min())
    lines = [f"# Audit of rare draws, seed {seed}", "", *_INTRODUCTION]
    told = modes[modes["seed"] == seed]
    for (target, sampler), cell in told.groupby(["target", "sampler"], sort=False):
        lines += ["", f"## {target}: {sampler}", "", *_summary(cell)]
        rows = audit[(audit["target"] == target) & (audit["sampler"] == sampler)]
        if len(rows):
            lines += ["", *_table(rows.dropna(axis="columns", how="all"))]
    return "\n".join(lines) + "\n"


_INTRODUCTION = [
    "Of every fault at most five draws, the rarest fault first, then the five farthest draws outside every mode. The",
    "distance is from the centre of the mode (outside: of the nearest) in its standard deviations. A draw is typical",
    "if its log density is in the range of 99% of the mode's exact draws. Weight ratio: share of the draws over the",
    "weight.",
]


def _summary(cell: pd.DataFrame) -> list[str]:
    n = int(cell["n_draws"].max())
    if not n:
        return [f"No draws: {cell['status'].iloc[0]}."]
    outside = cell[cell["mode"] == OUTSIDE].iloc[0]
    text = (
        f"{n:,} draws, {int(outside['hits']):,} outside every mode ({outside['hits'] / n:.2%}; the law has "
        f"{outside['weight']:.2%} there)."
    )
    lines = [text, "", "| weight | draws | weight ratio | typical |", "|---|---|---|---|"]
    inside = cell[cell["mode"] != OUTSIDE].sort_values("weight", ascending=False)
    for row in inside.to_dict("records"):
        typical = "" if math.isnan(row["share_typical"]) else f"{row['share_typical']:.1%}"
        cells = (weight_text(row["weight"]), f"{int(row['hits']):,}", number_text(row["weight_ratio"]), typical)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _table(rows: pd.DataFrame) -> list[str]:
    names = [name for name in (f"x{k + 1}" for k in range(N_COORDINATES)) if name in rows]
    head = ["kind", "weight", *names, "log density", "range of its mode", "distance", "of exact draws", "typical"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows.to_dict("records"):
        cells = [
            str(row["kind"]),
            weight_text(row["weight"]),
            *(f"{row[name]:.2f}" for name in names),
            f"{row['log_prob']:.1f}",
            f"{row['log_prob_low']:.1f} to {row['log_prob_high']:.1f}",
            f"{row['distance']:.1f}",
            f"up to {row['distance_high']:.1f}",
            "yes" if row["typical"] else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
