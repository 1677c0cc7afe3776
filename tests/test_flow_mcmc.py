"""Flow-proposal MCMC: jumps leave the target as it is whatever the model; chains find modes and their weights."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.samplers.base import State
from samplerbench.samplers.flow_mcmc import FlowCycle, JumpKernel
from samplerbench.samplers.gaussian_vi import Normal
from samplerbench.samplers.moves import Moves
from samplerbench.targets import Budget, Meter

SHORT: dict[str, Any] = {
    "splines": {"n_layers": 4, "width": 32}, "descent": {"n_steps": 250, "step_size": 3e-3}, "n_steps": 20,
}  # fmt: skip


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("jumps_only", [True, False])
@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_kernels_leave_the_target_invariant(name: str, jumps_only: bool) -> None:
    """Exact draws, moved with a model that is wrong in place and width, have the marginals of exact draws."""
    target, n = targets.get(name), 20_000
    meter = Meter(target, dtype=torch.float64)
    mean, factor = torch.tensor([0.5, 0.1]).double(), torch.tensor([[1.2, 0.0], [0.3, 0.8]]).double()
    jump = JumpKernel(Normal(mean, factor))
    local = Moves(method="mala").kernel(0.5, torch.full((2,), meter.scale).double())
    kernel = jump if jumps_only else FlowCycle(local, 2, jump, 0.5)
    state = State.at(target.sample(n, generator()).double(), meter)  # type: ignore[attr-defined]
    start, moving = state.x, generator(1)
    for _ in range(5):
        state = kernel(state, meter, moving)
    assert (state.x != start).any(-1).double().mean() > 0.5
    for marginal in target.marginals:  # type: ignore[attr-defined]
        p = marginal.cdf(marginal.statistic(state.x).sort().values)
        places = (torch.arange(n) + 0.5) / n
        assert (p - places).abs().max() < 2.2 / math.sqrt(n)  # Kolmogorov: exceeded once in 8,000 times


def test_jumps_are_accepted_as_metropolis_and_hastings_say() -> None:
    """With q = p every jump is accepted."""

    class Unit:
        dim = 2
        scale = 2.0

        def log_prob(self, x: Tensor) -> Tensor:
            return -0.5 * x.square().sum(-1)

    meter = Meter(Unit(), dtype=torch.float64)
    model = Normal(torch.zeros(2).double(), 0.5 * torch.eye(2).double())
    state = State.at(torch.randn(100, 2, generator=generator(), dtype=torch.float64), meter)
    torch.testing.assert_close(JumpKernel(model)(state, meter, generator()).acceptance, torch.ones(100).double())


@pytest.mark.parametrize("mode", ["restart", "long"])
@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_simple_laws_are_sampled(name: str, mode: str) -> None:
    pytest.importorskip("zuko")
    target, n = targets.get(name), 2_560
    fitted = samplers.get("flow_mcmc", mode=mode, **SHORT).fit(Meter(target), generator())
    rates: Any = fitted.diagnostics["jump_acceptance_trace"]
    assert sum(rates[-20:]) / 20 > 0.8
    draws = fitted.draw(n, generator(1))
    assert draws.stopped is None
    for marginal in target.marginals:  # type: ignore[attr-defined]
        p = marginal.cdf(marginal.statistic(draws.samples.double()).sort().values)
        places = (torch.arange(n) + 0.5) / n
        assert (p - places).abs().max() < 2.2 / math.sqrt(n)
    if mode == "long":
        assert draws.chains is not None
        assert draws.chains.shape == (64, 50, 2)


def test_a_budget_keeps_flow_and_chains_of_the_last_cycle() -> None:
    pytest.importorskip("zuko")
    meter = Meter(targets.get("gaussian2"), budget=Budget(fit=256 * (1 + 4 * 10) + 100))
    fitted = samplers.get("flow_mcmc_long", **SHORT).fit(meter, generator())
    assert fitted.diagnostics["n_steps"] == 10
    with meter.phase("draw"):
        draws = fitted.draw(300, generator())
    assert draws.stopped == "budget"
    assert draws.reason.startswith("in fit: after 10 of 250 steps: ")


def test_chains_that_start_where_nothing_is_finite_diverge() -> None:
    pytest.importorskip("zuko")

    class Nowhere:
        dim = 2
        scale = 1.0

        def log_prob(self, x: Tensor) -> Tensor:
            return x.square().sum(-1) * math.nan

    draws = samplers.get("flow_mcmc", **SHORT).fit(Meter(Nowhere()), generator()).draw(10, generator())
    assert draws.stopped == "diverged"
    assert draws.samples.isfinite().all()
