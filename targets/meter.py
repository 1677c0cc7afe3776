"""The Meter: all that a sampler sees of a target. It counts evaluations and enforces the budget.

One unit of cost is a gradient equivalent: ``log_prob`` alone costs 0.5, a score (its value included) 1, a
Hessian-vector product 2. The raw counts are points: a score counts one ``log_prob`` (its forward pass) and one
``score`` (its backward pass), so equivalents are 0.5 log_prob + 0.5 score + 2 hvp.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Generator, Tensor

from .base import HasScore, HasStart, Target

Phase: TypeAlias = Literal["fit", "draw"]
Evaluation: TypeAlias = Literal["log_prob", "score", "hvp"]
GRADIENT_EQUIVALENTS: dict[Evaluation, float] = {"log_prob": 0.5, "score": 0.5, "hvp": 2.0}


class BudgetReached(Exception):
    """Raised before an evaluation that the remaining budget cannot pay."""


class TargetError(ValueError):
    """The target broke its contract (shape, dtype, NaN where it must be finite)."""


@dataclass
class Counts:
    """Points evaluated in one phase."""

    log_prob: int = 0
    score: int = 0
    hvp: int = 0

    @property
    def gradient_equivalents(self) -> float:
        """Cost in units of one score with its value."""
        return sum(GRADIENT_EQUIVALENTS[kind] * n for kind, n in asdict(self).items())  # type: ignore[index]


@dataclass(frozen=True)
class Budget:
    """Limits in gradient equivalents per phase; None is no limit."""

    fit: float | None = None
    draw: float | None = None

    def __post_init__(self) -> None:
        for phase, limit in asdict(self).items():
            if limit is not None and limit <= 0:
                raise ValueError(f"budget of phase {phase} must be positive, got {limit}")


class _CountBackward(torch.autograd.Function):
    """Identity whose first backward pass counts a score and every later one a Hessian-vector product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, meter: "Meter") -> Tensor:
        ctx.meter = meter
        ctx.n_points = x.shape[:-1].numel()
        ctx.seen = False
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        ctx.meter._charge(ctx.n_points, "hvp" if ctx.seen else "score")
        ctx.seen = True
        return grad_outputs[0], None


