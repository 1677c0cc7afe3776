"""Mixtures of isotropic components: all that does not depend on the radial law of a component."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Generator, Tensor

from .base import Marginal, PerDevice
from .checks import require_positive

N_COORDINATES = 4  # whose laws are stated, beside that of one oblique projection

Means = tuple[tuple[float, ...], ...]


class Profile(Protocol):
    """Law of a component of width 1 at the origin: its density depends on the radius alone."""

    def log_density(self, radius2: Tensor) -> Tensor:
        """Normalised log density at a squared radius, elementwise."""
        ...

    def radius2_quantile(self, level: Tensor) -> Tensor:
        """Quantiles of the squared radius, elementwise, float64."""
        ...

    def projection_cdf(self, t: Tensor) -> Tensor:
        """Distribution function of a coordinate, which is that of the projection on any unit vector, float64."""
        ...

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        ...


def require_components(means: Means, sd: float | tuple[float, ...], weights: tuple[float, ...] | None) -> None:
    """Accept finite means of one length, positive widths and positive weights with sum 1, as many as means.

    Raises:
        ValueError: naming the field, the rule and the value.
    """
    if not means or len({len(mean) for mean in means}) != 1 or not means[0]:
        raise ValueError(f"means must hold at least one point, all of one length, got {means}")
    if not torch.tensor(means, dtype=torch.float64).isfinite().all():
        raise ValueError(f"means must be finite, got {means}")
    for name, values in (("sd", sd), ("weights", weights)):
        if values is not None and not isinstance(values, tuple | int | float):
            raise ValueError(f"{name} must be a number or a tuple of numbers, got {values!r}")
        if isinstance(values, tuple):
            require_positive(**{f"{name}[{k}]": value for k, value in enumerate(values)})
            if len(values) != len(means):
                raise ValueError(f"{name} must hold one value for each of {len(means)} means, got {values}")
    if not isinstance(sd, tuple):
        require_positive(sd=sd)
    if weights is not None and not math.isclose(sum(weights), 1, abs_tol=1e-9):
        raise ValueError(f"weights must sum to 1, got {weights} with sum {sum(weights)}")


class Span:
    """The affine subspace that holds the means, in which points are told apart from one another.

    Squared distances to all means differ only there, so n points need memory for n (n_means rank + dim) numbers, not
    n n_means dim. The expansion |x|^2 - 2 x m + |m|^2 would do too, but lose digits to |m - centre|^2; here the float32
    error of a squared distance is that of x - centre times twice the distance.

    Attributes:
        rank: dimension of the subspace, ``dim`` if it is the whole space.
        means: coordinates of the means in it, shape ``(n_means, rank)``.
    """

    def __init__(self, means: Tensor) -> None:
        self.dim = means.shape[1]
        centre = means.mean(0)
        _, spread, axes = torch.linalg.svd(means - centre, full_matrices=False)
        self.rank = int((spread > max(means.shape) * torch.finfo(torch.float64).eps * spread[0]).sum())
        self._centre, self._axes = PerDevice(centre), PerDevice(axes[: self.rank].T)
        # the whole space keeps its own axes: differences to the means come first, and lose nothing
        self.means = PerDevice(means if self.is_whole else (means - centre) @ axes[: self.rank].T)

    @property
    def is_whole(self) -> bool:
        """Whether the subspace is R^dim."""
        return self.rank == self.dim

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in the subspace, ``(..., rank)``, and squared distance from it, ``(...)``."""
        if self.is_whole:
            return x, torch.zeros_like(x[..., 0])
        axes = self._axes.like(x)
        centred = x - self._centre.like(x)
        along = centred @ axes
        return along, (centred - along @ axes.T).square().sum(-1)


@dataclass(frozen=True)
class IsotropicMixture:
    """Mixture sum_k weights[k] p((x - means[k]) / sd[k]) / sd[k]^dim, where p is the density of ``profile``."""

    means: Means
    sd: float | tuple[float, ...]
    weights: tuple[float, ...] | None
    profile: Profile

    @cached_property
    def centres(self) -> PerDevice:
        """Means, shape ``(n_components, dim)``."""
        return PerDevice(torch.tensor(self.means, dtype=torch.float64))

    @cached_property
    def widths(self) -> PerDevice:
        """One for each component, shape ``(n_components,)``."""
        return PerDevice(torch.tensor(self.sd, dtype=torch.float64).expand(len(self.means)))

    @cached_property
    def shares(self) -> PerDevice:
        """Weights, shape ``(n_components,)``."""
        equal = (1 / len(self.means),) * len(self.means)
        return PerDevice(torch.tensor(self.weights or equal, dtype=torch.float64))

    @cached_property
    def span(self) -> Span:
        """The subspace of the means."""
        return Span(self.centres.value)

    @cached_property
    def _log_factors(self) -> PerDevice:
        return PerDevice(self.shares.value.log() - len(self.means[0]) * self.widths.value.log())

    def radius2(self, along: Tensor, off: Tensor) -> Tensor:
        """Squared distances to the means in widths, ``(..., n_components)``, of points split by ``span``."""
        distance2 = (along[..., None, :] - self.span.means.like(along)).square().sum(-1) + off[..., None]
        return distance2 / self.widths.like(along).square()

    def log_joint(self, radius2: Tensor) -> Tensor:
        """Log joint density of point and component, of squared distances in widths: both ``(..., n_components)``."""
        return self._log_factors.like(radius2) + self.profile.log_density(radius2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self.log_joint(self.radius2(*self.span.split(x))).logsumexp(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        weights = self.shares.value.to(generator.device)
        component = torch.multinomial(weights, n_samples, replacement=True, generator=generator)
        z = self.profile.sample(n_samples, generator)
        return self.centres.like(z)[component] + self.widths.like(z)[component, None] * z

    @property
    def marginals(self) -> tuple[Marginal, ...]:
        """First coordinates and, from two dimensions on, the projection on a fixed oblique direction: closed forms."""
        dim = len(self.means[0])
        axes = torch.eye(dim, dtype=torch.float64)[:N_COORDINATES]
        named = [(f"x[{i}]", axis) for i, axis in enumerate(axes)]
        if dim > 1:
            oblique = torch.cos(torch.arange(1, dim + 1, dtype=torch.float64))  # no two coordinates alike
            named.append(("projection", oblique / oblique.norm()))
        return tuple(Marginal(name, _projection(axis), self._projection_cdf(axis)) for name, axis in named)

    def _projection_cdf(self, axis: Tensor) -> Callable[[Tensor], Tensor]:
        centres = PerDevice(self.centres.value @ axis)

        def cdf(t: Tensor) -> Tensor:
            values = t.to(torch.float64)
            standard = (values[..., None] - centres.like(values)) / self.widths.like(values)
            return self.profile.projection_cdf(standard) @ self.shares.like(values)

        return cdf


def _projection(axis: Tensor) -> Callable[[Tensor], Tensor]:
    constant = PerDevice(axis)
    return lambda x: x @ constant.like(x)
