"""Random-effects logistic regression of germinating seeds."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import LOG_2PI, PerDevice, register_target
from .draws import Estimate
from .shipped import reference_draws, shipped_log_z

GERMINATED = (10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3)
SEEDS = (39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7)
SEED_TYPE = (0,) * 11 + (1,) * 10
ROOT_EXTRACT = (0,) * 5 + (1,) * 6 + (0,) * 5 + (1,) * 5
SHAPE = RATE = 0.01  # of the prior of the precision
EFFECT_VARIANCE = 100.0

_R, _N = (PerDevice(torch.tensor(counts)) for counts in (GERMINATED, SEEDS))
_DESIGN = PerDevice(
    torch.tensor([(1, x1, x2, x1 * x2) for x1, x2 in zip(SEED_TYPE, ROOT_EXTRACT, strict=True)], dtype=torch.float64)
)
LOG_BINOMIALS = sum(
    math.lgamma(n + 1) - math.lgamma(r + 1) - math.lgamma(n - r + 1) for r, n in zip(GERMINATED, SEEDS, strict=True)
)
CONSTANT = (
    SHAPE * math.log(RATE) - math.lgamma(SHAPE) - 0.5 * (25 * LOG_2PI + 4 * math.log(EFFECT_VARIANCE)) + LOG_BINOMIALS
)


@register_target("seeds", version=1)
@dataclass(frozen=True)
class SeedGermination:
    """Seeds: x = (log tau, a0, a1, a2, a12, b_1..b_21), r_j ~ Binomial(n_j, sigmoid(row_j . a + b_j)).

    row_j = (1, x1_j, x2_j, x1_j x2_j) for the seed type x1 and the root extract x2 of plate j. Priors tau ~ Gamma(0.01,
    rate 0.01), taken in log tau with its Jacobian, a ~ N(0, 100 I), b_j ~ N(0, 1 / tau). Priors and likelihood are
    normalised, with the binomial coefficients: log_prob = log p(r, x), so that log_z is the log evidence. That is the
    'seeds' of arXiv 2406.07423; without the coefficients log_z is less by ``LOG_BINOMIALS``.

    Tails. Towards log tau = s -> -inf the prior falls only like exp(0.01 s), but the 20 plates with 0 < r < n bound
    their b_j, of density tau^(1/2) each: with them the posterior falls like exp(10.01 s). Towards +inf it is the
    prior's exp(0.01 s - 0.01 e^s), gone from s = 7 on: there b is close to 0, and the likelihood constant. The b_j fall
    exponentially, as their likelihood does, but for b_16 (r = 0) towards -inf, whose density falls like |b|^-21. So the
    tails need no view; what is hard is a mild funnel, the b_j having standard deviation exp(-s / 2).

    Source: M. Crowder, Appl. Stat. 27 (1978), table 3; the model of D. Spiegelhalter et al., BUGS examples volume 1.
    """

    scale = 0.7  # root mean square radius per coordinate of the reference draws, to one digit

    @property
    def dim(self) -> int:
        """26: log tau, four effects, and one effect per plate."""
        return 5 + len(SEEDS)

    @property
    def log_z(self) -> Estimate:
        """Log evidence, shipped; FileNotFoundError if it is missing."""
        return shipped_log_z("seeds")

    def reference(self) -> Tensor:
        """Shipped reference draws, float64, shape ``(n, dim)``; FileNotFoundError if they are missing."""
        return reference_draws("seeds")

    def log_prob(self, x: Tensor) -> Tensor:
        """Log joint density of parameters and counts, shape ``(..., dim)`` to ``(...)``."""
        log_tau, a, b = x[..., 0], x[..., 1:5], x[..., 5:]
        of_plates = 0.5 * len(SEEDS) * log_tau - 0.5 * log_tau.exp() * b.square().sum(-1)
        log_prior = SHAPE * log_tau - RATE * log_tau.exp() - 0.5 * a.square().sum(-1) / EFFECT_VARIANCE + of_plates
        return CONSTANT + log_prior + self._log_likelihood(a @ _DESIGN.like(x).T + b)

    def _log_likelihood(self, log_odds: Tensor) -> Tensor:
        """Without the coefficients: sum over plates of r l - n log(1 + e^l), shape ``(..., 21)`` to ``(...)``."""
        plates = _R.like(log_odds) * log_odds - _N.like(log_odds) * torch.nn.functional.softplus(log_odds)
        return plates.sum(-1)
