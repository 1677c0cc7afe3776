"""Denoising Fisher training of a one-pass sampler."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from torch import Generator, Tensor

from ..targets.checks import require_one_of
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output, Returns
from .implicit.networks import Network
from .implicit.noise import Level, Noise, of_points, with_noise
from .implicit.objective import Denoised, Field
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train
from .kl import kl_loss

Terms: TypeAlias = Literal["both", "path"]


@register_sampler("dft_alpha0", version=1, alpha=0.0)
@register_sampler("dft_path_only", version=1, terms="path")
@register_sampler("dft_plain_noise", version=1, noise={"antithetic": False})
@register_sampler("dft", version=2)
@dataclass(frozen=True, kw_only=True)
class DFT:
    """Denoising Fisher training: the sampler minimises the Fisher divergence of its noised law from the target.

    F(theta) = E|s_q(x) - s_theta(x)|^2, x = g_theta(z) + s eps, with s_theta the score of the law of x. Training costs
    per step and point one log_prob, one score and one Hessian-vector product; a draw costs no evaluation.

    The Fisher divergence hardly sees the weights of separated modes, and the value of the loss is no estimate of it
    unless the score network is good.

    Attributes:
        network, training, noise, target_score: see there; ours, since the paper's settings depend on the target. With a
            minibatch score two independent ones stand in each square, so that the loss stays unbiased.
        warm_start: share of training with the KL loss, before the Fisher divergence takes over.
        stopping: an earlier end.
        alpha: of the one-knob family E[2 <u, s_q + eps / s> - 2 alpha |u|^2]; 1/2 is DFT, others are ablations.
        terms: ``path`` is an ablation that lacks the term for the change of s_theta as a function.
        output: the last iterate of theta or its moving average.
        returns: the noised x, which the loss makes match the target, or x0.

    ``dft_path_only``, ``dft_alpha0`` and ``dft_plain_noise`` are ablations, each of one part.

    Reference: W. Luo and W. Deng, Denoising Fisher Training for Neural Implicit Samplers, arXiv 2411.01453.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: Noise = field(default_factory=Noise)
    target_score: TargetScore = field(default_factory=TargetScore)
    warm_start: float = 0.0
    stopping: Stopping | None = None
    alpha: float = 0.5
    terms: Terms = "both"
    output: Output = "ema"
    returns: Returns = "x"

    def __post_init__(self) -> None:
        if not 0 <= self.warm_start < 1:
            raise ValueError(f"warm_start must be at least 0 and below 1, got {self.warm_start}")
        self.target_score.require_derivative("dft")
        require_one_of(Terms, terms=self.terms)
        self.noise.require_noised_target(self.target_score.source)
        require_one_of(Output, output=self.output)
        require_one_of(Returns, returns=self.returns)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite.

        Raises:
            NotApplicableError: if the target offers no minibatches or second derivatives where they are needed.
        """
        antithetic, n_scores = self.noise.antithetic, 2 if self.target_score.source == "minibatch" else 1
        objective = Denoised(
            partial(dft_loss, alpha=self.alpha, terms=self.terms, antithetic=antithetic, n_scores=n_scores),
            self.target_score.of(meter, generator, differentiable=True),
            self.noise,
            first=partial(kl_loss, antithetic=antithetic),
            first_share=self.warm_start,
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


def dft_loss(
    x0: Tensor,
    s_q: Field,
    s_phi: Field,
    generator: Generator,
    *,
    noise: Level,
    alpha: float = 0.5,
    terms: Terms = "both",
    antithetic: bool = True,
    n_scores: int = 1,
) -> Tensor:
    """E[ |u|^2 + 2 <u, s_phi + eps / s> ] with u = s_q - s_phi at x = x0 + s eps, over both signs of eps.

    Where s_phi = s_theta its value is F and its gradient is that of F: the first term is the change of F through x,
    the second is the change of s_theta as a function, by the denoising identity E<u, s_theta> = -E<u, eps> / s for a
    fixed field u. The gradient flows through x everywhere, so s_q and s_phi must be differentiable; u is not detached.

    Args:
        x0: shape ``(n, dim)``.
        s_q, s_phi: scores of the target and of the law of x.
        generator: of eps.
        noise: s, in the unit of ``x0``.
        alpha: the first term is taken 2 - 2 alpha times.
        terms: ``path`` leaves the second term out.
        antithetic: False takes one sign of eps.
        n_scores: 2 where s_q is stochastic: <u_1, u_2> of independent calls, whose mean is |E u|^2, and their mean u.
    """
    x, eps = with_noise(x0, noise, generator, antithetic=antithetic)
    model = s_phi(x)
    u = s_q(x) - model
    other = u if n_scores == 1 else s_q(x) - model
    path = (2 - 2 * alpha) * u * other
    if terms == "path":
        return path.sum(-1).mean()
    return (path + (u + other) * (model + eps / of_points(noise, x))).sum(-1).mean()
