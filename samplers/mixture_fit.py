"""Gaussian mixtures fitted to points: proposals for moves between modes, and laws to draw from in one pass."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from ..targets.base import LOG_2PI
from .kernels import Diverged

MAX_ITERATIONS, TOLERANCE = 60, 1e-3  # of EM; the latter in nats per point
SHRINKAGE = 1e-6  # added to the variances of coordinates of unit variance
MAX_FULL_DIM = 100  # above it covariances are diagonal


@dataclass(frozen=True)
class FittedMixture:
    """A mixture of normal laws.

    Attributes:
        weights: shape ``(n_components,)``.
        means: shape ``(n_components, dim)``.
        factors: lower Cholesky factors of the covariances, shape ``(n_components, dim, dim)``.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        """Independent draws, shape ``(n_samples, dim)``."""
        component = torch.multinomial(self.weights, n_samples, replacement=True, generator=generator)
        z = torch.empty_like(self.means[component]).normal_(generator=generator)
        x = self.means[component]
        for k in range(len(self.weights)):  # one product per component, not one matrix per draw
            rows = component == k
            x[rows] += z[rows] @ self.factors[k].T
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density, shape ``(n, dim)`` to ``(n,)``."""
        of_components = []
        for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True):
            z = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
            of_components.append(weight.log() - 0.5 * z.square().sum(0) - factor.diagonal().log().sum())
        return torch.stack(of_components).logsumexp(0) - 0.5 * x.shape[1] * LOG_2PI


def require_spread(x: Tensor) -> None:
    """Raise Diverged unless the standard deviations of the points are finite and not zero."""
    spread = x.std(0)
    if not (spread.isfinite() & (spread > 0)).all():
        raise Diverged(f"the points must have a finite spread, got from {spread.min():.3g} to {spread.max():.3g}")


def fit_mixture(x: Tensor, max_components: int, generator: Generator) -> FittedMixture:
    """A mixture fitted by EM (scikit-learn) with 1, 2, 4, ... components, as many as BIC asks for.

    The numbers are doubled until the criterion has risen twice, since EM may stick once. Covariances are full up to 100
    dimensions, diagonal above.

    Args:
        x: points, shape ``(n, dim)``, not all the same in any coordinate.
        max_components: at least 1.
        generator: of the seed of k-means, where EM starts.
    Raises:
        ValueError: if there are fewer than 2 points.
        Diverged: if their spread is not finite, or zero in a coordinate.
    Reference: G. Schwarz, Estimating the dimension of a model, Ann. Statist. 6 (1978).
    """
    if len(x) < 2:
        raise ValueError(f"points must determine a normal law, got {len(x)} of dimension {x.shape[1]}")
    require_spread(x)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    centre, spread = x.mean(0).double(), x.std(0).double()
    z = ((x.double() - centre) / spread).cpu().numpy()
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    dim = x.shape[1]
    kind = "full" if dim <= MAX_FULL_DIM else "diag"
    fits: list[tuple[float, int, GaussianMixture]] = []
    n_components = 1
    while n_components <= min(max_components, max(1, len(x) // (2 * dim))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a rough proposal is good enough
            mixture = GaussianMixture(
                n_components, covariance_type=kind, max_iter=MAX_ITERATIONS, tol=TOLERANCE, reg_covar=SHRINKAGE,
                random_state=seed,
            ).fit(z)  # fmt: skip
        fits.append((mixture.bic(z), n_components, mixture))
        if n_components > 2 * min(fits)[1]:
            break
        n_components *= 2
    best = min(fits)[2]
    covariances = np.asarray(best.covariances_)
    if kind == "diag":
        covariances = np.stack([np.diag(variances) for variances in covariances])
    factors = spread[:, None] * torch.linalg.cholesky(torch.from_numpy(covariances).to(spread))
    means = centre + spread * torch.from_numpy(best.means_).to(spread)
    return FittedMixture(torch.from_numpy(best.weights_).to(x), means.to(x), factors.to(x))
