"""The error of a sampler's own log Z."""

import math

import torch

from samplerbench import samplers, targets
from samplerbench.benchmarks.truth import build_truth
from samplerbench.metrics.base import METRICS, Truth
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
