"""Stein variational gradient descent."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import BudgetReached, Meter
from .base import FittedSampler, State, checked_start, register_sampler
from .kernels import Diverged, finite, stopped_by
from .minibatches import Minibatches, require_minibatches

SteinKernel: TypeAlias = Literal["rbf", "imq"]
BLOCK = 2**18  # numbers in one block of the kernel matrix: a megabyte in float32, which stays in a core's cache
MIN_ROWS = 64
FUDGE = 1e-6  # of AdaGrad, as in the authors' code


@register_sampler("svgd_imq", version=1, kernel="imq")
@register_sampler("svgd", version=1)
@dataclass(frozen=True, kw_only=True)
class SVGD:
    """Stein variational gradient descent: particles follow the kernelised score and repel each other.

    phi(x_i) = 1/n sum_j [ k(x_j, x_i) s(x_j) + grad_{x_j} k(x_j, x_i) ],  k(x, y) = exp(-|x - y|^2 / h^2) for ``rbf``,
    (1 + |x - y|^2 / h^2)^(-1/2) for ``imq``, h^2 = med^2 / log n, med^2 the median squared distance between two
    particles, taken at every step over the pairs of a fixed random subset of ``n_median`` particles. Steps are
    AdaGrad's in the authors' form,
    G <- decay G + (1 - decay) phi^2 (G = phi^2 at first), x <- x + step_size * scale * phi / (1e-6 + sqrt(G)).

    The particles evolve in ``draw``: n draws cost n * n_steps scores, and nothing is paid in ``fit``. Minibatch scores
    (see ``minibatches``) cost batch_size / n_rows of that; phi is linear in the score, so it stays unbiased, but
    AdaGrad's steps do not shrink, so the particles keep trembling by the minibatches' noise.

    Attributes:
        kernel: ``rbf`` or ``imq``, whose tails are heavier: far particles still feel each other. With the same step it
            arrives later: 500 particles on the donut have a sliced W2 of 0.54 after 500 steps and of 0.13 after 3,000,
            where ``rbf`` has 0.13 after 500.
        batch_size: data rows of a score; None is all of them.
        n_steps: updates of all particles.
        step_size: in units of scale.
        decay: of AdaGrad's history.
        n_median: largest number of particles whose distances give the bandwidth.

    References: Q. Liu and D. Wang, NeurIPS 2016, arXiv 1608.04471, algorithm 1 and section 5; the inverse
    multiquadric, J. Gorham and L. Mackey, Measuring sample quality with kernels, ICML 2017.
    """

    kernel: SteinKernel = "rbf"
    batch_size: int | None = None
    n_steps: int = 500
    step_size: float = 0.01
    decay: float = 0.9
    n_median: int = 500

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps)
        if self.batch_size is not None:
            require_at_least(1, batch_size=self.batch_size)
        require_at_least(2, n_median=self.n_median)
        require_positive(step_size=self.step_size)
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {self.decay}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Nothing to pay once.

        Raises:
            NotApplicableError: if there is a ``batch_size`` and the target offers no minibatch scores.
            ValueError: if it has fewer data rows than ``batch_size``.
        """
        if self.batch_size is not None:
            require_minibatches(meter, self.batch_size)
        return FittedSVGD(self, meter)


