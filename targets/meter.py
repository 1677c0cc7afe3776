"""The Meter: all that a sampler sees of a target. It counts evaluations and enforces the budget (see ``ledger``)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor

from .base import HasMinibatch, HasScore, HasStart, Target
from .ledger import Budget as Budget, BudgetReached as BudgetReached, Counts as Counts, Ledger, Phase


class TargetError(ValueError):
    """The target broke its contract (shape, dtype, NaN where it must be finite)."""


class _CountBackward(torch.autograd.Function):
    """Identity whose first backward pass counts a score and every later one a Hessian-vector product.

    With ``n_rows`` what is differentiated is a score already, of so many data rows: every pass counts a product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ledger: Ledger, n_rows: int | None = None) -> Tensor:
        ctx.ledger = ledger
        ctx.n_points = x.shape[:-1].numel()
        ctx.n_rows = n_rows
        ctx.seen = n_rows is not None
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        ctx.ledger.charge(ctx.n_points, "hvp" if ctx.seen else "score", n_rows=ctx.n_rows)
        ctx.seen = True
        return grad_outputs[0], None, None


class Meter:
    """A target as a sampler sees it: dim, scale, device, dtype, log_prob, score and the remaining budget.

    Args:
        target: the density; its draws, modes and log Z stay out of the sampler's reach.
        device, dtype: of every tensor that goes in or comes out.
        budget: limits in gradient equivalents.

    Attributes:
        n_rows: data rows that minibatches are drawn from; None if the target offers no minibatch score.
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
        self.n_rows: int | None = target.n_rows if isinstance(target, HasMinibatch) else None
        self._ledger = Ledger(budget or Budget(), self.n_rows or 1)
        self.dim: int = target.dim
        self.scale: float = target.scale
        self.device = torch.device(device)
        self.dtype = dtype
        self._n_nan = torch.zeros((), dtype=torch.int64, device=self.device)  # stays there: no host sync per call

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Charge the evaluations inside the block to ``phase``."""
        before, self._ledger.phase = self._ledger.phase, phase
        try:
            yield
        finally:
            self._ledger.phase = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave the evaluations inside the block out of counts and budget (repetitions that only measure time)."""
        before, self._ledger.counting = self._ledger.counting, False
        try:
            yield
        finally:
            self._ledger.counting = before

    @property
    def counts(self) -> dict[Phase, Counts]:
        """Points evaluated so far in each phase."""
        return self._ledger.counts

    def restart(self, phase: Phase) -> None:
        """Set the counts of a phase to zero, so that its whole budget is there again."""
        self._ledger.restart(phase)

    @property
    def n_nan(self) -> int:
        """Finite points at which ``log_prob`` returned NaN so far."""
        return int(self._n_nan.item())

    def remaining(self) -> float:
        """Gradient equivalents left in the current phase; infinite without a budget."""
        return self._ledger.remaining()

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
        self._ledger.charge(_n_points(x), "log_prob")
        return self._evaluate(_CountBackward.apply(x, self._ledger) if x.requires_grad else x)  # type: ignore[no-untyped-call]

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
            self._ledger.charge(_n_points(x), "log_prob", "score")
            return self._detached_log_prob_and_score(x)
        self._ledger.afford(_n_points(x), "log_prob", "score")
        inputs = x if x.requires_grad else x.detach().requires_grad_()
        with torch.enable_grad():
            log_prob = self.log_prob(inputs)
            (score,) = torch.autograd.grad(log_prob.sum(), inputs, create_graph=True)
        return log_prob, score

    def score(self, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """Gradient of ``log_prob``; counts and errors as ``log_prob_and_score``."""
        return self.log_prob_and_score(x, create_graph=create_graph)[1]

    def minibatch_score(self, x: Tensor, rows: Tensor, *, create_graph: bool = False) -> Tensor:
        """Unbiased estimate of the score from some data rows; m of n rows cost m / n of a score.

        Args:
            x: points, shape ``(..., dim)``; not modified.
            rows: indices of data rows, shape ``(m,)``, drawn uniformly; the same rows for all points.
            create_graph: keep it differentiable in ``x`` (its backward pass then counts m / n of an ``hvp``).
        Returns:
            Shape ``(..., dim)``; without a graph unless asked for.
        Raises:
            BudgetReached, TargetError: as ``log_prob``.
            ValueError: if there are no rows or more than the data has, or they are not in one dimension.
            TypeError: if the target offers no minibatch score, where ``n_rows`` is None.
        """
        if not isinstance(self._target, HasMinibatch):
            raise TypeError(f"{type(self._target).__name__} has no minibatch_score")
        self._check(x)
        if rows.ndim != 1 or not 1 <= len(rows) <= self._target.n_rows:
            raise ValueError(f"rows must be 1 to {self._target.n_rows} indices, got shape {tuple(rows.shape)}")
        self._ledger.charge(_n_points(x), "log_prob", "score", n_rows=len(rows))
        with torch.set_grad_enabled(create_graph):
            inputs = _CountBackward.apply(x, self._ledger, len(rows)) if create_graph else x  # type: ignore[no-untyped-call]
            return self._checked(self._target.minibatch_score(inputs, rows), x, "minibatch_score")

    def _detached_log_prob_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self._target, HasScore):
            with torch.no_grad():
                return self._evaluate(x), self._checked(self._target.score(x), x, "score")
        inputs = x.detach().requires_grad_()
        with torch.enable_grad():
            log_prob = self._evaluate(inputs)
            (score,) = torch.autograd.grad(log_prob.sum(), inputs)
        return log_prob.detach(), score

    def _checked(self, score: Tensor, x: Tensor, name: str) -> Tensor:
        if score.shape != x.shape or score.dtype != x.dtype:
            raise TargetError(
                f"{type(self._target).__name__}.{name} must map {tuple(x.shape)} {x.dtype} to the same, "
                f"got {tuple(score.shape)} {score.dtype}"
            )
        return score

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


def _n_points(x: Tensor) -> int:
    return x.shape[:-1].numel()


def derive_generator(*key: object, device: torch.device | str = "cpu") -> Generator:
    """A generator seeded by the SHA-256 of ``key``, e.g. ``(seed, "fit")``; independent keys, independent streams."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
