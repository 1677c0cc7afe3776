"""The score of the noised target, from draws of the points before the noise."""

from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import Meter
from ..annealed import check_ladder, systematic
from ..base import State, normal_like
from ..moves import FIRST_STEP, GAIN, Moves
from .noise import Level

N_OCTAVES = 16  # of s below the scale, in each of which a step of the moves is adapted
NO_DENSITY = -1e30  # log density where there is none: no weight, unless all particles of a point are there


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """How x0 is drawn given x = x0 + s eps, where x0 ~ q would be the target, for the score of the law q_s of x.

        x0 | x  ~  q(x0) N(x0; x, s^2 I)
        grad log q_s(x)  =  E[ (x0 - x) / s^2 | x ]  =  E[ grad log q(x0) | x ]

    the denoising and the target score identity. Particles go from N(x, s^2 I) to the law of x0 given x by annealed
    importance sampling, are resampled by their weights, and make more moves; they cost
    n_particles * (len(betas) - 1 + n_moves) scores per point x.

    For q = N(m, v I) and D, T the means of the two integrands over exact draws, (s^2 D + v T) / (s^2 + v) has no
    variance at all: T is the better one at small s, D at large s, and where one takes over depends on the narrowest
    width, which is not public. In general any a D + (1 - a) T is unbiased, since D - T has mean zero (Stein's
    identity), and the best a is a regression coefficient. It is estimated from all points of a call whose s lies in the
    same octave. On ring8, at s from .03 to 1 scale, the standard deviation is .3 to .6 of that of
    (s^2 D + T) / (s^2 + 1) in units of the scale.

    Attributes:
        n_particles: per point. On ring8 (seed 0), 8 with 4 moves trained a sampler no better than 4 with 2 did, at a
            third of the price.
        betas: inverse temperatures of q, from 0 to 1.
        n_moves: after the resampling, at beta = 1.
        moves: which; their step, in units of s, is adapted from call to call.

    References: J. He et al., Training Neural Samplers with Reverse Diffusive KL Divergence, arXiv 2410.12456;
    V. De Bortoli et al., Target Score Matching, arXiv 2402.08667.
    """

    n_particles: int = 4
    betas: tuple[float, ...] = (0.0, 0.1, 0.4, 1.0)
    n_moves: int = 2
    moves: Moves = field(default_factory=partial(Moves, method="mala", acceptance=0.6, min_step=0.3))

    def __post_init__(self) -> None:
        require_at_least(2, n_particles=self.n_particles)
        require_at_least(1, n_moves=self.n_moves)
        check_ladder(self.betas)

    def of(self, meter: Meter, generator: Generator) -> "PosteriorScore":
        """The estimated scores of a target."""
        steps = torch.full((N_OCTAVES,), FIRST_STEP, device=meter.device, dtype=meter.dtype)
        return PosteriorScore(self, meter, generator, steps)


@dataclass(frozen=True)
class Given:
    """The law of x0 given x under the target to the power beta; a kernel's ``law``. ``x`` is (n, dim), ``s`` (n, 1)."""

    x: Tensor
    s: Tensor
    beta: float

    def __call__(self, state: State) -> State:
        """``state`` with the log density and score of this law."""
        gap = (self.x - state.x) / self.s
        log_prob = self.beta * state.log_prob - 0.5 * gap.square().sum(-1)
        return state._replace(log_prob=log_prob, score=self.beta * state.score + gap / self.s)


@dataclass
class PosteriorScore:
    """Estimates of the scores of q_s, in the target's unit, without a usable derivative.

    Attributes:
        config: of the draws of x0.
        meter, generator: of the target, and of all that is drawn.
        steps: of the moves, in units of s, for every octave of s / scale below 1, shape ``(N_OCTAVES,)``.
    """

    config: Posterior
    meter: Meter
    generator: Generator
    steps: Tensor

    def __call__(self, x: Tensor, s: Level) -> Tensor:
        """Points ``(n, dim)`` and their levels to scores ``(n, dim)``.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
        """
        if not isinstance(s, Tensor):
            require_positive(s=s)
            s = x.new_full((len(x), 1), s)
        x0, score = self.draws(x, s)
        from_noise, from_target = (x0 - x[:, None]) / s.square()[:, None], score
        share = self._share(from_noise, from_target, self._octave(s))
        return share * from_noise.mean(1) + (1 - share) * from_target.mean(1)

    def draws(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Draws of x0 given ``x (n, dim)`` and ``s (n, 1)``, and the scores there, both ``(n, n_particles, dim)``."""
        n, n_particles = len(x), self.config.n_particles
        centre, width = x.repeat_interleave(n_particles, 0), s.repeat_interleave(n_particles, 0)
        state = State.at(centre + width * normal_like(centre, self.generator), self.meter)
        log_weights = torch.zeros(n, n_particles, device=x.device, dtype=torch.float64)
        for beta, next_beta in pairwise(self.config.betas):
            if beta > 0:
                state = self._moved(state, Given(centre, width, beta))
            log_prob = state.log_prob.double().nan_to_num(nan=NO_DENSITY, neginf=NO_DENSITY, posinf=NO_DENSITY)
            log_weights += (next_beta - beta) * log_prob.view(n, n_particles)
        chosen = systematic(log_weights.softmax(-1), n_particles, self.generator)
        state = state.rows((chosen + n_particles * torch.arange(n, device=x.device)[:, None]).flatten())
        for _ in range(self.config.n_moves):
            state = self._moved(state, Given(centre, width, 1.0))
            self._adapt(state.acceptance, self._octave(width))
        return state.x.view(n, n_particles, -1), state.score.view(n, n_particles, -1)

    def _moved(self, state: State, law: Given) -> State:
        step = self.steps[self._octave(law.s)][:, None]
        return self.config.moves.kernel(step, law.s, law)(state, self.meter, self.generator)

    def _adapt(self, acceptance: Tensor, octave: Tensor) -> None:
        """Log steps towards the acceptance that is wanted, each by the mean over its own rows."""
        excess = _sums(acceptance - self.config.moves.acceptance, octave)
        n_rows = _sums(torch.ones_like(acceptance), octave)
        self.steps = self.steps * (GAIN * excess / n_rows.clamp(min=1)).exp().to(self.steps)

    def _share(self, from_noise: Tensor, from_target: Tensor, octave: Tensor) -> Tensor:
        """The weight a, of shape ``(n, 1)``, with which a D + (1 - a) T varies least among the particles of a point."""
        d, t = (part.double() - part.double().mean(1, keepdim=True) for part in (from_noise, from_target))
        covariance, variance = _sums((t * (t - d)).sum((1, 2)), octave), _sums((t - d).square().sum((1, 2)), octave)
        share = (covariance / variance).nan_to_num(nan=0.0)  # 0 / 0 where all particles of their points coincide
        return share.clamp(0, 1)[octave][:, None].to(from_noise)

    def _octave(self, s: Tensor) -> Tensor:
        """How many times s / scale is below 1 by a factor of 2, of every row."""
        return (-(s / self.meter.scale).log2()).floor().clamp(0, N_OCTAVES - 1).long().squeeze(-1)


def _sums(values: Tensor, octave: Tensor) -> Tensor:
    """Sums of ``values (n,)`` over the rows of each octave, shape ``(N_OCTAVES,)``, float64."""
    members = octave[:, None] == torch.arange(N_OCTAVES, device=octave.device)
    return values.double() @ members.double()  # unlike index_add, the same to the bit on a GPU too
