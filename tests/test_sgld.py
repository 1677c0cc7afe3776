"""SGLD: its moves, its noise in closed form, decreasing steps, the pilot, counts, budgets, and what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.benchmarks.plan import make_plan, parse_suite
from samplerbench.benchmarks.run import execute
from samplerbench.benchmarks.store import Store
from samplerbench.samplers import NotApplicableError, State
from samplerbench.samplers.kernels import ULAKernel
from samplerbench.samplers.minibatches import Minibatches
from samplerbench.samplers.sgld import SGLD, FittedSGLD
from samplerbench.targets import Budget, Meter


class Posterior:
    """N(mean of the rows, v I) as the posterior of a mean, given rows of variance n_rows v and a flat prior."""

    scale = 1.0

    def __init__(self, n_rows: int, variance: float = 1.0, dim: int = 1) -> None:
        self.n_rows, self.variance, self.dim = n_rows, variance, dim
        rows = torch.randn(n_rows, dim, generator=Generator().manual_seed(0), dtype=torch.float64)
        rows = (rows - rows.mean(0)) / rows.std(0, correction=0)
        self.rows = 0.3 + math.sqrt(n_rows * variance) * rows

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x - self.rows.mean(0).to(x)).square().sum(-1) / self.variance

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        return (self.rows.to(x)[rows].mean(0) - x) / self.variance


class Plain:
    """A standard normal without data."""

    dim = 1
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


class Cliff(Posterior):
    """No minibatch score beyond 3."""

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        return torch.where(x > 3, math.nan, super().minibatch_score(x, rows))


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def fitted_on(meter: Meter, **parameters: object) -> FittedSGLD:
    fitted = SGLD(**{"pilot_steps": 10, "n_chains": 8, **parameters}).fit(meter, generator())  # type: ignore[arg-type]
    assert isinstance(fitted, FittedSGLD)
    return fitted


def test_epochs_take_every_row_once_and_leave_out_the_rest() -> None:
    batches = Minibatches(Meter(Posterior(10)), 3, generator())
    epochs = [torch.cat([batches.next_rows() for _ in range(3)]) for _ in range(2_000)]
    assert all(len(epoch.unique()) == 9 for epoch in epochs)
    times = torch.stack(epochs)[:, :3].flatten().bincount(minlength=10)  # of the first batches: 600 of 2,000 each
    assert ((times - 600).abs() < 4.5 * math.sqrt(2_000 * 0.3 * 0.7)).all()


def test_a_full_batch_takes_all_rows_without_a_random_number() -> None:
    noise = generator()
    assert torch.equal(Minibatches(Meter(Posterior(10)), 10, noise).next_rows(), torch.arange(10))
    assert torch.equal(noise.get_state(), generator().get_state())


def test_minibatch_scores_of_an_epoch_average_to_the_score() -> None:
    target = targets.get("breast_cancer_train")
    meter = Meter(target, dtype=torch.float64)
    assert meter.n_rows == 455
    x = 0.1 * torch.randn(4, target.dim, generator=generator(), dtype=torch.float64)
    batches = Minibatches(meter, 65, generator())
    torch.testing.assert_close(torch.stack([batches.score(x) for _ in range(7)]).mean(0), meter.score(x))
    assert meter.counts["fit"].score == 8


@pytest.mark.parametrize("max_drift", [1.0, math.inf])
def test_full_batch_equals_ula_move_for_move(max_drift: float) -> None:
    meter = Meter(Posterior(12, dim=3), dtype=torch.float64)
    start = 5 * torch.randn(20, 3, generator=generator(2), dtype=torch.float64)
    walk = SGLD(batch_size=12, decay=0, max_drift=max_drift).walk(0.1, start, meter, generator(1))
    state, noise, kernel = State.at(start, meter), generator(1), ULAKernel(0.1, max_drift)
    for _ in range(5):
        state = kernel(state, meter, noise)
        moved = walk.move()
        assert moved is not None
        torch.testing.assert_close(moved, state.x)


@pytest.mark.parametrize(("batch_size", "h"), [(10, 0.3), (2, 0.3), (2, 0.1), (20, 0.3)])
def test_stationary_variance_has_the_closed_form(batch_size: int, h: float) -> None:
    """At the ends of epochs of M batches: u = [2h S_2 + h^2 V (M S_2 - S_1^2) / (M - 1)] / (1 - a^(2M)).

    V = (n / m)(1 - (m - 1) / (n - 1)) is the variance of a minibatch score of m of n rows, whose variance is n. Over
    time, in one chain: all chains share the minibatches' noise. Coordinates of their own rows are independent.
    """
    n_rows, dim = 20, 500
    target = Posterior(n_rows, dim=dim)
    n_batches, a = n_rows // batch_size, 1 - h
    s_1, s_2 = ((1 - a ** (k * n_batches)) / (1 - a**k) for k in (1, 2))
    variance_of_score = (n_rows / batch_size) * (1 - (batch_size - 1) / (n_rows - 1))
    shared = 0.0
    if n_batches > 1:
        shared = h**2 * variance_of_score * (n_batches * s_2 - s_1**2) / (n_batches - 1)
    expected = (2 * h * s_2 + shared) / (1 - a ** (2 * n_batches))
    config = SGLD(batch_size=batch_size, decay=0, max_drift=math.inf)
    start = torch.full((1, dim), 0.3, dtype=torch.float64)
    walk = config.walk(h, start, Meter(target, dtype=torch.float64), generator(1))
    walk.go(20 * n_batches)
    total, n_epochs = torch.zeros(dim, dtype=torch.float64), 400
    for _ in range(n_epochs):
        assert walk.go(n_batches)
        total += (walk.x[0] - 0.3).square()
    per_coordinate = total / n_epochs
    std_error = float(per_coordinate.std()) / math.sqrt(dim)
    assert abs(float(per_coordinate.mean()) - expected) < 4 * std_error
    assert std_error < 0.01 * expected


def test_steps_decrease_like_the_paper_s_and_go_on_after_burn_in() -> None:
    config = SGLD(delay=50.0, decay=0.55)
    a = 0.2 * 50.0**0.55
    for n_moves in (0, 1, 10, 1_000):
        assert math.isclose(config.step(0.2, n_moves), a * (50 + n_moves) ** -0.55)
    assert math.isclose(config.step(0.2, 10**8) / config.step(0.2, 10**6), 100**-0.55, rel_tol=1e-3)

    fitted = fitted_on(Meter(Posterior(40)), mode="long", burn_in=30, thinning=5, delay=10.0)
    draws = fitted.draw(16, generator(1))  # 2 states of 8 chains
    assert draws.diagnostics["n_moves"] == 10
    last = fitted.config.step(fitted.first_step, 30 + 9)
    assert math.isclose(float(draws.diagnostics["last_step_size"]), last)  # type: ignore[arg-type]


def test_variance_follows_the_decreasing_steps() -> None:
    """From N(0.3, 1) on N(0.3, v), full batch: u_{t+1} = (1 - h_t / v)^2 u_t + 2 h_t."""
    config = SGLD(batch_size=4, delay=2.0, decay=1.0, max_drift=math.inf)
    n, v, expected = 40_000, 0.5, 1.0
    start = 0.3 + torch.randn(n, 1, generator=generator(2), dtype=torch.float64)
    walk = config.walk(0.4, start, Meter(Posterior(4, v), dtype=torch.float64), generator(1))
    walk.go(6)
    for t in range(6):
        h = 0.4 / (1 + t / 2)
        expected = (1 - h / v) ** 2 * expected + 2 * h
    assert abs(float((walk.x - 0.3).square().mean()) - expected) < 4 * expected * math.sqrt(2 / n)


@pytest.mark.parametrize(("batch_size", "expected"), [(64, 0.125), (16, 0.125), (1, 0.0625)])
def test_pilot_bounds_bias_and_noise(batch_size: int, expected: float) -> None:
    """On N(0, v) the estimate is h / 2v, exactly; 64 / m - 1 times that is the noise, at most 4."""
    fitted = fitted_on(Meter(Posterior(64, 0.5)), step_size=0.5, batch_size=batch_size, max_bias=0.2)
    assert fitted.first_step == fitted.diagnostics["step_size"] == expected
    biases = fitted.diagnostics["pilot_biases"]
    assert isinstance(biases, list)
    for k, bias in enumerate(biases):
        assert math.isclose(bias, 0.5 / 2**k, rel_tol=1e-4)


def test_pilot_ends_at_a_stable_step() -> None:
    fitted = fitted_on(Meter(Posterior(64, 1e-6)), step_size=10.0, max_drift=math.inf)
    assert fitted.first_step <= 0.5e-6
    draws = fitted.draw(50, generator(1))
    assert draws.stopped is None
    assert draws.samples.isfinite().all()


def test_long_chains_on_a_posterior_have_its_mean_and_variance(sonar: Any) -> None:
    """Chains share the minibatches' noise, so that means are judged by the spread over time."""
    reference = sonar.reference()
    draws = (
        samplers.get("sgld_long", burn_in=3_000, thinning=200).fit(Meter(sonar), generator()).draw(1_280, generator(1))
    )
    x = draws.samples.double()
    gap = (x.mean(0) - reference.mean(0)) / reference.std(0)
    assert float(gap.square().mean().sqrt()) < 0.1
    assert abs(float((x.std(0) / reference.std(0)).mean()) - 1) < 0.1


