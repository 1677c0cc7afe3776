"""KL training of a one-pass sampler."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from ..targets.checks import require_one_of
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output, Returns
from .implicit.networks import Network
from .implicit.noise import Level, Noise, with_noise
from .implicit.objective import Denoised, Field
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train


@register_sampler("kl", version=2)
@dataclass(frozen=True, kw_only=True)
class KL:
    """KL training: the sampler minimises the reverse KL divergence of its noised law from the target.

    KL(p_theta || q) of the law of x = g_theta(z) + s eps. Training costs per step and point one log_prob and one
    score; a draw costs no evaluation.

    Attributes:
        network, training, noise, target_score: see there; ours. The score network learns slower as the noise falls.
        stopping: an earlier end.
        output: the last iterate of theta or its moving average.
        returns: the noised x, which the loss makes match the target, or x0.

    Reference: W. Luo, B. Zhang and Z. Zhang, Entropy-based Training Methods for Scalable Neural Implicit Sampler,
    NeurIPS 2023, arXiv 2306.04952.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: Noise = field(default_factory=Noise)
    target_score: TargetScore = field(default_factory=TargetScore)
    stopping: Stopping | None = None
    output: Output = "ema"
    returns: Returns = "x"

    def __post_init__(self) -> None:
        self.noise.require_noised_target(self.target_score.source)
        require_one_of(Output, output=self.output)
        require_one_of(Returns, returns=self.returns)
        if self.target_score.source == "posterior" and self.returns == "x":
            raise ValueError("returns must be 'x0' with source 'posterior': x is fitted to the noised target, got 'x'")

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite.

        Raises:
            NotApplicableError: if minibatches are asked for and the target offers none.
        """
        objective = Denoised(
            partial(kl_loss, antithetic=self.noise.antithetic), self.target_score.of(meter, generator), self.noise
        )
        noise = self.noise.level if self.returns == "x" else 0.0  # of the draws
        trained = train(
            objective,
            meter,
            generator,
            network=self.network,
            training=self.training,
            stopping=self.stopping,
            noise=noise,
        )
        return FittedImplicit(trained, meter.scale, self.output, noise)


def kl_loss(
    x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: Level, antithetic: bool = True
) -> Tensor:
    """E<s_phi(x) - s_q(x), x> with the scores held fixed, at x = x0 + s eps, over both signs of eps.

    Where s_phi = s_theta its gradient is that of KL(p_theta || q), E[(dx/dtheta)^T (s_theta - s_q)(x)]; its value has
    no meaning. It is linear in s_q, so unbiased scores of minibatches keep it unbiased.

    Args:
        x0: shape ``(n, dim)``.
        s_q, s_phi: scores of the target and of the law of x.
        generator: of eps.
        noise: s, in the unit of ``x0``.
        antithetic: False takes one sign of eps.
    """
    x, _ = with_noise(x0, noise, generator, antithetic=antithetic)
    with torch.no_grad():
        direction = s_phi(x) - s_q(x)
    return (direction * x).sum(-1).mean()
