"""The score of the target that training follows: exact, of minibatches or of the noised target, tempered on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Literal, Protocol, TypeAlias

from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_one_of, require_positive
from ...targets.meter import Meter
from ..base import NotApplicableError
from ..minibatches import Minibatches
from .noise import Level
from .posterior import Posterior

Source: TypeAlias = Literal["exact", "minibatch", "posterior"]


class Guide(Protocol):
    """The target's score in coordinates y = x / scale."""

    @property
    def settled(self) -> float:
        """Share of training after which it is the score of the target itself."""
        ...

    def __call__(self, y: Tensor, progress: float, noise: Level = 0.0) -> Tensor:
        """Points ``(n, dim)`` to scores ``(n, dim)``.

        Args:
            y: points.
            progress: share of training that is done.
            noise: s of the points, which only scores of the noised target depend on.
        Raises:
            BudgetReached: if the budget cannot pay them.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TargetScore:
    """Which score of the target is followed.

    Attributes:
        source: the exact score; that of a minibatch of data rows, a fresh one at every call, which is independent of
            the one before it; or ``posterior``, an estimate of the score of the target noised as the points are, so
            that x0 and not x is fitted to the target. The latter has no usable derivative in x.
        batch_size: data rows of a minibatch.
        posterior: how the noised target's score is estimated.
        path: share of training in which the target is tempered: the score is lam s_q + (1 - lam) s_base with lam
            rising from 0 to 1, base N(0, (base_width scale)^2 I).
        base_width: of the path.
        max_score: components are clamped at this value, in units of 1 / scale. Squares and derivatives of what is met
            deep in the neck of a funnel would overflow float32.
    """

    source: Source = "exact"
    batch_size: int = 256
    posterior: Posterior = field(default_factory=Posterior)
    path: float = 0.0
    base_width: float = 1.0
    max_score: float = 1e4

    def __post_init__(self) -> None:
        require_one_of(Source, source=self.source)
        require_at_least(1, batch_size=self.batch_size)
        require_positive(base_width=self.base_width, max_score=self.max_score)
        if not 0 <= self.path <= 1:
            raise ValueError(f"path must be from 0 to 1, got {self.path}")
        if self.path and self.source == "posterior":
            raise ValueError(f"path must be 0: noise leads to the target already, with 'posterior', got {self.path}")

    def require_derivative(self, method: str) -> None:
        """Refuse scores that a method whose loss differentiates them cannot use.

        Raises:
            ValueError: naming the field, the rule with its reason, and the value.
        """
        if self.source == "posterior":
            raise ValueError(
                "source must be 'exact' or 'minibatch': an estimate by posterior sampling has no usable derivative in "
                f"x, which the loss of {method} needs, got {self.source!r}"
            )

    def of(self, meter: Meter, generator: Generator, *, differentiable: bool = False) -> Guide:
        """The score of the metered target.

        Args:
            meter: of the target.
            generator: of minibatches and of draws of x0.
            differentiable: whether losses differentiate it (each backward pass then pays Hessian-vector products).
        Raises:
            NotApplicableError: if minibatches are asked for and the target offers none; from calls, if a graph is asked
                for and the target's score has none.
            ValueError: if a minibatch is larger than the data, or the scores have no derivative and need one.
        """
        if differentiable:
            self.require_derivative("this method")
        return _Tempered(self, meter.scale, self._source_of(meter, generator, differentiable), differentiable)

    def _source_of(self, meter: Meter, generator: Generator, differentiable: bool) -> Callable[[Tensor, Level], Tensor]:
        """The score in x, of points and their levels of noise."""
        if self.source == "posterior":
            return self.posterior.of(meter, generator)
        if self.source == "exact":
            return lambda x, _: meter.score(x, create_graph=differentiable)
        # in turn from two streams of epochs: batches of one epoch are disjoint, so they are not independent
        streams = cycle([Minibatches(meter, self.batch_size, generator) for _ in range(2)])
        return lambda x, _: next(streams).score(x, create_graph=differentiable)


@dataclass(frozen=True)
class _Tempered:
    config: TargetScore
    scale: float
    score: Callable[[Tensor, Level], Tensor]
    differentiable: bool

    @property
    def settled(self) -> float:
        """The end of the path."""
        return self.config.path

    def __call__(self, y: Tensor, progress: float, noise: Level = 0.0) -> Tensor:
        limit, x = self.config.max_score, self.scale * y
        score = self.score(x, self.scale * noise)
        if self.differentiable and x.requires_grad and not score.requires_grad:
            raise NotApplicableError("needs second derivatives of log_prob, target has none: its score has no graph")
        score = (self.scale * score).clamp(-limit, limit)
        if progress >= self.config.path:
            return score
        lam = progress / self.config.path
        return lam * score - (1 - lam) * y / self.config.base_width**2
