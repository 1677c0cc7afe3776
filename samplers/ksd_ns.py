"""Stein neural sampler: training of a one-pass sampler by the kernel Stein discrepancy."""

from dataclasses import dataclass, field

from torch import Generator, Tensor

from ..targets.checks import require_one_of, require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import Network
from .implicit.objective import Alone, Field
from .implicit.stein import BaseKernel, mean_over_others, stein_kernel
from .implicit.stopping import Stopping
from .implicit.target_score import TargetScore
from .implicit.trainer import Training, train


@register_sampler("ksd_ns_rbf", version=1, kernel="rbf")
@register_sampler("ksd_ns", version=1)
@dataclass(frozen=True, kw_only=True)
class KSDNS:
    """Stein neural sampler: the sampler minimises the squared kernel Stein discrepancy of its law from the target.

    KSD^2(theta) = E kappa(x, y) over independent x, y = g_theta(z), kappa the Stein kernel of the target (see
    ``implicit.stein``). There is no score network, and x0 needs no noise and no density: the discrepancy is defined for
    latents of fewer dimensions than the target too. Training costs per step and point one log_prob, one score and one
    Hessian-vector product; a draw costs no evaluation.

    The discrepancy hardly sees the weights of separated modes. A point that is far from all others, where the kernel
    has decayed, adds next to nothing, so nothing pulls it back: the inverse multiquadric decays slowly, the Gaussian
    does not.

    Attributes:
        network, training, target_score: see there; ours. All pairs of the batch_size points of a step are taken; what
            is said there of opponents has no meaning here. With a minibatch score the two points of a pair have
            independent ones, so that the loss stays unbiased.
        kernel: inverse multiquadric, (1 + r^2)^-1/2, or Gaussian, exp(-r^2 / 2), of r = |x - y| / width.
        width: in units of scale * dim^1/2, as distances grow.
        stopping: an earlier end.
        output: the last iterate of theta or its moving average.

    Reference: T. Hu, Z. Chen, H. Sun, J. Bai, M. Ye and G. Cheng, Stein Neural Sampler, arXiv 1810.03545.
    """

    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    target_score: TargetScore = field(default_factory=TargetScore)
    kernel: BaseKernel = "imq"
    width: float = 1.0
    stopping: Stopping | None = None
    output: Output = "ema"

    def __post_init__(self) -> None:
        self.target_score.require_derivative("ksd_ns")
        require_one_of(BaseKernel, kernel=self.kernel)
        require_positive(width=self.width)
        require_one_of(Output, output=self.output)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; see ``trainer.train`` about budgets and losses that are not finite.

        Raises:
            NotApplicableError: if the target offers no minibatches or second derivatives where they are needed.
        """
        width = self.width * meter.dim**0.5
        n_scores = 2 if self.target_score.source == "minibatch" else 1
        objective = Alone(
            lambda x0, s_q, _: ksd_loss(x0, s_q, kernel=self.kernel, width=width, n_scores=n_scores),
            self.target_score.of(meter, generator, differentiable=True),
        )
        trained = train(
            objective, meter, generator, network=self.network, training=self.training, stopping=self.stopping
        )
        return FittedImplicit(trained, meter.scale, self.output, noise=0.0)


def ksd_loss(x0: Tensor, s_q: Field, *, kernel: BaseKernel = "imq", width: float = 1.0, n_scores: int = 1) -> Tensor:
    """Unbiased estimate of the squared kernel Stein discrepancy, over all pairs of different points (a U-statistic).

    It is 0 in expectation where the points have the target's law, so it may be negative.

    Args:
        x0: shape ``(n, dim)``.
        s_q: score of the target, differentiable.
        kernel, width: of the Stein kernel, the latter in the unit of ``x0``.
        n_scores: 2 where s_q is stochastic, with an error that all points share: the Stein kernel is linear in the
            scores of x and of y, which are then independent calls.
    """
    s_x = s_q(x0)
    s_y = s_x if n_scores == 1 else s_q(x0)
    return mean_over_others(stein_kernel(x0, s_x, x0, s_y, width, kernel)).mean()
