"""The Truth that evaluation knows, the Metric contract and the registry of metrics."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from ..targets.base import Modes, Moments, Wells
from ..targets.draws import Draws, Estimate
from ..targets.registry import Registry

Values: TypeAlias = dict[str, float]
OR = " or "  # between the fields of a need of which one is enough


@dataclass(frozen=True)
class Predictive:
    """Posterior predictive on held-out data.

    Attributes:
        log_odds: parameters ``(n, dim)`` to log odds of class 1 ``(n, n_rows)``.
        labels: 0 or 1, shape ``(n_rows,)``.
    """

    log_odds: Callable[[Tensor], Tensor]
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What evaluation knows about a target; absent is None.

    Attributes:
        samples: exact or reference draws in x, float64, shape ``(n, dim)``.
        log_prob, score: of the target, in float64.
        view: map to the coordinates in which distances and moments are taken.
        modes, wells, moments: as the target states them.
        bandwidth: median distance between truth draws in the view; independent of the sampler being judged.
        spacing: median nearest-neighbour distance of 1,000 truth draws in x.
        predictive: of the held-out data.
        normaliser: log Z of the target, in nats.
        features: of images, by a classifier trained on real ones: points ``(n, dim)`` to ``(n, n_features)``.
        class_probabilities: by the same classifier: points ``(n, dim)`` to ``(n, n_classes)``.
    """

    samples: Tensor | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None
    score: Callable[[Tensor], Tensor] | None = None
    view: Callable[[Tensor], Tensor] | None = None
    modes: Modes | None = None
    wells: Wells | None = None
    moments: Moments | None = None
    bandwidth: float | None = None
    spacing: float | None = None
    predictive: Predictive | None = None
    normaliser: Estimate | None = None
    features: Callable[[Tensor], Tensor] | None = None
    class_probabilities: Callable[[Tensor], Tensor] | None = None


class MetricFunction(Protocol):
    """The computation behind a metric."""

    __name__: str

    def __call__(self, draws: Draws, truth: Truth, *, seed: int) -> Values:
        """Values by name; the first is the metric's own."""
        ...


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name, version: identity; floors are kept per version.
        function: the computation.
        outputs: names of the values that it returns, the metric's own first.
        needs: fields of Draws and Truth without which it is nan; of "a or b", one is enough.
        direction: which way is better; None for a description.
        unit: of the value.
        blind_to: what the metric cannot see.
        null: law of the value on exact draws: "non-negative" distances have the median as floor, "centred" ones the
            95% point; None where no floor makes sense.
        min_draws: with fewer it is nan; a function where that depends on the truth.
    """

    name: str
    version: int
    function: MetricFunction
    outputs: tuple[str, ...]
    needs: tuple[str, ...]
    direction: Literal["lower", "higher"] | None
    unit: str
    blind_to: str
    null: Literal["non-negative", "centred"] | None
    min_draws: int | Callable[[Truth], int] = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields of Draws and Truth among the needs."""
        return tuple(field for need in self.needs for field in need.split(OR))

    @property
    def takes_weights(self) -> bool:
        """Whether it takes draws as the sampler returned them; others take draws resampled to equal weights."""
        return not {"log_weights", "log_density", "forward_log_ratio"}.isdisjoint(self.fields)

    def fewest_draws(self, truth: Truth) -> int:
        """The number of draws that it asks for; ``truth`` holds what it needs."""
        return self.min_draws(truth) if callable(self.min_draws) else self.min_draws

    def missing(self, draws: Draws, truth: Truth) -> str:
        """Why the metric cannot be computed; empty if it can."""
        known = {
            "chains": draws.chains,
            "log_weights": draws.log_weights,
            "log_density": draws.log_density,
            "forward_log_ratio": draws.forward_log_ratio,
            "log_z": draws.log_z,
        }
        there = {field for field in self.fields if known.get(field, getattr(truth, field, None)) is not None}
        absent = [need for need in self.needs if there.isdisjoint(need.split(OR))]
        if absent:
            return f"needs {', '.join(absent)}"
        n, fewest = len(draws.samples), self.fewest_draws(truth)
        return f"needs at least {fewest} draws, got {n}" if n < fewest else ""

    def __call__(self, draws: Draws, truth: Truth, *, seed: int) -> Values:
        """All outputs; nan for every one if a need is missing."""
        if self.missing(draws, truth):
            return dict.fromkeys(self.outputs, math.nan)
        return self.function(draws, truth, seed=seed)


METRICS: Registry[Metric] = Registry("metric", "samplerbench.metrics")
names, get, entry = METRICS.names, METRICS.get, METRICS.entry


def register_metric(
    name: str,
    *,
    version: int,
    needs: tuple[str, ...],
    unit: str,
    blind_to: str,
    direction: Literal["lower", "higher"] | None = "lower",
    null: Literal["non-negative", "centred"] | None = "non-negative",
    outputs: tuple[str, ...] = (),
    min_draws: int | Callable[[Truth], int] = 0,
) -> Callable[[MetricFunction], MetricFunction]:
    """Function decorator: register ``metric(draws, truth, *, seed) -> {name: value}`` under ``name``."""

    def decorate(function: MetricFunction) -> MetricFunction:
        metric = Metric(name, version, function, outputs or (name,), needs, direction, unit, blind_to, null, min_draws)

        def build() -> Metric:
            return metric

        build.__doc__, build.__module__ = function.__doc__, function.__module__
        METRICS.register(name, build, version=version)
        return function

    return decorate
