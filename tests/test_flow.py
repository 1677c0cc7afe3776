"""Flows: both directions are one map, the density is normalised, training finds simple laws, log Z is right."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.samplers.density_model import FittedDensity, latents, log_density_and_score
from samplerbench.samplers.spline_flow import SplineFlow, Splines, half
from samplerbench.targets import Budget, Meter, Target

pytest.importorskip("zuko")
SHORT: dict[str, Any] = {"splines": {"n_layers": 4, "width": 32}, "descent": {"n_steps": 300, "step_size": 3e-3}}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def fit(target: Target, dtype: torch.dtype = torch.float32, budget: Budget | None = None, **parameters: Any) -> Any:
    return samplers.get("flow", **{**SHORT, **parameters}).fit(Meter(target, dtype=dtype, budget=budget), generator())


def bent(dim: int, by: float = 0.3) -> SplineFlow:
    """A flow that is far from the identity."""
    meter = Meter(targets.get("gaussian2"), dtype=torch.float64)
    meter.dim = dim
    flow = Splines(n_layers=4, width=16).build(meter, generator())
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator(1), dtype=torch.float64))
    return flow.requires_grad_(False)


@pytest.mark.parametrize("dim", [2, 3, 10, 16])
def test_any_two_coordinates_are_parted_by_a_layer_and_every_one_is_moved(dim: int) -> None:
    masks = torch.stack([half(dim, layer) for layer in range(8)])
    parted = (masks[:, :, None] != masks[:, None, :]).any(0)
    assert torch.equal(parted, ~torch.eye(dim, dtype=torch.bool))
    for even, odd in zip(masks[::2], masks[1::2], strict=True):
        assert torch.equal(even, ~odd)
        assert even.any()
        assert odd.any()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_density_is_that_of_the_change_of_variables(dim: int) -> None:
    """log q(y) = log N(z) - log |det dy / dz| with the Jacobian by automatic differentiation."""
    flow = bent(dim, by=0.2)
    z = torch.randn(20, dim, generator=generator(2), dtype=torch.float64)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda v: flow.push(v[None])[0], row) for row in z])
    normal = -0.5 * z.square().sum(-1) - 0.5 * dim * math.log(2 * math.pi)
    expected = normal - torch.linalg.slogdet(jacobian).logabsdet
    assert (torch.linalg.slogdet(jacobian).logabsdet.std() > 0.1) or dim == 1
    torch.testing.assert_close(flow.log_density(flow.push(z)), expected, rtol=0, atol=1e-7)


def test_the_density_integrates_to_one() -> None:
    flow = bent(2, by=0.2)
    y = flow.push(torch.randn(5_000, 2, generator=generator(3), dtype=torch.float64))
    low, high = y.min(0).values - 2, y.max(0).values + 2
    sides = [torch.linspace(a, b, 1_201, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    area = math.prod((side[1] - side[0]).item() for side in sides)
    nodes = torch.cartesian_prod(*sides)
    integral = sum(flow.log_density(block).exp().sum().item() for block in nodes.split(200_000)) * area
    assert abs(integral - 1) < 2e-3  # 1e-4 of the mass may lie outside, and splines have kinks of the second order


def test_the_untrained_flow_is_normal_and_global_states_are_left() -> None:
    state = torch.get_rng_state()
    meter = Meter(targets.get("gaussian2"), dtype=torch.float64)
    flow = Splines(start_scale=2.0).build(meter, generator())
    assert torch.equal(torch.get_rng_state(), state)
    z = latents(50, meter, generator())
    torch.testing.assert_close(flow.push(z), 2 * z)
    log_density, score = log_density_and_score(flow, 2 * z)
    torch.testing.assert_close(log_density, -0.5 * z.square().sum(-1) - math.log(2 * math.pi) - 2 * math.log(2))
    torch.testing.assert_close(score, -z / 2)


class Banana:
    """x0 ~ N(0, 1), x1 | x0 ~ N(x0^2 / 2, 1/4), of mass exp(3)."""

    dim = 2
    scale = 1.2

    def log_prob(self, x: Tensor) -> Tensor:
        first, second = x[..., 0], 2 * (x[..., 1] - 0.5 * x[..., 0].square())
        return 3 + math.log(2) - math.log(2 * math.pi) - 0.5 * (first.square() + second.square())


def test_log_z_of_a_curved_law_and_its_bound() -> None:
    """The ELBO is below log Z = 3; the estimate of the weights is within 4 of its standard errors."""
    fitted = fit(Banana(), dtype=torch.float64)
    draws = fitted.draw(10_000, generator(1))
    assert draws.log_z is not None
    assert abs(draws.log_z.value - 3) < 4 * draws.log_z.std_error
    assert draws.log_z.std_error < 0.02
    elbo = draws.log_weights.mean().item()
    assert 3 - 0.2 < elbo < 3 + 4 * draws.log_weights.std().item() / 100
    torch.testing.assert_close(draws.log_weights, Banana().log_prob(draws.samples) - draws.log_density)
    torch.testing.assert_close(fitted.log_density(draws.samples), draws.log_density)


@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_simple_laws_are_found(name: str) -> None:
    """The weights are nearly equal, which says that q = p where q draws; log Z says that nothing is missing."""
    draws = fit(targets.get(name)).draw(5_000, generator(1))
    weights = draws.log_weights.double().softmax(0)
    assert 1 / (5_000 * weights.square().sum()) > 0.97
    assert abs(draws.log_z.value) < 4 * draws.log_z.std_error + 1e-3


def test_a_mode_that_is_out_of_reach_is_lost_without_a_sign() -> None:
    """Reverse KL from a narrow start: log Z misses a half, and the weights look well."""

    class Apart:
        dim = 2
        scale = 5.0

        def log_prob(self, x: Tensor) -> Tensor:
            squares = torch.stack([(x[..., 0] - c).square() for c in (0.0, 12.0)]) + x[..., 1].square()
            return (-0.5 * squares).logsumexp(0) - math.log(4 * math.pi)

    draws = fit(Apart(), splines={"n_layers": 4, "width": 32, "start_scale": 0.2}).draw(5_000, generator(1))
    assert abs(draws.log_z.value + math.log(2)) < 4 * draws.log_z.std_error + 1e-3
    assert (draws.samples[:, 0] < 6).all()


def test_without_weights_a_draw_costs_nothing_and_states_no_log_z() -> None:
    meter = Meter(targets.get("gaussian2"))
    fitted = samplers.get("flow", weighted=False, **SHORT).fit(meter, generator())
    with meter.phase("draw"):
        draws = fitted.draw(100, generator())
    assert meter.counts["draw"].gradient_equivalents == 0
    assert draws.log_z is None
    assert draws.log_weights is None
    assert draws.log_density is not None


def test_budgets_keep_the_steps_paid_and_the_draws_without_weights() -> None:
    fitted = fit(targets.get("gaussian2"), budget=Budget(fit=256 * 7.5))
    assert isinstance(fitted, FittedDensity)
    assert fitted.diagnostics["n_steps"] == 7
    with fitted.meter.phase("draw"):
        draws = fitted.draw(50, generator())
    assert draws.stopped == "budget"
    assert draws.reason.startswith("after 7 of 300 steps: ")
    assert draws.log_weights is not None
    assert draws.log_z is None
    fitted = fit(targets.get("gaussian2"), budget=Budget(draw=10), descent={"n_steps": 5})
    with fitted.meter.phase("draw"):
        draws = fitted.draw(50, generator())
    assert draws.stopped == "budget"
    assert draws.reason.startswith("no weights: ")
    assert draws.log_weights is None
    assert draws.samples.isfinite().all()


def test_another_seed_builds_another_flow() -> None:
    meter = Meter(targets.get("gaussian2"))
    first, again, other = (
        torch.cat([p.flatten() for p in Splines().build(meter, generator(s)).parameters()]) for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
