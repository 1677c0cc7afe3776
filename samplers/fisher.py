"""Fisher training of a one-pass sampler without noise: the baseline of denoising Fisher training."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Generator, Tensor

from ..targets.checks import require_one_of
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.divergence import divergence
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import Network, require_density
from .implicit.noise import Noise
from .implicit.objective import Denoised, Field
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train

Terms: TypeAlias = Literal["both", "path"]


@register_sampler("fisher_path_only", version=1, terms="path")
@register_sampler("fisher", version=2)
@dataclass(frozen=True, kw_only=True)
class Fisher:
    """Fisher training (2023): the sampler minimises the Fisher divergence of its law from the target, without noise.

    F(theta) = E|s_q(x0) - s_theta(x0)|^2 with x0 = g_theta(z). The divergence of s_q - s_phi in the loss is an exact
    trace up to 10 dimensions, above that Hutchinson's estimate with one Rademacher vector per point. Training costs,
    per step and latent, one log_prob, one score and dim + 1 Hessian-vector products (two with Hutchinson); a draw
    costs no evaluation.

    The score network is trained by denoising as for the other methods, so it learns the score of x0 + s eps and not
    of x0, a bias of order s^2 that is not corrected.

    Attributes:
        network, training, target_score: see there; ours. x0 carries no noise, hence one point per latent, of which
            there are batch_size / 2 per step.
        noise: of the score network's training.
        stopping: an earlier end.
        output: the last iterate of theta or its moving average.
        terms: ``path`` is an ablation that lacks the term for the change of s_theta as a function; its gradient is
            wrong (zero in the mean of Gaussians of equal variance).

    Reference: W. Luo, B. Zhang and Z. Zhang, Entropy-based Training Methods for Scalable Neural Implicit Sampler,
    NeurIPS 2023, arXiv 2306.04952.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    noise: Noise = field(default_factory=Noise)
    target_score: TargetScore = field(default_factory=TargetScore)
    stopping: Stopping | None = None
    output: Output = "ema"
    terms: Terms = "both"

    def __post_init__(self) -> None:
        require_exact_without_noise("fisher", self.target_score, self.noise)
        require_one_of(Output, output=self.output)
        require_one_of(Terms, terms=self.terms)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite.

        Raises:
            NotApplicableError: if the latents have fewer dimensions than the target (x0 then has no density), or it has
                no second derivatives.
        """
        require_density(self.network.latent, meter)
        objective = Denoised(
            lambda *args, noise: fisher_loss(*args, terms=self.terms),
            self.target_score.of(meter, generator, differentiable=True),
            self.noise,
        )
        trained = train(
            objective, meter, generator, network=self.network, training=self.training, stopping=self.stopping
        )
        return FittedImplicit(trained, meter.scale, self.output, noise=0.0)


def require_exact_without_noise(method: str, target_score: TargetScore, noise: Noise) -> None:
    """Refuse what the loss without noise has no use for; ``method`` is named.

    Raises:
        ValueError: naming the field, the rule and the value.
    """
    target_score.require_derivative(method)
    if target_score.source != "exact":
        raise ValueError(f"source must be 'exact': the square of a minibatch is biased, got {target_score.source!r}")
    if noise.varies:
        raise ValueError("schedule must be constant or annealed: x0 without noise has one law, got 'levels'")


def fisher_loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, terms: Terms = "both") -> Tensor:
    """E|u|^2 + 2 E[ div u + <u, s_phi> ] with u = s_q - s_phi at x0.

    Where s_phi = s_theta its value is F and its gradient is that of F: the first term is the change of F through x0,
    the second is the change of s_theta as a function, by Stein's identity E<u, s_theta> = -E div u for a fixed field
    u. s_q must be twice differentiable.

    Args:
        x0: shape ``(n, dim)``, with a graph.
        s_q, s_phi: scores of the target and of the law of x0.
        terms: ``path`` leaves the second term out.
    """
    model = s_phi(x0)
    u = s_q(x0) - model
    path = u.square().sum(-1)
    if terms == "path":
        return path.mean()
    return (path + 2 * (divergence(u, x0, generator) + (u * model).sum(-1))).mean()
