"""FAB: annealed weights are for p^2 / q, corrected weights for the flow of now, modes are found, log Z is right."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.samplers.base import State
from samplerbench.samplers.fab import FAB, Annealing, Bridge, Buffer
from samplerbench.samplers.gaussian_vi import Normal
from samplerbench.samplers.moves import Moves
from samplerbench.targets import Budget, Meter

SHORT: dict[str, Any] = {"splines": {"n_layers": 4, "width": 32}, "descent": {"n_steps": 300, "step_size": 3e-3}}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def normal(width: float) -> Normal:
    return Normal(torch.zeros(2, dtype=torch.float64), width * torch.eye(2, dtype=torch.float64)).requires_grad_(False)


class Unit:
    """exp(2) N(0, I) in the plane."""

    dim = 2
    scale = 2.0

    def log_prob(self, x: Tensor) -> Tensor:
        return 2 - 0.5 * x.square().sum(-1) - math.log(2 * math.pi)


def test_weights_of_annealing_average_to_the_integral_of_the_square() -> None:
    """E w = int p^2 / q; with q = N(0, s^2 I) and p = e^2 N(0, I) that is e^4 s^4 / (2 s^2 - 1)."""
    meter = Meter(Unit(), dtype=torch.float64)
    model = normal(0.6)  # s = 1.2 in x = 2 y
    config = FAB(n_temperatures=3, n_moves=2, moves=Moves(max_leapfrog=4))
    y, log_weights, log_q = Annealing(config, model, meter).go(20_000, generator())
    torch.testing.assert_close(log_q, model.log_density(y))
    s2 = 1.2**2
    # q has the density of y, so p does too: p(y) = 4 p(x)
    exact = 4 + 2 * math.log(s2) - math.log(2 * s2 - 1) - 2 * math.log(4)
    ratio = (log_weights - exact).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(20_000)
    # g = p^2 / q is normal with precision 2 - 1 / s^2 in x
    w = log_weights.softmax(0)
    square = (2 * y).square()
    assert abs(w @ square.mean(-1) - 1 / (2 - 1 / s2)) < 4 * 2 * (w.square().sum()).sqrt()


def test_the_bridge_has_the_score_of_its_density() -> None:
    meter, model = Meter(Unit(), dtype=torch.float64), normal(0.6)
    x = torch.randn(10, 2, generator=generator(), dtype=torch.float64)
    bridge = Bridge(model, meter.scale, 0.3)
    h = 1e-5
    for i in range(2):
        step = h * torch.eye(2, dtype=torch.float64)[i]
        up, down = (bridge(State.at(x + sign * step, meter)).log_prob for sign in (1, -1))
        torch.testing.assert_close(bridge(State.at(x, meter)).score[:, i], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
    expected = (1 - 0.6) * model.log_density(x / 2) + 0.6 * Unit().log_prob(x)
    torch.testing.assert_close(bridge(State.at(x, meter)).log_prob, expected)


def test_the_buffer_keeps_the_latest_and_corrects_weights() -> None:
    buffer = Buffer(5)
    y = torch.arange(4.0).unsqueeze(-1)
    buffer.add(y, torch.zeros(4), torch.zeros(4))
    buffer.add(y + 4, torch.ones(4), torch.zeros(4))
    assert buffer.y.flatten().tolist() == [3, 4, 5, 6, 7]
    rows = torch.tensor([1, 1, 4])
    factor = buffer.correct(rows, torch.tensor([0.5, 0.5, -0.25]))
    assert factor.tolist() == [-0.5, -0.5, 0.25]
    assert buffer.log_weights.tolist() == [0, 0.5, 1, 1, 1.25]
    assert buffer.log_q.tolist() == [0, 0.5, 0, 0, -0.25]
    buffer.log_weights = torch.tensor([0, math.log(3), -math.inf, -math.inf, -math.inf])
    chosen = buffer.choose(4_000, generator()).bincount(minlength=5)
    assert abs(chosen[1] - 3_000) < 4 * math.sqrt(4_000 * 3 / 16)
    assert chosen[2:].sum() == 0


@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_simple_laws_are_found_and_their_log_z(name: str) -> None:
    pytest.importorskip("zuko")
    fitted = samplers.get("fab", n_temperatures=1, **SHORT).fit(Meter(targets.get(name)), generator())
    draws = fitted.draw(5_000, generator(1))
    assert draws.log_z is not None
    assert abs(draws.log_z.value) < 4 * draws.log_z.std_error
    assert draws.log_z.std_error < 0.01


def test_a_mode_out_of_reach_of_reverse_kl_is_found() -> None:
    """The same law and start as in test_flow, where half of log Z is lost: modes 12 standard deviations apart."""
    pytest.importorskip("zuko")

    class Apart:
        dim = 2
        scale = 5.0

        def log_prob(self, x: Tensor) -> Tensor:
            squares = torch.stack([(x[..., 0] - c).square() for c in (0.0, 12.0)]) + x[..., 1].square()
            return (-0.5 * squares).logsumexp(0) - math.log(4 * math.pi)

    config = {**SHORT, "descent": {"n_steps": 200, "step_size": 5e-3}}
    fitted = samplers.get("fab", **config).fit(Meter(Apart()), generator())
    draws = fitted.draw(5_000, generator(1))
    assert draws.log_z is not None
    assert abs(draws.log_z.value) < 4 * draws.log_z.std_error
    weights = draws.log_weights.double().softmax(0)  # type: ignore[union-attr]
    share = weights[draws.samples[:, 0] > 6].sum().item()
    assert abs(share - 0.5) < 4 * weights.square().sum().sqrt().item()


def test_a_budget_keeps_the_steps_paid() -> None:
    pytest.importorskip("zuko")
    meter = Meter(targets.get("gaussian2"), budget=Budget(fit=25_000))
    fitted = samplers.get("fab", **SHORT).fit(meter, generator())
    draws = fitted.draw(50, generator())
    assert draws.stopped == "budget"
    assert "of 300 steps: " in draws.reason
    assert meter.counts["fit"].gradient_equivalents <= 25_000
    assert draws.samples.isfinite().all()
    assert draws.log_z is None


def test_nothing_finite_is_diverged() -> None:
    pytest.importorskip("zuko")

    class Nowhere:
        dim = 2
        scale = 1.0

        def log_prob(self, x: Tensor) -> Tensor:
            return x.square().sum(-1) * math.nan

    draws = samplers.get("fab", **SHORT).fit(Meter(Nowhere()), generator()).draw(10, generator())
    assert draws.stopped == "diverged"
    assert draws.reason == "after 0 of 300 steps: no weight of 256 annealed points is finite"
    assert draws.log_weights is None
    assert draws.samples.isfinite().all()
