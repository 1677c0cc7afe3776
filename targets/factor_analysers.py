"""Mixtures of factor analysers fitted to real images: laws in high dimension of which everything is known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from .base import LOG_2PI, Marginal, Modes, Moments, PerDevice, normal, register_target
from .draws import Estimate
from .image_classifier import load_classifier
from .image_networks import PIXELS, require_images, shipped_tensors

REGION = 0.999  # share of a component inside its region
MERGE_ABOVE = 0.05  # Bayes error, at equal weights, above which two components are one mode
SCALES = {"digits": 0.9, "mnist": 1.0}  # root mean square radius per coordinate, to one digit


class FactorMixture:
    """Density sum_k w_k N(means[k], A_k A_k^T + D_k), with A_k = loadings[k] and D_k = diag(noise_sd[k]^2).

    With M_k = I + A_k^T D_k^-1 A_k = L_k L_k^T and G_k = L_k^-1 A_k^T D_k^-1 (Woodbury and Sylvester):
    squared Mahalanobis radius = |D_k^-1/2 (x - mu_k)|^2 - |G_k (x - mu_k)|^2, log det = log det D_k + log det M_k.

    Args:
        weights: positive, shape ``(K,)``; divided by their sum.
        means: shape ``(K, dim)``.
        loadings: shape ``(K, dim, q)``.
        noise_sd: positive, shape ``(K, dim)``.
    """

    def __init__(self, weights: Tensor, means: Tensor, loadings: Tensor, noise_sd: Tensor) -> None:
        weights, self.means, self.loadings, self.noise_sd = (
            tensor.to(torch.float64) for tensor in (weights, means, loadings, noise_sd)
        )
        self.weights = weights / weights.sum()
        dim, q = loadings.shape[1:]
        variance = self.noise_sd.square()
        scaled = self.loadings / variance[..., None]
        M = torch.eye(q, dtype=torch.float64) + self.loadings.mT @ scaled
        self.cholesky: Tensor = torch.linalg.cholesky(M)
        G = torch.linalg.solve_triangular(self.cholesky, scaled.mT, upper=False)
        log_det = variance.log().sum(-1) + 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        # Squares are expanded around the grand mean: differences to every mean would take (n, K, dim) numbers.
        centre = self.weights @ self.means
        offset = self.means - centre
        self._centre = PerDevice(centre)
        self._precision = PerDevice(1 / variance.T)
        self._cross = PerDevice((offset / variance).T)
        self._offset2 = PerDevice((offset.square() / variance).sum(-1))
        self._G = PerDevice(G.flatten(0, 1).T)
        self._G_offset = PerDevice((G @ offset[..., None]).squeeze(-1))
        self._log_factor = PerDevice(self.weights.log() - 0.5 * (log_det + dim * LOG_2PI))

    @property
    def variances(self) -> Tensor:
        """Variance of every coordinate within every component, float64, shape ``(K, dim)``."""
        return self.noise_sd.square() + self.loadings.square().sum(-1)

    def whitened_factors(self, y: Tensor) -> Tensor:
        """G_k (x - mu_k) of points less the grand mean: ``(..., dim)`` to ``(..., K, q)``."""
        offset = self._G_offset.like(y)
        return (y @ self._G.like(y)).reshape(*y.shape[:-1], *offset.shape) - offset

    def centred(self, x: Tensor) -> Tensor:
        """Points less the grand mean, shape of ``x``."""
        return x - self._centre.like(x)

    def log_joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log joint density of point and component, and squared Mahalanobis radius: both ``(..., K)``."""
        y = self.centred(x)
        noise = y.square() @ self._precision.like(y) - 2 * (y @ self._cross.like(y)) + self._offset2.like(y)
        radius2 = noise - self.whitened_factors(y).square().sum(-1)
        return self._log_factor.like(y) - 0.5 * radius2, radius2

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self.log_joint(x)[0].logsumexp(-1)

    def draw_components(self, n_samples: int, generator: Generator) -> Tensor:
        """Components of independent draws, shape ``(n_samples,)``, on the generator's device."""
        weights = self.weights.to(generator.device)
        return torch.multinomial(weights, n_samples, replacement=True, generator=generator)

    def sample(self, component: Tensor, generator: Generator) -> Tensor:
        """A draw from each of the given components ``(n,)``: float64, ``(n, dim)``, on the generator's device."""
        x = normal(len(component), self.means.shape[-1], generator)
        factors = normal(len(component), self.loadings.shape[-1], generator)
        for k in range(len(self.weights)):  # gathering the loadings of every point would take (n, dim, q) numbers
            rows = (component == k).nonzero().squeeze(-1)
            mean, loadings, noise_sd = (part[k].to(x.device) for part in (self.means, self.loadings, self.noise_sd))
            x[rows] = mean + factors[rows] @ loadings.T + noise_sd * x[rows]
        return x

    def component(self, x: Tensor) -> Tensor:
        """Likeliest of the components whose 99.9% region holds the point, -1 if there is none: ``(n,)``."""
        from scipy.special import gammaincinv

        log_joint, radius2 = self.log_joint(x)
        outside = radius2 > float(2 * gammaincinv(self.means.shape[-1] / 2, REGION))
        return torch.where(outside.all(-1), -1, log_joint.masked_fill(outside, -math.inf).argmax(-1))


