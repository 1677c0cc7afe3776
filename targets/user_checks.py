"""Checks of a target made of functions, at a few points, before anything is computed with it."""

import math
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

import torch
from torch import Generator, Tensor

from .base import Marginal, Modes, Moments, normal
from .draws import Estimate
from .meter import TargetError

PointMap: TypeAlias = Callable[[Tensor], Tensor]
PointSource: TypeAlias = Callable[[int, Generator], Tensor]

N_PROBES = 17
SCORE_TOLERANCE = 1e-4  # relative to the largest entry of the score: a wrong formula is off by more


class StatementCheck:
    """Checks of what is stated about a law; each method returns its part in the form that the protocols ask for.

    Args:
        name: of the target, for messages.
        dim, scale: of the target.
        batched: False if functions of points take one point.
    """

    def __init__(self, name: str, dim: int, scale: float, batched: bool) -> None:
        self.name, self.dim, self.batched = name, dim, batched
        self.x = scale * normal(N_PROBES, dim, Generator().manual_seed(0))
        self.finite = torch.ones(N_PROBES, dtype=torch.bool)  # where the density is
        self.gradient = torch.zeros_like(self.x)  # at those points

    def log_prob(self, function: PointMap) -> PointMap:
        """Evaluated at the probe points; so ``start`` goes first, and the other functions of points after it."""
        log_prob = self._over_batch("log_prob", function)
        for dtype in (torch.float32, torch.float64):
            x = self.x.to(dtype).requires_grad_()
            value = self._call("log_prob", log_prob, x)
            self._require_like(f"log_prob of {N_PROBES} points {dtype}", value, (N_PROBES,), dtype)
            if value.isnan().any() or (value == math.inf).any():
                self.fail("log_prob", "be a number or -inf at every point", f"{value.tolist()} at {self.x.tolist()}")
            if not value.isfinite().any():
                where = "start, or N(0, scale^2 I)"
                self.fail("log_prob", f"be finite at some of {N_PROBES} points of {where}", "-inf at all of them")
            gradient = self._gradient(value[value.isfinite()].sum(), x)
        self.finite = value.isfinite()
        self.gradient = gradient[self.finite]
        if not self.gradient.isfinite().all():
            self.fail("log_prob", "have a finite gradient where it is finite", f"{self.gradient.tolist()}")
        for point, expected in zip(self.x, value.detach(), strict=True):
            alone = self._call("log_prob", log_prob, point[None])
            if alone.shape != (1,) or not torch.allclose(alone[0], expected, rtol=1e-6, atol=1e-6):
                rule = "give a point the same value alone and among others"
                self.fail("log_prob", rule, f"{_described(alone)} {alone.tolist()} and {expected.item()}")
        return _over_leading_dimensions(log_prob)

    def score(self, function: PointMap) -> PointMap:
        """Compared with autograd."""
        score = self._over_batch("score", function)
        for dtype in (torch.float32, torch.float64):
            value = self._call("score", score, self.x.to(dtype))
            self._require_like(f"score of {N_PROBES} points {dtype}", value, (N_PROBES, self.dim), dtype)
        error = (value[self.finite] - self.gradient).abs().max().item()
        if not error <= SCORE_TOLERANCE * (1 + self.gradient.abs().max().item()):
            self.fail("score", "be the gradient of log_prob", f"entries that differ by up to {error:.3g}")
        return _over_leading_dimensions(score)

    def view(self, function: PointMap) -> PointMap:
        """Its shape and dtype."""
        view = self._over_batch("view", function)
        self._require_like("view", self._call("view", view, self.x), (N_PROBES, self.dim), torch.float64)
        return _over_leading_dimensions(view)

    def start(self, function: PointSource) -> PointSource:
        """Its draws become the probe points."""
        self.x = self._drawn("start", function).double()
        return function

    def sample(self, function: PointSource) -> PointSource:
        """Its shape, dtype and randomness."""
        draws = self._drawn("sample", function)
        self._require_like("sample", draws, (N_PROBES, self.dim), torch.float64)
        return function

    def reference(self, draws: Tensor) -> Callable[[], Tensor]:
        """Kept in float64 on the CPU."""
        if not isinstance(draws, Tensor) or draws.ndim != 2 or draws.shape[1] != self.dim or not len(draws):
            self.fail("reference", f"be a tensor of draws (n, {self.dim})", _described(draws))
        if not draws.isfinite().all():
            self.fail("reference", "be finite", f"{int((~draws.isfinite().all(-1)).sum())} points that are not")
        kept = draws.detach().cpu().double()
        return lambda: kept

    def log_z(self, value: Estimate | float) -> Estimate:
        """A plain number is exact."""
        estimate = value if isinstance(value, Estimate) else Estimate(float(value), std_error=0.0)
        if not (math.isfinite(estimate.value) and 0 <= estimate.std_error < math.inf):
            self.fail("log_z", "be finite, with a standard error from 0 on", repr(value))
        return estimate

    def modes(self, modes: Modes) -> Modes:
        """Masses and assignment."""
        if not isinstance(modes, Modes):
            self.fail("modes", "be Modes(assign, masses)", repr(modes))
        masses = modes.masses
        if masses.ndim != 1 or masses.dtype != torch.float64 or not (masses > 0).all() or masses.sum() > 1 + 1e-9:
            self.fail("modes.masses", "be positive float64 numbers (n_modes,) with a sum of at most 1", repr(masses))
        index = self._call("modes.assign", modes.assign, self.x)
        self._require_like("modes.assign", index, (N_PROBES,), torch.int64)
        if index.min() < -1 or index.max() >= len(masses):
            self.fail("modes.assign", f"be -1 or the index of one of {len(masses)} modes", f"{index.tolist()}")
        return modes

    def moments(self, moments: Moments) -> Moments:
        """Their shapes."""
        if not isinstance(moments, Moments):
            self.fail("moments", "be Moments(mean, variance)", repr(moments))
        for part in ("mean", "variance"):
            self._require_like(f"moments.{part}", getattr(moments, part), (2 * self.dim,), torch.float64)
        return moments

    def marginals(self, marginals: Sequence[Marginal]) -> tuple[Marginal, ...]:
        """Each cdf rises from 0 to 1."""
        for marginal in marginals:
            what = f"marginal {marginal.name!r}"
            value = self._call(what, marginal.statistic, self.x)
            self._require_like(f"{what}: statistic", value, (N_PROBES,), torch.float64)
            cdf = self._call(what, marginal.cdf, value.sort().values)
            self._require_like(f"{what}: cdf", cdf, (N_PROBES,), torch.float64)
            if cdf.min() < 0 or cdf.max() > 1 or (cdf.diff() < 0).any():
                self.fail(f"{what}: cdf", "rise from 0 to 1", f"{cdf.tolist()}")
        return tuple(marginals)

    def fail(self, what: str, rule: str, got: str) -> NoReturn:
        """Raise the error that names the target, the thing, the rule and the value."""
        raise TargetError(f"target {self.name!r}: {what} must {rule}, got {got}")

    def _over_batch(self, what: str, function: PointMap) -> PointMap:
        if not callable(function):
            self.fail(what, "be a function", repr(function))
        return function if self.batched else torch.func.vmap(function)

    def _gradient(self, value: Tensor, x: Tensor) -> Tensor:
        gradient = None
        if value.requires_grad:  # it may depend on parameters that do, and not on x
            (gradient,) = torch.autograd.grad(value, x, allow_unused=True)
        if gradient is None:
            self.fail("log_prob", "be differentiable by torch", "a value without a graph to x (numpy? detach? item?)")
        return gradient

    def _drawn(self, what: str, function: PointSource) -> Tensor:
        """Probes from ``start`` or ``sample``, which must depend on the generator alone."""
        if not callable(function):
            self.fail(what, "be a function of (n_samples, generator)", repr(function))
        first, again = (self._call(what, function, N_PROBES, Generator().manual_seed(0)) for _ in range(2))
        self._require_like(what, first, (N_PROBES, self.dim), getattr(first, "dtype", torch.float64))
        if not first.isfinite().all():
            self.fail(what, "be finite", f"{first.tolist()}")
        if not torch.equal(first, again):
            self.fail(what, "depend on its generator alone", "other points from the same seed")
        return first

    def _call(self, what: str, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        try:
            return function(*arguments)
        except Exception as error:
            described = ", ".join(map(_described, arguments))
            self.fail(what, f"accept {described}", f"{type(error).__name__}: {error}")

    def _require_like(self, what: str, value: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
            self.fail(what, f"be a tensor {shape} {dtype}", _described(value))


def _over_leading_dimensions(function: PointMap) -> PointMap:
    """``function`` of points ``(n, dim)`` as one of ``(..., dim)``."""

    def mapped(x: Tensor) -> Tensor:
        value = function(x.reshape(-1, x.shape[-1]))
        return value.reshape(x.shape[:-1] + value.shape[1:])

    return mapped


def _described(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else repr(value)
