"""Measured: 10,000 draws by one pass of a network, beside as many ends of 500 MALA steps; the ratio in ``extra_info``.

Training is shortened, since the time of a pass does not depend on the weights. ``score_us`` is the time of a score of
one point among 10,000.
"""

import statistics
import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from samplerbench import samplers, targets
from samplerbench.targets import Meter, derive_generator

N_SAMPLES, N_STEPS = 10_000, 500


@pytest.mark.parametrize("target", ["ring8", "gmm40_fab", "funnel10", "many_well16", "bimodal50", "breast_cancer_full"])
@pytest.mark.parametrize("name", ["dft", "dft_plus"])
def test_one_pass_ratio(name: str, target: str, benchmark: BenchmarkFixture) -> None:
    training = {"n_steps": 1, "n_warm_up": 0}
    short = {"training": training} if name == "dft" else {"training": training, "teaching": {"n_fits": 0}}
    meter = Meter(targets.get(target))
    one_pass = samplers.get(name, **short).fit(meter, derive_generator(0, "fit"))
    mala = samplers.get("mala", n_steps=N_STEPS).fit(meter, derive_generator(0, "mala"))

    def seconds_of(sampler: samplers.FittedSampler) -> float:
        began = time.perf_counter()
        draws = sampler.draw(N_SAMPLES, derive_generator(0, "draw"))
        assert draws.samples.shape == (N_SAMPLES, meter.dim)
        return time.perf_counter() - began

    x = meter.start(N_SAMPLES, derive_generator(0, "score"))
    scores: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        meter.log_prob_and_score(x)
        scores.append(time.perf_counter() - began)
    score_s, mala_s = statistics.median(scores), seconds_of(mala)
    passes: list[float] = []
    benchmark.pedantic(lambda: passes.append(seconds_of(one_pass)), rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    pass_s = statistics.median(passes)
    benchmark.extra_info.update(
        target=target,
        n_samples=N_SAMPLES,
        n_mala_steps=N_STEPS,
        score_us=1e6 * score_s / N_SAMPLES,
        pass_s=pass_s,
        mala_s=mala_s,
        mala_over_pass=mala_s / pass_s,
    )
