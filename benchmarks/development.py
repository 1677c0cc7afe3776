"""Targets on which settings of shipped samplers were chosen: shown and marked, and left out of mean ranks."""

from collections.abc import Iterable

from .plan import RunSpec

DEVELOPMENT = frozenset(
    {
        "bimodal50", "breast_cancer_full", "breast_cancer_train", "donut", "funnel10", "gaussian2", "gmm40_fab",
        "many_well16", "mog2", "ring8",
    }
)  # fmt: skip


def development_targets(runs: Iterable[RunSpec]) -> set[str]:
    """Labels of the development targets among some runs, whichever samplers were tuned there."""
    return {run.target_label for run in runs if run.target in DEVELOPMENT}
