"""The error of a sampler's own log Z, its lower bound, and the spread of its weights."""

import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.normaliser import effective_share
from samplerbench.targets import Draws, Meter
from samplerbench.targets.draws import Estimate


def test_error_bias_and_stated_error() -> None:
    draws = Draws(samples=torch.zeros(2, 1), log_z=Estimate(1.5, 0.25))
    values = METRICS.get("log_z_error")(draws, Truth(normaliser=Estimate(2.0, 0.0)), seed=0)
    assert values == {"log_z_error": 0.5, "log_z_bias": -0.5, "log_z_std_error": 0.25}


def test_without_an_estimate_or_a_truth_it_is_nan_and_says_why() -> None:
    metric = METRICS.get("log_z_error")
    draws, truth = Draws(samples=torch.zeros(2, 1)), Truth(normaliser=Estimate(2.0, 0.0))
    assert metric.missing(draws, truth) == "needs log_z"
    assert metric.missing(draws, Truth()) == "needs log_z, normaliser"
    assert all(map(math.isnan, metric(draws, truth, seed=0).values()))


def test_importance_sampling_of_a_gaussian_errs_by_its_stated_error() -> None:
    target = targets.get("gaussian2")
    fitted = samplers.get("ais").fit(Meter(target), torch.Generator().manual_seed(0))
    draws = fitted.draw(2_000, torch.Generator().manual_seed(1))
    values = METRICS.get("log_z_error")(draws, build_truth(target, 10, 0), seed=0)
    assert 0 < values["log_z_error"] < 4 * values["log_z_std_error"]


LOG_Z, SHIFT, SD, N = 1.7, 0.4, 0.8, 40_000


def log_normal(x: Tensor, mean: float, sd: float) -> Tensor:
    return (-0.5 * ((x - mean) / sd).square() - math.log(sd) - 0.5 * math.log(2 * math.pi)).sum(-1)


def gaussian_draws(sd: float = SD, *, n: int = N, dim: int = 2) -> tuple[Draws, Truth]:
    """Draws of q = N(SHIFT, sd^2 I) with their density; the target is e^LOG_Z times N(0, I)."""
    x = SHIFT + sd * torch.randn(n, dim, generator=Generator().manual_seed(0), dtype=torch.float64)
    truth = Truth(log_prob=lambda x: LOG_Z + log_normal(x, 0.0, 1.0))
    return Draws(samples=x, log_density=log_normal(x, SHIFT, sd)), truth


def test_elbo_of_a_gaussian_is_log_z_less_its_divergence() -> None:
    draws, truth = gaussian_draws()
    assert draws.log_density is not None
    assert truth.log_prob is not None
    divergence = 0.5 * 2 * (SD**2 + SHIFT**2 - 1 - 2 * math.log(SD))  # KL(q || p), two coordinates
    error = (truth.log_prob(draws.samples) - draws.log_density).std().item() / math.sqrt(N)
    value = METRICS.get("elbo")(draws, truth, seed=0)["elbo"]
    assert abs(value - (LOG_Z - divergence)) < 5 * error
    assert value < LOG_Z - 20 * error


def test_effective_share_of_a_gaussian_has_a_closed_form() -> None:
    """1 / E w^2; of N(0, 1) by N(m, s^2), E w^2 = s^2 exp(m^2 / (2 s^2 - 1)) / (2 s^2 - 1)^.5 in each coordinate."""
    sd = 1.3  # wider than the target: weights have a fourth moment
    draws, truth = gaussian_draws(sd)
    per_coordinate = sd**2 * math.exp(SHIFT**2 / (2 * sd**2 - 1)) / math.sqrt(2 * sd**2 - 1)
    exact = per_coordinate**-2
    assert draws.log_density is not None
    assert truth.log_prob is not None
    w = (truth.log_prob(draws.samples) - draws.log_density - LOG_Z).exp()
    influence = 2 * w - w.square() * exact  # of (mean w)^2 / mean w^2, over its value: delta method
    error = exact * influence.std().item() / math.sqrt(N)
    value = METRICS.get("ess_reverse")(draws, truth, seed=0)["ess_reverse"]
    assert abs(value - exact) < 5 * error < 0.1 * exact


def test_exact_draws_with_the_exact_density_have_no_gap_and_all_are_effective() -> None:
    truth = Truth(log_prob=lambda x: LOG_Z + log_normal(x, SHIFT, SD))
    draws, _ = gaussian_draws()
    assert math.isclose(METRICS.get("elbo")(draws, truth, seed=0)["elbo"], LOG_Z, rel_tol=1e-12)
    assert math.isclose(METRICS.get("ess_reverse")(draws, truth, seed=0)["ess_reverse"], 1, rel_tol=1e-12)


def test_effective_share_by_hand_and_on_any_scale() -> None:
    log_weights = torch.tensor([1.0, 2.0, 3.0, 0.0]).log() + 1_000
    assert math.isclose(effective_share(log_weights.double()), 36 / (4 * 14), rel_tol=1e-4)  # float32 at 1,000
    assert math.isclose(effective_share(torch.tensor([1.0, 2.0, 3.0, 0.0]).log()), 36 / (4 * 14), rel_tol=1e-6)
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="log_weights must have a finite maximum and no NaN"):
            effective_share(torch.full((3,), bad))


