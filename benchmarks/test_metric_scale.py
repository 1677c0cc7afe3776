"""Measured: metrics at the sizes that they are promised for, exact transport beside a direct call of POT.

``peak_mb`` in ``extra_info`` is how much the process's largest memory grew, in megabytes.
"""

import math
import resource
import sys

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Generator, Tensor

from samplerbench.metrics.mmd import squared_mmd
from samplerbench.metrics.sliced import sliced_wasserstein
from samplerbench.metrics.transport import MAX_ITERATIONS, wasserstein


def pair(n: int, dim: int) -> tuple[Tensor, Tensor]:
    """Two samples of N(0, I)."""
    x, y = torch.randn(2, n, dim, generator=Generator().manual_seed(0), dtype=torch.float64)
    return x, y


def of_pot(x: Tensor, y: Tensor) -> float:
    """Exact 2-Wasserstein distance as POT's manual computes it."""
    ot = pytest.importorskip("ot")
    return math.sqrt(ot.emd2([], [], ot.dist(x.numpy(), y.numpy()), numItermax=MAX_ITERATIONS))


@pytest.mark.parametrize("function", [wasserstein, of_pot])
def test_exact_transport(function: object, benchmark: BenchmarkFixture) -> None:
    x, y = pair(2_000, 2)
    value = benchmark.pedantic(function, args=(x, y), rounds=5, warmup_rounds=1)  # type: ignore[no-untyped-call]
    assert math.isclose(value, wasserstein(x, y), rel_tol=1e-9)


def test_mmd2_of_10000_points_in_64_dimensions(benchmark: BenchmarkFixture) -> None:
    x, y = pair(10_000, 64)
    before = _peak_mb()
    value = benchmark.pedantic(  # type: ignore[no-untyped-call]
        squared_mmd, args=(x, y), kwargs={"bandwidth": math.sqrt(2 * 64)}, rounds=3, warmup_rounds=0
    )
    assert abs(value) < 1e-4  # the same law; a term of the sum is at most 1, its mean here about 0.2
    benchmark.extra_info.update(peak_mb=_peak_mb() - before)


def test_sliced_w2_of_50000_points_in_64_dimensions(benchmark: BenchmarkFixture) -> None:
    x, y = pair(50_000, 64)
    before = _peak_mb()
    value = benchmark.pedantic(sliced_wasserstein, args=(x, y), rounds=3, warmup_rounds=0)  # type: ignore[no-untyped-call]
    assert 0 < value < 0.05  # two normal samples of this size are about 1 / sqrt(n) apart in every direction
    benchmark.extra_info.update(peak_mb=_peak_mb() - before)


def _peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
