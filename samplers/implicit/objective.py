"""What training lowers over theta, and what the opponent of the sampler learns meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import torch
from torch import Generator, Tensor, nn

from ...targets.meter import Meter
from .networks import MLP, Network, NoisedScore
from .noise import Level, Noise, of_points, with_noise
from .target_score import Guide

Field: TypeAlias = Callable[[Tensor], Tensor]
"""Points ``(n, dim)`` to vectors ``(n, dim)``: a score."""


class Loss(Protocol):
    """A scalar that a sampler step lowers."""

    def __call__(self, x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, /, *, noise: Level) -> Tensor:
        """``x0 (n, dim)`` requires a gradient; s_q and s_phi are scores of the target and of the law of x."""
        ...


class Objective(Protocol):
    """A game between the sampler and an opponent. All points are in coordinates y = x / scale."""

    @property
    def points_per_latent(self) -> int:
        """Points at which the losses are taken, per x0."""
        ...

    @property
    def settled(self) -> float:
        """Share of training after which the losses no longer change by themselves."""
        ...

    def opponent(self, network: Network, meter: Meter, generator: Generator) -> nn.Module:
        """An untrained opponent; one without parameters where there is no opponent."""
        ...

    def opponent_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """Lowered over the opponent's parameters; ``x0 (n, dim)`` has no graph."""
        ...

    def sampler_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """Lowered over theta; ``x0 (n, dim)`` requires a gradient, the opponent's parameters are frozen."""
        ...


@dataclass(frozen=True)
class Denoised:
    """The opponent is a network s_phi that learns the score of x = x0 + s eps by denoising.

    Attributes:
        loss: of the method.
        s_q: score of the target.
        noise: s.
        first: a loss that replaces it in the first ``first_share`` of training.
        first_share: 0 for none.
    """

    loss: Loss
    s_q: Guide
    noise: Noise
    first: Loss | None = None
    first_share: float = 0.0

    @property
    def points_per_latent(self) -> int:
        """Both signs of the noise, where it is antithetic."""
        return self.noise.points_per_latent

    @property
    def settled(self) -> float:
        """When the first loss, the levels and the target's path have come to their ends."""
        return max(self.first_share, self.noise.settled, self.s_q.settled)

    def opponent(self, network: Network, meter: Meter, generator: Generator) -> nn.Module:
        """s_phi, which is told the level of noise where that varies."""
        if self.noise.varies:
            return NoisedScore(network, meter, generator)
        return MLP(meter.dim, meter.dim, network, meter, generator)

    def opponent_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """s^2 E|s_phi(x) + eps / s|^2."""
        noise = self.noise.levels(x0, progress, generator)
        x, eps = with_noise(x0, noise, generator, antithetic=self.noise.antithetic)
        s_phi = _at_level(opponent, noise, x)
        return (of_points(noise, x) * s_phi(x) + eps).square().sum(-1).mean()

    def sampler_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """The method's loss."""
        noise = self.noise.levels(x0, progress, generator)
        s_phi = _at_level(opponent, noise, x0.expand(self.points_per_latent, *x0.shape).flatten(0, 1))
        loss = self.first if self.first is not None and progress < self.first_share else self.loss
        return loss(x0, lambda y: self.s_q(y, progress, of_points(noise, y)), s_phi, generator, noise=noise)


def _at_level(opponent: nn.Module, noise: Level, x: Tensor) -> Field:
    """s_phi as a field of the points x."""
    return partial(opponent, s=of_points(noise, x)) if isinstance(noise, Tensor) else opponent


@dataclass(frozen=True)
class Alone:
    """A loss of the sampler's points and the target's score, without an opponent."""

    loss: Callable[[Tensor, Field, Generator], Tensor]
    s_q: Guide

    points_per_latent: int = 1

    @property
    def settled(self) -> float:
        """When the target's path has come to its end."""
        return self.s_q.settled

    def opponent(self, network: Network, meter: Meter, generator: Generator) -> nn.Module:
        """None."""
        return nn.Identity()

    def opponent_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """Nothing to learn."""
        return torch.zeros((), device=x0.device, dtype=x0.dtype)

    def sampler_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """The loss of the points."""
        return self.loss(x0, lambda y: self.s_q(y, progress), generator)


@dataclass(frozen=True)
class Adversarial:
    """A zero-sum game: the opponent is a field f, a critic, that raises the value which the sampler lowers.

    Where f is at its maximum, the gradient of the value in theta with f frozen is that of the maximum (the envelope
    theorem).

    Attributes:
        value: of points, the target's score, f and a generator.
        s_q: score of the target; the critic's steps pay for it too.
    """

    value: Callable[[Tensor, Field, Field, Generator], Tensor]
    s_q: Guide

    points_per_latent: int = 1

    @property
    def settled(self) -> float:
        """When the target's path has come to its end."""
        return self.s_q.settled

    def opponent(self, network: Network, meter: Meter, generator: Generator) -> nn.Module:
        """f, zero at the start."""
        return MLP(meter.dim, meter.dim, network, meter, generator)

    def opponent_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """The value with its sign changed; the target's score is a constant."""
        with torch.no_grad():
            score = self.s_q(x0, progress)
        return -self.value(x0.detach().requires_grad_(), lambda _: score, opponent, generator)

    def sampler_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """The value."""
        return self.value(x0, lambda y: self.s_q(y, progress), opponent, generator)
