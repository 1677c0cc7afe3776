"""A diffusion sampler learned from particles: the teacher of one-pass samplers, as a sampler of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Draws, Stopped
from ..targets.meter import Meter
from .base import FittedSampler, normal_like, refuse_start, register_sampler
from .implicit.fitted import mean_losses
from .implicit.flat import flatten
from .implicit.networks import Network, NoisedScore, require_hidden_only
from .implicit.teaching import Teaching, teach
from .implicit.trainer import LOOK_EVERY, LastLook

CURVATURE = 7.0  # rho of the levels: s^(1 / rho) is evenly spaced
LOG_LEVEL_MEAN, LOG_LEVEL_SD = -1.2, 1.2  # of the levels in training
BLOCK = 2**14  # draws at once


@register_sampler("teacher", version=1)
@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Points found as for ``dft_plus`` teach a network the scores of their noised law; draws follow its flow.

    ``fit`` finds the points and minimises E s^2 (1 + s^2) |score(y, s) + eps / s|^2 over points y0, levels s and
    y = y0 + s eps, in coordinates that the points' means and standard deviations make standard. A draw starts at
    N(0, highest^2 I) and solves dy/ds = -s score(y, s) down to ``lowest`` by Heun's rule: 2 n_levels passes of the
    network and no evaluation of the target, so that a draw is as wrong as points, network and rule are.

    Attributes:
        teaching, network: see there.
        n_steps, batch_size, step_size: of Adam; the step size falls to zero along a cosine.
        lowest, highest: levels between which the flow is followed.
        n_levels: steps of Heun's rule.

    Reference: T. Karras, M. Aittala, T. Aila, S. Laine, Elucidating the Design Space of Diffusion-Based Generative
    Models, NeurIPS 2022, arXiv 2206.00364.
    """

    teaching: Teaching = field(default_factory=Teaching)
    network: Network = field(default_factory=Network)
    n_steps: int = 5_000
    batch_size: int = 512
    step_size: float = 2e-3
    lowest: float = 0.01
    highest: float = 10.0
    n_levels: int = 24

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch_size=self.batch_size, n_levels=self.n_levels)
        require_hidden_only(self.network, "a diffusion starts from noise of the target's dimension")
        require_positive(step_size=self.step_size, lowest=self.lowest, highest=self.highest)
        if self.lowest >= self.highest:
            raise ValueError(f"highest must be above lowest {self.lowest}, got {self.highest}")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Find the points and train on them; where the budget ends, on those found until then.

        Where a loss or a gradient is not finite, the state of the last look is kept; where the points have no spread,
        nothing is trained.
        """
        taught = teach(self.teaching, meter, generator)
        mean, sd = taught.x.mean(0), taught.x.std(0)
        points, network = (taught.x - mean) / sd, NoisedScore(self.network, meter, generator)
        theta, gradient = flatten(network.parameters())
        adam = torch.optim.Adam([theta], self.step_size, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.n_steps)
        trace = points.new_zeros(2, self.n_steps)  # losses, and lengths of gradients
        stopped, reason, last = taught.stopped, taught.reason, LastLook(theta)
        for n_steps in range(1, self.n_steps + 1 if stopped != "diverged" else 0):
            rows = torch.randint(len(points), (self.batch_size,), generator=generator, device=points.device)
            loss = denoising_loss(network, points[rows], generator)
            gradient.zero_()
            torch.autograd.backward(loss)
            adam.step()
            schedule.step()
            trace[:, n_steps - 1] = torch.stack([loss.detach(), torch.linalg.vector_norm(gradient)])
            if n_steps % LOOK_EVERY == 0 or n_steps == self.n_steps:
                not_kept = last.look(trace[:, :n_steps])
                if not_kept:
                    stopped, reason = "diverged", not_kept
                    break
        network.requires_grad_(False)
        notes = {
            "n_steps": last.n_steps,
            **mean_losses(trace[:1, : last.n_finite], "denoising_loss"),
            **taught.diagnostics,
        }
        return FittedTeacher(self, network, mean, sd, notes, stopped, reason)


def denoising_loss(network: NoisedScore, y0: Tensor, generator: Generator) -> Tensor:
    """E s^2 (1 + s^2) |score(y0 + s eps, s) + eps / s|^2, log s ~ N(-1.2, 1.2^2): the squared error of the network."""
    log_level = LOG_LEVEL_MEAN + LOG_LEVEL_SD * normal_like(y0[:, :1], generator)
    s, eps = log_level.exp(), normal_like(y0, generator)
    error: Tensor = s * network(y0 + s * eps, s) + eps
    return ((1 + s.square()) * error.square()).sum(-1).mean()


@dataclass(frozen=True)
class FittedTeacher:
    """Scores of the noised law of y = (x - mean) / sd, how the points were found and the losses of training."""

    config: Teacher
    network: NoisedScore
    mean: Tensor
    sd: Tensor
    diagnostics: Mapping[str, object]
    stopped: Stopped | None
    reason: str

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Independent draws; ValueError if ``start`` is given or ``n_samples`` below 1."""
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "a diffusion starts from noise")
        noise = normal_like(self.mean.expand(n_samples, -1), generator)
        with torch.no_grad():
            y = torch.cat([self._flow(self.config.highest * block) for block in torch.split(noise, BLOCK)])
        return Draws(samples=self.mean + self.sd * y, stopped=self.stopped, reason=self.reason)

    def _flow(self, y: Tensor) -> Tensor:
        config, share = self.config, torch.linspace(0, 1, self.config.n_levels + 1, dtype=torch.float64)
        ends = config.highest ** (1 / CURVATURE), config.lowest ** (1 / CURVATURE)
        levels = (ends[0] + share * (ends[1] - ends[0])) ** CURVATURE
        for here, there in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
            slope = self._slope(y, here)
            end = y + (there - here) * slope
            y = y + 0.5 * (there - here) * (slope + self._slope(end, there))
        return y

    def _slope(self, y: Tensor, s: float) -> Tensor:
        score: Tensor = self.network(y, torch.full_like(y[:, :1], s))
        return -s * score
