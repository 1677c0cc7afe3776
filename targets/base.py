"""The Target contract, the optional knowledge about a target's truth, and the registry of targets.

A target must have ``dim``, ``scale`` and ``log_prob``. Everything else is knowledge: it is there or it is absent,
never a placeholder. Each piece of knowledge is a small protocol, so ``isinstance(target, HasModes)`` asks for it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor

from .draws import Estimate
from .registry import Registry


class Target(Protocol):
    """An unnormalised density on R^dim."""

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        ...

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate of the law, to one digit; public to samplers."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density in nats, maybe unnormalised: shape ``(..., dim)`` to ``(...)``."""
        ...


@runtime_checkable
class HasScore(Protocol):
    """The target has its own formula for the score, cheaper than autograd."""

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob`` in ``x``, shape of ``x``."""
        ...


@runtime_checkable
class HasStart(Protocol):
    """The target states public starting points; otherwise samplers start from N(0, scale^2 I)."""

    def start(self, n_samples: int, generator: Generator) -> Tensor:
        """Starting points, shape ``(n_samples, dim)``."""
        ...


@runtime_checkable
class HasSample(Protocol):
    """Independent exact draws are possible."""

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``, on the generator's device."""
        ...


@runtime_checkable
class HasReference(Protocol):
    """Certified reference draws are shipped, where exact ones are impossible."""

    def reference(self) -> Tensor:
        """Reference draws, float64, shape ``(n, dim)``, nearly independent, in random order."""
        ...


@runtime_checkable
class HasLogZ(Protocol):
    """The log normaliser is known."""

    @property
    def log_z(self) -> Estimate:
        """Log of the integral of ``exp(log_prob)``, in nats."""
        ...


@runtime_checkable
class HasModes(Protocol):
    """The law has modes whose masses are known."""

    @property
    def modes(self) -> "Modes":
        """Assignment of points to modes, with the masses of that same assignment."""
        ...


@runtime_checkable
class HasWells(Protocol):
    """The law has independent coordinates with two wells each, whose masses are known."""

    @property
    def wells(self) -> "Wells":
        """Which well of each such coordinate a point is in, with the masses."""
        ...


@runtime_checkable
class HasMoments(Protocol):
    """The moments in the view are known in closed form or by quadrature."""

    @property
    def moments(self) -> "Moments":
        """Mean and variance of every coordinate of the view and of its square."""
        ...


@runtime_checkable
class HasMarginals(Protocol):
    """Laws of some one-dimensional statistics are known, by a way that does not go through ``sample``."""

    @property
    def marginals(self) -> "tuple[Marginal, ...]":
        """Statistics with their distribution functions."""
        ...


@runtime_checkable
class HasSymmetry(Protocol):
    """The law is unchanged by a group of maps (permutations, rotations, a change of sign)."""

    def scramble(self, x: Tensor, generator: Generator) -> Tensor:
        """A random element of the group applied to every point: shape of ``x``, ``(n, dim)``."""
        ...

    def invariants(self, x: Tensor) -> Tensor:
        """What the group leaves unchanged: ``(..., dim)`` to ``(..., n_invariants)``; chains are judged by these."""
        ...


@runtime_checkable
class HasMinibatch(Protocol):
    """A posterior whose score can be estimated from some of its data rows."""

    @property
    def n_rows(self) -> int:
        """Number of data rows."""
        ...

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        """Unbiased estimate of the score, shape of ``x``, from ``rows``: indices drawn uniformly."""
        ...


@runtime_checkable
class HasView(Protocol):
    """Distances and moments are taken in ``view`` coordinates (heavy tails, funnels)."""

    def view(self, x: Tensor) -> Tensor:
        """A fixed public map, shape ``(..., dim)`` to ``(..., dim)``."""
        ...


@runtime_checkable
class HasWildScore(Protocol):
    """E |score|^4 is infinite or out of reach of any sample, so that E[laplacian + |score|^2] = 0 cannot be checked."""

    @property
    def wild_score(self) -> str:
        """Why."""
        ...


