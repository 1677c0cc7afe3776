"""Measured: seconds of each metric on exact (or reference) draws; the values beside them."""

import math

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench import metrics, targets
from samplerbench.benchmarks.floors import N_SAMPLES, N_SAMPLES_TRANSPORT, TRANSPORT
from samplerbench.benchmarks.truth import TruthSource
from samplerbench.targets import Draws, derive_generator

TARGETS = ("ring8", "breast_cancer_train")
N_CHAINS = 50


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", metrics.names())
def test_metric_time(name: str, target: str, benchmark: BenchmarkFixture) -> None:
    metric = metrics.get(name)
    n_samples = N_SAMPLES_TRANSPORT if name in TRANSPORT else N_SAMPLES
    samples, truth = TruthSource(targets.get(target)).independent_pair(n_samples, derive_generator(0, "pair"))
    draws = Draws(samples=samples, chains=samples.reshape(N_CHAINS, -1, samples.shape[1]))
    reason = metric.missing(draws, truth)
    if reason:
        pytest.skip(f"{name} on {target} {reason}")
    values = benchmark.pedantic(metric, (draws, truth), {"seed": 0}, rounds=3, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert all(math.isfinite(value) for value in values.values())
    benchmark.extra_info.update(target=target, n_samples=n_samples, **values)
