"""Mixtures of isotropic Gaussians, in any dimension."""

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Modes, Moments, normal, one_digit, register_target
from .draws import Estimate
from .isotropic import IsotropicMixture, Means, require_components
from .mixture_modes import modes_of


def circle(n_modes: int, radius: float) -> Means:
    """Means evenly spaced on a circle."""
    angles = [2 * math.pi * k / n_modes for k in range(n_modes)]
    return tuple((radius * math.cos(angle), radius * math.sin(angle)) for angle in angles)


def grid(*ticks: float) -> Means:
    """Means at all pairs of ticks."""
    return tuple(itertools.product(ticks, repeat=2))


def fab_means(seed: int) -> Means:
    """The 40 means of arXiv 2208.01893, uniform on [-40, 40]^2: the same float32 numbers as its torch.manual_seed."""
    draws = torch.rand(40, 2, generator=Generator().manual_seed(seed))
    return tuple(tuple(mean) for mean in ((draws - 0.5) * 2 * 40).tolist())


@dataclass(frozen=True)
class GaussianProfile:
    """The standard normal law of R^dim."""

    dim: int

    def log_density(self, radius2: Tensor) -> Tensor:
        """Log density at a squared radius."""
        return -0.5 * (radius2 + self.dim * LOG_2PI)

    def radius2_quantile(self, level: Tensor) -> Tensor:
        """Those of chi^2 with dim degrees of freedom."""
        from scipy.special import gammaincinv

        return torch.as_tensor(2 * gammaincinv(self.dim / 2, level.numpy()))

    def projection_cdf(self, t: Tensor) -> Tensor:
        """Normal."""
        probability: Tensor = torch.special.ndtr(t)
        return probability

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Standard normal draws."""
        return normal(n_samples, self.dim, generator)


@register_target("mog2", version=1, means=((-1.0, -1.0), (1.0, 1.0)))
@register_target("ring8", version=1, means=circle(8, radius=4.0), sd=0.5)
@register_target("ring8_stein", version=1, means=circle(8, radius=15.0), sd=1.0)
@register_target("grid9", version=1, means=grid(-5.0, 0.0, 5.0), sd=math.sqrt(0.3))
@register_target("grid25", version=1, means=grid(-10.0, -5.0, 0.0, 5.0, 10.0), sd=math.sqrt(0.3))
@register_target("gmm40_fab", version=1, means=fab_means(seed=0), sd=math.log1p(math.e))
@register_target("gmm40_seed1", version=1, means=fab_means(seed=1), sd=math.log1p(math.e))
@register_target("gmm40_seed2", version=1, means=fab_means(seed=2), sd=math.log1p(math.e))
@register_target("gmm40_seed3", version=1, means=fab_means(seed=3), sd=math.log1p(math.e))
@register_target("bimodal50", version=1, means=((0.0,) * 50, (4.0, *(0.0,) * 49)), sd=(1.0, 0.6), weights=(0.75, 0.25))
@dataclass(frozen=True)
class GaussianMixture:
    """Gaussian mixture sum_k weights[k] N(means[k], sd[k]^2 I); normalised, so log_z is 0.

    Sources: mog2, ring8: of common use, constants as registered. bimodal50: .75 N(0, I) + .25 N(4 e_1, .36 I), e_1 the
    first axis. ring8_stein: T. Hu et al., arXiv 1810.03545. grid9: Q. Zhang and Y. Chen, arXiv 2111.15141, variance
    0.3. grid25: M. Sendera et al., arXiv 2402.05098 (25GMM), variance 0.3. gmm40_fab: L. Midgley et al., arXiv
    2208.01893, means from seed 0, sd = softplus(1). gmm40_seed1, gmm40_seed2, gmm40_seed3: the same recipe with other
    seeds, for methods that were tuned on gmm40_fab.

    Attributes:
        means: of the components, each of length dim.
        sd: one for all components, or one for each.
        weights: positive with sum 1; None for equal ones.
    """

    means: Means
    sd: float | tuple[float, ...] = 1.0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_components(self.means, self.sd, self.weights)

    @property
    def dim(self) -> int:
        """Length of the means."""
        return len(self.means[0])

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return one_digit(math.sqrt(self.moments.mean[self.dim :].mean().item()))

    @cached_property
    def moments(self) -> Moments:
        """Closed form: mixtures of the moments m, m^2 + s^2 and m^4 + 6 m^2 s^2 + 3 s^4 of normals."""
        m, s2, w = self._law.centres.value, self._law.widths.value[:, None].square(), self._law.shares.value
        first, second, fourth = w @ m, w @ (m**2 + s2), w @ (m**4 + 6 * m**2 * s2 + 3 * s2**2)
        return Moments(torch.cat([first, second]), torch.cat([second - first**2, fourth - second**2]))

    @cached_property
    def modes(self) -> Modes:
        """Components, merged where they overlap, and their masses by quadrature."""
        return modes_of(self._law)

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Mixtures of normals: the first coordinates and one projection."""
        return self._law.marginals

    @cached_property
    def _law(self) -> IsotropicMixture:
        return IsotropicMixture(self.means, self.sd, self.weights, GaussianProfile(self.dim))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self._law.log_prob(x)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        return self._law.sample(n_samples, generator)


class DerivedMixture(ABC):
    """A law that is a Gaussian mixture of derived parameters: it knows what ``mixture`` knows."""

    @cached_property
    def mixture(self) -> GaussianMixture:
        """The mixture."""
        return self._derive()

    @abstractmethod
    def _derive(self) -> GaussianMixture:
        """The mixture, from the fields."""

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return self.mixture.log_z

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return self.mixture.scale

    @property
    def moments(self) -> Moments:
        """Closed form."""
        return self.mixture.moments

    @property
    def modes(self) -> Modes:
        """Components, merged where they overlap, and their masses by quadrature."""
        return self.mixture.modes

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Mixtures of normals: the first coordinates and one projection."""
        return self.mixture.marginals

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self.mixture.log_prob(x)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        return self.mixture.sample(n_samples, generator)
