"""Measured: seconds of a draw of 2,000 samples, for every sampler with its defaults; quality and counts beside it."""

from dataclasses import asdict

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench import metrics, samplers, targets
from samplerbench.benchmarks.floors import load_floor
from samplerbench.benchmarks.truth import build_truth
from samplerbench.samplers import NotApplicableError
from samplerbench.targets import Meter, derive_generator

TARGET, N_SAMPLES, ROUNDS = "ring8", 2_000, 3


@pytest.mark.parametrize("name", samplers.names())
def test_draw_time(name: str, benchmark: BenchmarkFixture) -> None:
    target = targets.get(TARGET)
    meter = Meter(target)
    with meter.phase("fit"):
        try:
            fitted = samplers.get(name).fit(meter, derive_generator(0, "fit"))
        except NotApplicableError as reason:
            pytest.skip(f"{name} on {TARGET}: {reason}")
        except ModuleNotFoundError as error:
            pytest.skip(f"{name} needs the package {error.name}")
    with meter.phase("draw"):
        draws = fitted.draw(N_SAMPLES, derive_generator(0, "draw"))
        timing = derive_generator(0, "timing")
        with meter.uncounted():
            benchmark.pedantic(fitted.draw, args=(N_SAMPLES, timing), rounds=ROUNDS, warmup_rounds=0)  # type: ignore[no-untyped-call]
    metric = metrics.get("sliced_w2")
    value = metric(draws, build_truth(target, N_SAMPLES, seed=0), seed=0)[metric.name]
    floor = load_floor(TARGET, targets.entry(TARGET).version, metric.name, metric.version, N_SAMPLES)
    assert draws.samples.shape == (N_SAMPLES, target.dim)
    assert floor is not None
    benchmark.extra_info.update(
        target=TARGET,
        n_samples=N_SAMPLES,
        sliced_w2=value,
        sliced_w2_ratio=floor.ratio(value),
        fit=asdict(meter.counts["fit"]),
        draw=asdict(meter.counts["draw"]),
    )
