"""Laplace: exact on a Gaussian, the curvature of log p elsewhere, and honest where there is no mode."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

from samplerbench import samplers, targets
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.density_model import FittedDensity
from samplerbench.samplers.gaussian_vi import Normal
from samplerbench.samplers.laplace import negative_hessian
from samplerbench.targets import Budget, Meter, Target


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def fit(target: Target, budget: float | None = None) -> tuple[FittedDensity, Meter]:
    meter = Meter(target, dtype=torch.float64, budget=Budget(fit=budget))
    fitted = samplers.get("laplace").fit(meter, generator())
    assert isinstance(fitted, FittedDensity)
    return fitted, meter


class Correlated:
    """N(mean, covariance) in three dimensions, of log density 7 too high."""

    dim = 3
    scale = 2.0
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    covariance = torch.tensor([[4.0, 1.5, 0.2], [1.5, 1.0, 0.1], [0.2, 0.1, 0.25]], dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        return 7 + torch.distributions.MultivariateNormal(self.mean.to(x), self.covariance.to(x)).log_prob(x)


def test_a_gaussian_is_found_exactly() -> None:
    fitted, meter = fit(Correlated())
    model = fitted.model
    assert isinstance(model, Normal)
    factor = meter.scale * model.factor.detach()
    torch.testing.assert_close(factor @ factor.T, Correlated.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(meter.scale * model.mean.detach(), Correlated.mean, rtol=0, atol=1e-5)
    x = torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(fitted.log_density(x), Correlated().log_prob(x) - 7, rtol=0, atol=1e-4)
    draws = fitted.draw(20_000, generator(1))
    z = torch.linalg.solve_triangular(
        torch.linalg.cholesky(Correlated.covariance), (draws.samples - Correlated.mean).T, upper=False
    )
    error = 5 * math.sqrt(2 / 20_000)  # of a mean square of normals, the largest standard error of the six
    assert (z @ z.T / 20_000 - torch.eye(3)).abs().max() < error


def test_the_hessian_costs_a_score_and_dim_products() -> None:
    meter = Meter(Correlated(), dtype=torch.float64)
    precision = negative_hessian(torch.zeros(3, dtype=torch.float64), meter)
    torch.testing.assert_close(precision, 4 * Correlated.covariance.inverse(), rtol=1e-9, atol=1e-9)
    counts = meter.counts["fit"]
    assert (counts.log_prob, counts.score, counts.hvp) == (1, 1, 3)


def test_the_law_of_mog2_is_that_of_one_of_its_modes() -> None:
    """At the mode the curvature is the target's own, by central differences."""
    target = targets.get("mog2")
    fitted, meter = fit(target)
    model = fitted.model
    assert isinstance(model, Normal)
    mode, factor = meter.scale * model.mean.detach(), meter.scale * model.factor.detach()
    h = 1e-4
    steps = h * torch.eye(2, dtype=torch.float64)
    nodes = mode + torch.stack([a + b for a in (*steps, *-steps) for b in (*steps, *-steps)])
    pp, pm, mp, mm = target.log_prob(nodes).reshape(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 2, 2)
    curvature = (pp - pm - mp + mm) / (4 * h**2)
    torch.testing.assert_close((factor @ factor.T).inverse(), -curvature, rtol=1e-4, atol=1e-4)


class Funnelled:
    """A law without a mode: log_prob grows along the first coordinate, curved the wrong way."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return 0.5 * x[..., 0].square() - 0.5 * x[..., 1].square()


def test_where_there_is_no_maximum_the_fit_is_diverged_and_draws_are_finite() -> None:
    draws = fit(Funnelled())[0].draw(50, generator())
    assert draws.stopped == "diverged"
    assert "the highest point found is no maximum: 1 eigenvalues of the precision raised" in draws.reason
    assert draws.samples.isfinite().all()


def test_a_flat_direction_has_the_width_of_the_target() -> None:
    """On a ring the tangent is flat: its eigenvalue is raised to 1 / (scale^2 dim), and the reason says so."""
    fitted, meter = fit(targets.get("donut"))
    draws = fitted.draw(50, generator())
    assert draws.stopped is None
    assert draws.reason.startswith("flat directions at the mode: 1 eigenvalues of the precision raised, least ")
    model = fitted.model
    assert isinstance(model, Normal)
    widest = torch.linalg.matrix_norm(model.factor.detach(), ord=2).item()
    assert math.isclose(widest, math.sqrt(meter.dim), rel_tol=1e-9)


class Once(torch.autograd.Function):
    """-|x|^2 / 2 with a gradient that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return -0.5 * x.square().sum(-1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -x * grad_outputs[0].unsqueeze(-1)


class OnceDifferentiable:
    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        log_prob: Tensor = Once.apply(x)  # type: ignore[no-untyped-call]
        return log_prob


def test_a_target_without_second_derivatives_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match="needs second derivatives of log_prob, target has none"):
        fit(OnceDifferentiable())


def test_a_budget_keeps_the_best_point() -> None:
    fitted, meter = fit(Correlated(), budget=10)
    assert meter.counts["fit"].gradient_equivalents <= 10
    draws = fitted.draw(20, generator())
    assert draws.stopped == "budget"
    assert draws.samples.isfinite().all()
    assert isinstance(fitted.diagnostics["highest_log_prob"], float)
