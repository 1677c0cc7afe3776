"""Denoising Fisher training of a one-pass sampler."""

from dataclasses import dataclass, field
from functools import partial

from torch import Generator, Tensor

from ..targets.checks import require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output, Returns, require_one_of
from .implicit.networks import Network
from .implicit.noise import antithetic
from .implicit.trainer import Field, Training, train


@register_sampler("dft", version=1)
@dataclass(frozen=True, kw_only=True)
class DFT:
    """Denoising Fisher training: the sampler minimises the Fisher divergence of its noised law from the target.

    F(theta) = E|s_q(x) - s_theta(x)|^2, x = g_theta(z) + s eps, with s_theta the score of the law of x. Training costs
    per step and point one log_prob, one score and one Hessian-vector product; a draw costs no evaluation.

    The Fisher divergence hardly sees the weights of separated modes, and the value of the loss is no estimate of it
    unless the score network is good.

    Attributes:
        network, training: see there; ours, since the paper's settings depend on the target.
        noise: s in units of scale. The law of x, not of x0, is fitted to the target, so x0 is deconvolved; s should
            stay below a third of the narrowest width, and the variance of the loss grows as s falls. That width is not
            public: on ill-conditioned targets the default is above it.
        output: the last iterate of theta or its moving average.
        returns: the noised x, which the loss makes match the target, or x0.

    Reference: W. Luo and W. Deng, Denoising Fisher Training for Neural Implicit Samplers, arXiv 2411.01453.
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
            partial(dft_loss, noise=self.noise),
            partial(meter.score, create_graph=True),
            meter,
            generator,
            network=self.network,
            training=self.training,
            noise=self.noise,
        )
        return FittedImplicit(trained, meter.scale, self.output, self.noise if self.returns == "x" else 0.0)


def dft_loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: float) -> Tensor:
    """E[ |u|^2 + 2 <u, s_phi + eps / s> ] with u = s_q - s_phi at x = x0 + s eps, over both signs of eps.

    Where s_phi = s_theta its value is F and its gradient is that of F: the first term is the change of F through x,
    the second is the change of s_theta as a function, by the denoising identity E<u, s_theta> = -E<u, eps> / s for a
    fixed field u. The gradient flows through x everywhere, so s_q and s_phi must be differentiable; u is not detached.

    Args:
        x0: shape ``(n, dim)``.
        s_q, s_phi: scores of the target and of the law of x.
        noise: s, in the unit of ``x0``.
    """
    x, eps = antithetic(x0, noise, generator)
    model = s_phi(x)
    u = s_q(x) - model
    return (u.square() + 2 * u * (model + eps / noise)).sum(-1).mean()
