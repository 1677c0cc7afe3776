"""Annealed Fisher implicit sampling: Fisher training along a path to the target, then a few moves of MCMC."""

from dataclasses import dataclass, field
from functools import partial

from torch import Generator

from ..targets.checks import require_one_of
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .corrected import Correction
from .fisher import fisher_loss, require_exact_without_noise
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import Network, require_density
from .implicit.noise import Noise
from .implicit.objective import Denoised
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train


@register_sampler("afis", version=1)
@dataclass(frozen=True, kw_only=True)
class AFIS:
    """Annealed Fisher implicit sampler: Fisher training along a path of laws, and moves that correct its draws.

    The sampler minimises the Fisher divergence of its law from q_lam ~ q^lam base^(1 - lam), whose score is
    lam s_q + (1 - lam) s_base, while lam rises from 0 to 1; so it starts at a broad law of one mode and is led to the
    target. Its draws then make a few moves that leave the target itself invariant. Training costs what ``fisher``
    costs; a draw costs the moves, by default 11 scores.

    Attributes:
        network, training, noise, stopping, output: as in ``fisher``.
        target_score: its ``path`` is the share of training in which lam rises, here linearly; the paper adapts lam.
        correction: the moves.

    Reference: W. Luo, B. Zhang and Z. Zhang, Annealed Fisher Implicit Sampler, submitted to ICLR 2023,
    openreview.net/forum?id=eLgK35G3A5d. Settings are ours.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: Noise = field(default_factory=Noise)
    target_score: TargetScore = field(default_factory=partial(TargetScore, path=0.7))
    stopping: Stopping | None = None
    output: Output = "ema"
    correction: Correction = field(default_factory=Correction)

    def __post_init__(self) -> None:
        require_exact_without_noise("afis", self.target_score, self.noise)
        if self.target_score.path == 0:
            raise ValueError("path must be above 0: without a path this is Fisher training, got 0.0")
        require_one_of(Output, output=self.output)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train along the path, see ``trainer.train`` about its ends, then adapt the moves.

        Raises:
            NotApplicableError: if the latents have fewer dimensions than the target, or it has no second derivatives.
        """
        require_density(self.network.latent, meter)
        objective = Denoised(
            lambda *args, noise: fisher_loss(*args),
            self.target_score.of(meter, generator, differentiable=True),
            self.noise,
        )
        trained = train(
            objective, meter, generator, network=self.network, training=self.training, stopping=self.stopping
        )
        return self.correction.of(FittedImplicit(trained, meter.scale, self.output, noise=0.0), meter, generator)