class Meter:
    """A target as a sampler sees it: dim, scale, device, dtype, log_prob, score and the remaining budget.

    Args:
        target: the density; its draws, modes and log Z stay out of the sampler's reach.
        device, dtype: of every tensor that goes in or comes out.
        budget: limits per phase, in gradient equivalents.
    """

    def __init__(
        self,
        target: Target,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        budget: Budget | None = None,
    ) -> None:
        self._target = target
        self._budget = budget or Budget()
        self._phase: Phase = "fit"
        self._counting = True
        self.counts: dict[Phase, Counts] = {"fit": Counts(), "draw": Counts()}
        self.dim: int = target.dim
        self.scale: float = target.scale
        self.device = torch.device(device)
        self.dtype = dtype
        self._n_nan = torch.zeros((), dtype=torch.int64, device=self.device)  # stays there: no host sync per call

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Charge the evaluations inside the block to ``phase``."""
        before, self._phase = self._phase, phase
        try:
            yield
        finally:
            self._phase = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave the evaluations inside the block out of counts and budget (repetitions that only measure time)."""
        before, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = before

    @property
    def n_nan(self) -> int:
        """Finite points at which ``log_prob`` returned NaN so far."""
        return int(self._n_nan.item())

    def remaining(self) -> float:
        """Gradient equivalents left in the current phase; infinite without a budget."""
        limit = getattr(self._budget, self._phase)
        return float("inf") if limit is None else limit - self.counts[self._phase].gradient_equivalents

    def start(self, n_samples: int, generator: Generator) -> Tensor:
        """Public starting points, shape ``(n_samples, dim)``: the target's own, else N(0, scale^2 I)."""
        if isinstance(self._target, HasStart):
            return self._target.start(n_samples, generator).to(device=self.device, dtype=self.dtype)
        z = torch.randn(n_samples, self.dim, generator=generator, device=self.device, dtype=self.dtype)
        return self.scale * z

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, shape ``(..., dim)`` to ``(...)``; where ``x`` carries a graph, backward passes are counted.

        Raises:
            BudgetReached: before an evaluation that the phase's budget cannot pay.
            TargetError: if the target returns another shape or dtype.
        """
        self._check(x)
        self._charge(_n_points(x), "log_prob")
        return self._evaluate(_CountBackward.apply(x, self) if x.requires_grad else x)  # type: ignore[no-untyped-call]

    def log_prob_and_score(self, x: Tensor, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
        """Log density ``(...)`` and its gradient ``(..., dim)``.

        Args:
            x: points, shape ``(..., dim)``; not modified.
            create_graph: keep both differentiable in ``x`` (its backward pass is then counted as ``hvp``);
                otherwise they are detached.
        Raises:
            BudgetReached, TargetError: as ``log_prob``.
        """
        self._check(x)
        if not create_graph:
            self._charge(_n_points(x), "log_prob", "score")
            return self._detached_log_prob_and_score(x)
        self._afford(_n_points(x), "log_prob", "score")
        inputs = x if x.requires_grad else x.detach().requires_grad_()
        with torch.enable_grad():
            log_prob = self.log_prob(inputs)
            (score,) = torch.autograd.grad(log_prob.sum(), inputs, create_graph=True)
        return log_prob, score

    def score(self, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """Gradient of ``log_prob``; counts and errors as ``log_prob_and_score``."""
        return self.log_prob_and_score(x, create_graph=create_graph)[1]

    def _detached_log_prob_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self._target, HasScore):
            with torch.no_grad():
                log_prob, score = self._evaluate(x), self._target.score(x)
            if score.shape != x.shape or score.dtype != x.dtype:
                raise TargetError(
                    f"{type(self._target).__name__}.score must map {tuple(x.shape)} {x.dtype} to the same, "
                    f"got {tuple(score.shape)} {score.dtype}"
                )
            return log_prob, score
        inputs = x.detach().requires_grad_()
        with torch.enable_grad():
            log_prob = self._evaluate(inputs)
            (score,) = torch.autograd.grad(log_prob.sum(), inputs)
        return log_prob.detach(), score

    def _evaluate(self, x: Tensor) -> Tensor:
        log_prob = self._target.log_prob(x)
        if log_prob.shape != x.shape[:-1] or log_prob.dtype != x.dtype:
            raise TargetError(
                f"{type(self._target).__name__}.log_prob must map {tuple(x.shape)} {x.dtype} to "
                f"{tuple(x.shape[:-1])} {x.dtype}, got {tuple(log_prob.shape)} {log_prob.dtype}"
            )
        with torch.no_grad():
            self._n_nan += (log_prob.isnan() & x.isfinite().all(-1)).sum()
        return log_prob

    def _check(self, x: Tensor) -> None:
        if x.shape[-1] != self.dim or x.dtype != self.dtype or x.device.type != self.device.type:
            raise ValueError(
                f"x must have shape (..., {self.dim}), {self.dtype} on {self.device}, "
                f"got {tuple(x.shape)}, {x.dtype} on {x.device}"
            )

    def _afford(self, n_points: int, *kinds: Evaluation) -> None:
        cost = n_points * sum(GRADIENT_EQUIVALENTS[kind] for kind in kinds)
        if self._counting and cost > self.remaining():
            raise BudgetReached(
                f"{n_points} points of {'+'.join(kinds)} cost {cost:g} gradient equivalents, "
                f"{self.remaining():g} are left in phase {self._phase}"
            )

    def _charge(self, n_points: int, *kinds: Evaluation) -> None:
        self._afford(n_points, *kinds)
        if self._counting:
            counts = self.counts[self._phase]
            for kind in kinds:
                setattr(counts, kind, getattr(counts, kind) + n_points)


def _n_points(x: Tensor) -> int:
    return x.shape[:-1].numel()


def derive_generator(*key: object, device: torch.device | str = "cpu") -> Generator:
    """A generator seeded by the SHA-256 of ``key``, e.g. ``(seed, "fit")``; independent keys, independent streams."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