@runtime_checkable
class HasPredictive(Protocol):
    """A posterior with held-out data."""

    def log_odds(self, x: Tensor) -> Tensor:
        """Log odds of class 1 for each held-out row under each parameter: ``(n, dim)`` to ``(n, n_rows)``."""
        ...

    @property
    def held_out_labels(self) -> Tensor:
        """Labels 0 or 1 of the held-out rows, shape ``(n_rows,)``."""
        ...


@runtime_checkable
class HasFeatures(Protocol):
    """A law of images, which are compared by what a classifier trained on the real ones makes of them."""

    def features(self, x: Tensor) -> Tensor:
        """What the last layer of the classifier is given: ``(..., dim)`` to ``(..., n_features)``."""
        ...


@runtime_checkable
class HasClasses(Protocol):
    """A law of images of several classes, told apart by a classifier trained on the real ones."""

    def class_probabilities(self, x: Tensor) -> Tensor:
        """Probabilities of the classes: ``(..., dim)`` to ``(..., n_classes)``."""
        ...


@dataclass(frozen=True)
class Modes:
    """Modes of a law.

    Attributes:
        assign: maps points ``(n, dim)`` to mode indices ``(n,)``; -1 is outside the 99.9% region of every mode.
        masses: probability under the law that ``assign`` returns k, shape ``(n_modes,)``, float64;
            one minus their sum is the mass outside.
    """

    assign: Callable[[Tensor], Tensor]
    masses: Tensor


@dataclass(frozen=True)
class Wells:
    """The wells of a product law: with many of them its modes, the sign patterns, are too many to list.

    Attributes:
        right: maps points ``(n, dim)`` to booleans ``(n, n_wells)``: whether each such coordinate is in its right well.
        masses: probability of each right well, shape ``(n_wells,)``, float64.
    """

    right: Callable[[Tensor], Tensor]
    masses: Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and variance of f = (v, v^2), v the coordinates of the view; both of shape ``(2 * dim,)``, float64."""

    mean: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Marginal:
    """The known law of one statistic of the points.

    Attributes:
        name: for tables, like ``x[0]`` or ``radius``.
        statistic: points ``(n, dim)`` to values ``(n,)``.
        cdf: values ``(n,)`` to the probabilities of at most them, float64; a closed form or a quadrature.
    """

    name: str
    statistic: Callable[[Tensor], Tensor]
    cdf: Callable[[Tensor], Tensor]


class PerDevice:
    """A constant tensor, kept in float64 and converted once per device and dtype."""

    def __init__(self, value: Tensor) -> None:
        self.value = value.to(torch.float64)
        self._converted: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor) -> Tensor:
        """The constant on the device and in the dtype of ``x``."""
        key = (x.device, x.dtype)
        if key not in self._converted:
            self._converted[key] = self.value.to(device=x.device, dtype=x.dtype)
        return self._converted[key]


def one_digit(value: float) -> float:
    """``value`` rounded to one significant digit: what ``scale`` tells a sampler, and no more."""
    return float(f"{value:.0e}")


def asinh_view(x: Tensor, scale: float) -> Tensor:
    """``asinh(x / scale)`` per coordinate: linear inside, logarithmic in the tails."""
    return torch.asinh(x / scale)


def normal(n_samples: int, dim: int, generator: Generator) -> Tensor:
    """Standard normal draws in float64 on the generator's device, shape ``(n_samples, dim)``."""
    return torch.randn(n_samples, dim, generator=generator, device=generator.device, dtype=torch.float64)


def uniform(n_samples: int, generator: Generator) -> Tensor:
    """Uniform draws on [0, 1) in float64 on the generator's device, shape ``(n_samples,)``."""
    return torch.rand(n_samples, generator=generator, device=generator.device, dtype=torch.float64)


LOG_2PI = math.log(2 * math.pi)

TARGETS: Registry[Target] = Registry("target", "samplerbench.targets")
names, get, entry = TARGETS.names, TARGETS.get, TARGETS.entry

Build = TypeVar("Build", bound=Callable[..., Target])


def register_target(name: str, *, version: int, **parameters: object) -> Callable[[Build], Build]:
    """Class decorator: register a target under ``name`` with preset ``parameters``; stackable."""

    def decorate(build: Build) -> Build:
        TARGETS.register(name, build, version=version, **parameters)
        return build

    return decorate
