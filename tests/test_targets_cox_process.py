import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.targets import cox_process
from samplerbench.targets.cox_process import MEAN, CoxProcess, bin_counts
from samplerbench.targets.datasets import DataFileError, load


@pytest.fixture
def pines() -> Tensor:
    try:
        return load("pines")[0]
    except DataFileError as error:
        pytest.skip(str(error))


@pytest.fixture
def simulated() -> CoxProcess:
    return CoxProcess("simulated")


def counts(target: CoxProcess) -> Tensor:
    """At the mean the prior's score vanishes: that of the likelihood is y - exp(mu) / 1600."""
    at_mean = torch.full((1_600,), MEAN, dtype=torch.float64)
    return (target.score(at_mean) + math.exp(MEAN) / 1_600).round(decimals=9)


def test_log_prob_of_the_pines_at_published_points(pines: Tensor) -> None:
    target = targets.get("lgcp_pines")
    mean = torch.full((1_600,), math.log(126) - 1.91 / 2, dtype=torch.float64)
    expected = torch.tensor([-1255.451942, -2451.049219, -1165.193294], dtype=torch.float64)
    points = torch.stack([mean, torch.zeros_like(mean), mean + bin_counts(pines)])
    torch.testing.assert_close(target.log_prob(points), expected, rtol=0, atol=2e-6)


def test_log_prob_against_the_dense_gaussian(simulated: CoxProcess) -> None:
    side = np.arange(40)
    bins = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    distance = np.linalg.norm(bins[:, None] - bins, axis=-1)
    covariance = 1.91 * np.exp(-distance / (40 / 33))
    f = 2 * np.sin(np.arange(1_600) ** 1.5) + 3
    residual = f - math.log(126) + 1.91 / 2
    log_prior = -0.5 * (
        residual @ np.linalg.solve(covariance, residual)
        + np.linalg.slogdet(covariance).logabsdet
        + 1_600 * math.log(2 * math.pi)
    )
    y = counts(simulated).numpy()
    expected = log_prior + (f * y - np.exp(f) / 1_600).sum()
    assert math.isclose(simulated.log_prob(torch.from_numpy(f)), expected, rel_tol=1e-10)


def test_the_simulated_counts_stay_what_they_are(simulated: CoxProcess) -> None:
    y = counts(simulated)
    assert torch.equal(y, y.round())
    assert [int((y == k).sum()) for k in range(4)] == [1_497, 93, 10, 0]
    assert int((y * torch.arange(1_600)).sum()) == 92_540
    assert int((y * (torch.arange(1_600) % 40)).sum()) == 2_140
    # 13 points fewer than the pines, whose published value at the mean is -1255.451942
    expected = -1255.451942 - 13 * (math.log(126) - 1.91 / 2)
    at_mean = torch.full((1_600,), MEAN, dtype=torch.float64)
    assert abs(simulated.log_prob(at_mean) - expected) < 1e-6


def test_the_simulated_process_needs_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(cox_process, "load", refuse)
    assert CoxProcess("simulated").log_prob(torch.zeros(1_600)).isfinite()
    with pytest.raises(FileNotFoundError, match="pines"):
        CoxProcess("pines").log_prob(torch.zeros(1_600))


def test_points_fall_into_their_bins() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0249, 0.0251], [0.99, 0.26]], dtype=torch.float64)
    assert bin_counts(points).nonzero().flatten().tolist() == [0, 1, 39 * 40 + 10, 1_599]
    assert bin_counts(points.repeat(2, 1)).sum() == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_is_the_gradient(simulated: CoxProcess, dtype: torch.dtype) -> None:
    x = simulated.start(6, Generator().manual_seed(0)).to(dtype).reshape(2, 3, -1).requires_grad_()
    (expected,) = torch.autograd.grad(simulated.log_prob(x).sum(), x)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(simulated.score(x.detach()), expected, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:
        direction = torch.randn(x.shape, generator=Generator().manual_seed(1), dtype=dtype)
        ahead, behind = (simulated.log_prob(x.detach() + h * direction) for h in (1e-5, -1e-5))
        torch.testing.assert_close((expected * direction).sum(-1), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-5)


def test_starting_points_are_draws_of_the_prior(simulated: CoxProcess) -> None:
    x = simulated.start(2_000, Generator().manual_seed(2))
    assert x.dtype == torch.float64
    field = (x - MEAN).reshape(-1, 40, 40)
    n_corners = 16  # sites 10 bins apart: correlated by exp(-8.25), as good as independent
    products = {
        1.91: field * field,
        1.91 * math.exp(-33 / 40): field[:, :, :-1] * field[:, :, 1:],
        1.91 * math.exp(-math.sqrt(2) * 33 / 40): field[:, :-1, :-1] * field[:, 1:, 1:],
        1.91 * math.exp(-3 * 33 / 40): field[:, :-3] * field[:, 3:],
    }
    for expected, product in products.items():
        sparse = product[:, 2::10, 2::10].flatten()
        assert len(sparse) == n_corners * len(x)
        assert abs(sparse.mean() - expected) < 4.5 * sparse.std() / math.sqrt(len(sparse))
    assert abs(field[:, 2::10, 2::10].mean()) < 4.5 * math.sqrt(1.91 / (n_corners * len(x)))


def test_whitening_is_undone_and_makes_the_prior_standard(simulated: CoxProcess) -> None:
    z = torch.randn(3, 1_600, generator=Generator().manual_seed(3), dtype=torch.float64)
    x = simulated.unwhiten(z)
    torch.testing.assert_close(simulated.whiten(x), z)
    likelihood = (x * counts(simulated) - x.exp() / 1_600).sum(-1)
    log_prior = simulated.log_prob(x) - likelihood
    torch.testing.assert_close(log_prior.diff(), -0.5 * z.square().sum(-1).diff())


@pytest.mark.parametrize("size", [100.0, 1e6, 1e19, -1e19])
def test_overflow_is_minus_infinity_and_not_nan(simulated: CoxProcess, size: float) -> None:
    x = torch.full((2, 1_600), size)
    assert torch.equal(simulated.log_prob(x), torch.full((2,), -math.inf))
    assert not simulated.score(x).isnan().any()


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"data must be one of .*'pines'.*got 'oaks'"):
        CoxProcess("oaks")  # type: ignore[arg-type]
