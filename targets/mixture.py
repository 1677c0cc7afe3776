"""Mixtures of isotropic Gaussians, in any dimension."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor
from torch.quasirandom import SobolEngine

from .base import LOG_2PI, Modes, Moments, PerDevice, normal, one_digit, register_target
from .checks import require_positive
from .draws import Estimate

REGION = 0.999  # share of a component inside its region
MERGE_ABOVE = 0.05  # Bayes error, at equal weights, above which two components are one mode
N_NODES = 2**14  # quasi-random points per component behind the masses: errors below 1e-4


def circle(n_modes: int, radius: float) -> tuple[tuple[float, float], ...]:
    """Means evenly spaced on a circle."""
    angles = [2 * math.pi * k / n_modes for k in range(n_modes)]
    return tuple((radius * math.cos(angle), radius * math.sin(angle)) for angle in angles)


def fab_means(seed: int) -> tuple[tuple[float, ...], ...]:
    """The 40 means of arXiv 2208.01893, uniform on [-40, 40]^2: the same float32 numbers as its torch.manual_seed."""
    draws = torch.rand(40, 2, generator=Generator().manual_seed(seed))
    return tuple(tuple(mean) for mean in ((draws - 0.5) * 2 * 40).tolist())


@register_target("mog2", version=1, means=((-1.0, -1.0), (1.0, 1.0)))
@register_target("ring8", version=1, means=circle(8, radius=4.0), sd=0.5)
@register_target("gmm40_fab", version=1, means=fab_means(seed=0), sd=math.log1p(math.e))
@dataclass(frozen=True)
class GaussianMixture:
    """Gaussian mixture sum_k weights[k] N(means[k], sd[k]^2 I); normalised, so log_z is 0.

    Sources: mog2, ring8: of common use, constants as registered. gmm40_fab: L. Midgley et al., arXiv 2208.01893,
    means from seed 0, sd = softplus(1).

    Attributes:
        means: of the components, each of length dim.
        sd: one for all components, or one for each.
        weights: positive with sum 1; None for equal ones.
    """

    means: tuple[tuple[float, ...], ...]
    sd: float | tuple[float, ...] = 1.0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.means or len({len(mean) for mean in self.means}) != 1 or not self.means[0]:
            raise ValueError(f"means must hold at least one point, all of one length, got {self.means}")
        if not torch.tensor(self.means, dtype=torch.float64).isfinite().all():
            raise ValueError(f"means must be finite, got {self.means}")
        for name, values in (("sd", self.sd), ("weights", self.weights)):
            if isinstance(values, tuple):
                require_positive(**{f"{name}[{k}]": value for k, value in enumerate(values)})
                if len(values) != len(self.means):
                    raise ValueError(f"{name} must hold one value for each of {len(self.means)} means, got {values}")
        if not isinstance(self.sd, tuple):
            require_positive(sd=self.sd)
        if self.weights is not None and not math.isclose(sum(self.weights), 1, abs_tol=1e-9):
            raise ValueError(f"weights must sum to 1, got {self.weights} with sum {sum(self.weights)}")

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
        m, s2, w = self._means.value, self._sds.value[:, None].square(), self._weights
        first, second, fourth = w @ m, w @ (m**2 + s2), w @ (m**4 + 6 * m**2 * s2 + 3 * s2**2)
        return Moments(torch.cat([first, second]), torch.cat([second - first**2, fourth - second**2]))

    @cached_property
    def modes(self) -> Modes:
        """Modes: the likeliest component whose 99.9% region holds the point, components that overlap merged, else -1.

        Two components are merged when the Bayes error of telling them apart, were they equally likely, exceeds 5%. The
        masses are those of this assignment, by quadrature.
        """
        from scipy.sparse.csgraph import connected_components

        assigned, confused = self._assignment_of_components()
        bayes_error = 0.5 * (confused + confused.T)
        n_modes, labels = connected_components((bayes_error > MERGE_ABOVE).numpy(), directed=False)
        label = torch.from_numpy(labels).to(torch.int64)
        masses = torch.zeros(n_modes, dtype=torch.float64).index_add(0, label, self._weights @ assigned)

        def assign(x: Tensor) -> Tensor:
            component, inside = self._likeliest(*self._log_joint(x))
            return torch.where(inside, label.to(x.device)[component], -1)

        return Modes(assign, masses)

    @cached_property
    def _means(self) -> PerDevice:
        return PerDevice(torch.tensor(self.means, dtype=torch.float64))

    @cached_property
    def _sds(self) -> PerDevice:
        return PerDevice(torch.tensor(self.sd, dtype=torch.float64).expand(len(self.means)))

    @cached_property
    def _weights(self) -> Tensor:
        equal = (1 / len(self.means),) * len(self.means)
        return torch.tensor(self.weights or equal, dtype=torch.float64)

    @cached_property
    def _log_factors(self) -> PerDevice:
        return PerDevice(self._weights.log() - self.dim * (self._sds.value.log() + 0.5 * LOG_2PI))

    @cached_property
    def _region(self) -> float:
        """Squared Mahalanobis radius of the 99.9% region: a quantile of chi^2 with dim degrees of freedom."""
        from scipy.special import gammaincinv

        return float(2 * gammaincinv(self.dim / 2, REGION))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self._log_joint(x)[0].logsumexp(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        weights = self._weights.to(generator.device)
        component = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        z = normal(n_samples, self.dim, generator)
        return self._means.like(z)[component] + self._sds.like(z)[component, None] * z

    def _log_joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log joint density of point and component, and squared Mahalanobis radius: both ``(..., n_components)``."""
        # Differences first: |x|^2 - 2 x m + |m|^2 would lose half of the float32 digits far from the origin.
        radius2 = (x[..., None, :] - self._means.like(x)).square().sum(-1) / self._sds.like(x).square()
        return self._log_factors.like(x) - 0.5 * radius2, radius2

    def _likeliest(self, log_joint: Tensor, radius2: Tensor) -> tuple[Tensor, Tensor]:
        """Likeliest of the components whose region holds the point, and whether there is one: both ``(...)``."""
        outside = radius2 > self._region
        return log_joint.masked_fill(outside, -math.inf).argmax(-1), ~outside.all(-1)

    def _assignment_of_components(self) -> tuple[Tensor, Tensor]:
        """Where the draws of each component (rows) go: both of shape ``(n_components, n_components)``.

        Returns:
            The probability that they are assigned to component k, inside its region; the probability that the density
            of component k exceeds that of their own.
        """
        offsets, shares = self._component_nodes()
        n_components = len(self.means)
        assigned = torch.zeros(n_components, n_components, dtype=torch.float64)
        confused = torch.zeros_like(assigned)
        for j in range(n_components):  # one at a time: all at once would take n_components times the memory
            log_joint, radius2 = self._log_joint(self._means.value[j] + self._sds.value[j] * offsets)
            component, inside = self._likeliest(log_joint, radius2)
            assigned[j].index_add_(0, component, shares * inside)
            log_density = log_joint - self._weights.log()
            confused[j] = shares @ (log_density > log_density[:, j : j + 1]).to(torch.float64)
        return assigned, confused

    def _component_nodes(self) -> tuple[Tensor, Tensor]:
        """Quasi-random nodes of N(0, I) with their shares: 99.9% inside the region exactly, the rest outside.

        Returns:
            Nodes ``(2 * N_NODES, dim)`` and their probabilities ``(2 * N_NODES,)``.
        """
        from scipy.special import gammainc, gammaincinv

        # Sobol points are multiples of 1 / N_NODES: half a step keeps them inside (0, 1) and centred.
        engine = SobolEngine(self.dim)  # type: ignore[no-untyped-call]
        z = torch.special.ndtri(engine.draw(N_NODES, dtype=torch.float64) + 0.5 / N_NODES)
        radius = z.norm(dim=-1)
        level = torch.from_numpy(gammainc(self.dim / 2, radius.square().numpy() / 2))
        level = level.clamp(1e-6, 1 - 1e-6)  # off the edge of the region, and of infinity: both are reached by rounding
        levels = torch.cat([REGION * level, REGION + (1 - REGION) * level])  # the same directions, in and out
        new_radius = torch.from_numpy(2 * gammaincinv(self.dim / 2, levels.numpy())).sqrt()
        nodes = z.repeat(2, 1) * (new_radius / radius.repeat(2))[:, None]
        shares = torch.tensor([REGION, 1 - REGION], dtype=torch.float64).repeat_interleave(N_NODES) / N_NODES
        return nodes, shares