def test_counts_are_exact_fractions_in_both_modes() -> None:
    meter = Meter(Posterior(48))
    fitted = fitted_on(meter, n_steps=7, step_size=0.01)
    rows = 8 * (10 + 5)  # one round: its second half evaluates twice
    assert meter.counts["fit"].score == meter.counts["fit"].log_prob == rows * 32 / 48
    with meter.phase("draw"):
        fitted.draw(13, generator(1))
    assert vars(meter.counts["draw"]) == {"log_prob": 13 * 7 * 32 / 48, "score": 13 * 7 * 32 / 48, "hvp": 0}

    meter = Meter(Posterior(48))
    fitted = fitted_on(meter, mode="long", burn_in=6, thinning=3, step_size=0.01)
    assert meter.counts["fit"].score == (rows + 8 * 6) * 32 / 48
    with meter.phase("draw"):
        draws = fitted.draw(13, generator(1))
    assert meter.counts["draw"].score == 8 * 3 * 2 * 32 / 48
    assert draws.chains is not None
    assert draws.chains.shape == (8, 6, 1)


def test_budget_cuts_a_draw_between_moves() -> None:
    n, n_moves = 20, 4
    shorter = fitted_on(Meter(Posterior(48)), n_steps=n_moves).draw(n, generator(1))
    meter = Meter(Posterior(48), budget=Budget(draw=n * n_moves * 32 / 48))
    fitted = fitted_on(meter, n_steps=9)
    with meter.phase("draw"):
        draws = fitted.draw(n, generator(1))
    assert draws.stopped == "budget"
    assert "20 points of log_prob+score on 32 of 48 rows" in draws.reason
    assert draws.reason.endswith("stopped after 4 moves")
    assert torch.equal(draws.samples, shorter.samples)


