"""ULA as a sampler: its pilot, its two modes, exact counts and budgets, early stops."""

import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.samplers.base import State
from samplerbench.samplers.chains import LongChains, RestartedChains
from samplerbench.samplers.kernels import ULAKernel
from samplerbench.samplers.ula import ULA
from samplerbench.targets import Budget, Meter


class Normal:
    """Independent N(0, variance_i)."""

    scale = 1.0

    def __init__(self, *variances: float) -> None:
        self.variances = torch.tensor(variances)
        self.dim = len(variances)

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x.square() / self.variances.to(x)).sum(-1)


class Window(Normal):
    """A standard normal whose log density is minus infinity where the first coordinate is positive."""

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0, -math.inf, super().log_prob(x))


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def restarted(meter: Meter, **parameters: object) -> RestartedChains:
    fitted = ULA(**parameters).fit(meter, generator())  # type: ignore[arg-type]
    assert isinstance(fitted, RestartedChains)
    return fitted


def long(meter: Meter, **parameters: object) -> LongChains:
    fitted = ULA(mode="long", **parameters).fit(meter, generator())  # type: ignore[arg-type]
    assert isinstance(fitted, LongChains)
    return fitted


def step_of(fitted: RestartedChains | LongChains) -> float:
    assert isinstance(fitted.kernel, ULAKernel)
    return fitted.kernel.step


def test_restarted_chains_have_the_closed_form_variance() -> None:
    """From N(0, 1) on N(0, v): u_0 = 1, u_{k+1} = (1 - h/v)^2 u_k + 2h."""
    variance, h, n = 0.5, 0.1, 40_000
    fitted = restarted(Meter(Normal(variance)), step_size=h, n_steps=3, max_drift=math.inf)
    samples = fitted.draw(n, generator(1)).samples
    expected = 1.0
    for _ in range(3):
        expected = (1 - h / variance) ** 2 * expected + 2 * h
    assert abs(float(samples.double().var()) - expected) < 4 * expected * math.sqrt(2 / n)


def test_pilot_keeps_a_good_step_and_estimates_its_bias() -> None:
    fitted = restarted(Meter(Normal(1.0, 1.0)), step_size=0.2, n_chains=2_000, max_drift=math.inf)
    assert step_of(fitted) == 0.2
    biases = fitted.diagnostics["pilot_biases"]
    assert isinstance(biases, list)
    assert len(biases) == 1
    # h / (2v) = 0.1; 25 x 4,000 differences and squares, of which one in 1 / (1 - 0.8^2) = 2.8 counts as independent
    assert abs(biases[0] - 0.1) < 4 * 0.1 * 2 * math.sqrt(2 * 2.8 / 100_000)


def test_pilot_halves_a_step_whose_bias_is_too_large() -> None:
    fitted = restarted(Meter(Normal(1.0, 0.01)), step_size=0.03)
    assert step_of(fitted) == 0.00375  # h / 2v of the narrow coordinate: 1.5 and 0.75 (oscillations), 0.375, 0.1875
    assert fitted.diagnostics["step_size"] == 0.00375


@pytest.mark.parametrize("max_drift", [math.inf, 1.0])
def test_pilot_ends_at_a_finite_step(max_drift: float) -> None:
    fitted = restarted(Meter(Normal(1.0, 1e-6)), step_size=10.0, max_drift=max_drift)
    assert 1e-7 < step_of(fitted) < 1e-6
    draws = fitted.draw(50, generator(1))
    assert draws.stopped is None
    assert draws.samples.isfinite().all()


def test_counts_equal_hand_counts() -> None:
    meter = Meter(Normal(1.0, 1.0))
    fitted = restarted(meter, n_steps=7, n_chains=5, pilot_steps=11)
    assert vars(meter.counts["fit"]) == {"log_prob": 5 * (1 + 11), "score": 5 * (1 + 11), "hvp": 0}
    with meter.phase("draw"):
        fitted.draw(13, generator(1))
    assert vars(meter.counts["draw"]) == {"log_prob": 13 * (1 + 7), "score": 13 * (1 + 7), "hvp": 0}

    meter = Meter(Normal(1.0, 1.0))
    chains = long(meter, n_chains=5, pilot_steps=11, burn_in=6, thinning=3)
    assert meter.counts["fit"].score == meter.counts["fit"].log_prob == 5 * (1 + 11) + 5 * (1 + 6)
    with meter.phase("draw"):
        chains.draw(13, generator(1))
    assert meter.counts["draw"].score == meter.counts["draw"].log_prob == 5 * (1 + 3 * 3)


def test_long_mode_keeps_every_thinned_state_of_every_chain() -> None:
    meter = Meter(Normal(1.0, 2.0))
    fitted = long(meter, n_chains=4, burn_in=10, thinning=3)
    draws = fitted.draw(10, generator(1))
    state = State.at(fitted.x, meter)
    noise = generator(1)
    path = []
    for _ in range(9):
        state = fitted.kernel(state, meter, noise)
        path.append(state.x)
    assert draws.chains is not None
    assert torch.equal(draws.chains, torch.stack(path, dim=1))
    assert torch.equal(draws.samples, torch.cat(path[2::3])[:10])  # rows 0-3: all chains at the first kept time


def test_long_mode_keeps_at_most_64_chains_of_1000_states() -> None:
    fitted = long(Meter(Normal(1.0)), n_chains=70, burn_in=0, thinning=1)
    draws = fitted.draw(70 * 1_500, generator(1))
    assert draws.chains is not None
    assert draws.chains.shape == (64, 750, 1)
    assert torch.equal(draws.chains[:, 1], draws.samples[3 * 70 : 3 * 70 + 64])  # every second move
    assert draws.samples.shape == (105_000, 1)


