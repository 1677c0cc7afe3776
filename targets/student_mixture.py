"""Mixtures of multivariate Student's t laws, in any dimension."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import Marginal, Modes, Moments, asinh_view, normal, one_digit, register_target
from .checks import require_at_least
from .draws import Estimate
from .isotropic import IsotropicMixture, Means, require_components
from .mixture_modes import modes_of

HALF_WIDTH, N_NODES = 40.0, 4_001  # of the trapezoid rule in asinh(t), behind the moments


def uniform_means(n_modes: int, dim: int, half_width: float, seed: int) -> Means:
    """Means uniform on [-half_width, half_width]^dim."""
    draws = torch.rand(n_modes, dim, generator=Generator().manual_seed(seed), dtype=torch.float64)
    return tuple(tuple(mean) for mean in ((2 * draws - 1) * half_width).tolist())


@dataclass(frozen=True)
class StudentProfile:
    """The law of z / sqrt(q / nu), z standard normal in R^dim, q ~ chi^2 with nu degrees of freedom."""

    dim: int
    nu: int

    def log_density(self, radius2: Tensor) -> Tensor:
        """Log density at a squared radius."""
        log_factor = math.lgamma((self.nu + self.dim) / 2) - math.lgamma(self.nu / 2)
        log_factor -= 0.5 * self.dim * math.log(math.pi * self.nu)
        return log_factor - 0.5 * (self.nu + self.dim) * torch.log1p(radius2 / self.nu)

    def radius2_quantile(self, level: Tensor) -> Tensor:
        """Those of dim F, F of Fisher's law with (dim, nu) degrees of freedom."""
        from scipy.special import betaincinv

        # nu / (nu + radius^2) is a beta variable: its lower tail keeps the digits of a far radius
        beta = torch.as_tensor(betaincinv(self.nu / 2, self.dim / 2, 1 - level.numpy()))
        return self.nu * (1 - beta) / beta

    def projection_cdf(self, t: Tensor) -> Tensor:
        """Student's t with nu degrees of freedom."""
        from scipy.special import stdtr

        return torch.as_tensor(stdtr(self.nu, t.cpu().numpy())).to(t.device)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Draws of that quotient."""
        z = normal(n_samples, self.dim, generator)
        chi2 = normal(n_samples, self.nu, generator).square().sum(-1, keepdim=True)
        return z / (chi2 / self.nu).sqrt()


@register_target("student_mixture", version=1, means=uniform_means(10, 2, half_width=10.0, seed=0), nu=5)
@register_target("student_mixture_nu2", version=1, means=uniform_means(10, 2, half_width=10.0, seed=0), nu=2)
@dataclass(frozen=True)
class StudentMixture:
    """Mixture of multivariate Student's t laws sum_k weights[k] t_nu(means[k], sd[k]^2 I); normalised, so log_z is 0.

    log t_nu(m, s^2 I) = log Gamma((nu + dim) / 2) - log Gamma(nu / 2) - (dim / 2) log(nu pi s^2)
    - ((nu + dim) / 2) log(1 + |x - m|^2 / (nu s^2)).

    With nu <= 2 second moments are infinite: student_mixture_nu2 is shown and not ranked, and its ``scale`` is a guess.
    Stein's identity E[(x - c) . score] = -dim holds all the same, for every nu and c: (x - c) . score tends to
    -(nu + dim) far out, so it is bounded, and the flux x p(x) through a sphere falls as |x|^-nu.

    Source: the recipe of D. Blessing et al., arXiv 2406.07423: 10 equal components, nu = 2, widths 1, means uniform on
    [-10, 10]^dim; but means by this package's seed 0, and components that are isotropic, where the published code
    takes products of dim univariate t laws.

    Attributes:
        means: of the components, each of length dim.
        nu: degrees of freedom, a positive integer.
        sd: widths, one for all components or one for each; the standard deviation is sd sqrt(nu / (nu - 2)).
        weights: positive with sum 1; None for equal ones.
    """

    means: Means
    nu: int = 5
    sd: float | tuple[float, ...] = 1.0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_components(self.means, self.sd, self.weights)
        require_at_least(1, nu=self.nu)

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
        """Root mean square radius per coordinate, to one digit; for nu <= 2, as a guess, with Gaussian components."""
        m2, s2 = self._law.centres.value.square().mean(-1), self._law.widths.value.square()
        inflation = self.nu / (self.nu - 2) if self.nu > 2 else 1.0
        return one_digit(math.sqrt((self._law.shares.value @ (m2 + inflation * s2)).item()))

    @cached_property
    def moments(self) -> Moments:
        """In the view, by quadrature over each coordinate, whose law is a mixture of univariate t laws."""
        u = torch.linspace(-HALF_WIDTH, HALF_WIDTH, N_NODES, dtype=torch.float64)
        t = u.sinh()
        density = StudentProfile(1, self.nu).log_density(t.square()).exp()
        shares = density * u.cosh() * (2 * HALF_WIDTH / (N_NODES - 1))
        v = self.view(self._law.centres.value + self._law.widths.value[:, None] * t[:, None, None])
        first, second, fourth = (
            torch.einsum("t,k,tkd->d", shares, self._law.shares.value, v**power) for power in (1, 2, 4)
        )
        return Moments(torch.cat([first, second]), torch.cat([second - first**2, fourth - second**2]))

    @cached_property
    def modes(self) -> Modes:
        """Components, merged where they overlap, and their masses by quadrature."""
        return modes_of(self._law)

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """Mixtures of univariate t laws: the first coordinates and one projection."""
        return self._law.marginals

    @cached_property
    def _law(self) -> IsotropicMixture:
        return IsotropicMixture(self.means, self.sd, self.weights, StudentProfile(self.dim, self.nu))

    def view(self, x: Tensor) -> Tensor:
        """asinh(x / scale): the tails are heavy."""
        return asinh_view(x, self.scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self._law.log_prob(x)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        return self._law.sample(n_samples, generator)