@dataclass(frozen=True)
class FittedSVGD:
    """SVGD on one target."""

    config: SVGD
    meter: Meter
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """The ``n_samples`` particles after n_steps updates, or after the last one that the budget could pay.

        Args:
            n_samples: number of particles.
            generator: the only source of randomness.
            start: shape ``(n_samples, dim)``, instead of the meter's.
        Raises:
            ValueError: if ``start`` has another shape or is not finite, or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        x = checked_start(start, n_samples, self.meter, generator).clone()
        subset = torch.randperm(n_samples, generator=generator, device=x.device)[: self.config.n_median]
        score_of = self._scores(generator)
        direction = DIRECTIONS[self.config.kernel]
        ada_grad = AdaGrad(self.config.step_size * self.meter.scale, self.config.decay)
        bandwidths: list[float] = []
        stopped: Stopped | None = None
        reason = ""
        try:
            for step in range(self.config.n_steps):
                score = score_of(x)
                squared_bandwidth = median_bandwidth(x[subset], n_samples)
                moved = x + ada_grad(direction(x, score, squared_bandwidth))
                if not moved.isfinite().all():
                    raise Diverged(f"particles are not finite after step {step + 1}")
                x = moved
                bandwidths.append(math.sqrt(squared_bandwidth))
        except (BudgetReached, Diverged) as error:
            stopped = stopped_by(error)
            reason = f"{error}; stopped after {len(bandwidths)} of {self.config.n_steps} steps"
        diagnostics = {"bandwidth": bandwidths[-1] if bandwidths else math.nan, "n_steps": len(bandwidths)}
        return Draws(samples=x, stopped=stopped, reason=reason, diagnostics=diagnostics)

    def _scores(self, generator: Generator) -> Callable[[Tensor], Tensor]:
        """The score that the particles follow, of all data rows or of minibatches."""
        if self.config.batch_size is not None:
            return Minibatches(self.meter, self.config.batch_size, generator).score
        return lambda x: finite(State.at(x, self.meter), "before a step").score


class AdaGrad:
    """Steps of AdaGrad with a decaying history, in the form of the authors' code.

    Args:
        step_size: length of a step per coordinate where phi does not change, in the unit of x.
        decay: weight of the history; the first history is phi^2 alone.
    """

    def __init__(self, step_size: float, decay: float) -> None:
        self.step_size = step_size
        self.decay = decay
        self.history: Tensor | None = None

    def __call__(self, phi: Tensor) -> Tensor:
        """The step along ``phi``, of the same shape; ``phi`` enters the history."""
        square = phi.square()
        self.history = square if self.history is None else self.decay * self.history + (1 - self.decay) * square
        return self.step_size * phi / (FUDGE + self.history.sqrt())


def median_bandwidth(x: Tensor, n_particles: int) -> float:
    """h^2 = med^2 / log n, med^2 the median squared distance between two rows of ``x``.

    Args:
        x: all particles or a subset of them, shape ``(m, dim)``.
        n_particles: n, the number of all particles; a single one has no distance, and its bandwidth does not matter.
    Raises:
        Diverged: if the median is 0 (most particles coincide) or overflows.
    """
    if n_particles == 1:
        return 1.0
    median = float(torch.pdist(x).median()) ** 2
    if not 0 < median < math.inf:
        raise Diverged(f"the median squared distance between particles is {median:g}")
    return median / math.log(n_particles)


def rbf_direction(x: Tensor, score: Tensor, squared_bandwidth: float, block: int | None = None) -> Tensor:
    """phi(x_i) = 1/n sum_j k(x_i, x_j) [s(x_j) + 2 (x_i - x_j) / h^2], k the Gaussian kernel with bandwidth h.

    Args:
        x, score: shape ``(n, dim)``; not modified.
        squared_bandwidth: h^2.
        block: numbers in the largest block of rows of the kernel matrix (one row at least); see ``_block_rows``.
    Returns:
        Shape ``(n, dim)``.
    """
    n = len(x)
    pull = 2 / squared_bandwidth
    x = x - x.mean(0)  # the products below round like |x|^2
    # log2 k(x_i, x_j) = (2 <x_i, x_j> - |x_i|^2 - |x_j|^2) / (h^2 log 2) is one matrix product; exp2 is three times
    # faster than exp, and both are slow where they underflow, hence the lower clamp
    exponent = x.square().sum(-1, keepdim=True) / (-squared_bandwidth * math.log(2))
    one = torch.ones_like(exponent)
    left = torch.cat([(pull / math.log(2)) * x, exponent, one], -1)
    right = torch.cat([x, one, exponent], -1).T
    values = torch.cat([score - pull * x, one], -1).T.contiguous()
    sums = torch.empty_like(values)  # (dim + 1, n): sum_j k(x_i, x_j) [s(x_j) - 2 x_j / h^2, 1]
    buffer = x.new_empty(_block_rows(n, block), n)
    for first in range(0, n, len(buffer)):
        last = min(first + len(buffer), n)
        kernel = torch.mm(left[first:last], right, out=buffer[: last - first]).clamp_(min=-126, max=0).exp2_()
        sums[:, first:last] = values @ kernel.T
    return ((sums[:-1] + pull * x.T * sums[-1]) / n).T


def imq_direction(x: Tensor, score: Tensor, squared_bandwidth: float, block: int | None = None) -> Tensor:
    """phi(x_i) = 1/n sum_j [k_ij s(x_j) + k_ij^3 (x_i - x_j) / h^2], k_ij = (1 + |x_i - x_j|^2 / h^2)^(-1/2).

    Args:
        x, score: shape ``(n, dim)``; not modified.
        squared_bandwidth: h^2.
        block: numbers in the largest block of rows of the kernel matrix (one row at least); see ``_block_rows``.
    Returns:
        Shape ``(n, dim)``.
    """
    n = len(x)
    x = (x - x.mean(0)) / math.sqrt(squared_bandwidth)  # the products below round like |x|^2
    square = x.square().sum(-1, keepdim=True)
    one = torch.ones_like(square)
    left = torch.cat([-2 * x, square, one], -1)
    right = torch.cat([x, one, square + 1], -1).T  # 1 + |x_i - x_j|^2 / h^2 is one matrix product
    scores, positions = score.T.contiguous(), torch.cat([x, one], -1).T.contiguous()
    pull, push = torch.empty_like(scores), torch.empty_like(positions)  # sum_j k s_j, sum_j k^3 [x_j, 1]
    buffers = x.new_empty(2, _block_rows(n, block), n)
    for first in range(0, n, buffers.shape[1]):
        last = min(first + buffers.shape[1], n)
        kernel, cube = buffers[:, : last - first]
        torch.mm(left[first:last], right, out=kernel).clamp_(min=1).rsqrt_()
        torch.mul(kernel, kernel, out=cube).mul_(kernel)
        pull[:, first:last] = scores @ kernel.T
        push[:, first:last] = positions @ cube.T
    return ((pull + (x.T * push[-1] - push[:-1]) / math.sqrt(squared_bandwidth)) / n).T


def _block_rows(n: int, block: int | None) -> int:
    """Rows of the kernel matrix at once: a block that stays in cache, but 64 rows at least, so that products pay."""
    return min(n, max(1, (block or max(BLOCK, MIN_ROWS * n)) // n))


DIRECTIONS: dict[SteinKernel, Callable[[Tensor, Tensor, float], Tensor]] = {"rbf": rbf_direction, "imq": imq_direction}