def test_draw_repeats_itself_and_leaves_the_fitted_sampler() -> None:
    fitted = long(Meter(Normal(1.0, 1.0)), n_chains=8, burn_in=5, thinning=2)
    where = fitted.x.clone()
    first, other = fitted.draw(20, generator(1)), fitted.draw(20, generator(2))
    assert torch.equal(fitted.draw(20, generator(1)).samples, first.samples)
    assert not torch.equal(first.samples, other.samples)
    assert torch.equal(fitted.x, where)


def test_budget_cuts_a_restarted_draw_between_moves() -> None:
    n, n_moves = 20, 4
    shorter = restarted(Meter(Normal(1.0, 1.0)), n_steps=n_moves).draw(n, generator(1))
    meter = Meter(Normal(1.0, 1.0), budget=Budget(draw=n * (1 + n_moves) + n - 1))
    fitted = restarted(meter, n_steps=9)
    with meter.phase("draw"):
        draws = fitted.draw(n, generator(1))
    assert draws.stopped == "budget"
    assert "20 points" in draws.reason
    assert "stopped after 4 moves" in draws.reason
    assert meter.counts["draw"].score == n * (1 + n_moves)
    assert torch.equal(draws.samples, shorter.samples)


def test_budget_below_the_first_evaluation_returns_the_start() -> None:
    meter = Meter(Normal(1.0, 1.0), budget=Budget(draw=19))
    fitted = restarted(meter)
    start = torch.randn(20, 2, generator=generator(3))
    with meter.phase("draw"):
        draws = fitted.draw(20, generator(1), start)
    assert draws.stopped == "budget"
    assert meter.counts["draw"].score == 0
    assert torch.equal(draws.samples, start)


def test_budget_cuts_long_chains_and_repeats_their_rows_evenly() -> None:
    whole = long(Meter(Normal(1.0, 1.0)), n_chains=4, burn_in=5, thinning=3).draw(17, generator(1))
    meter = Meter(Normal(1.0, 1.0), budget=Budget(draw=4 * (1 + 2 * 3 + 2)))
    fitted = long(meter, n_chains=4, burn_in=5, thinning=3)
    with meter.phase("draw"):
        draws = fitted.draw(17, generator(1))
    assert draws.stopped == "budget"
    assert meter.counts["draw"].score == 4 * 9
    assert torch.equal(draws.samples, whole.samples[torch.arange(17) % 8])
    assert draws.chains is not None
    assert draws.chains.shape == (4, 8, 2)

    meter = Meter(Normal(1.0, 1.0), budget=Budget(draw=4 * 3))
    fitted = long(meter, n_chains=4, burn_in=5, thinning=3)
    with meter.phase("draw"):
        draws = fitted.draw(6, generator(1))
    assert draws.stopped == "budget"
    assert draws.samples.shape == (6, 2)
    assert torch.equal(draws.samples[:2], draws.samples[4:])


@pytest.mark.parametrize("mode", ["restart", "long"])
@pytest.mark.parametrize(("budget", "spent"), [(30, 24), (7, 0), (8 * 60 + 3, 8 * 60)])
def test_budget_cuts_the_fit(mode: str, budget: int, spent: int) -> None:
    meter = Meter(Normal(1.0, 1e-4), budget=Budget(fit=budget))
    fitted = samplers.get("ula", mode=mode, n_chains=8, n_steps=5, burn_in=5, thinning=1).fit(meter, generator())
    assert meter.counts["fit"].score == spent
    draws = fitted.draw(10, generator(1))
    assert draws.stopped == "budget"
    assert draws.reason.startswith("in fit: 8 points")
    assert draws.samples.shape == (10, 2)


def test_divergence_names_step_moves_and_chains() -> None:
    fitted = restarted(Meter(Normal(1.0)), max_drift=math.inf, n_steps=5)
    start = torch.ones(6, 1)
    start[3:5] = 3e38
    diverging = RestartedChains(fitted.schedule, ULAKernel(50.0), fitted.meter, fitted.diagnostics)
    draws = diverging.draw(6, generator(1), start)
    assert draws.stopped == "diverged"
    assert draws.reason.startswith("position, log density or score is not finite in 2 of 6 rows")
    assert draws.reason.endswith("stopped after 0 moves")
    assert torch.equal(draws.samples, start)  # the state before the move that failed


def test_start_without_density_is_a_reason_not_a_crash() -> None:
    draws = restarted(Meter(Window(1.0)), n_chains=16).draw(16, generator(1))
    assert draws.stopped == "diverged"
    assert "rows at the start" in draws.reason
    assert draws.samples.shape == (16, 1)


def test_wrong_starts_are_refused() -> None:
    fitted = restarted(Meter(Normal(1.0, 1.0)))
    with pytest.raises(ValueError, match=r"start must have shape \(5, 2\), got \(4, 2\)"):
        fitted.draw(5, generator(), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="start must be finite"):
        fitted.draw(1, generator(), torch.tensor([[math.nan, 0.0]]))
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        fitted.draw(0, generator())
    with pytest.raises(ValueError, match="start must be None"):
        long(Meter(Normal(1.0)), burn_in=0).draw(5, generator(), torch.zeros(5, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step_size", 0.0),
        ("step_size", math.inf),
        ("max_bias", 0.5),
        ("max_drift", 0.0),
        ("pilot_steps", 1),
        ("n_steps", 0),
        ("n_chains", 0),
        ("thinning", 0),
        ("burn_in", -1),
    ],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        ULA(**{field: value})  # type: ignore[arg-type]


def test_presets_choose_the_mode() -> None:
    assert samplers.get("ula") == ULA(mode="restart")
    assert samplers.get("ula_long") == ULA(mode="long")
