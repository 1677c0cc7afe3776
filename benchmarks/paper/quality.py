"""Quality of every run of a suite with chains of many lengths, by what the rows are.

Quality is a log of a ratio to the floor. Values count by their size, since centred metrics may be negative, and as the
floor where that is smaller: exact draws are no better. Metrics without a floor count by their own logarithm.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..plan import RunSpec
from ..ranks import PRIMARY, geometric_mean, scores

PRIMARY_RATIO = "primary"  # the worse ratio of sliced_w2 and mode_tv
MANY_MODES = 3  # from so many on, a target is asked about its coverage of modes
CHAINS = {"mala": "MALA", "ula": "ULA"}
CHAIN = "MALA"  # stands for both where one number is asked for: its law is right in the end whatever its step size
SMC = ("smc", "smc_10x")
PER_DRAW = {  # by the effective size of chains
    "microseconds_per_draw": "microseconds_per_effective_draw",
    "equivalents_per_draw": "gradient_equivalents_per_effective_draw",
}


@dataclass(frozen=True)
class Rows:
    """The rows of a suite by what they are.

    Attributes:
        ladders: of MALA and of ULA, the labels of the rows that restart for every draw, by their number of steps.
        rivals: labels of chains that go on, and of SMC: what people would use instead.
    """

    ladders: Mapping[str, Mapping[int, str]]
    rivals: Collection[str]

    @classmethod
    def of(cls, runs: Sequence[RunSpec]) -> "Rows":
        """The rows of planned runs."""
        ladders: dict[str, dict[int, str]] = {}
        rivals: dict[str, None] = {}
        for run in runs:
            mode = run.configuration.get("mode")
            if run.sampler in CHAINS and mode == "restart":
                ladders.setdefault(CHAINS[run.sampler], {})[run.configuration["n_steps"]] = run.sampler_label
            elif mode == "long" or run.sampler in SMC:
                rivals[run.sampler_label] = None
        return cls({name: dict(sorted(steps.items())) for name, steps in ladders.items()}, list(rivals))


def qualities(metrics: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Quality of every run by some metrics.

    Args:
        metrics: what ``evaluate_store`` returned.
        names: metrics of which less is better, or ``primary``.
    Returns:
        One row per metric and run: target, sampler, seed, metric, quality (log of the ratio to the floor, at least 0;
        without a floor log of the value; nan where the run is not ok), at_floor (None without a floor). Metrics that a
        target cannot have are left out there.
    """
    parts = [_primary(metrics)] if PRIMARY_RATIO in names else []
    for name in names:
        own = metrics[metrics["metric"] == name]
        own = own[~own["target"].isin(own.loc[own["reason"].str.startswith("needs "), "target"])]
        value, ratio = own["value"].to_numpy(dtype=float), own["ratio"].to_numpy(dtype=float)
        has_floor = own["floor"].notna().to_numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            quality = np.where(has_floor, np.log(np.maximum(np.abs(ratio), 1)), np.log(value))
        quality[(own["status"] != "ok").to_numpy() | ~np.isfinite(quality)] = math.nan
        parts.append(own[["target", "sampler", "seed", "metric", "at_floor"]].assign(quality=quality))
    found = [part for part in parts if len(part)]
    columns = ["target", "sampler", "seed", "metric", "quality", "at_floor"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _primary(metrics: pd.DataFrame) -> pd.DataFrame:
    keys = ["target", "sampler", "seed"]
    judged = metrics[metrics["metric"].isin(PRIMARY) & metrics["at_floor"].notna()]
    at_floor = judged.assign(at_floor=judged["at_floor"] == True).groupby(keys)["at_floor"].all()  # noqa: E712
    found = scores(metrics)
    unjudged = found.loc[found["reason"] == "nothing to judge by", "target"]  # a failed run there says why it failed
    found = found[~found["target"].isin(unjudged)].join(at_floor, on=keys)
    return found.assign(metric=PRIMARY_RATIO, quality=found["score"].clip(lower=0))


def step_curves(quality: pd.DataFrame, costs: pd.DataFrame, rows: Rows) -> pd.DataFrame:
    """Quality of every row with its interval, and what a draw of it costs.

    Args:
        quality: of ``qualities``.
        costs: what ``run_costs`` returned.
        rows: of the suite.
    Returns:
        One row per target, metric and sampler: target, metric, sampler, chain (MALA, ULA or empty), n_steps (of a
        chain), n_seeds, n_ok (runs with a value), quality, low, high (geometric mean over seeds and 95% t-interval of
        the ratio to the floor or, without one, the value; nan unless all runs have a value), has_floor,
        share_at_floor, microseconds_per_draw, equivalents_per_draw (means; a draw of long chains counts by its
        effective size).
    """
    place = {label: (chain, k) for chain, steps in rows.ladders.items() for k, label in steps.items()}
    paid = {key: part[list(PER_DRAW.values())].mean() for key, part in costs.groupby(["target", "sampler"])}
    table = []
    for (target, metric, sampler), part in quality.groupby(["target", "metric", "sampler"], sort=False):
        values = part["quality"].to_numpy(dtype=float)
        cost = paid.get((target, sampler))
        has_floor = bool(part["at_floor"].notna().any())
        chain, n_steps = place.get(str(sampler), ("", math.nan))
        table.append(
            {
                "target": target, "metric": metric, "sampler": sampler, "chain": chain, "n_steps": n_steps,
                "n_seeds": len(part), "n_ok": int(np.isfinite(values).sum()),
                **dict(zip(("quality", "low", "high"), geometric_mean(values), strict=True)),
                "has_floor": has_floor,
                "share_at_floor": float((part["at_floor"] == True).mean()) if has_floor else math.nan,  # noqa: E712
                **{name: math.nan if cost is None else float(cost[column]) for name, column in PER_DRAW.items()},
            }
        )  # fmt: skip
    return pd.DataFrame(table)
