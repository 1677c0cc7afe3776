"""Metric values of runs, wide: one row per run."""

import numpy as np
import pandas as pd

from ..ranks import scores
from ..stability import FINITE
from .quality import PRIMARY_RATIO


def run_values(metrics: pd.DataFrame) -> pd.DataFrame:
    """Values of every run, wide.

    Args:
        metrics: what ``evaluate_store`` returned.
    Returns:
        Index run_id; target, sampler, seed, status, is_finite (whether it ended with finite draws); ``primary_ratio``;
        of every metric with a floor ``NAME_ratio``, of the others ``NAME``. Nan where a run has none.
    """
    frame = metrics.drop_duplicates("run_id").set_index("run_id")[["target", "sampler", "seed", "status"]]
    frame["is_finite"] = frame["status"].isin(FINITE)
    cell = ["target", "sampler", "seed"]
    primary = frame[cell].reset_index().merge(scores(metrics)[[*cell, "score"]], on=cell).set_index("run_id")["score"]
    frame[f"{PRIMARY_RATIO}_ratio"] = np.exp(primary)
    for name, part in metrics.groupby("metric", sort=False):
        kind = "ratio" if part["floor"].notna().any() else "value"
        frame[f"{name}_ratio" if kind == "ratio" else str(name)] = part.set_index("run_id")[kind]
    return frame


def value_names(values: pd.DataFrame) -> list[str]:
    """Columns of ``run_values`` that are values of metrics."""
    return [str(name) for name in values if name not in ("target", "sampler", "seed", "status", "is_finite")]
