"""Flow annealed importance sampling bootstrap (FAB)."""

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least, require_positive
from ..targets.meter import Meter
from .base import FittedSampler, State, register_sampler
from .density_model import DensityModel, FittedDensity, latents, log_density_and_score
from .descent import Descent, descend
from .kernels import Diverged
from .moves import FIRST_STEP, MIN_SPREAD, Moves
from .spline_flow import Splines


@register_sampler("fab", version=1)
@dataclass(frozen=True, kw_only=True)
class FAB:
    """A spline flow q of least alpha-divergence with alpha = 2, the variance of p / q; draws are weighted by p / q.

    Draws of q go by annealed importance sampling to g = p^2 / q, the law that proposes best for that divergence,
    through g_beta = q^(1 - 2 beta) p^(2 beta). Their ends and weights fill a buffer. Steps of Adam on -E w log q take
    points from it in proportion to their weights, which are corrected for the change of q since they were stored. Where
    q has too little mass g has much, so that modes are found and kept, unlike with reverse KL. Needs zuko
    (``pip install 'samplerbench[flows]'``).

    Attributes:
        splines: the flow.
        descent: its training; the batch is that of annealing and of the steps.
        n_temperatures: laws between q and g, at equal distances of beta.
        n_moves: at each.
        moves: which; their coordinates are scaled by the standard deviations of q's draws, and the step at each beta is
            adapted.
        n_reuse: steps of Adam for every annealed batch.
        n_first: batches annealed before the first step.
        buffer_size: points kept, the latest.
        max_correction: largest factor of a point's weight in a step.
        weighted: whether a draw pays a log_prob for its importance weight; log Z comes with it.

    Reference: L. Midgley et al., Flow Annealed Importance Sampling Bootstrap, ICLR 2023, arXiv 2208.01893, algorithm 1.
    """

    splines: Splines = field(default_factory=Splines)
    descent: Descent = field(default_factory=Descent)
    n_temperatures: int = 2
    n_moves: int = 1
    moves: Moves = field(default_factory=partial(Moves, max_leapfrog=5, acceptance=0.65))
    n_reuse: int = 4
    n_first: int = 10
    buffer_size: int = 25_600
    max_correction: float = 10.0
    weighted: bool = True

    def __post_init__(self) -> None:
        require_at_least(1, n_temperatures=self.n_temperatures, n_moves=self.n_moves, n_reuse=self.n_reuse)
        require_at_least(1, n_first=self.n_first, buffer_size=self.buffer_size)
        require_positive(max_correction=self.max_correction)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Train; where the budget ends, the flow of the last step.

        Raises:
            ModuleNotFoundError: if zuko is not installed.
        """
        model = self.splines.build(meter, generator)
        annealing = Annealing(self, model, meter)
        buffer = Buffer(self.buffer_size)

        def backward(n_done: int) -> Tensor:
            if n_done % self.n_reuse == 0:
                for _ in range(self.n_first if n_done == 0 else 1):
                    buffer.add(*annealing.go(self.descent.batch_size, generator))
            rows = buffer.choose(self.descent.batch_size, generator)
            log_q = model.log_density(buffer.y[rows])
            correction = buffer.correct(rows, log_q.detach())
            loss = -(correction.clamp(max=math.log(self.max_correction)).exp() * log_q).mean()
            torch.autograd.backward(loss)
            return loss.detach()

        fit = descend(list(model.parameters()), backward, self.descent)
        notes = {"step_sizes": annealing.steps, "acceptance_rates": annealing.rates, "annealed_ess": buffer.effective}
        return FittedDensity(model, meter, self.weighted, fit, loss="weighted_negative_log_density", notes=notes)


@dataclass(frozen=True)
class Bridge:
    """The law g_beta = q^(1 - 2 beta) p^(2 beta) of the model q and the target p; a kernel's ``law``."""

    model: DensityModel
    scale: float
    beta: float

    def __call__(self, state: State) -> State:
        """``state`` with the log density and score of this law, up to a constant."""
        log_q, score_q = log_density_and_score(self.model, state.x / self.scale)
        log_prob = (1 - 2 * self.beta) * log_q + 2 * self.beta * state.log_prob
        score = (1 - 2 * self.beta) / self.scale * score_q + 2 * self.beta * state.score
        return state._replace(log_prob=log_prob, score=score)


