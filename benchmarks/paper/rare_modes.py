"""Table of rare faults, mode by mode: how many draws are there, whether they look right, and when the first came."""

import math

from ...metrics.rare import MIN_HITS, draws_to_first, mean_first_hit
from .rare_draws import FaultTarget, ModeDraws

COLUMNS = [
    "target", "sampler", "seed", "status", "mode", "weight", "n_draws", "hits", "found", "weight_ratio",
    "share_typical", "first_hit", "censored", "first_hit_exact",
]  # fmt: skip
OUTSIDE = -1


def mode_rows(draws: ModeDraws, target: FaultTarget) -> list[dict[str, object]]:
    """Rows of rare_modes.csv: one per mode of a run, and one for the outside of all modes (mode -1).

    Args:
        draws: of the run.
        target: of the run.
    Returns:
        Dictionaries with the keys ``COLUMNS``: target, sampler, seed, status, mode, weight (its mass under the law),
        n_draws, hits (draws in the mode), found (1 if they are at least 5), weight_ratio (share of the draws over the
        weight), share_typical (of the hits, those whose log density is in the range that holds 99% of the mode's exact
        draws), first_hit (draws to the first hit, itself included, in the random order in which metrics take them),
        censored (1 if there is none, then first_hit is n_draws), first_hit_exact (what exact draws take on average,
        censored at the same n). Of a run without draws, n_draws is 0 and the rest is NaN.
    """
    masses = target.modes.masses.tolist()
    n, (label, sampler, seed) = len(draws.x), draws.run.cell
    rows = []
    for mode, weight in [*enumerate(masses), (OUTSIDE, max(0.0, 1 - math.fsum(masses)))]:
        row: dict[str, object] = dict.fromkeys(COLUMNS, math.nan)
        row |= {"target": label, "sampler": sampler, "seed": seed, "status": draws.status}
        row |= {"mode": mode, "weight": weight, "n_draws": n}
        if n:
            there = draws.mode == mode
            hits = int(there.sum())
            first, is_censored = draws_to_first(there)
            row |= {"hits": hits, "found": int(hits >= MIN_HITS), "first_hit": first, "censored": int(is_censored)}
            if weight > 0:
                row |= {"weight_ratio": hits / (n * weight), "first_hit_exact": mean_first_hit(weight, n)}
            if hits and mode != OUTSIDE:
                row["share_typical"] = target.typical[mode].holds(draws.log_prob[there]).double().mean().item()
        rows.append(row)
    return rows


def weight_text(weight: float) -> str:
    """A weight to one digit, as in names of columns: 1e-4."""
    digit, exponent = f"{weight:.0e}".split("e")
    return f"{digit}e{int(exponent)}"
