"""The eight schools, non-centred, with its exact posterior."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Moments, PerDevice, normal, one_digit, register_target, uniform
from .draws import Estimate
from .marginals import coordinate
from .quadrature import cdf_of_density
from .rejection import accepted

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
STANDARD_ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)
MU_VARIANCE, TAU_SCALE = 25.0, 5.0  # of the priors

Y = torch.tensor(EFFECTS, dtype=torch.float64)
VARIANCES = torch.tensor(STANDARD_ERRORS, dtype=torch.float64).square()
N_NODES = 1_001  # per statistic whose law is tabulated


@register_target("eight_schools", version=1)
@dataclass(frozen=True)
class EightSchools:
    """Eight schools, non-centred: x = (mu, log tau, z_1..z_8), y_j ~ N(mu + tau z_j, sigma_j^2); exact draws.

    Priors mu ~ N(0, 25), tau ~ half-Cauchy(0, 5), z_j ~ N(0, 1), all normalised and that of tau taken in log tau with
    its Jacobian: log_prob = log p(y, x), so that log_z is the log evidence. The effects y = (28, 8, -3, 7, -1, 1, 18,
    12) and their standard errors sigma = (15, 10, 16, 11, 9, 11, 10, 18) are those of coaching in eight schools.

    Given tau everything is normal: mu integrates out, and log_z, the moments and the marginal laws are quadratures over
    log tau. Exact draws take tau by rejection from its prior, then mu, then z.

    Source: D. Rubin, J. Educ. Stat. 6 (1981); A. Gelman et al., Bayesian Data Analysis, section 5.5; priors of
    ``eight_schools_noncentered`` in posteriordb.
    """

    @property
    def dim(self) -> int:
        """Ten: mu, log tau and the eight z."""
        return 2 + len(EFFECTS)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[self.dim :].mean().item()))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log joint density of parameters and effects, shape ``(..., dim)`` to ``(...)``."""
        mu, log_tau, z = x[..., 0], x[..., 1], x[..., 2:]
        residuals = (_Y.like(x) - mu[..., None] - log_tau.exp()[..., None] * z) / _SIGMA.like(x)
        squares = mu.square() / MU_VARIANCE + z.square().sum(-1) + residuals.square().sum(-1)
        constant = 17 * LOG_2PI + math.log(MU_VARIANCE) + VARIANCES.log().sum().item()
        return _log_prior_of_log_tau(log_tau) - 0.5 * (squares + constant)

    @cached_property
    def log_z(self) -> Estimate:
        """Log evidence, by the trapezoid rule over log tau; its error is at most that of every second node."""
        s, log_density = self._nodes, self._log_density
        step = (s[1] - s[0]).item()
        fine = log_density.logsumexp(0).item() + math.log(step)
        coarse = log_density[::2].logsumexp(0).item() + math.log(2 * step)
        return Estimate(fine, std_error=abs(fine - coarse))

    @cached_property
    def moments(self) -> Moments:
        """By quadrature over log tau of the moments of normals."""
        mean, variance = self._conditionals
        weights = self._log_density.softmax(0)
        square = mean.square() + variance
        fourth = mean**4 + 6 * mean.square() * variance + 3 * variance.square()
        first, second, last = weights @ mean, weights @ square, weights @ fourth
        return Moments(torch.cat([first, second]), torch.cat([second - first.square(), last - second.square()]))

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """Laws of all coordinates: mixtures over the nodes of log tau of normals, log tau's from its density."""
        weights, (mean, variance) = self._log_density.softmax(0), self._conditionals
        cdfs = []
        for m, v in zip(mean.T, variance.T, strict=True):
            if not v.any():  # log tau itself
                cdfs.append(cdf_of_density(self._nodes, weights))
                continue
            half_width = 10 * (weights @ (m.square() + v)).sqrt().item()
            nodes = torch.linspace(-half_width, half_width, N_NODES, dtype=torch.float64)
            density = torch.exp(-0.5 * (nodes[:, None] - m).square() / v) / v.sqrt()
            cdfs.append(cdf_of_density(nodes, density @ weights))
        return tuple(Marginal(f"x[{i}]", coordinate(i), cdf) for i, cdf in enumerate(cdfs))

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        log_tau = accepted(_propose, n_samples, generator)
        tau = log_tau.exp()[:, None]
        noise = normal(n_samples, self.dim - 1, generator)
        mean, precision = _mu_given(tau)
        mu = mean[:, None] + noise[:, :1] / precision.sqrt()[:, None]
        total = tau.square() + _VARIANCES.like(tau)
        z = tau * (_Y.like(tau) - mu) / total + (_VARIANCES.like(tau) / total).sqrt() * noise[:, 1:]
        return torch.cat([mu, log_tau[:, None], z], dim=-1)

    @cached_property
    def _nodes(self) -> Tensor:
        """Nodes of log tau: the density falls like tau below and tau^-9 above, to 1e-17 at both ends."""
        return torch.linspace(-38.0, 9.0, 2_351, dtype=torch.float64)

    @cached_property
    def _log_density(self) -> Tensor:
        """Log of p(log tau, y) at the nodes."""
        return _log_prior_of_log_tau(self._nodes) + _log_evidence_given(self._nodes.exp()[:, None])

    @cached_property
    def _conditionals(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each coordinate given log tau, at the nodes: both of shape ``(n_nodes, dim)``."""
        tau = self._nodes.exp()[:, None]
        mean, precision = (part[:, None] for part in _mu_given(tau))
        total = tau.square() + VARIANCES
        z_mean = tau * (Y - mean) / total
        z_variance = VARIANCES / total + (tau / total).square() / precision
        means = torch.cat([mean, self._nodes[:, None], z_mean], dim=-1)
        return means, torch.cat([1 / precision, torch.zeros_like(mean), z_variance], dim=-1)


_Y, _VARIANCES, _SIGMA = PerDevice(Y), PerDevice(VARIANCES), PerDevice(VARIANCES.sqrt())


def _log_prior_of_log_tau(log_tau: Tensor) -> Tensor:
    """Half-Cauchy(0, 5) of tau, as a normalised density of log tau."""
    ratio = log_tau - math.log(TAU_SCALE)
    return math.log(2 / math.pi) + ratio - torch.nn.functional.softplus(2 * ratio)


def _mu_given(tau: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and precision of mu given tau ``(n, 1)`` and y, z integrated out: both of shape ``(n,)``."""
    weights = 1 / (tau.square() + _VARIANCES.like(tau))
    precision = weights.sum(-1) + 1 / MU_VARIANCE
    return weights @ _Y.like(tau) / precision, precision


def _log_evidence_given(tau: Tensor) -> Tensor:
    """log p(y | tau) of y ~ N(0, diag(tau^2 + sigma^2) + 25 1 1^T): tau ``(n, 1)`` to ``(n,)``."""
    return _log_determinant_part(tau) - 0.5 * _square(tau)


def _log_determinant_part(tau: Tensor) -> Tensor:
    """-log((2 pi)^8 det) / 2 of the covariance of y given tau; it falls in tau."""
    total = tau.square() + _VARIANCES.like(tau)
    log_determinant = total.log().sum(-1) + torch.log1p(MU_VARIANCE * (1 / total).sum(-1))
    return -0.5 * (log_determinant + len(EFFECTS) * LOG_2PI)


def _square(tau: Tensor) -> Tensor:
    """y^T C^-1 y of the covariance C of y given tau; it falls in tau too, as C grows."""
    mean, precision = _mu_given(tau)
    y = _Y.like(tau)
    return (y.square() / (tau.square() + _VARIANCES.like(tau))).sum(-1) - precision * mean.square()


def _bound() -> float:
    """A bound of log p(y | tau) over all tau.

    Between two neighbours of a grid both falling parts are at most their values at the neighbour where each is larger;
    beyond the last one, where the square is not negative, the first part alone bounds.
    """
    tau = torch.linspace(0.0, 100.0, 10_001, dtype=torch.float64)[:, None]
    determinant, square = _log_determinant_part(tau), _square(tau)
    between = (determinant[:-1] - 0.5 * square[1:]).max().item()
    return max(between, determinant[-1].item())


BOUND = _bound()


def _propose(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draws of log tau from its prior; accepted with probability p(y | tau) over its bound."""
    tau = TAU_SCALE * torch.tan(0.5 * math.pi * (1 - uniform(n, generator)))  # 1 - u is never 0
    return tau.log(), _log_evidence_given(tau[:, None]) - BOUND
