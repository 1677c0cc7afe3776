"""The path of laws from a Gaussian to the target, on which AIS, SMC and parallel tempering move.

At inverse temperature beta the log density is (1 - beta) log q + beta log p, q normalised, p the target; states hold
the target's log density and score at every beta, so that a change of beta costs no evaluation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.base import LOG_2PI
from ..targets.meter import Meter
from .base import State, normal_like
from .kernels import Diverged

Beta: TypeAlias = float | Tensor
N_STARTS = 10_000  # of the meter's starting points, which cost no evaluation


@dataclass(frozen=True)
class Base:
    """The law q: independent normal coordinates, with ``mean`` and ``sd`` of shape ``(dim,)``."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, meter: Meter, generator: Generator, width: float) -> "Base":
        """Mean of the meter's public starting points, and ``width`` times their standard deviations."""
        starts = meter.start(N_STARTS, generator)
        return cls(starts.mean(0), width * starts.std(0))

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws ``(n_samples, dim)``."""
        z = normal_like(self.mean.expand(n_samples, -1), generator)
        return self.mean + self.sd * z

    def log_prob(self, x: Tensor) -> Tensor:
        """Normalised log density, shape ``(n, dim)`` to ``(n,)``."""
        z = (x - self.mean) / self.sd
        return -0.5 * z.square().sum(-1) - self.sd.log().sum() - 0.5 * LOG_2PI * len(self.sd)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        return (self.mean - x) / self.sd.square()


@dataclass(frozen=True)
class Tempered:
    """The law at ``beta`` in (0, 1], a number or one per row, shape ``(n, 1)``; a kernel's ``law``."""

    base: Base
    beta: Beta

    def __call__(self, state: State) -> State:
        """``state`` with the log density and score of this law; a target's NaN or -inf stays what it is."""
        share = self.beta.squeeze(-1) if isinstance(self.beta, Tensor) else self.beta
        log_prob = (1 - share) * self.base.log_prob(state.x) + share * state.log_prob
        score = (1 - self.beta) * self.base.score(state.x) + self.beta * state.score
        return state._replace(log_prob=log_prob, score=score)


def check_ladder(betas: Sequence[float] | None) -> None:
    """Refuse a ladder that does not lead from the base to the target; None, for one that is adapted, is none.

    Raises:
        ValueError: unless temperatures 1 / beta decrease from infinity to 1, that is, betas increase from 0 to 1.
    """
    if betas is None:
        return
    ends = (betas[0], betas[-1]) if betas else ()
    if ends != (0, 1) or not all(hot < cold for hot, cold in pairwise(betas)):
        raise ValueError(
            f"betas must increase strictly from 0 to 1 (temperatures 1 / beta decrease), got {list(betas)}"
        )


def log_ratio(state: State, base: Base) -> Tensor:
    """log p - log q at the points of ``state``, shape ``(n,)``, float64; -inf where the target is NaN or infinite.

    Raises:
        Diverged: if it is so everywhere.
    """
    ratio = (state.log_prob - base.log_prob(state.x)).double()
    ratio = ratio.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    if not (ratio > -math.inf).any():
        raise Diverged(f"the log density is finite at none of {len(ratio)} points")
    return ratio


def next_beta(beta: float, log_weights: Tensor, ratio: Tensor, min_ess: float) -> float:
    """The largest beta' in (beta, 1], by bisection, that keeps the conditional effective share at ``min_ess``.

    The share is (sum W u)^2 / sum W u^2 with W the normalised weights and u = exp((beta' - beta) ratio): 1 if the step
    changes no weight.

    Args:
        beta: of the particles.
        log_weights: theirs, shape ``(n,)``, float64.
        ratio: log p - log q, shape ``(n,)``, float64.
        min_ess: between 0 and 1.
    Reference: Y. Zhou, A. Johansen, J. Aston, J. Comput. Graph. Stat. 25 (2016), section 3.3.
    """
    normalised = log_weights.log_softmax(0)

    def share(candidate: float) -> float:
        u = normalised + (candidate - beta) * ratio
        square = normalised + 2 * (candidate - beta) * ratio
        return math.exp(2 * u.logsumexp(0).item() - square.logsumexp(0).item())

    if share(1.0) >= min_ess:
        return 1.0
    low, high = beta, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if share(middle) >= min_ess else (low, middle)
    return max(low, beta + 1e-12)


def systematic(weights: Tensor, n_samples: int, generator: Generator) -> Tensor:
    """Indices by systematic resampling: every count is n_samples times its weight, up to one.

    Args:
        weights: not normalised, shape ``(..., n)``, float64; every row is resampled by itself.
        n_samples: of each row.
        generator: the only source of randomness.
    Returns:
        Shape ``(..., n_samples)``, increasing.
    Reference: G. Kitagawa, J. Comput. Graph. Stat. 5 (1996), appendix.
    """
    u = torch.rand(*weights.shape[:-1], 1, generator=generator, device=weights.device, dtype=torch.float64)
    places = (torch.arange(n_samples, device=weights.device, dtype=torch.float64) + u) / n_samples
    edges = weights.cumsum(-1)
    return torch.searchsorted(edges / edges[..., -1:], places).clamp(max=weights.shape[-1] - 1)