def mixture_of(tensors: Mapping[str, Tensor], prefix: str = "") -> FactorMixture:
    """The mixture whose parameters are tensors named like them, with a prefix."""
    return FactorMixture(*(tensors[prefix + name] for name in ("weights", "means", "loadings", "noise_sd")))


@register_target("mfa_mnist", version=1, images="mnist")
@register_target("mfa_digits", version=1, images="digits")
@dataclass(frozen=True)
class FactorAnalysers:
    """Mixture of factor analysers of images: sum_k w_k N(mu_k, A_k A_k^T + D_k); normalised, so log_z is 0.

    A_k are thin loadings (dim x q), D_k diagonal. The parameters are read from float32 numbers that are shipped with
    the package and define the law; ``samplerbench.benchmarks.train_images`` fitted them by EM to real images, scaled
    to [-1, 1] with Gaussian noise added, so that there is a density. The law is the mixture and not that of the images.

    Source: Z. Ghahramani and G. Hinton, The EM algorithm for mixtures of factor analyzers, CRG-TR-96-1 (1996); images:
    scikit-learn's digits (8 x 8), MNIST's test set (28 x 28).

    Attributes:
        images: "digits" or "mnist".
    """

    images: str = "digits"

    def __post_init__(self) -> None:
        require_images(self.images)

    @property
    def dim(self) -> int:
        """Number of pixels."""
        return PIXELS[self.images]

    @property
    def scale(self) -> float:
        """Root mean square radius per coordinate, to one digit."""
        return SCALES[self.images]

    @property
    def log_z(self) -> Estimate:
        """Zero."""
        return Estimate(0.0, std_error=0.0)

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        return shipped_tensors(f"mfa_{self.images}")

    @cached_property
    def mixture(self) -> FactorMixture:
        """The law, with its parameters in float64."""
        return mixture_of(self._tensors)

    @cached_property
    def moments(self) -> Moments:
        """Closed form: mixtures of the moments m, m^2 + s^2 and m^4 + 6 m^2 s^2 + 3 s^4 of normals."""
        m, s2, w = self.mixture.means, self.mixture.variances, self.mixture.weights
        first, second, fourth = w @ m, w @ (m**2 + s2), w @ (m**4 + 6 * m**2 * s2 + 3 * s2**2)
        return Moments(torch.cat([first, second]), torch.cat([second - first**2, fourth - second**2]))

    @cached_property
    def modes(self) -> Modes:
        """Modes: the likeliest component whose 99.9% region holds the point, components that overlap merged, else -1.

        Two components are merged when the Bayes error of telling them apart, were they equally likely, exceeds 5%. The
        masses are those of this assignment; they are shipped, from draws of every component (errors below 1e-4).
        """
        label, masses = self._tensors["mode_labels"], self._tensors["mode_masses"]

        def assign(x: Tensor) -> Tensor:
            component = self.mixture.component(x)
            return torch.where(component < 0, -1, label.to(x.device)[component])

        return Modes(assign, masses)

    @cached_property
    def marginals(self) -> tuple[Marginal, ...]:
        """Projections: mixtures of normals, along pixels, the mean pixel and the leading axes of the covariance."""
        side = math.isqrt(self.dim)
        middle = (self.dim + side) // 2
        identity = torch.eye(self.dim, dtype=torch.float64)
        spread = self.mixture.means - self.mixture.weights @ self.mixture.means
        between = spread.T @ (self.mixture.weights[:, None] * spread)
        within = (self.mixture.loadings * self.mixture.weights[:, None, None]).permute(1, 0, 2).flatten(1)
        covariance = between + within @ self.mixture.loadings.permute(1, 0, 2).flatten(1).T
        covariance += torch.diag(self.mixture.weights @ self.mixture.noise_sd.square())
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(-1)
        directions = {
            "x[0]": identity[0],
            f"x[{middle}]": identity[middle],
            "mean pixel": torch.full((self.dim,), 1 / self.dim, dtype=torch.float64),
            "axis 1": axes[:, 0],
            "axis 2": axes[:, 1],
            "last axis": axes[:, -1],
        }
        return tuple(self._projection(name, direction) for name, direction in directions.items())

    def _projection(self, name: str, direction: Tensor) -> Marginal:
        constant = PerDevice(direction)
        means = self.mixture.means @ direction
        variances = (direction @ self.mixture.loadings).square().sum(-1)
        variances = variances + self.mixture.noise_sd.square() @ direction.square()

        def cdf(values: Tensor) -> Tensor:
            mean, sd, weights = (part.to(values.device) for part in (means, variances.sqrt(), self.mixture.weights))
            z = (values.to(torch.float64)[:, None] - mean) / sd
            probability: Tensor = torch.special.ndtr(z) @ weights
            return probability

        return Marginal(name, lambda x: x @ constant.like(x), cdf)

    def features(self, x: Tensor) -> Tensor:
        """Of a classifier trained on the same images: ``(..., dim)`` to ``(..., n_features)``."""
        return load_classifier(self.images).features(x)

    def class_probabilities(self, x: Tensor) -> Tensor:
        """Of the ten digits, by the same classifier: ``(..., dim)`` to ``(..., 10)``."""
        return load_classifier(self.images).class_probabilities(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``."""
        return self.mixture.log_prob(x)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Exact draws, float64, shape ``(n_samples, dim)``."""
        return self.mixture.sample(self.mixture.draw_components(n_samples, generator), generator)
