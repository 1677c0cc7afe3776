"""KL training of a one-pass sampler."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output, Returns, require_one_of
from .implicit.networks import Network
from .implicit.noise import antithetic
from .implicit.trainer import Field, Training, train


@register_sampler("kl", version=1)
@dataclass(frozen=True, kw_only=True)
class KL:
    """KL training: the sampler minimises the reverse KL divergence of its noised law from the target.

    KL(p_theta || q) of the law of x = g_theta(z) + s eps. Training costs per step and point one log_prob and one
    score; a draw costs no evaluation.

    Attributes:
        network, training: see there; ours.
        noise: s in units of scale. The law of x, not of x0, is fitted to the target, so x0 is deconvolved; s should
            stay below a third of the narrowest width. The score network learns slower as s falls. That width is not
            public: on ill-conditioned targets the default is above it.
        output: the last iterate of theta or its moving average.
        returns: the noised x, which the loss makes match the target, or x0.

    Reference: W. Luo, B. Zhang and Z. Zhang, Entropy-based Training Methods for Scalable Neural Implicit Sampler,
    NeurIPS 2023, arXiv 2306.04952.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: float = 0.02
    output: Output = "ema"
    returns: Returns = "x"

    def __post_init__(self) -> None:
        require_positive(noise=self.noise)
        require_one_of(Output, output=self.output)
        require_one_of(Returns, returns=self.returns)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite."""
        trained = train(
            partial(kl_loss, noise=self.noise),
            meter.score,
            meter,
            generator,
            network=self.network,
            training=self.training,
            noise=self.noise,
        )
        return FittedImplicit(trained, meter.scale, self.output, self.noise if self.returns == "x" else 0.0)


def kl_loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: float) -> Tensor:
    """E<s_phi(x) - s_q(x), x> with the scores held fixed, at x = x0 + s eps, over both signs of eps.

    Where s_phi = s_theta its gradient is that of KL(p_theta || q), E[(dx/dtheta)^T (s_theta - s_q)(x)]; its value has
    no meaning. It is linear in s_q, so unbiased scores of minibatches keep it unbiased.

    Args:
        x0: shape ``(n, dim)``.
        s_q, s_phi: scores of the target and of the law of x.
        noise: s, in the unit of ``x0``.
    """
    x, _ = antithetic(x0, noise, generator)
    with torch.no_grad():
        direction = s_phi(x) - s_q(x)
    return (direction * x).sum(-1).mean()
