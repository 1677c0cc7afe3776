"""Targets of one's own: give this file as ``--plugin docs/examples/my_target.py``."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from samplerbench.targets import Estimate, Marginal, from_log_prob, register_target


# 1. A function is enough.
def tilted_ring(x: Tensor) -> Tensor:
    """Ring of radius 3, heavier on the right; its normaliser is unknown."""
    return -(x.square().sum(-1) - 9).square() / 20 + x[..., 0] / 2


from_log_prob(tilted_ring, dim=2, scale=2.0, name="tilted_ring")


# 2. A function, and what else is known of its law.
def logistic(x: Tensor) -> Tensor:
    """Five independent logistic variables."""
    return (torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x)).sum(-1)


def logistic_draws(n_samples: int, generator: Generator) -> Tensor:
    """Exact draws in float64, from this generator alone."""
    return torch.rand(n_samples, 5, generator=generator, device=generator.device, dtype=torch.float64).logit()


from_log_prob(
    logistic,
    dim=5,
    scale=math.pi / math.sqrt(3),
    name="logistic5",
    log_z=0.0,
    sample=logistic_draws,
    marginals=[Marginal("x[0]", statistic=lambda x: x[:, 0], cdf=torch.sigmoid)],
)


# 3. A class, for a law with parameters: a suite can set them.
@register_target("gumbel3", version=1, dim=3)
@dataclass(frozen=True)
class Gumbel:
    """Independent Gumbel variables: log_prob = -sum_i (x[i] + exp(-x[i])); normalised, so log_z is 0."""

    dim: int = 3

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate: sqrt(pi^2 / 6 + 0.5772^2) to one digit."""
        return 1.0

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return -(x + torch.exp(-x)).sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        u = torch.rand(n_samples, self.dim, generator=generator, device=generator.device, dtype=torch.float64)
        return -torch.log(-torch.log(u))