class Annealing:
    """Annealed importance sampling from the model to p^2 / q, with a step for each beta that is adapted all along.

    Attributes:
        steps: in units of the standard deviations of the model's draws.
        rates: of acceptance, at the last moves.
    """

    def __init__(self, config: FAB, model: DensityModel, meter: Meter) -> None:
        n = config.n_temperatures
        self.betas = [(k + 1) / (n + 1) for k in range(n)]
        self.steps, self.rates = [FIRST_STEP] * n, [math.nan] * n
        self._config, self._model, self._meter = config, model, meter

    def go(self, n: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Points y ``(n, dim)``, their log weights for p^2 / q and their log q, both of shape ``(n,)``.

        Raises:
            BudgetReached: before an evaluation that the meter cannot pay.
            Diverged: if no weight is finite.
        """
        scale, moves = self._meter.scale, self._config.moves
        with torch.no_grad():
            y = self._model.push(latents(n, self._meter, generator))
            log_q = self._model.log_density(y)
        state = State.at(scale * y, self._meter)
        scales = state.x.std(0).clamp(min=MIN_SPREAD * scale)
        log_weights, past = torch.zeros_like(log_q), 0.0
        for k, beta in enumerate(self.betas):
            log_weights = log_weights + 2 * (beta - past) * (state.log_prob - log_q)
            past = beta
            for _ in range(self._config.n_moves):
                state = moves.kernel(self.steps[k], scales, Bridge(self._model, scale, beta))(
                    state, self._meter, generator
                )
                self.rates[k] = state.acceptance.mean().item()
                self.steps[k] = moves.adapted(self.steps[k], self.rates[k])
            y = state.x / scale
            with torch.no_grad():
                log_q = self._model.log_density(y)
        log_weights = log_weights + 2 * (1 - past) * (state.log_prob - log_q)
        log_weights = log_weights.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
        if not log_weights.isfinite().any():
            raise Diverged(f"no weight of {n} annealed points is finite")
        return y, log_weights, log_q


class Buffer:
    """The latest points with their log weights for p^2 / q and log q when the weights were last corrected.

    Attributes:
        y: shape ``(n, dim)``, in the order in which they came.
        log_weights, log_q: shape ``(n,)``.
        effective: share of each annealed batch that its weights are worth; the last 200 batches.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.y = self.log_weights = self.log_q = torch.empty(0)
        self.effective: list[float] = []

    def add(self, y: Tensor, log_weights: Tensor, log_q: Tensor) -> None:
        """Take in a batch, and drop the oldest points beyond the size."""
        w = log_weights.double().softmax(0)
        self.effective = [*self.effective[-199:], (1 / (len(w) * w.square().sum())).item()]
        if not len(self.y):
            self.y, self.log_weights, self.log_q = (v[-self.size :] for v in (y, log_weights, log_q))
            return
        pairs = ((self.y, y), (self.log_weights, log_weights), (self.log_q, log_q))
        self.y, self.log_weights, self.log_q = (torch.cat(pair)[-self.size :] for pair in pairs)

    def choose(self, n: int, generator: Generator) -> Tensor:
        """Rows in proportion to their weights, with replacement, shape ``(n,)``."""
        weights = self.log_weights.double().softmax(0)
        return torch.multinomial(weights, n, replacement=True, generator=generator)

    def correct(self, rows: Tensor, log_q: Tensor) -> Tensor:
        """Weights of rows for p^2 over the model of now, whose log density there is ``log_q``; log of the factor."""
        factor = self.log_q[rows] - log_q
        self.log_weights[rows] = self.log_weights[rows] + factor
        self.log_q[rows] = log_q
        return factor
