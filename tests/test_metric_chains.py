import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm, rankdata
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Truth
from samplerbench.metrics.chains import smallest_ess, worst_rhat
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def autoregression(n_chains: int, n_kept: int, rho: float) -> Tensor:
    """Stationary AR(1) chains of one coordinate, variance 1."""
    z = normal(n_chains, n_kept)
    x = [z[:, 0]]
    for t in range(1, n_kept):
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * z[:, t])
    return torch.stack(x, 1)[..., None]


def split_rhat(chains: np.ndarray) -> float:
    """Rank-normalised split R-hat of one coordinate as Vehtari et al. (2021) write it: the larger of bulk and tail."""
    half = chains.shape[1] // 2
    halves = np.concatenate([chains[:, :half], chains[:, -half:]])

    def rhat(values: np.ndarray) -> float:
        z = norm.ppf((rankdata(values).reshape(values.shape) - 3 / 8) / (values.size + 1 / 4))
        within = z.var(axis=1, ddof=1).mean()
        between = z.shape[1] * z.mean(axis=1).var(ddof=1)
        return math.sqrt(((z.shape[1] - 1) / z.shape[1] * within + between / z.shape[1]) / within)

    return max(rhat(halves), rhat(np.abs(halves - np.median(halves))))


def test_rhat_is_that_of_the_paper_in_the_worst_coordinate() -> None:
    chains = normal(4, 101, 3)
    chains[0, :, 1] += 0.5
    expected = max(split_rhat(chains[:, :, i].numpy()) for i in range(3))
    assert math.isclose(worst_rhat(chains), expected, rel_tol=1e-10)
    assert expected > 1.01


def test_ess_of_an_autoregression_is_its_closed_form() -> None:
    n_chains, n_kept, rho = 16, 1_000, 0.6
    exact = n_chains * n_kept * (1 - rho) / (1 + rho)
    assert abs(smallest_ess(autoregression(n_chains, n_kept, rho)) / exact - 1) < 0.25  # five times the spread, .05


def test_tail_ess_of_an_autoregression_is_that_of_its_quantile_s_indicator() -> None:
    """Autocorrelations of [x <= q] from the bivariate normal distribution function; both tails are alike."""
    n_chains, n_kept, rho, tail = 16, 1_000, 0.6, 0.05
    q = norm.ppf(tail)
    joint = [multivariate_normal([0, 0], [[1, rho**t], [rho**t, 1]]).cdf([q, q]) for t in range(1, 40)]
    exact = n_chains * n_kept / (1 + 2 * sum((p - tail**2) / (tail * (1 - tail)) for p in joint))
    value = smallest_ess(autoregression(n_chains, n_kept, rho), "tail")
    assert abs(value / exact - 1) < 0.25  # five times the spread, .05
    assert value > 1.3 * n_chains * n_kept * (1 - rho) / (1 + rho)  # the bulk's is smaller


def test_tail_ess_sees_chains_of_another_width() -> None:
    chains = normal(8, 500, 1)
    chains[:4] *= 3
    assert smallest_ess(chains, "tail") < 0.1 * smallest_ess(chains)


def test_tail_ess_agrees_with_arviz() -> None:
    import arviz

    chains = normal(4, 101, 3).cumsum(1)
    posterior = arviz.convert_to_dataset({"x": chains.numpy()})
    expected = arviz.ess(posterior, method="tail")["x"].to_numpy().min()
    assert math.isclose(smallest_ess(chains, "tail"), expected, rel_tol=1e-12)


def test_ess_is_that_of_the_worst_coordinate() -> None:
    slow = autoregression(8, 500, 0.9)
    assert smallest_ess(torch.cat([normal(8, 500, 1, seed=1), slow], -1)) == smallest_ess(slow)


def test_chains_in_different_modes_are_noticed() -> None:
    chains = normal(4, 100, 2)
    chains[:2] += 8
    assert worst_rhat(chains) > 1.5
    assert smallest_ess(chains) < 20


def test_a_coordinate_that_never_moves_has_no_rhat() -> None:
    chains = torch.cat([normal(4, 100, 1), torch.ones(4, 100, 1, dtype=torch.float64)], -1)
    assert math.isnan(worst_rhat(chains))


@pytest.mark.parametrize("shape", [(1, 100, 2), (4, 3, 2), (4, 100)])
def test_chains_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="n_chains >= 2, n_kept >= 4 and dim >= 1, got"):
        worst_rhat(torch.zeros(shape))


def test_metrics_read_the_chains_of_the_draws() -> None:
    chains = normal(4, 100, 2)
    draws = Draws(samples=chains.reshape(-1, 2), chains=chains)
    assert METRICS.get("rhat")(draws, Truth(), seed=0) == {"rhat": worst_rhat(chains)}
    assert METRICS.get("ess_bulk")(draws, Truth(), seed=0) == {"ess_bulk": smallest_ess(chains)}
    assert METRICS.get("ess_tail")(draws, Truth(), seed=0) == {"ess_tail": smallest_ess(chains, "tail")}
    assert METRICS.get("rhat").missing(Draws(samples=chains[0]), Truth()) == "needs chains"


def test_a_coordinate_that_never_moves_has_no_effective_size() -> None:
    chains = torch.randn(4, 50, 2, generator=Generator().manual_seed(0))
    chains[..., 1] = 1.0
    assert math.isnan(smallest_ess(chains))
    assert math.isnan(smallest_ess(chains, "tail"))
