"""MALA as a sampler: adaptation, its two modes, exact counts and budgets, chains that do not move."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.samplers.base import FittedSampler, State
from samplerbench.samplers.chains import LongChains, RestartedChains
from samplerbench.samplers.kernels import MALAKernel
from samplerbench.samplers.mala import MALA
from samplerbench.targets import Budget, Meter


class Normal:
    """Independent N(0, variance_i)."""

    scale = 1.0

    def __init__(self, *variances: float) -> None:
        self.variances = torch.tensor(variances)
        self.dim = len(variances)

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x.square() / self.variances.to(x)).sum(-1)


class Beyond(Normal):
    """A standard normal that is NaN wherever the first coordinate differs from its starting value 0."""

    def start(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.zeros(n_samples, self.dim)

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] == 0, super().log_prob(x), math.nan)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def kernel_of(fitted: FittedSampler) -> MALAKernel:
    assert isinstance(fitted, RestartedChains | LongChains)
    assert isinstance(fitted.kernel, MALAKernel)
    return fitted.kernel


@pytest.mark.parametrize("mode", ["restart", "long"])
@pytest.mark.parametrize("acceptance", [0.4, 0.574, 0.8])
def test_draws_accept_at_the_stated_rate(mode: str, acceptance: float) -> None:
    meter = Meter(Normal(*torch.logspace(-1, 0, 10).tolist()))
    sampler = samplers.get("mala", mode=mode, acceptance=acceptance, n_steps=400, burn_in=400)
    fitted = sampler.fit(meter, generator())
    draws = fitted.draw(500, generator(1))
    # the adaptation averages 200 moves of 64 chains: the rate is known to 0.01 or better, its slope in log h is < 1
    assert isinstance(draws.diagnostics["acceptance_rate"], float)
    assert abs(draws.diagnostics["acceptance_rate"] - acceptance) < 0.05
    assert fitted.diagnostics["step_size"] == kernel_of(fitted).step


@pytest.mark.parametrize("mode", ["restart", "long"])
def test_draws_have_the_moments_of_a_gaussian(mode: str) -> None:
    variances = torch.tensor([1.0, 0.25], dtype=torch.float64)
    sampler = samplers.get("mala", mode=mode, n_steps=60, n_chains=500, burn_in=60, thinning=20)
    draws = sampler.fit(Meter(Normal(1.0, 0.25)), generator()).draw(2_000, generator(1))
    x = draws.samples.double()
    # 4.5 standard errors, for four statistics at 1 in 10,000; thinned states of one chain are nearly independent
    assert (x.mean(0).abs() < 4.5 * (variances / 2_000).sqrt()).all()
    assert ((x.square().mean(0) - variances).abs() < 4.5 * variances * math.sqrt(2 / 2_000)).all()


def test_step_is_frozen_at_the_mean_of_the_second_half_of_the_adaptation() -> None:
    fitted = MALA(n_steps=100).fit(Meter(Normal(1.0, 1.0)), generator())
    trace, rates = fitted.diagnostics["step_size_trace"], fitted.diagnostics["acceptance_trace"]
    assert isinstance(trace, list)
    assert isinstance(rates, list)
    assert len(trace) == len(rates) == 100
    assert trace[0] == 0.02
    late = math.exp(sum(math.log(step) for step in trace[50:]) / 50)
    assert math.isclose(kernel_of(fitted).step, late, rel_tol=1e-12)
    before = kernel_of(fitted).step
    fitted.draw(10, generator(1))
    assert kernel_of(fitted).step == before
    long_trace = MALA(n_steps=1_001).fit(Meter(Normal(1.0)), generator()).diagnostics["step_size_trace"]
    assert isinstance(long_trace, list)
    assert len(long_trace) == 167  # every sixth, so that a record stays small


def test_limited_drift_brings_in_chains_that_plain_mala_never_moves() -> None:
    target = targets.get("rosenbrock")
    n_unmoved: dict[float, Any] = {}
    for max_drift in (math.inf, 1.0):
        fitted = MALA(n_steps=200, max_drift=max_drift).fit(Meter(target), generator())
        n_unmoved[max_drift] = fitted.draw(200, generator(1)).diagnostics["n_unmoved"]
    assert n_unmoved[math.inf] > 40  # of 200, from N(0, scale^2 I)
    assert n_unmoved[1.0] == 0


def test_a_chain_that_never_accepts_is_recorded() -> None:
    fitted = MALA(n_steps=20).fit(Meter(Beyond(1.0, 1.0)), generator())
    assert fitted.diagnostics["acceptance_rate"] == 0
    draws = fitted.draw(10, generator(1))
    assert draws.diagnostics == {"acceptance_rate": 0.0, "n_unmoved": 10, "n_divergent": 200, "n_moves": 20}
    assert torch.equal(draws.samples, torch.zeros(10, 2))


def test_counts_equal_hand_counts() -> None:
    meter = Meter(Normal(1.0, 1.0))
    fitted = MALA(n_steps=7, n_chains=5).fit(meter, generator())
    assert vars(meter.counts["fit"]) == {"log_prob": 5 * 8, "score": 5 * 8, "hvp": 0}
    with meter.phase("draw"):
        fitted.draw(13, generator(1))
    assert vars(meter.counts["draw"]) == {"log_prob": 13 * 8, "score": 13 * 8, "hvp": 0}

    meter = Meter(Normal(1.0, 1.0))
    fitted = MALA(mode="long", n_chains=5, burn_in=6, thinning=3).fit(meter, generator())
    assert meter.counts["fit"].score == meter.counts["fit"].log_prob == 5 * (1 + 6)
    with meter.phase("draw"):
        fitted.draw(13, generator(1))
    assert meter.counts["draw"].score == meter.counts["draw"].log_prob == 5 * (1 + 3 * 3)


def test_long_mode_goes_on_from_its_burn_in() -> None:
    meter = Meter(Normal(1.0, 2.0))
    fitted = MALA(mode="long", n_chains=4, burn_in=10, thinning=2).fit(meter, generator())
    assert isinstance(fitted, LongChains)
    draws = fitted.draw(7, generator(1))
    state, noise = State.at(fitted.x, meter), generator(1)
    path = []
    for _ in range(4):
        state = fitted.kernel(state, meter, noise)
        path.append(state.x)
    assert torch.equal(draws.samples, torch.cat(path[1::2])[:7])
    assert draws.chains is not None
    assert torch.equal(draws.chains, torch.stack(path, dim=1))


def test_budget_cuts_the_draw_and_the_fit() -> None:
    meter = Meter(Normal(1.0, 1.0), budget=Budget(fit=8 * 4 + 1, draw=20 * 3 + 19))
    fitted = MALA(n_chains=8, n_steps=9).fit(meter, generator())
    assert meter.counts["fit"].score == 8 * 4
    with meter.phase("draw"):
        draws = fitted.draw(20, generator(1))
    assert meter.counts["draw"].score == 20 * 3
    assert draws.stopped == "budget"
    assert draws.reason.startswith("in fit: ")
    assert draws.reason.endswith("stopped after 3 moves")
    assert draws.diagnostics["n_moves"] == 2
    # the step of an adaptation that was cut short is the mean over what there was of it
    trace = fitted.diagnostics["step_size_trace"]
    assert isinstance(trace, list)
    assert math.isclose(kernel_of(fitted).step, math.sqrt(trace[1] * trace[2]), rel_tol=1e-12)


def test_budget_below_the_first_evaluation_of_the_fit() -> None:
    meter = Meter(Normal(1.0, 1.0), budget=Budget(fit=5))
    fitted = MALA(mode="long", n_chains=8, thinning=1).fit(meter, generator())
    assert meter.counts["fit"].score == 0
    assert kernel_of(fitted).step == 0.02
    assert fitted.draw(30, generator(1)).stopped == "budget"


@pytest.mark.parametrize(
    ("field", "value"),
    [("step_size", -0.1), ("acceptance", 1.0), ("acceptance", 0.0), ("max_drift", -1.0), ("n_steps", 0)],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        MALA(**{field: value})  # type: ignore[arg-type]


def test_presets_choose_the_mode() -> None:
    assert samplers.get("mala") == MALA(mode="restart")
    assert samplers.get("mala_long") == MALA(mode="long")
