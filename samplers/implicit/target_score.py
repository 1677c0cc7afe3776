"""The score of the target that training follows: exact or of minibatches, tempered on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeAlias, get_args

from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import Meter
from ..minibatches import Minibatches

Source: TypeAlias = Literal["exact", "minibatch"]


class Guide(Protocol):
    """The target's score in coordinates y = x / scale."""

    def __call__(self, y: Tensor, progress: float) -> Tensor:
        """Points ``(n, dim)`` to scores ``(n, dim)``; ``progress`` is the share of training that is done.

        Raises:
            BudgetReached: if the budget cannot pay them.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class TargetScore:
    """Which score of the target is followed.

    Attributes:
        source: the exact score, or that of a fresh minibatch of data rows at every call.
        batch_size: data rows of a minibatch.
        path: share of training in which the target is tempered: the score is lam s_q + (1 - lam) s_base with lam
            rising from 0 to 1, base N(0, (base_width scale)^2 I).
        base_width: of the path.
        max_score: components are clamped at this value, in units of 1 / scale. Squares and derivatives of what is met
            deep in the neck of a funnel would overflow float32.
    """

    source: Source = "exact"
    batch_size: int = 256
    path: float = 0.0
    base_width: float = 1.0
    max_score: float = 1e4

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise ValueError(f"source must be one of {', '.join(map(repr, get_args(Source)))}, got {self.source!r}")
        require_at_least(1, batch_size=self.batch_size)
        require_positive(base_width=self.base_width, max_score=self.max_score)
        if not 0 <= self.path <= 1:
            raise ValueError(f"path must be from 0 to 1, got {self.path}")

    def of(self, meter: Meter, generator: Generator, *, differentiable: bool = False) -> Guide:
        """The score of the metered target.

        Args:
            meter: of the target.
            generator: of minibatches.
            differentiable: whether losses differentiate it (each backward pass then pays Hessian-vector products).
        Raises:
            NotApplicableError: if minibatches are asked for and the target offers none.
            ValueError: if a minibatch is larger than the data.
        """
        if self.source == "minibatch":
            batches = Minibatches(meter, self.batch_size, generator)
            return _Tempered(self, meter.scale, partial(batches.score, create_graph=differentiable))
        return _Tempered(self, meter.scale, partial(meter.score, create_graph=differentiable))


@dataclass(frozen=True)
class _Tempered:
    config: TargetScore
    scale: float
    score: Callable[[Tensor], Tensor]

    def __call__(self, y: Tensor, progress: float) -> Tensor:
        limit = self.config.max_score
        score = (self.scale * self.score(self.scale * y)).clamp(-limit, limit)
        if progress >= self.config.path:
            return score
        lam = progress / self.config.path
        return lam * score - (1 - lam) * y / self.config.base_width**2
