"""Measured: 1,000 chains x 1,000 MALA moves in ten dimensions, beside blackjax's compiled MALA where it is installed.

``outside_target`` in ``extra_info`` is the share of the time that is not spent in the target. One thread each.
"""

import math
import os
import time
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Generator, Tensor

from samplerbench.samplers import State
from samplerbench.samplers.kernels import MALAKernel
from samplerbench.targets import Meter

N_CHAINS, N_MOVES, STEP = 1_000, 1_000, 0.2


class Normal:
    """N(0, I) in ten dimensions, which knows how long it was busy."""

    dim = 10
    scale = 1.0

    def __init__(self) -> None:
        self.seconds = 0.0

    def log_prob(self, x: Tensor) -> Tensor:
        began = time.perf_counter()
        value = -0.5 * x.square().sum(-1)
        self.seconds += time.perf_counter() - began
        return value

    def score(self, x: Tensor) -> Tensor:
        began = time.perf_counter()
        value = -x
        self.seconds += time.perf_counter() - began
        return value


@pytest.mark.parametrize("max_drift", [math.inf, 1.0], ids=["plain", "limited drift"])
def test_mala_time(max_drift: float, benchmark: BenchmarkFixture) -> None:
    def chains() -> tuple[State, float]:
        target, began = Normal(), time.perf_counter()
        meter, generator = Meter(target), Generator().manual_seed(0)
        state, kernel = State.at(meter.start(N_CHAINS, generator), meter), MALAKernel(STEP, max_drift)
        for _ in range(N_MOVES):
            state = kernel(state, meter, generator)
        return state, 1 - target.seconds / (time.perf_counter() - began)

    state, outside_target = benchmark.pedantic(chains, rounds=3, warmup_rounds=1)  # type: ignore[no-untyped-call]
    check_law(state.x)
    benchmark.extra_info.update(n_chains=N_CHAINS, n_moves=N_MOVES, outside_target=outside_target)


def test_mala_time_of_blackjax(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.get_num_threads() == 1:  # like with like; read when jax starts
        monkeypatch.setenv(
            "XLA_FLAGS",
            f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        )
    blackjax = pytest.importorskip("blackjax", reason="pip install blackjax, to compare with its MALA")
    jax = pytest.importorskip("jax")
    mala = blackjax.mala(lambda x: -0.5 * (x**2).sum(), STEP)

    def chains(key: object, x: object) -> Any:
        def move(state: object, key: object) -> tuple[Any, None]:
            return jax.vmap(mala.step)(jax.random.split(key, N_CHAINS), state)[0], None

        return jax.lax.scan(move, jax.vmap(mala.init)(x), jax.random.split(key, N_MOVES))[0].position

    compiled, key = jax.jit(chains), jax.random.key(0)
    x = jax.random.normal(key, (N_CHAINS, Normal.dim))
    last = benchmark.pedantic(lambda: compiled(key, x).block_until_ready(), rounds=3, warmup_rounds=1)  # type: ignore[no-untyped-call]
    check_law(torch.tensor(last.tolist()))
    benchmark.extra_info.update(n_chains=N_CHAINS, n_moves=N_MOVES, blackjax=blackjax.__version__)


def check_law(x: Tensor) -> None:
    """Both samplers must have done their work: the mean of |x|^2 is 10, its variance 20."""
    assert abs(x.double().square().sum(-1).mean() - 10) < 4.5 * math.sqrt(20 / N_CHAINS)