@pytest.mark.parametrize("mode", ["restart", "long"])
@pytest.mark.parametrize("budget", [3, 50, 81])
def test_budget_cuts_the_fit(mode: str, budget: int) -> None:
    meter = Meter(Posterior(48), budget=Budget(fit=budget))  # a round costs 80, a move 8 * 32 / 48
    fitted = fitted_on(meter, mode=mode, n_steps=5, burn_in=5, thinning=1, step_size=0.01)
    assert meter.counts["fit"].score <= budget
    draws = fitted.draw(10, generator(1))
    assert draws.samples.shape == (10, 1)
    if budget < 80 or mode == "long":
        assert draws.stopped == "budget"
        assert draws.reason.startswith("in fit: 8 points")


def test_chains_that_leave_the_support_are_a_divergence() -> None:
    start = torch.zeros(6, 1)
    start[3:5] = 4.0
    draws = fitted_on(Meter(Cliff(48))).draw(6, generator(1), start)
    assert draws.stopped == "diverged"
    assert draws.reason.startswith("position is not finite in 2 of 6 rows after a move with step")
    assert draws.reason.endswith("stopped after 0 moves")
    assert torch.equal(draws.samples, start)


def test_targets_without_rows_or_with_too_few_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="needs minibatch scores, target offers none"):
        SGLD().fit(Meter(Plain()), generator())
    with pytest.raises(ValueError, match="batch_size must be at most the target's n_rows 20, got 32"):
        SGLD(batch_size=32).fit(Meter(Posterior(20)), generator())


def test_wrong_starts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start must have shape \(5, 1\), got \(4, 1\)"):
        fitted_on(Meter(Posterior(48))).draw(5, generator(), torch.zeros(4, 1))
    with pytest.raises(ValueError, match="start must be None"):
        fitted_on(Meter(Posterior(48)), mode="long", burn_in=0).draw(5, generator(), torch.zeros(5, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("step_size", 0.0),
        ("max_bias", 0.5),
        ("max_noise", 0.0),
        ("delay", 0.0),
        ("decay", 1.5),
        ("max_drift", 0.0),
        ("pilot_steps", 1),
        ("n_steps", 0),
    ],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        SGLD(**{field: value})  # type: ignore[arg-type]


def test_presets_choose_the_mode() -> None:
    assert samplers.get("sgld") == SGLD(mode="restart")
    assert samplers.get("sgld_long") == SGLD(mode="long")


def test_records_keep_fractional_counts_and_say_where_there_are_no_rows(tmp_path: Path) -> None:
    table = {
        "n_samples": 10,
        "metrics": ["sliced_w2"],
        "targets": ["breast_cancer_train", "ring8"],
        "samplers": [{"name": "sgld", "label": "sgld", "parameters": {"n_steps": 7, "n_chains": 2, "pilot_steps": 2}}],
    }
    store = Store(tmp_path)
    with_rows, without = (store.save(*execute(spec)) for spec in make_plan(parse_suite(table, "minibatches")))
    assert (without.status, without.reason) == ("not_applicable", "needs minibatch scores, target offers none")
    stored = store.record(with_rows.spec.run_id)
    assert stored is not None
    assert stored.counts["draw"] == {"log_prob": 10 * 7 * 32 / 455, "score": 10 * 7 * 32 / 455, "hvp": 0}
