"""What runs cost: seconds, evaluations, memory; dependent and weighted draws count by their effective sample size."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from ..metrics.normaliser import effective_share
from ..targets.meter import Counts
from .plan import RunSpec
from .store import Record, Store, StoreError

COSTS = (
    "fit_seconds", "draw_seconds", "microseconds_per_draw", "best_microseconds_per_draw",
    "microseconds_per_effective_draw", "fit_log_prob", "fit_score", "fit_hvp", "draw_log_prob", "draw_score",
    "draw_hvp", "fit_gradient_equivalents", "draw_gradient_equivalents", "gradient_equivalents_per_effective_draw",
    "peak_memory_mb",
)  # fmt: skip


def run_costs(
    store: Store, stored: Iterable[tuple[RunSpec, Record | None, str]], metrics: pd.DataFrame
) -> pd.DataFrame:
    """Costs of every run that ended its draw.

    Args:
        store: with the draws, for their weights.
        stored: planned runs with their records, see ``evaluate.records``. Labels are those of the plan: a record keeps
            the ones that its suite had when it ran.
        metrics: what ``evaluate_store`` returned, for the effective sample sizes of chains (``ess_bulk``).
    Returns:
        One row per run: target, sampler, seed and the columns ``COSTS``; nan where something was not measured. Per draw
        means per sample; per effective draw, chains count by ``ess_bulk`` and weighted draws by Kish's effective sample
        size, (sum w)^2 / sum w^2. The latter two are nan where that size is unknown.
    """
    of_chains = metrics[metrics["metric"] == "ess_bulk"]
    ess = dict(zip(of_chains["run_id"], of_chains["value"], strict=True))
    rows = []
    for run, record, _ in stored:
        if record is None or not record.counts or "draw" not in record.seconds:
            continue
        effective = _effective_draws(store, run, record, ess)
        equivalents = {phase: Counts(**counts).gradient_equivalents for phase, counts in record.counts.items()}
        rows.append(
            {
                "target": run.target_label,
                "sampler": run.sampler_label,
                "seed": run.seed,
                "fit_seconds": record.seconds["fit"],
                "draw_seconds": record.seconds["draw"],
                "microseconds_per_draw": 1e6 * record.seconds["draw"] / run.n_samples,
                "best_microseconds_per_draw": min((cost for _, cost in record.throughput), default=math.nan),
                "microseconds_per_effective_draw": 1e6 * record.seconds["draw"] / effective,
                **{f"{phase}_{kind}": n for phase, counts in record.counts.items() for kind, n in counts.items()},
                "fit_gradient_equivalents": equivalents["fit"],
                "draw_gradient_equivalents": equivalents["draw"],
                "gradient_equivalents_per_effective_draw": equivalents["draw"] / effective,
                "peak_memory_mb": record.peak_memory_mb,
            }
        )
    frame = pd.DataFrame(rows, columns=["target", "sampler", "seed", *COSTS])
    return frame.astype(dict.fromkeys(COSTS, float))


def _effective_draws(store: Store, run: RunSpec, record: Record, ess: Mapping[str, float]) -> float:
    """How many independent draws those of a run are worth; nan where that is unknown.

    Chains by ``ess``, by run id; draws with weights by Kish's effective sample size.
    Reference: L. Kish, Survey Sampling (1965).
    """
    if "chains" in record.arrays:
        return float(ess.get(run.run_id, math.nan))
    if "log_weights" not in record.arrays:
        return float(run.n_samples)
    try:
        weights = store.draws(record).log_weights
        return math.nan if weights is None else run.n_samples * effective_share(weights)
    except (StoreError, ValueError):  # the file is corrupt, or no weight is finite
        return math.nan
