"""A trained one-pass sampler."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least
from ...targets.draws import Draws
from ..base import normal_like, refuse_start
from .trainer import Trained

Output: TypeAlias = Literal["last", "ema"]
Returns: TypeAlias = Literal["x", "x0"]

BLOCK = 2**16  # latents in one pass
TRACE_LENGTH = 200


@dataclass(frozen=True)
class FittedImplicit:
    """Draws x = scale * (g_theta(z) + noise * eps): one pass of the network, no evaluation of the target.

    Attributes:
        trained: what training left.
        scale: of the target.
        output: whether g is the last iterate or the moving average.
        noise: in units of scale; 0 where x0 is returned.
        notes: further diagnostics of the fit.
    """

    trained: Trained
    scale: float
    output: Output
    noise: float
    notes: Mapping[str, object] = field(default_factory=dict)

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Steps behind the state, and the losses as means over consecutive blocks of steps."""
        return {
            "n_steps": self.trained.n_steps,
            **mean_losses(self.trained.trace, "sampler_loss", "opponent_loss"),
            **self.notes,
            **({"discrepancies": list(self.trained.discrepancies)} if self.trained.discrepancies else {}),
        }

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` independent draws.

        Raises:
            ValueError: if ``start`` is given (the draws start from the latents), or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "one-pass samplers start from latents")
        network = self.trained.last if self.output == "last" else self.trained.average
        like = next(network.parameters())
        samples = torch.empty(n_samples, network.dim, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            for rows in torch.split(samples, BLOCK):
                rows.copy_(network(*network.latents(len(rows), generator)))
                if self.noise:
                    rows.add_(normal_like(rows, generator), alpha=self.noise)
                rows.mul_(self.scale)
        return Draws(samples=samples, stopped=self.trained.stopped, reason=self.trained.reason)


def mean_losses(trace: Tensor, *names: str) -> dict[str, object]:
    """Diagnostics of a training: each loss as means over consecutive blocks of steps, and their length.

    Args:
        trace: losses, shape ``(n_losses, n_steps)``.
        names: of the losses, as many or more.
    """
    n_steps = trace.shape[1]
    per_value = max(1, math.ceil(n_steps / TRACE_LENGTH))
    blocks = torch.split(trace.to(torch.float64), per_value, dim=1) if n_steps else ()
    means = {name: [block[row].mean().item() for block in blocks] for row, name in enumerate(names[: len(trace)])}
    return {"n_steps_per_loss": per_value, **means}
