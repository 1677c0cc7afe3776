"""Variational inference with a normal law of any covariance."""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from ..targets.base import LOG_2PI
from ..targets.checks import require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .density_model import FittedDensity, reverse_kl
from .descent import Descent, descend


@register_sampler("gaussian_vi", version=1)
@dataclass(frozen=True, kw_only=True)
class GaussianVI:
    """The normal law q = N(m, L L^T) of least KL(q, p), by path gradients through x = m + L z.

    It is exact on a Gaussian; elsewhere it is too narrow as a rule. Of separate modes it keeps to one, or from a wide
    start lies across them, a local optimum.

    Attributes:
        descent: steps of Adam on m, the logarithms of L's diagonal and what is below it, in coordinates x / scale.
        start_scale: standard deviation of the first q, in units of the target's scale.
        clip_rows: gradients of single points are shortened to this multiple of their batch's median.

    References: M. Titsias and M. Lazaro-Gredilla, Doubly Stochastic Variational Bayes, ICML 2014; G. Roeder, Y. Wu,
    D. Duvenaud, arXiv 1703.09194, for the gradient.
    """

    descent: Descent = field(default_factory=partial(Descent, n_steps=2_000, step_size=1e-2))
    start_scale: float = 1.0
    clip_rows: float = 20.0

    one_normal: ClassVar[bool] = True  # draws follow one, so that checks on two modes do not apply

    def __post_init__(self) -> None:
        require_positive(start_scale=self.start_scale, clip_rows=self.clip_rows)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Descend; costs n_steps * batch_size scores. Where the budget ends, the law of the last step."""
        eye = torch.eye(meter.dim, device=meter.device, dtype=meter.dtype)
        model, n = Normal(0 * eye[0], self.start_scale * eye), self.descent.batch_size
        fit = descend(
            list(model.parameters()),
            lambda _: reverse_kl(model, n, self.clip_rows, meter, generator),
            self.descent,
        )
        return FittedDensity(model, meter, weighted=False, fit=fit, loss="negative_elbo")


class Normal(nn.Module):
    """N(mean, factor factor^T), with a lower triangular factor of positive diagonal."""

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean.clone())
        self.log_diagonal = nn.Parameter(factor.diagonal().log())
        self.below = nn.Parameter(factor.tril(-1))

    @property
    def factor(self) -> Tensor:
        """Shape ``(dim, dim)``."""
        return self.below.tril(-1) + self.log_diagonal.exp().diag()

    def push(self, z: Tensor) -> Tensor:
        """y = mean + factor z, rows of shape ``(n, dim)``."""
        return self.mean + z @ self.factor.T

    def log_density(self, y: Tensor) -> Tensor:
        """Normalised, ``(n, dim)`` to ``(n,)``."""
        z: Tensor = torch.linalg.solve_triangular(self.factor, (y - self.mean).T, upper=False)
        return -0.5 * (z.square().sum(0) + len(self.mean) * LOG_2PI) - self.log_diagonal.sum()
