"""A one-pass sampler that works everywhere: taught by particles, finished by denoising Fisher training."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from ..targets.checks import require_one_of, require_positive
from ..targets.meter import Meter
from .base import FittedSampler, register_sampler
from .implicit.fitted import FittedImplicit, Output
from .implicit.networks import MLP, Network, require_hidden_only
from .implicit.noise import of_points, with_noise
from .implicit.smoothed import LocalWidth, SmoothedPoints, Smoothing, Whitening
from .implicit.target_score import Guide, TargetScore
from .implicit.teaching import Teaching, teach
from .implicit.trainer import Trained, Training, train


def gentle() -> Training:
    """A short training with small steps: there is little left to mend, and mode weights are easily moved away."""
    return Training(n_steps=200, n_warm_up=300, sampler_step_size=2e-5, score_step_size=2e-3, ema_decay=0.99)


@register_sampler("dft_plus_unfinished", version=1, finish=False)
@register_sampler("dft_plus", version=1)
@dataclass(frozen=True, kw_only=True)
class DFTPlus:
    """Particles teach a one-pass sampler, denoising Fisher training in local units finishes it.

    1. ``teaching`` finds points of the target by SMC and moves between modes.
    2. The sampler begins as their smoothed bootstrap (``implicit/smoothed.py``): a mixture latent with a category for
       every point.
    3. Its network learns what smoothing got wrong, by the Fisher divergence in units of the local width sigma(x), taken
       between the target and the law of x = x0 + eta sigma(x0) eps. A score network F = sigma (s_q - s_theta) learns
       the difference of both scores. Draws are x0, which is narrower than x by eta^2 / 2 of the local width, 2%.

    The same configuration serves every target. Most of the quality is that of the points: ``dft_plus_unfinished`` lacks
    step 3, and ``smc_gmm`` and ``teacher`` draw from such points in other ways.

    Attributes:
        teaching, smoothing, network, training: see there.
        noise: eta, in units of the local width.
        finish: whether step 3 is made.
        output: the last iterate of theta or its moving average.

    Reference: W. Luo and W. Deng, Denoising Fisher Training for Neural Implicit Samplers, arXiv 2411.01453, for the
    loss; the recipe is ours.
    """

    teaching: Teaching = field(default_factory=Teaching)
    smoothing: Smoothing = field(default_factory=Smoothing)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=gentle)
    noise: float = 0.2
    finish: bool = True
    output: Output = "ema"

    def __post_init__(self) -> None:
        require_positive(noise=self.noise)
        require_hidden_only(self.network, "the latent is the points and their neighbours")
        if self.noise > 1:
            raise ValueError(f"noise must be at most 1, the local width, got {self.noise}")
        require_one_of(Output, output=self.output)
        if self.teaching.n_particles <= self.smoothing.n_neighbours:
            raise ValueError(
                f"n_neighbours must be below n_particles {self.teaching.n_particles}, got {self.smoothing.n_neighbours}"
            )

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Find the points and train; where the budget ends or something is not finite, what there is until then.

        Raises:
            NotApplicableError: if the target has no second derivatives.
        """
        taught = teach(self.teaching, meter, generator)
        sampler = SmoothedPoints(taught.x / meter.scale, self.smoothing, self.network, meter, generator)
        if self.finish and taught.stopped is None:
            s_q = TargetScore().of(meter, generator, differentiable=True)
            width = LocalWidth(sampler, self.network, meter, generator)
            trained = train(
                LocalFisher(s_q, width, self.noise), meter, generator,
                network=self.network, training=self.training, sampler=sampler,
            )  # fmt: skip
        else:
            nothing = torch.zeros(2, 0, device=meter.device, dtype=meter.dtype)
            trained = Trained(sampler, sampler, 0, nothing, taught.stopped, taught.reason)
        return FittedImplicit(trained, meter.scale, self.output, noise=0.0, notes=taught.diagnostics)


@dataclass(frozen=True)
class LocalFisher:
    """The Fisher divergence E|sigma (s_q - s_theta)|^2 at x = x0 + eta sigma(x0) eps, sigma a fixed positive field.

    For a fixed field F the denoising identity gives E<sigma F, s_theta> = -E<sigma F, eps / s> with s = eta sigma(x0),
    so the loss of DFT holds in this metric. With F = sigma (s_q - s_theta) it is
    E[ 2 <F, sigma (s_q + eps / s)> - |F|^2 ], and F minimises E|sigma (s_q + eps / s) - F|^2.

    s is held at its value for the present theta, so this is a gradient of the divergence for a fixed s; both vanish
    where the laws agree.

    Attributes:
        s_q: score of the target; the score network's steps pay for it too, and need to learn no more than what is
            missing between two nearly equal scores.
        width: sigma.
        noise: eta.
    """

    s_q: Guide
    width: LocalWidth
    noise: float

    points_per_latent: int = 2
    settled: float = 0.0

    def opponent(self, network: Network, meter: Meter, generator: Generator) -> nn.Module:
        """F, zero at the start."""
        return Difference(self.width.whiten, network, meter, generator)

    def opponent_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """eta^2 E|sigma (s_q + eps / s) - F|^2, near E|eps|^2; weights must be those of x, since s differs given x."""
        with torch.no_grad():
            x, score = self._noised(x0, progress, generator)
        error: Tensor = self.noise * (score - opponent(x))
        return error.square().sum(-1).mean()

    def sampler_loss(self, opponent: nn.Module, x0: Tensor, progress: float, generator: Generator) -> Tensor:
        """E[ 2 <F, sigma (s_q + eps / s)> - |F|^2 ]."""
        x, score = self._noised(x0, progress, generator)
        difference: Tensor = opponent(x)
        return (2 * difference * score - difference.square()).sum(-1).mean()

    def _noised(self, x0: Tensor, progress: float, generator: Generator) -> tuple[Tensor, Tensor]:
        """x and sigma (s_q + eps / s) there; s belongs to the latent, so it has no gradient."""
        with torch.no_grad():
            s = self.noise * self.width(x0)
        x, eps = with_noise(x0, s, generator)
        return x, self.width(x) * (self.s_q(x, progress) + eps / of_points(s, x))


class Difference(nn.Module):
    """F(x): a network of whitened points, zero at the start."""

    def __init__(self, whiten: Whitening, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.whiten, self.net = whiten, MLP(2 * meter.dim, meter.dim, shape, meter, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Points ``(n, dim)`` to vectors ``(n, dim)``."""
        output: Tensor = self.net(self.whiten(x))
        return output