def test_weights_that_the_sampler_states_come_before_its_density() -> None:
    draws, truth = gaussian_draws()
    weights = torch.randn(N, generator=Generator().manual_seed(1))
    weighted = Draws(samples=draws.samples, log_weights=weights, log_density=draws.log_density)
    value = METRICS.get("ess_reverse")(weighted, truth, seed=0)["ess_reverse"]
    assert value == effective_share(weights)
    assert abs(value - math.exp(-1)) < 0.05  # lognormal weights: 1 / exp(variance)


def test_too_few_draws_or_neither_weights_nor_density_is_nan_with_its_reason() -> None:
    metric = METRICS.get("ess_reverse")
    draws, truth = gaussian_draws(n=9_999)
    assert metric.missing(draws, truth) == "needs at least 10000 draws, got 9999"
    assert math.isnan(metric(draws, truth, seed=0)["ess_reverse"])
    assert math.isnan(METRICS.get("elbo")(draws, truth, seed=0)["elbo"])
    bare = Draws(samples=draws.samples)
    assert metric.missing(bare, truth) == "needs log_weights or log_density"
    assert metric.missing(bare, Truth()) == "needs log_weights or log_density, log_prob"
    assert METRICS.get("elbo").missing(bare, truth) == "needs log_density"


def test_metrics_of_weights_say_that_they_take_them() -> None:
    taking = {name for name in METRICS.names() if METRICS.get(name).takes_weights}
    assert taking == {"elbo", "ess_reverse", "eubo", "ess_forward"}


def forward_draws(sd: float, *, n: int = N, dim: int = 2) -> Draws:
    """log_prob less the log density of q = N(SHIFT, sd^2 I), at exact draws of N(0, I)."""
    x = torch.randn(n, dim, generator=Generator().manual_seed(2), dtype=torch.float64)
    return Draws(samples=x, forward_log_ratio=LOG_Z + log_normal(x, 0.0, 1.0) - log_normal(x, SHIFT, sd))


def test_eubo_of_a_gaussian_is_log_z_plus_the_forward_divergence() -> None:
    draws = forward_draws(SD)
    assert draws.forward_log_ratio is not None
    divergence = 0.5 * 2 * ((1 + SHIFT**2) / SD**2 - 1 + 2 * math.log(SD))  # KL(p || q), two coordinates
    error = draws.forward_log_ratio.std().item() / math.sqrt(N)
    value = METRICS.get("eubo")(draws, Truth(), seed=0)["eubo"]
    assert abs(value - (LOG_Z + divergence)) < 5 * error
    assert value > LOG_Z + 20 * error


def test_forward_effective_share_is_the_reverse_one_where_q_covers_the_target() -> None:
    sd = 1.3
    per_coordinate = sd**2 * math.exp(SHIFT**2 / (2 * sd**2 - 1)) / math.sqrt(2 * sd**2 - 1)
    exact, draws = per_coordinate**-2, forward_draws(sd)
    assert draws.forward_log_ratio is not None
    w = (draws.forward_log_ratio - LOG_Z).exp()
    error = exact * (w * exact + 1 / w).std().item() / math.sqrt(N)  # delta method: of 1 / (mean w x mean 1/w)
    value = METRICS.get("ess_forward")(draws, Truth(), seed=0)["ess_forward"]
    assert abs(value - exact) < 5 * error < 0.1 * exact


def test_a_lost_mode_is_seen_by_forward_quantities_and_not_by_reverse_ones() -> None:
    """q is one of two equal modes, 8 apart: every reverse weight is equal, half of the forward ones are huge."""
    x, truth = gaussian_draws(1.0)[0].samples - SHIFT, Truth(log_prob=lambda x: two_modes(x))
    one = Draws(samples=x, log_density=log_normal(x, 0.0, 1.0))
    assert METRICS.get("ess_reverse")(one, truth, seed=0)["ess_reverse"] > 0.99
    exact = torch.cat([x[: N // 2], x[N // 2 :] + 8])
    lost = Draws(samples=x, forward_log_ratio=two_modes(exact) - log_normal(exact, 0.0, 1.0))
    assert METRICS.get("ess_forward")(lost, truth, seed=0)["ess_forward"] < 1e-9
    assert METRICS.get("eubo")(lost, truth, seed=0)["eubo"] > 10


def two_modes(x: Tensor) -> Tensor:
    return torch.logaddexp(log_normal(x, 0.0, 1.0), log_normal(x, 8.0, 1.0)) - math.log(2)


def test_a_density_that_vanishes_at_exact_draws_has_an_infinite_bound_and_no_effective_draws() -> None:
    ratio = torch.zeros(N, dtype=torch.float64)
    ratio[3] = math.inf
    draws = Draws(samples=torch.zeros(N, 1), forward_log_ratio=ratio)
    assert METRICS.get("eubo")(draws, Truth(), seed=0)["eubo"] == math.inf
    assert METRICS.get("ess_forward")(draws, Truth(), seed=0)["ess_forward"] == 0
    for bad in (math.nan, -math.inf):
        ratio[3] = bad
        with pytest.raises(ValueError, match="forward_log_ratio must be above -inf and not NaN"):
            METRICS.get("eubo")(draws, Truth(), seed=0)


@pytest.mark.parametrize("shape", [(3,), (N, 2), (0,)])
def test_ratios_at_too_few_exact_draws_or_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    draws = Draws(samples=torch.zeros(N, 1), forward_log_ratio=torch.zeros(shape))
    for name in ("eubo", "ess_forward"):
        with pytest.raises(ValueError, match=r"forward_log_ratio must have shape \(m,\), m at least 10000"):
            METRICS.get(name)(draws, Truth(), seed=0)
