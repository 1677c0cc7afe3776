"""Log-Gaussian Cox processes on the unit square: the intensity of points is the exponential of a Gaussian process."""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, PerDevice, normal, register_target
from .datasets import load
from .draws import Estimate
from .shipped import reference_draws, shipped_log_z

N_SIDE = 40
N_BINS = N_SIDE**2
VARIANCE = 1.91
LENGTH = N_SIDE / 33  # in bins
MEAN = math.log(126) - VARIANCE / 2  # of f, so that 126 points are expected

# y ~ Poisson(exp(f) / 1600) given f ~ the prior, by numpy: with PCG64(0), f = MEAN + L standard_normal(1600), L the
# Cholesky factor of the covariance, then poisson. Written out, as no library promises the same draws forever.
SIMULATED_COUNTS = """
0000000000000000000010000000000000000021
0000000100000000000000000000000000010002
0000000210000000000000000000000001000000
0100000000000000020000000000000000000000
0000000010000000010000000000000000000000
0000000000110000000100000000000000000000
0000000000000000000200000000001000000000
0000000000000000000000000000000000000000
0000000000000000001000000000010000000000
0000000001000000000000000000000000000000
0000000000100000001000000000000000000000
0000010000000000010000001000000000000000
1001000000000000000000000000000000101100
1000001000000000000000000001000000000000
0000000010000000000000000000000000000000
0000000100000100000100100000000010000000
0000000000000000000100100000000000010000
0000000001000000000012000000000000000000
0000100000000000000000000000000000000101
0000200000000000000000000000000000000000
0000000000000000000000000000000000010000
0000000001000000000000000000000000000000
0000000010000000000000000000000000000000
0000100000000000000000000000001000000000
0000000000000000000100000000000000000000
0000000000000000000000000100000000000000
0000000000010000000000000000000000000000
0000000000110010000000000001010010000000
0000000010000000100000000000010000000000
0000100001000010101000000000101000000000
0000000100000000000000000010010000000000
0000000200001000000000000000000000000000
0000000000100000000000000000100100000000
0000000000100000002000000000000001000000
0100000001000000000000000000000120010000
0000001000000000000001000010000001000000
0000001010000000000000000000000000000000
0010000000000000000001000000010000100000
0000000000000010000000000000000000000000
0000000000010000000000000000001000000000
"""


@cache
def prior_factor() -> Tensor:
    """Cholesky factor L of the covariance of f, shape ``(1600, 1600)``, float64."""
    bins = torch.cartesian_prod(*[torch.arange(N_SIDE, dtype=torch.float64)] * 2)
    distance = (bins[:, None] - bins).square().sum(-1).sqrt()
    factor: Tensor = torch.linalg.cholesky(VARIANCE * torch.exp(-distance / LENGTH))
    return factor


def bin_counts(points: Tensor) -> Tensor:
    """Points ``(n, 2)`` of the unit square in each bin, shape ``(1600,)``, float64; bin 40 i + j is i along x, j y."""
    cell = (points * N_SIDE).floor().to(torch.int64).clamp(0, N_SIDE - 1)
    return torch.bincount(N_SIDE * cell[:, 0] + cell[:, 1], minlength=N_BINS).to(torch.float64)


@register_target("lgcp_pines", version=1, data="pines")
@register_target("lgcp_simulated", version=1, data="simulated")
@dataclass(frozen=True)
class CoxProcess:
    """Log-Gaussian Cox process on 40 x 40 bins: x = f ~ GP(mu, k), counts y ~ Poisson(exp(f) / 1600) in each bin.

    log_prob = log N(f; mu, K) + sum(f y - exp(f) / 1600), without the Poisson's terms of y alone; mu = log 126 - 1.91/2
    and K[i, j] = 1.91 exp(-|i - j| / (40 / 33)), |i - j| the distance of two bins in bins. log_z is the log evidence
    up to the same terms.

    Source: J. Moller, A. Syversveen, R. Waagepetersen, Log Gaussian Cox processes, Scand. J. Statist. 25 (1998): its
    126 pine saplings and constants, discretised as in M. Arbel et al., arXiv 2102.07501.

    Attributes:
        data: "pines", or "simulated" by this package from the model itself, which needs no file.
    """

    data: Literal["pines", "simulated"] = "pines"

    dim = N_BINS
    scales: ClassVar[dict[str, float]] = {"pines": 4.0, "simulated": 4.0}  # of HMC runs, to one digit

    def __post_init__(self) -> None:
        if self.data not in self.scales:
            raise ValueError(f"data must be one of {tuple(self.scales)}, got {self.data!r}")

    @property
    def scale(self) -> float:
        """Root mean square of f, to one digit."""
        return self.scales[self.data]

    @property
    def log_z(self) -> Estimate:
        """Shipped, of two independent estimators that agree; FileNotFoundError if it is missing."""
        return shipped_log_z(f"lgcp_{self.data}")

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, 1600)``; FileNotFoundError if they are missing."""
        return reference_draws(f"lgcp_{self.data}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log joint density of f and the counts, shape ``(..., 1600)`` to ``(...)``."""
        log_prior = self._log_factor - 0.5 * self.whiten(x).square().sum(-1)
        return log_prior + (x * self._counts.like(x) - torch.exp(x) / N_BINS).sum(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        return self._counts.like(x) - torch.exp(x) / N_BINS - (x - MEAN) @ self._precision.like(x)

    def start(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws of the prior, float64, shape ``(n_samples, 1600)``."""
        return self.unwhiten(normal(n_samples, N_BINS, generator))

    def whiten(self, x: Tensor) -> Tensor:
        """z with x = mu + L z, standard normal under the prior, L the Cholesky factor of K: shape of ``x``."""
        return (x - MEAN) @ self._inverse_factor.like(x).T

    def unwhiten(self, z: Tensor) -> Tensor:
        """mu + L z: shape of ``z``."""
        return MEAN + z @ self._factor.like(z).T

    @cached_property
    def _counts(self) -> PerDevice:
        if self.data == "pines":
            return PerDevice(bin_counts(load("pines")[0]))
        return PerDevice(torch.tensor([int(digit) for row in SIMULATED_COUNTS.split() for digit in row]))

    @cached_property
    def _factor(self) -> PerDevice:
        return PerDevice(prior_factor())

    @cached_property
    def _inverse_factor(self) -> PerDevice:
        identity = torch.eye(N_BINS, dtype=torch.float64)
        return PerDevice(torch.linalg.solve_triangular(prior_factor(), identity, upper=False))

    @cached_property
    def _precision(self) -> PerDevice:
        return PerDevice(torch.cholesky_inverse(prior_factor()))

    @cached_property
    def _log_factor(self) -> float:
        """Log of the prior's normalising factor."""
        return -prior_factor().diagonal().log().sum().item() - 0.5 * N_BINS * LOG_2PI
