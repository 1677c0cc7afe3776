"""The Laplace approximation."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.draws import Stopped
from ..targets.meter import BudgetReached, Meter
from .base import FittedSampler, NotApplicableError, register_sampler
from .density_model import FittedDensity
from .descent import Descended
from .gaussian_vi import Normal
from .implicit.trainer import ONLY_ONCE


@register_sampler("laplace", version=1)
@dataclass(frozen=True, kw_only=True)
class Laplace:
    """The normal law at the highest mode found: its precision is the negative Hessian of log_prob there.

    L-BFGS with a strong Wolfe line search climbs from several of the meter's starting points, in coordinates
    y = x / scale. The Hessian costs one log_prob, one score and dim products.

    No direction of the target is wider than its root mean square radius R = scale sqrt(dim), so eigenvalues of the
    precision below 1 / R^2 are raised to it, which the reason of the draws says. One below -1 / R^2 is no maximum: the
    fit ends as diverged, and its draws are those of the raised precision.

    Attributes:
        n_starts: points from which it climbs.
        n_iterations: of each climb.

    Reference: D. MacKay, Information Theory, Inference, and Learning Algorithms (2003), chapter 27.
    """

    n_starts: int = 8
    n_iterations: int = 200

    one_normal: ClassVar[bool] = True  # draws follow one, so that checks on two modes do not apply

    def __post_init__(self) -> None:
        require_at_least(1, n_starts=self.n_starts, n_iterations=self.n_iterations)

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Climb, and differentiate twice at the top; where the budget ends, the best point with what is known there.

        Raises:
            NotApplicableError: if the target has no second derivatives.
        """
        climbs = Climbs(meter)
        starts = meter.start(self.n_starts, generator) / meter.scale
        precision = torch.eye(meter.dim, device=meter.device, dtype=torch.float64)
        stopped: Stopped | None = None
        reason = ""
        try:
            for y in starts:
                climbs.go(y, self.n_iterations)
            if climbs.best is None:
                stopped, reason = "diverged", f"log_prob and score finite at no point of {self.n_starts} climbs"
            else:
                precision = negative_hessian(climbs.best, meter)
        except BudgetReached as error:
            stopped, reason = "budget", f"before the Hessian at the mode: {error}"
        if not precision.isfinite().all():
            precision = torch.eye(meter.dim).to(precision)
            stopped, reason = "diverged", "Hessian at the mode not finite"
        mean = starts[0] if climbs.best is None else climbs.best
        model, values = normal_of(mean, precision, least=1 / meter.dim)
        n_raised = int((values < 1 / meter.dim).sum())
        if stopped is None and n_raised:
            stopped = "diverged" if values[0] < -1 / meter.dim else None
            what = "the highest point found is no maximum" if stopped else "flat directions at the mode"
            reason = f"{what}: {n_raised} eigenvalues of the precision raised, least {values[0]:.3g}"
        notes = {
            "highest_log_prob": None if climbs.best is None else climbs.log_prob,
            "log_prob_of_climbs": climbs.tops,
            "least_eigenvalue": values[0].item(),
            "n_raised": n_raised,
        }
        nothing = torch.zeros(1, 0, device=meter.device, dtype=meter.dtype)
        return FittedDensity(model, meter, weighted=False, fit=Descended(0, nothing, stopped, reason), notes=notes)


def normal_of(mean: Tensor, precision: Tensor, least: float) -> tuple[Normal, Tensor]:
    """The normal law of a precision whose eigenvalues below ``least`` are raised to it, and the eigenvalues before.

    Args:
        mean: shape ``(dim,)``.
        precision: symmetric, shape ``(dim, dim)``, float64.
        least: positive.
    """
    values, vectors = torch.linalg.eigh(precision)
    root = vectors / values.clamp(min=least).sqrt()  # covariance = root root^T = R^T R with root^T = Q R
    upper = torch.linalg.qr(root.T).R
    return Normal(mean, (upper.T * upper.diagonal().sign()).to(mean)), values


class Climbs:
    """Climbs under way; every evaluation may give the highest point.

    Attributes:
        best: y of the highest finite log_prob with a finite score, shape ``(dim,)``; None before there is one.
        log_prob: there.
        tops: the highest of every climb that ended.
    """

    def __init__(self, meter: Meter) -> None:
        self.best: Tensor | None = None
        self.log_prob = -math.inf
        self.tops: list[float] = []
        self._meter = meter

    def go(self, start: Tensor, n_iterations: int) -> None:
        """One climb; it ends where nothing is gained, or where log_prob or its gradient is not finite."""
        y = start.clone().requires_grad_()
        top = -math.inf
        optimiser = torch.optim.LBFGS([y], max_iter=n_iterations, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            nonlocal top
            here = y.detach().clone()
            log_prob, score = self._meter.log_prob_and_score(self._meter.scale * here)
            value = log_prob.item()
            if math.isfinite(value) and score.isfinite().all():
                top = max(top, value)
                if value > self.log_prob:
                    self.best, self.log_prob = here, value
            else:
                raise FloatingPointError
            y.grad = -self._meter.scale * score
            return -log_prob

        with suppress(FloatingPointError):
            optimiser.step(closure)  # type: ignore[no-untyped-call]
        if math.isfinite(top):
            self.tops.append(top)


def negative_hessian(y: Tensor, meter: Meter) -> Tensor:
    """Of log_prob in y = x / scale at one point ``(dim,)``, shape ``(dim, dim)``, float64, symmetric.

    Raises:
        NotApplicableError: if the target has no second derivatives.
    """
    x = (meter.scale * y).requires_grad_()
    try:
        _, score = meter.log_prob_and_score(x, create_graph=True)
        if not score.requires_grad:
            raise NotApplicableError("needs second derivatives of log_prob, target has none: its score has no graph")
        rows = [torch.autograd.grad(part, x, retain_graph=True)[0] for part in score]
    except RuntimeError as error:
        if any(sign in str(error) for sign in ONLY_ONCE):
            raise NotApplicableError(f"needs second derivatives of log_prob, target has none: {error}") from error
        raise
    hessian = torch.stack(rows).double()
    return -0.5 * meter.scale**2 * (hessian + hessian.T)
