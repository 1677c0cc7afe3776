"""A downstream detector of rare faults: trained on a sampler's draws, tested on exact ones.

The detector is multinomial logistic regression on standardised coordinates with balanced classes. Where modes are
normal with one covariance, its family holds the best rule there is, so what it misses is missing in its training draws.
Boosted trees take a minute a fit, of 200,000 draws in 8 dimensions, where this takes two seconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from .rare_draws import FaultTarget, ModeDraws

Array = npt.NDArray[np.float64]
COLUMNS = [
    "target", "sampler", "seed", "status", "mode", "weight", "n_train", "recall", "std_error", "alarm_rate",
    "precision", "false_alarm_rate", "exact_recall", "gradient_equivalents", "seconds",
]  # fmt: skip
COSTS = ["gradient_equivalents", "seconds"]  # of fit and draw together
RUN_COLUMNS = [
    "target", "sampler", "seed", "status", "n_train", "n_outside", "recall", "precision", "false_alarm_rate",
    "exact_recall", "exact_precision", "exact_false_alarm_rate", "gradient_equivalents", "seconds",
]  # fmt: skip


@dataclass(frozen=True)
class Detector:
    """A classifier of points into modes; of one class or none it says always the same.

    Attributes:
        model: None where the training draws held fewer than two modes.
        always: what is said then.
    """

    model: Pipeline | None
    always: int

    @classmethod
    def trained(cls, x: Tensor, mode: Tensor, nominal: int) -> "Detector":
        """Train on draws inside the modes.

        Args:
            x: shape ``(n, dim)``.
            mode: of every draw, shape ``(n,)``; -1 is outside, and those draws are left out.
            nominal: the mode to name where there is nothing to learn from.
        """
        inside = mode >= 0
        x, mode = x[inside], mode[inside]
        found = np.unique(mode.numpy())
        if len(found) < 2:
            return cls(None, int(found[0]) if len(found) else nominal)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1_000))
        model.fit(x.numpy(), mode.numpy())
        return cls(model, nominal)

    def __call__(self, x: Tensor) -> npt.NDArray[np.int64]:
        """Modes of points ``(n, dim)``, shape ``(n,)``."""
        if self.model is None:
            return np.full(len(x), self.always)
        found: npt.NDArray[np.int64] = self.model.predict(x.numpy())
        return found


@dataclass(frozen=True)
class Rates:
    """What a detector does on exact draws.

    Attributes:
        confusion: share of the draws of mode j (rows) that are said to be of mode k, shape ``(n_modes, n_modes)``.
        masses: of the modes, with sum 1.
        nominal: the mode that is no fault.
    """

    confusion: Array
    masses: Array
    nominal: int

    @classmethod
    def of(cls, detector: Detector, target: FaultTarget) -> "Rates":
        """Test a detector on the exact draws of every mode."""
        masses = target.modes.masses.numpy()
        said = [np.bincount(detector(x), minlength=len(masses)) / len(x) for x in target.exact]
        return cls(np.array(said), masses / masses.sum(), target.heaviest)

    def of_mode(self, mode: int) -> dict[str, float]:
        """Recall of a fault, alarms of any kind that it raises, precision and false alarms at the true prevalence."""
        said, own = self.masses @ self.confusion[:, mode], self.masses[mode] * self.confusion[mode, mode]
        return {
            "recall": float(self.confusion[mode, mode]),
            "alarm_rate": float(1 - self.confusion[mode, self.nominal]),
            "precision": float(own / said) if said > 0 else math.nan,
            "false_alarm_rate": float((said - own) / (1 - self.masses[mode])),
        }

    @property
    def of_all(self) -> dict[str, float]:
        """The same over all faults at their true prevalence; a false alarm is a nominal draw that raises any."""
        is_fault = np.arange(len(self.masses)) != self.nominal
        faults = self.masses[is_fault]
        own = faults @ self.confusion.diagonal()[is_fault]
        said = self.masses @ self.confusion[:, is_fault].sum(1)
        return {
            "recall": float(own / faults.sum()),
            "precision": float(own / said) if said > 0 else math.nan,
            "false_alarm_rate": float(1 - self.confusion[self.nominal, self.nominal]),
        }


def recall_error(recall: float, n_tested: int) -> float:
    """Binomial standard error, with half a success and half a failure added, so that it is not 0 at 0 and at 1."""
    p = (recall * n_tested + 0.5) / (n_tested + 1)
    return math.sqrt(p * (1 - p) / n_tested)


class Bench:
    """Trains and tests detectors; those of exact draws once per target, seed and number of draws."""

    def __init__(self, targets: Mapping[str, FaultTarget]) -> None:
        self.targets = targets
        self._exact: dict[tuple[str, int, int], Rates] = {}

    def rows(self, draws: ModeDraws) -> tuple[list[dict[str, object]], dict[str, object]]:
        """What a detector trained on the draws of a run does.

        Returns:
            Rows of detector.csv, one per fault, the modes but the heaviest: target, sampler, seed, status, mode,
            weight, n_train (draws in that mode), recall (share of exact draws of the mode that are recognised as it),
            std_error of that, alarm_rate (share that is taken for some fault), precision and false_alarm_rate (of
            draws of all other modes) at the true prevalence, exact_recall (of a detector trained on as many exact
            draws). And the row of detector_runs.csv: n_train and n_outside (draws inside and outside the modes; the
            latter are left out), recall, precision and false_alarm_rate (share of nominal draws that raise any alarm)
            of all faults at their true prevalence, and the same of exact draws. A mode without training draws has
            recall 0; a run without draws has no values but those of exact draws.
        """
        label, sampler, seed = draws.run.cell
        target, n = self.targets[label], len(draws.x)
        start: dict[str, object] = {"target": label, "sampler": sampler, "seed": seed, "status": draws.status}
        rates = Rates.of(Detector.trained(draws.x, draws.mode, target.heaviest), target) if n else None
        exact = self._of_exact(target, n or draws.run.n_samples, seed)
        faults = []
        for mode, weight in enumerate(target.modes.masses.tolist()):
            if mode == target.heaviest:
                continue
            row = {**start, "mode": mode, "weight": weight, "exact_recall": exact.of_mode(mode)["recall"]}
            if rates is not None:
                found = rates.of_mode(mode)
                error = recall_error(found["recall"], len(target.exact[mode]))
                row |= {"n_train": int((draws.mode == mode).sum()), "std_error": error, **found}
            faults.append(row)
        whole = {**start, **{f"exact_{name}": value for name, value in exact.of_all.items()}}
        if rates is not None:
            inside = int((draws.mode >= 0).sum())
            whole |= {"n_train": inside, "n_outside": n - inside, **rates.of_all}
        return faults, whole

    def _of_exact(self, target: FaultTarget, n: int, seed: int) -> Rates:
        """Of the detector trained on as many exact draws."""
        key = target.label, n, seed
        if key not in self._exact:
            x, mode = target.sample(n, "training", seed)
            self._exact[key] = Rates.of(Detector.trained(x, mode, target.heaviest), target)
        return self._exact[key]


def with_costs(rows: Iterable[dict[str, object]], columns: Sequence[str], costs: pd.DataFrame) -> pd.DataFrame:
    """A table of rows with the costs of their runs.

    Args:
        rows: with target, sampler and seed.
        columns: of the table; what rows lack is NaN.
        costs: target, sampler, seed, gradient_equivalents, seconds.
    """
    key = ["target", "sampler", "seed"]
    known = [name for name in columns if name not in COSTS]
    table = pd.DataFrame(rows, columns=known).merge(costs[[*key, *COSTS]], on=key, how="left", validate="many_to_one")
    return table[list(columns)]
