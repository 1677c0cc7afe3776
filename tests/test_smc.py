"""SMC and AIS: their log Z is unbiased and its error honest, their draws have the target's law, budgets are kept."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.metrics.modes import mode_shares
from samplerbench.samplers import smc
from samplerbench.samplers.annealed import Base
from samplerbench.samplers.base import State
from samplerbench.samplers.kernels import Dense
from samplerbench.samplers.moves import Moves
from samplerbench.samplers.smc import SMC, Particles
from samplerbench.targets import Budget, Draws, Meter


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def run(name: str, target: str, seed: int, n_samples: int, budget: Budget | None = None, **parameters: Any) -> Draws:
    meter = Meter(targets.get(target), budget=budget)
    fitted = samplers.get(name, **parameters).fit(meter, generator(seed))
    with meter.phase("draw"):
        return fitted.draw(n_samples, generator(1_000 + seed))


@pytest.mark.parametrize(
    ("name", "target"), [("smc", "many_well16"), ("smc", "donut"), ("ais", "many_well6"), ("ais", "donut")]
)
def test_log_z_is_right_on_average_and_its_error_is_honest(name: str, target: str) -> None:
    """20 seeds: the mean error within 3 of its standard errors, and at least 85% within 2 stated ones."""
    truth = targets.get(target).log_z.value  # type: ignore[attr-defined]
    errors, stated = [], []
    for seed in range(20):
        size: dict[str, Any] = {"n_samples": 2_000, "oversampling": 1} if name == "smc" else {"n_samples": 1_000}
        log_z = run(name, target, seed, moves={"max_leapfrog": 8}, **size).log_z
        assert log_z is not None
        errors.append(log_z.value - truth)
        stated.append(log_z.std_error)
    error, std_error = torch.tensor(errors), torch.tensor(stated)
    ratio = error.exp()  # Z is unbiased, log Z is not
    assert abs(ratio.mean() - 1) < 3 * ratio.std() / math.sqrt(20)
    assert (error.abs() < 2 * std_error).double().mean() >= 0.85


def test_draws_of_smc_have_the_mode_masses() -> None:
    target = targets.get("ring8")
    shares = [mode_shares(run("smc", "ring8", seed, 2_000).samples.double(), target.modes) for seed in range(6)]  # type: ignore[attr-defined]
    mean, spread = torch.stack(shares).mean(0)[:8], torch.stack(shares).std(0)[:8]
    assert ((mean - target.modes.masses).abs() < 5 * spread / math.sqrt(6)).all()  # type: ignore[attr-defined]
    # independent draws: sqrt(1/8 7/8 / 2000); islands and temperatures cost some of them
    assert spread.mean() < 2 * math.sqrt(1 / 8 * 7 / 8 / 2_000)


def test_weights_of_ais_move_the_mean_to_the_target_s() -> None:
    """Few temperatures leave the paths behind: their weights must make up for it."""
    draws = run("ais", "gaussian2", 0, 20_000, min_ess=0.3, n_moves=1)
    assert draws.log_weights is not None
    weights = draws.log_weights.double().softmax(0)
    square = draws.samples.double().square().sum(-1)
    mean = (weights * square).sum()
    error = ((weights * (square - mean)).square().sum()).sqrt()
    assert abs(mean - 0.5) < 4 * error  # two coordinates of variance 1/4
    assert abs(square.mean() - 0.5) > 4 * square.std() / math.sqrt(20_000)


def test_islands_give_the_error_of_the_normaliser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smc, "MIN_ISLANDS", 4)
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    x = torch.randn(12, 2, generator=generator(), dtype=torch.float64)
    base = Base(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    particles = Particles.at(State(x, zeros.flatten(), x, zeros.flatten()), base, n_islands=4)
    particles.log_weights = torch.tensor([[2.0, 0, 0], [0, 1, 0], [0, 0, 3], [1, 1, 1]], dtype=torch.float64).log()
    of_islands = torch.tensor([2 / 3, 1 / 3, 1, 1], dtype=torch.float64)
    expected = (particles.log_weights.exp() / 9).flatten()
    torch.testing.assert_close(particles.weights, expected)
    log_z = particles.join(9, generator())
    assert log_z is not None
    assert math.isclose(log_z.value, math.log(0.75), rel_tol=1e-12)
    assert math.isclose(log_z.std_error, (of_islands / 0.75).std().item() / 2, rel_tol=1e-12)
    assert [int((particles.state.x == row).all(-1).sum()) for row in x] == [2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 1, 1]


def test_too_few_particles_for_ten_islands_state_no_log_z() -> None:
    assert run("smc", "gaussian2", 0, 999, oversampling=1).log_z is None
    assert run("smc", "gaussian2", 0, 1_000, oversampling=1).log_z is not None


def test_ten_times_the_particles_are_thinned_to_the_draws() -> None:
    meter = Meter(targets.get("gaussian2"))
    draws = samplers.get("smc_10x").fit(meter, generator()).draw(30, generator(1))
    assert draws.samples.shape == (30, 2)
    assert draws.diagnostics["n_islands"] == 3
    assert meter.counts["fit"].score % 300 == 0


@pytest.mark.parametrize("name", ["smc", "ais"])
def test_start_is_refused(name: str) -> None:
    fitted = samplers.get(name).fit(Meter(targets.get("gaussian2")), generator())
    with pytest.raises(ValueError, match=r"start must be None, got \(5, 2\)"):
        fitted.draw(5, generator(), torch.zeros(5, 2))


def test_budget_returns_the_particles_of_the_temperature_reached() -> None:
    draws = run("smc", "many_well16", 0, 200, budget=Budget(draw=200 * 100))
    assert draws.stopped == "budget"
    assert "stopped at beta = 0." in draws.reason
    assert draws.log_z is None
    assert draws.samples.isfinite().all()


def test_budget_of_the_pilot_leaves_weighted_points_without_log_z() -> None:
    draws = run("ais", "many_well16", 0, 200, budget=Budget(fit=20_000))
    assert draws.stopped == "budget"
    assert draws.reason.startswith("in fit: ")
    assert draws.log_z is None
    assert draws.log_weights is not None
    assert draws.log_weights.isfinite().all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_ess", 1.0), ("resample_below", 0.0), ("n_moves", 0), ("base_width", -1.0), ("oversampling", 0)],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        SMC(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ais", "smc"])
def test_a_ladder_that_is_given_is_followed(name: str) -> None:
    meter = Meter(targets.get("gaussian2"))
    fitted = samplers.get(name, betas=[0, 0.1, 0.4, 1]).fit(meter, generator())
    draws = fitted.draw(2_000, generator(1))
    assert {**fitted.diagnostics, **draws.diagnostics}["betas"] == [0.1, 0.4, 1]
    assert draws.log_z is not None
    assert abs(draws.log_z.value) < 4 * draws.log_z.std_error


@pytest.mark.parametrize("name", ["ais", "smc", "tempering"])
@pytest.mark.parametrize("betas", [[], [1.0], [0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0, 0.6, 0.2, 1.0]])
def test_temperatures_that_do_not_decrease_are_refused(name: str, betas: list[float]) -> None:
    rule = "betas must increase strictly from 0 to 1 (temperatures 1 / beta decrease), got"
    with pytest.raises(ValueError, match=re.escape(f"{rule} {betas}")):
        samplers.get(name, betas=betas)


def particles_with_weights(x: Tensor) -> Particles:
    """Two islands with weights and normalisers of their own."""
    n = len(x)
    zeros = torch.zeros(n, dtype=torch.float64)
    base = Base(torch.zeros(x.shape[1], dtype=torch.float64), torch.ones(x.shape[1], dtype=torch.float64))
    particles = Particles.at(State(x, zeros, x, zeros), base, n_islands=2)
    particles.log_weights = torch.randn(2, n // 2, generator=generator(7), dtype=torch.float64)
    particles.log_z = torch.tensor([0.3, -0.4], dtype=torch.float64)
    return particles


@pytest.mark.parametrize("n", [4, 40])
def test_covariance_of_particles_is_shrunk_to_its_diagonal(n: int) -> None:
    """By dim / (dim + n), also where the particles are fewer than the dimensions: it has an inverse all the same."""
    dim = 6
    mix = torch.randn(dim, dim, generator=generator(1), dtype=torch.float64)
    x = 3 + torch.randn(n, dim, generator=generator(), dtype=torch.float64) @ mix
    particles = particles_with_weights(x)
    weights = (particles.log_weights.exp() * particles.log_z.exp()[:, None]).flatten()
    weighted = torch.from_numpy(np.cov(x.T.numpy(), aweights=weights.numpy(), ddof=0))
    share = dim / (dim + n)
    expected = (1 - share) * weighted + share * weighted.diagonal().diag()
    torch.testing.assert_close(particles.covariance(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(particles.covariance().diagonal().sqrt(), particles.scales(), rtol=1e-12, atol=0)
    assert (torch.linalg.eigvalsh(particles.covariance()) > 0).all()


def test_covariance_of_particles_that_agree_in_a_coordinate_has_a_root() -> None:
    x = torch.randn(40, 3, generator=generator(), dtype=torch.float64)
    x[:, 1] = 2.0
    covariance = particles_with_weights(x).covariance()
    assert (torch.linalg.eigvalsh(covariance) > 0).all()
    assert Dense.of(covariance).root.isfinite().all()


class Valley:
    """N(0, C) in five dimensions with correlations .99^|i - j|, of condition number 886."""

    dim = 5
    scale = 1.0

    def __init__(self) -> None:
        k = torch.arange(5)
        covariance = 0.99 ** (k[:, None] - k).abs().double()
        self.precision = covariance.inverse()
        self.factor = torch.linalg.cholesky(covariance)

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x @ self.precision.to(x)) * x).sum(-1)


def test_the_dense_metric_follows_a_valley_that_is_along_no_coordinate() -> None:
    """20 seeds: 15 second moments of whitened draws on average I, and each seed errs as independent draws do.

    Of n independent draws the square |S - I|^2 of the second moments S has the mean dim (dim + 1) / n. With five MALA
    moves the diagonal metric leaves what resampling does to the narrow directions.
    """
    target, n, n_seeds = Valley(), 1_000, 20
    seconds: dict[str, Tensor] = {}
    for metric in ("dense", "diagonal"):
        found = []
        for seed in range(n_seeds):
            config = SMC(
                oversampling=1, n_islands=1, min_ess=0.7, n_moves=3, n_last_moves=5, moves=Moves(method="mala"),
                metric=metric,
            )  # fmt: skip
            fitted = config.fit(Meter(target, dtype=torch.float64), generator(seed))
            x = fitted.draw(n, generator(1_000 + seed)).samples
            z = torch.linalg.solve_triangular(target.factor, x.T, upper=False).T
            found.append(z.T @ z / n)
        seconds[metric] = torch.stack(found) - torch.eye(5)
    mean, spread = seconds["dense"].mean(0), seconds["dense"].std(0)
    assert (mean.abs() < 4 * spread / math.sqrt(n_seeds)).all()
    square = {metric: error.square().sum((1, 2)).mean().item() for metric, error in seconds.items()}
    independent = 5 * 6 / n
    assert square["dense"] < 1.7 * independent
    assert square["diagonal"] > 3 * independent


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match=r"metric must be one of 'diagonal', 'dense', got 'full'"):
        SMC(metric="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"metric must be one of 'diagonal', 'dense', got None"):
        samplers.get("smc", metric=None)
