"""The chain of ``dds``: its steps, what a drift sees of the target, and the noising that runs backwards."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from ..targets.base import LOG_2PI
from ..targets.meter import Meter
from .base import normal_like
from .implicit.networks import MLP, Network
from .implicit.noise import falling_levels
from .kernels import Diverged, shortened

MAX_DEVIATIONS = 5.0


class Steering(Protocol):
    """Points and scores ``(n, dim)`` at steps ``(n, 1)`` to c and log g, both ``(n, dim)``."""

    def __call__(self, y: Tensor, score: Tensor, k: Tensor, /) -> tuple[Tensor, Tensor]:
        """See the class."""
        ...


class Leg(NamedTuple):
    """A step of some paths: its number, where it starts, the score seen there, the push, and where it ends.

    ``log_tilt`` is the log of its density over that of the free chain.
    """

    step: int
    start: Tensor  # (n, dim), as the next three
    score: Tensor
    push: Tensor
    end: Tensor
    log_tilt: Tensor  # (n,), float64


def log_tilt(push: Tensor, c: Tensor, log_width: Tensor) -> Tensor:
    """log N(push; c, g^2) - log N(push; 0, I), shape ``(..., dim)`` to ``(...)``, float64."""
    eps = (push - c) * (-log_width).exp()
    return (0.5 * (push.square() - eps.square()) - log_width).sum(-1, dtype=torch.float64)


@dataclass(frozen=True)
class Chain:
    """The chain that a drift steers, and the target in its coordinates y = x / sigma.

    At the start of step k it stands at the noise-to-signal ratio s_k: the reversed chain has brought the target's y to
    signal^.5 y + (1 - signal)^.5 z there, signal = 1 / (1 + s_k^2).

    Attributes:
        meter: of the target.
        sigma: the unit of y.
        levels: s_k, shape ``(n_levels,)``, falling; after the last step the ratio is zero.
        alpha: of the steps, shape ``(n_levels,)``.
        noise: (1 - signal)^.5 at their starts and after the last, shape ``(n_levels + 1,)``.
        max_score: longest score of the target that the drift is shown, in units of dim^.5 over the noise.
    """

    meter: Meter
    sigma: float
    levels: Tensor
    alpha: Tensor
    noise: Tensor
    max_score: float

    @classmethod
    def between(
        cls, highest: float, lowest: float, n_levels: int, *, meter: Meter, sigma: float, max_score: float
    ) -> "Chain":
        """With levels from ``highest`` to ``lowest``; constants in the meter's dtype, from float64."""
        s = falling_levels(highest, lowest, n_levels)
        signal = 1 / (1 + torch.cat([s, s.new_zeros(1)]).square())
        constants = s, 1 - signal[:-1] / signal[1:], (1 - signal).sqrt()
        levels, alpha, noise = (value.to(device=meter.device, dtype=meter.dtype) for value in constants)
        return cls(meter, sigma, levels, alpha, noise, max_score)

    def start(self, n: int, generator: Generator) -> Tensor:
        """Draws of N(0, I), shape ``(n, dim)``."""
        return normal_like(self.levels.new_empty(n, self.meter.dim), generator)

    def legs(self, y: Tensor, drift: Steering, generator: Generator) -> Iterator[Leg]:
        """The steps of paths that start at ``y``, shape ``(n, dim)``, without a graph.

        Raises:
            BudgetReached: before a step whose scores the budget cannot pay.
        """
        for k in range(len(self.levels)):
            with torch.no_grad():
                score = self.score(y, k)
                c, log_width = drift(y, score, torch.full_like(y[:, :1], k, dtype=torch.int64))
                push = c + log_width.exp() * normal_like(y, generator)
                end = (1 - self.alpha[k]).sqrt() * y + self.alpha[k].sqrt() * push
            yield Leg(k, y, score, push, end, log_tilt(push, c, log_width))
            y = end

    def weighted(self, n: int, drift: Steering, generator: Generator) -> tuple[Tensor, Tensor]:
        """Ends of ``n`` paths, ``(n, dim)``, and log weights, ``(n,)``, float64; BudgetReached if they are too dear."""
        y = self.start(n, generator)
        tilt = torch.zeros(n, dtype=torch.float64, device=y.device)
        for leg in self.legs(y, drift, generator):
            y, tilt = leg.end, tilt + leg.log_tilt
        return y, self.log_ratio(y) - tilt

    def noised(self, y: Tensor, k: Tensor, generator: Generator) -> Tensor:
        """Draws of the noising at the starts of steps ``k``, shape ``(n, 1)``, given its ends ``y``, ``(n, dim)``."""
        noise = self.noise[k]
        return (1 - noise.square()).sqrt() * y + noise * normal_like(y, generator)

    def back(self, y: Tensor, k: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Where the noising goes from the ends ``y`` of steps ``k``, and the push of the forward step between the two.

        The free chain is reversible, so that this is the same Gaussian step; the push is computed without taking the
        difference of the two, which are close at small steps.
        """
        alpha, eps = self.alpha[k], normal_like(y, generator)
        return (1 - alpha).sqrt() * y + alpha.sqrt() * eps, alpha.sqrt() * y - (1 - alpha).sqrt() * eps

    def score(self, y: Tensor, k: int | Tensor) -> Tensor:
        """Gradient of log p(y) - log N(y; 0, I) in units of 1 / noise, log p's part shortened.

        That is zero where it is not finite. Whatever the drift is shown, weights stay right. ``k`` is the number of a
        step, or one per row, shape ``(n, 1)``.
        """
        score = self.sigma * self.meter.score(self.sigma * y).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        longest = self.max_score * math.sqrt(self.meter.dim)
        return shortened(score, self.noise[k], longest).nan_to_num(nan=0.0) + self.noise[k] * y

    def log_ratio(self, y: Tensor) -> Tensor:
        """log p(y) - log N(y; 0, I), shape ``(n, dim)`` to ``(n,)``, float64."""
        log_prob = self.meter.log_prob(self.sigma * y).double() + self.meter.dim * math.log(self.sigma)
        return log_prob + 0.5 * (y.double().square().sum(-1) + self.meter.dim * LOG_2PI)


class Drift(nn.Module):
    """c_k(y) = gain_k (F + share_k score(y)) and log g_k(y) = (2 sigmoid(G) - 1 / 2) log g_k, F and G of a network.

    The gain is that of the exponential integrator for a drift of unit size over the noise, so that F has unit size at
    every level. The shares, a number per step and coordinate, are trained too; they start at the signal, which is right
    at both ends and would be throughout if the target were as wide as the chain's start. The reversed noising has width
    g = 1 where the target is wide and g_k where it is a point (Nichol and Dhariwal, arXiv 2102.09672, section 3.1);
    it starts in the middle and can leave this range by half of it to both sides.

    The network sees y, the level, the score, and of u = y / noise asinh(u) and log(1 + u^2) / 2: details of every size
    at the level where they are decided, and lengths as sums over coordinates.
    """

    gain: Tensor
    levels: Tensor
    noise: Tensor
    narrowest: Tensor

    def __init__(self, shape: Network, chain: Chain, generator: Generator) -> None:
        super().__init__()
        dim = chain.meter.dim
        self.net = MLP(4 * dim + 1, 2 * dim, shape, chain.meter, generator)
        self.share = nn.Parameter((1 - chain.noise[:-1].square())[:, None].repeat(1, dim))
        noise, ratio = chain.noise[:-1], chain.noise[1:] / chain.noise[:-1]
        if len(ratio) > 1:  # of the last step, which ends without noise, the ratio of the one before
            ratio[-1] = ratio[-2]
        self.register_buffer("gain", 2 * chain.alpha.sqrt() / ((1 + (1 - chain.alpha).sqrt()) * noise))
        self.register_buffer("levels", chain.levels)
        self.register_buffer("noise", noise)
        self.register_buffer("narrowest", ratio.log().clamp_min(-1.0))

    def forward(self, y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Points and scores ``(n, dim)`` at steps ``(n, 1)`` to c and log g, both ``(n, dim)``."""
        u = y / self.noise[k]
        seen = [y, 0.25 * self.levels[k].log(), score, u.asinh(), 0.5 * u.square().log1p()]
        f, g = self.net(torch.cat(seen, dim=-1)).chunk(2, dim=-1)
        c: Tensor = self.gain[k] * (f + self.share[k.squeeze(-1)] * score)
        return c, self.narrowest[k] * (2 * g.sigmoid() - 0.5)


def denoising_loss(drift: Steering, chain: Chain, y: Tensor, generator: Generator) -> Tensor:
    """Minus the mean of n_levels log_tilt, over paths backwards from ``y``, shape ``(n, dim)``, a random step of each.

    Were ``y`` draws of the target, this would be E log w, and so the divergence of the law of the chain from that of
    the noising, up to a number that does not depend on the drift.
    """
    k = torch.randint(len(chain.levels), (len(y), 1), generator=generator, device=y.device)
    start, push = chain.back(chain.noised(y, k + 1, generator), k, generator)
    c, log_width = drift(start, chain.score(start, k), k)
    return -len(chain.levels) * log_tilt(push, c, log_width).mean()


def log_variance_loss(drift: Steering, chain: Chain, n: int, generator: Generator) -> Tensor:
    """Variance of the log weights of ``n`` paths of the chain; zero only where all of them are log Z.

    The paths are held fixed, so that no derivative passes through them nor through the target's score.

    Raises:
        BudgetReached: before a step whose scores the budget cannot pay.
    """
    legs = list(chain.legs(chain.start(n, generator), drift, generator))
    log_ratio = chain.log_ratio(legs[-1].end)
    start, score, push = (torch.cat([getattr(leg, name) for leg in legs]) for name in ("start", "score", "push"))
    k = torch.arange(len(legs), device=start.device).repeat_interleave(n)[:, None]
    return clipped_variance(log_ratio - log_tilt(push, *drift(start, score, k)).view(len(legs), n).sum(0))


def clipped_variance(values: Tensor) -> Tensor:
    """Variance of ``values``, shape ``(n,)``, in which those far out have a pull that ends (ours).

    Values further than five median deviations from the median count by that over their distance: else those few that
    meet a steep place would decide a step of training. Values that are not finite do not count.

    Raises:
        Diverged: if fewer than two are finite.
    """
    n, values = len(values), values[values.isfinite()]
    if len(values) < 2:
        raise Diverged(f"the log weights of {n - len(values)} of {n} paths are not finite")
    with torch.no_grad():
        distance = (values - values.median()).abs()
        share = (MAX_DEVIATIONS * distance.median() / distance).nan_to_num(nan=1.0).clamp_max(1.0)
    mean = (share * values).sum() / share.sum()
    return (share * (values - mean).square()).sum() / (len(values) - 1)
