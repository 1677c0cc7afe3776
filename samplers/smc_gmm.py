"""A Gaussian mixture fitted to the particles of SMC: the simplest law to draw from in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.draws import Draws, Stopped
from ..targets.meter import Meter
from .base import FittedSampler, refuse_start, register_sampler
from .kernels import Diverged
from .mixture_fit import FittedMixture, fit_mixture
from .smc import SMC


@register_sampler("smc_gmm", version=1)
@dataclass(frozen=True, kw_only=True)
class SMCGMM:
    """SMC pays for particles in ``fit``; a mixture fitted to them by EM gives independent draws with their density.

    The bias is what a mixture of ``max_components`` normal laws cannot express, and the error of the particles. A row
    beside the neural one-pass samplers that begin from particles: what they gain over it is what networks give.

    Attributes:
        n_particles: of SMC.
        smc: how it moves them.
        max_components: BIC chooses 1, 2, 4, ... up to it.
    """

    n_particles: int = 8_192
    smc: SMC = field(default_factory=lambda: SMC(oversampling=1, metric="dense"))
    max_components: int = 64

    def __post_init__(self) -> None:
        require_at_least(2, n_particles=self.n_particles)
        require_at_least(1, max_components=self.max_components)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Particles and mixture; where SMC stops early, the mixture of where it came to."""
        particles = self.smc.fit(meter, generator).draw(self.n_particles, generator)
        try:
            mixture = fit_mixture(particles.samples, self.max_components, generator)
        except Diverged as error:
            return FittedSMCGMM(_nowhere(particles.samples), "diverged", str(error))
        return FittedSMCGMM(mixture, particles.stopped, particles.reason)


def _nowhere(x: Tensor) -> FittedMixture:
    """What is left where no mixture can be fitted: its draws are NaN."""
    nowhere = torch.full_like(x[:1], torch.nan)
    return FittedMixture(x.new_ones(1), nowhere, torch.eye(x.shape[1]).to(x)[None])


@dataclass(frozen=True)
class FittedSMCGMM:
    """A mixture, and how SMC ended."""

    mixture: FittedMixture
    stopped: Stopped | None
    reason: str

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """The number of components."""
        return {"n_components": len(self.mixture.weights)}

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Independent draws with their log density; ValueError if ``start`` is given or ``n_samples`` below 1."""
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "a mixture has no use for a start")
        x = self.mixture.sample(n_samples, generator)
        return Draws(samples=x, log_density=self.log_density(x), stopped=self.stopped, reason=self.reason)

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of the draws, shape ``(n, dim)`` to ``(n,)``."""
        return self.mixture.log_density(x)
