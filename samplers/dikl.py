"""Diffusive KL training of a one-pass sampler."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from ..targets.checks import require_one_of
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import Network
from .implicit.noise import Level, Noise, of_points, with_noise
from .implicit.objective import Denoised, Field
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train


@register_sampler("dikl", version=1)
@dataclass(frozen=True, kw_only=True)
class DiKL:
    """Reverse diffusive KL: the sampler minimises KL divergences of its noised law from the target, noised as well.

    The sum over levels s of s^2 KL(p_theta,s || q_s), where p_theta,s and q_s are the laws of x = x0 + s eps with
    x0 = g_theta(z) and x0 ~ q. At large s the modes of the target merge, so that none is out of sight and their
    weights show; at small s only the shape of each is left to learn. The score of q_s is estimated by draws of x0
    given x (see ``posterior.Posterior``), each of which is paid: training costs per step and point
    n_particles * (len(betas) - 1 + n_moves) scores, by default 20; a draw, of x0, costs no evaluation.

    Attributes:
        network, training: see there; ours.
        noise: its ``schedule`` is ``levels``, log-uniform from ``level`` to ``highest``; a score network that is told
            the level stands for p_theta,s. Details of the target below ``level`` are not learnt.
        target_score: its ``source`` is ``posterior``.
        stopping: an earlier end.
        output: the last iterate of theta or its moving average.

    Reference: J. He, W. Chen, M. Zhang, D. Barber and J. M. Hernandez-Lobato, Training Neural Samplers with Reverse
    Diffusive KL Divergence, arXiv 2410.12456. Settings are ours.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: Noise = field(default_factory=partial(Noise, schedule="levels"))
    target_score: TargetScore = field(default_factory=partial(TargetScore, source="posterior"))
    stopping: Stopping | None = None
    output: Output = "ema"

    def __post_init__(self) -> None:
        if self.target_score.source != "posterior":
            raise ValueError(
                f"source must be 'posterior': the target is noised as the sampler is, got {self.target_score.source!r}"
            )
        require_one_of(Output, output=self.output)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite."""
        objective = Denoised(
            partial(dikl_loss, antithetic=self.noise.antithetic), self.target_score.of(meter, generator), self.noise
        )
        trained = train(
            objective, meter, generator, network=self.network, training=self.training, stopping=self.stopping
        )
        return FittedImplicit(trained, meter.scale, self.output, noise=0.0)


def dikl_loss(
    x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: Level, antithetic: bool = True
) -> Tensor:
    """E s^2 <s_phi(x) - s_q(x), x> with the scores held fixed, at x = x0 + s eps, over both signs of eps.

    Where s_phi and s_q are the scores of p_theta,s and q_s its gradient is that of E s^2 KL(p_theta,s || q_s), which is
    linear in s_q; its value has no meaning. Without the factor small levels would drown the others: scores, and the
    errors of their estimates, are of order 1 / s. On ring8 after 1,000 steps (one seed, 8 particles
    and 4 moves) the total variation of the mode weights was .042 with s^2, .058 with s and .150 without.

    Args:
        x0: shape ``(n, dim)``.
        s_q, s_phi: scores of the noised target and of the law of x.
        generator: of eps.
        noise: s, in the unit of ``x0``.
        antithetic: False takes one sign of eps.
    """
    x, _ = with_noise(x0, noise, generator, antithetic=antithetic)
    with torch.no_grad():
        direction = of_points(noise, x) ** 2 * (s_phi(x) - s_q(x))
    return (direction * x).sum(-1).mean()
