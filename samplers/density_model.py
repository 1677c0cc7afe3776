"""Models of the target with a normalised density: the contract, reverse KL training, and draws with their density.

Models live in coordinates y = x / scale, where all targets have the same width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.draws import Draws, Estimate, Stopped
from ..targets.meter import BudgetReached, Meter
from .ais import log_mean
from .base import refuse_start
from .descent import Descended
from .implicit.trainer import clipped_rows

BLOCK = 2**13  # points at once in draws and densities


class DensityModel(Protocol):
    """An invertible map of N(0, I), whose density is known at every point."""

    def push(self, z: Tensor) -> Tensor:
        """Latents ``(n, dim)``, draws of N(0, I), to points y of the same shape."""
        ...

    def log_density(self, y: Tensor) -> Tensor:
        """Normalised log density, ``(n, dim)`` to ``(n,)``."""
        ...


def latents(n: int, meter: Meter, generator: Generator) -> Tensor:
    """Draws of N(0, I), shape ``(n, dim)``."""
    return torch.randn(n, meter.dim, generator=generator, device=meter.device, dtype=meter.dtype)


def log_density_and_score(model: DensityModel, y: Tensor) -> tuple[Tensor, Tensor]:
    """Log density ``(n,)`` and its gradient in y ``(n, dim)``, without a graph."""
    points = y.detach().requires_grad_()
    with torch.enable_grad():
        log_q = model.log_density(points)
        (score,) = torch.autograd.grad(log_q.sum(), points)
    return log_q.detach(), score


def reverse_kl(model: DensityModel, n: int, clip_rows: float, meter: Meter, generator: Generator) -> Tensor:
    """Add the path gradient of KL(q, p) to the model's parameters, and return E log q - log p, the negative ELBO.

    With y = T(z) the gradient of the KL divergence is E (grad_y log q - grad_y log p)^T dT / dtheta; that of log q in
    theta itself averages to zero and is left out, so that no noise is left where q = p.

    Args:
        model: moved by its latents.
        n: draws.
        clip_rows: gradients in y are shortened to this multiple of their median length, lest single points in steep
            places decide a step; a bias where many are.
        meter: pays n scores.
        generator: of the latents.
    Reference: G. Roeder, Y. Wu, D. Duvenaud, Sticking the Landing, NeurIPS 2017, arXiv 1703.09194.
    """
    y = model.push(latents(n, meter, generator))
    log_q, score_q = log_density_and_score(model, y)
    log_prob, score = meter.log_prob_and_score(meter.scale * y.detach())
    gradient = score_q - meter.scale * score
    torch.autograd.backward(y, clipped_rows(gradient, clip_rows) / n)
    return (log_q - log_prob).mean() - meter.dim * math.log(meter.scale)


@dataclass(frozen=True)
class FittedDensity:
    """Independent draws of a trained model with their log density, and if wanted with importance weights.

    Attributes:
        model: trained.
        meter: of the target.
        weighted: whether draws are weighted by p / q, for one log_prob each, which also gives log Z.
        fit: how the training went.
        loss: what its trace is called in the diagnostics; None of a fit that is no training.
        notes: further diagnostics of the fit.
    """

    model: DensityModel
    meter: Meter
    weighted: bool
    fit: Descended
    loss: str | None = None
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Steps of training, the losses as means over consecutive blocks of steps, and what the method notes."""
        return {**({} if self.loss is None else self.fit.losses(self.loss)), **self.notes}

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws; without weights where the budget cannot pay them or none is finite.

        Raises:
            ValueError: if ``start`` is given (draws start from latents), or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "draws of a density model start from latents")
        z = latents(n_samples, self.meter, generator)
        with torch.no_grad():
            x = self.meter.scale * torch.cat([self.model.push(block) for block in torch.split(z, BLOCK)])
        log_density = self.log_density(x)
        stopped, reason = self.fit.stopped, self.fit.reason
        log_weights: Tensor | None = None
        log_z: Estimate | None = None
        if self.weighted:
            try:
                log_weights = self._log_weights(x, log_density)
                log_z = None if stopped or log_weights is None else log_mean(log_weights.double())
            except BudgetReached as error:
                stopped, reason = _worse(stopped, reason, f"no weights: {error}")
        return Draws(
            samples=x, log_weights=log_weights, log_density=log_density, log_z=log_z, stopped=stopped, reason=reason
        )

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of the draws, shape ``(n, dim)`` to ``(n,)``."""
        with torch.no_grad():
            y = x / self.meter.scale
            blocks = [self.model.log_density(block) for block in torch.split(y, BLOCK)]
        return torch.cat(blocks) - self.meter.dim * math.log(self.meter.scale)

    def _log_weights(self, x: Tensor, log_density: Tensor) -> Tensor | None:
        """log p - log q; -inf where the target is NaN or infinite, None if it is so everywhere."""
        log_weights = (self.meter.log_prob(x) - log_density).nan_to_num(
            nan=-math.inf, posinf=-math.inf, neginf=-math.inf
        )
        return log_weights if log_weights.isfinite().any() else None


def _worse(stopped: Stopped | None, reason: str, of_draw: str) -> tuple[Stopped, str]:
    if stopped is None:
        return "budget", of_draw
    return stopped, f"{reason}; {of_draw}"
