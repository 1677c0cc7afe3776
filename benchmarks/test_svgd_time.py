"""Measured: a step of SVGD in ten dimensions over the number of particles, which should grow with its square."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench import samplers, targets
from samplerbench.targets import Meter, derive_generator

N_STEPS = 3


@pytest.mark.parametrize("n_particles", [2_500, 5_000, 10_000])
def test_svgd_step_time(n_particles: int, benchmark: BenchmarkFixture) -> None:
    fitted = samplers.get("svgd", n_steps=N_STEPS).fit(Meter(targets.get("funnel10")), derive_generator(0, "fit"))
    draws = benchmark.pedantic(  # type: ignore[no-untyped-call]
        fitted.draw, args=(n_particles, derive_generator(0, "draw")), rounds=3, warmup_rounds=1
    )
    assert draws.samples.shape == (n_particles, 10)
    assert draws.samples.isfinite().all()
    benchmark.extra_info.update(n_particles=n_particles, n_steps=N_STEPS)
