"""Measured: training steps of the one-pass samplers, 50 a round; the counts of one step beside them."""

from dataclasses import asdict

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench import samplers, targets
from samplerbench.targets import Meter, derive_generator

N_STEPS = 50  # per round: starting the networks takes less than one step


@pytest.mark.parametrize("target", ["ring8", "funnel10"])
@pytest.mark.parametrize("name", ["dft", "dikl", "fisher", "fisher_ns", "kl", "ksd_ns"])
def test_training_step(name: str, target: str, benchmark: BenchmarkFixture) -> None:
    sampler = samplers.get(name, training={"n_steps": N_STEPS, "n_warm_up": 0})
    meter = Meter(targets.get(target))
    benchmark.pedantic(sampler.fit, args=(meter, derive_generator(0, "fit")), rounds=3, warmup_rounds=1)  # type: ignore[no-untyped-call]
    counts = asdict(meter.counts["fit"])
    assert counts["score"] > 0
    n_steps = 4 * N_STEPS  # of the warm-up round and three rounds
    benchmark.extra_info.update(
        target=target,
        n_steps_per_round=N_STEPS,
        per_step={kind: n_points / n_steps for kind, n_points in counts.items()},
    )
