"""Stein neural sampler: training of a one-pass sampler against a critic, by the Fisher divergence."""

from dataclasses import dataclass, field

from torch import Generator, Tensor

from ..targets.checks import require_one_of, require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.divergence import divergence
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import Network, require_density
from .implicit.objective import Adversarial, Field
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train


@register_sampler("fisher_ns", version=1)
@dataclass(frozen=True, kw_only=True)
class FisherNS:
    """Stein neural sampler: the sampler lowers what a critic f finds to tell its law from the target.

    min over theta, max over f of V = E[ <s_q, f> + div f - penalty |f|^2 ] at x0 = g_theta(z). The first two terms
    are E<s_q - s_theta, f>, so f = (s_q - s_theta) / (2 penalty) is best and V is then F / (4 penalty), F the Fisher
    divergence. The paper's absolute value of these terms is left out: f can change its sign, so the maximum is the
    same.

    The critic needs no noise, but it must ask the target: training costs one log_prob and one score per point of a
    critic step, and one Hessian-vector product more in a sampler step. div f is a derivative of f alone, an exact
    trace up to 10 dimensions, above that Hutchinson's estimate. V is linear in s_q, so minibatch scores leave it
    unbiased. A draw costs no evaluation.

    Attributes:
        network, training, target_score: see there; ours. The critic is the opponent, and its steps are those that are
            named after scores.
        penalty: lambda of the paper; at 1/2 the best critic is s_q - s_theta.
        stopping: an earlier end.
        output: the last iterate of theta or its moving average.

    Reference: T. Hu, Z. Chen, H. Sun, J. Bai, M. Ye and G. Cheng, Stein Neural Sampler, arXiv 1810.03545.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    target_score: TargetScore = field(default_factory=TargetScore)
    penalty: float = 0.5
    stopping: Stopping | None = None
    output: Output = "ema"

    def __post_init__(self) -> None:
        self.target_score.require_derivative("fisher_ns")
        require_positive(penalty=self.penalty)
        require_one_of(Output, output=self.output)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite.

        Raises:
            NotApplicableError: if the latents have fewer dimensions than the target (x0 then has no density, and V no
                maximum), or it offers no minibatches or second derivatives where they are needed.
        """
        require_density(self.network.latent, meter)
        objective = Adversarial(
            lambda *args: critic_value(*args, penalty=self.penalty),
            self.target_score.of(meter, generator, differentiable=True),
        )
        trained = train(
            objective, meter, generator, network=self.network, training=self.training, stopping=self.stopping
        )
        return FittedImplicit(trained, meter.scale, self.output, noise=0.0)


def critic_value(x0: Tensor, s_q: Field, f: Field, generator: Generator, *, penalty: float = 0.5) -> Tensor:
    """E[ <s_q, f> + div f - penalty |f|^2 ] at x0.

    Where f is the best critic, its gradient with f held fixed as a function is that of F / (4 penalty) (the envelope
    theorem). The gradient flows through x0 everywhere, so s_q must be differentiable and f twice.

    Args:
        x0: shape ``(n, dim)``, with a graph.
        s_q: score of the target.
        f: the critic.
        generator: of Hutchinson's signs.
        penalty: lambda.
    """
    critic = f(x0)
    gain = (s_q(x0) * critic).sum(-1) + divergence(critic, x0, generator)
    return (gain - penalty * critic.square().sum(-1)).mean()
