"""Parallel tempering: the exchanges keep all laws, the ladder equalises them, the weights of modes are found."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator

from samplerbench import samplers, targets
from samplerbench.metrics.modes import mode_shares
from samplerbench.samplers.annealed import Base, check_ladder
from samplerbench.samplers.base import State
from samplerbench.samplers.moves import Moves
from samplerbench.samplers.tempering import FittedTempering, Ladders, ParallelTempering, Tuning, geometric, rounds
from samplerbench.targets import Budget, Meter


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


class Normal:
    """N(0, variance) in three dimensions."""

    dim = 3
    scale = 1.0
    variance = 0.2

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return -0.5 * x.square().sum(-1) / self.variance


@pytest.mark.parametrize("method", ["mala", "hmc"])
def test_iterations_keep_the_law_of_every_level(method: str) -> None:
    """On a Gaussian each level is N(0, 1 / ((1 - beta) / sd^2 + beta / variance)): from exact draws nothing changes."""
    n = 20_000
    config = ParallelTempering(n_temperatures=4, moves=Moves(method=method, max_leapfrog=4))  # type: ignore[arg-type]
    base = Base(torch.zeros(3, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64))
    betas = torch.tensor([0.0, 0.05, 0.3, 1.0], dtype=torch.float64)
    variances = 1 / ((1 - betas) / 4 + betas / Normal.variance)
    tuning = Tuning(betas, torch.full((4,), 0.6, dtype=torch.float64), variances.sqrt()[:, None].expand(4, 3))
    x = variances.sqrt().repeat_interleave(n)[:, None] * torch.randn(
        4 * n, 3, generator=generator(), dtype=torch.float64
    )
    ladders = Ladders(config, Meter(Normal(), dtype=torch.float64), base, tuning, x)
    assert ladders.go(12, generator(1))
    square = (ladders.x.square().sum(-1).reshape(4, n) / variances[:, None]).mean(1)  # chi-square of 3 degrees
    assert ((square - 3).abs() < 4.5 * math.sqrt(6 / n)).all()
    assert 0.2 < 1 - ladders.rejection_rates.max() < 0.95
    assert ladders.n_round_trips > n / 5


def test_exchange_probability_is_that_of_metropolis() -> None:
    config = ParallelTempering(n_temperatures=2)
    base = Base(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    tuning = Tuning.first([0.0, 1.0], base)
    x = torch.randn(20_000, 3, generator=generator(), dtype=torch.float64)
    meter = Meter(Normal(), dtype=torch.float64)
    ladders = Ladders(config, meter, base, tuning, x)
    after = ladders._exchanged(State.at(x, meter), generator(1))
    log_joint = Normal().log_prob(x) - base.log_prob(x)
    probability = (log_joint[:10_000] - log_joint[10_000:]).exp().clamp(max=1)
    swapped = (after.x[:10_000] == x[10_000:]).all(-1)
    error = (probability * (1 - probability)).sum().sqrt()
    assert abs(swapped.sum() - probability.sum()) < 4 * error
    assert swapped[probability == 1].all()
    torch.testing.assert_close(after.log_prob, Normal().log_prob(after.x))


def test_ladder_is_adapted_until_all_exchanges_are_rejected_alike() -> None:
    meter = Meter(targets.get("many_well16"))
    fitted = samplers.get("tempering", n_temperatures=8, burn_in=400).fit(meter, generator())
    rates = fitted.diagnostics["swap_rates"]
    assert isinstance(rates, list)
    assert max(rates) - min(rates) < 0.15
    betas = fitted.diagnostics["betas"]
    assert isinstance(betas, list)
    assert betas[0] == 0
    assert betas[-1] == 1
    assert betas == sorted(betas)


@pytest.mark.parametrize("target", ["bimodal50", "many_well16"])
def test_weights_of_the_modes_are_recovered(target: str) -> None:
    """Shares within 4 standard errors, which come from 64 ladders that do not know of each other."""
    law: Any = targets.get(target)
    meter = Meter(law)
    draws = (
        samplers.get("tempering_long", thinning=10, moves={"max_leapfrog": 8})
        .fit(meter, generator())
        .draw(6_400, generator(1))
    )
    assert draws.chains is not None
    if target == "bimodal50":
        shares = torch.stack([mode_shares(chain.double(), law.modes)[:2] for chain in draws.chains])
        expected = law.modes.masses
    else:  # per well: the share of positive x
        shares = (draws.chains[:, :, ::2] > 0).double().mean(1)
        exact = law.sample(200_000, generator(2))[:, ::2] > 0
        expected = exact.double().mean().expand(8)
    error = shares.std(0) / math.sqrt(len(shares))
    assert ((shares.mean(0) - expected).abs() < 4 * error).all()
    assert error.max() < 0.06


def test_rounds_are_of_growing_length_and_add_up() -> None:
    assert sum(rounds(500)) == 500
    assert rounds(63) == [3, 4, 8, 16, 32]
    assert rounds(2) == [2]
    assert all(min(rounds(n)) >= 2 for n in range(2, 200))
    assert rounds(0) == []


def test_costs_are_what_the_docstring_says() -> None:
    config = ParallelTempering(n_temperatures=4, n_chains=5, burn_in=6, n_steps=7, moves=Moves(method="mala"))
    meter = Meter(targets.get("gaussian2"))
    fitted = config.fit(meter, generator())
    assert meter.counts["fit"].score == 5 * (4 + 6 * (1 + 3))
    with meter.phase("draw"):
        fitted.draw(11, generator(1))
    assert meter.counts["draw"].score == 11 * (4 + 7 * (1 + 3))


def test_budget_ends_a_draw_with_what_there_is() -> None:
    config = ParallelTempering(n_temperatures=3, n_chains=4, burn_in=5, mode="long", thinning=2)
    meter = Meter(targets.get("gaussian2"), budget=Budget(draw=500))
    fitted = config.fit(meter, generator())
    assert isinstance(fitted, FittedTempering)
    before = fitted.ladders.x.clone()
    with meter.phase("draw"):
        draws = fitted.draw(40, generator(1))
    assert draws.stopped == "budget"
    assert meter.counts["draw"].gradient_equivalents <= 500
    assert draws.samples.shape == (40, 2)
    assert torch.equal(fitted.ladders.x, before)


def test_long_mode_refuses_a_start() -> None:
    fitted = ParallelTempering(n_chains=4, burn_in=5, mode="long").fit(Meter(targets.get("gaussian2")), generator())
    with pytest.raises(ValueError, match=r"start must be None, got \(4, 2\)"):
        fitted.draw(4, generator(), torch.zeros(4, 2))


def test_a_ladder_of_one_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="n_temperatures must be at least 2, got 1"):
        replace(ParallelTempering(), n_temperatures=1)


def test_a_ladder_that_is_given_stays_what_it_is() -> None:
    fitted = samplers.get("tempering", betas=[0, 0.1, 1], burn_in=8).fit(Meter(targets.get("gaussian2")), generator())
    assert fitted.diagnostics["betas"] == [0, 0.1, 1]
    draws = fitted.draw(10, generator(1))
    assert draws.diagnostics["betas"] == [0, 0.1, 1]


@pytest.mark.parametrize("n_temperatures", [2, 3, 10])
def test_first_ladder_is_geometric(n_temperatures: int) -> None:
    betas = geometric(n_temperatures)
    assert len(betas) == n_temperatures
    check_ladder(betas)
    ratios = [cold / hot for hot, cold in pairwise(betas[1:])]
    assert ratios == pytest.approx([ratios[0]] * (n_temperatures - 2) if ratios else [])
