import math
import re

import pytest
import torch
from torch import Generator

from samplerbench import targets
from samplerbench.targets.random_mixture import RandomMixture


def closest_pair(target: RandomMixture) -> float:
    """Distance of the closest pair, in units of the mean standard deviation of the pair."""
    means, sds = target.mixture.means, target.mixture.sd
    assert isinstance(sds, tuple)
    return min(math.dist(means[j], means[k]) / ((sds[j] + sds[k]) / 2) for k in range(len(means)) for j in range(k))


@pytest.mark.parametrize(
    ("name", "dim", "n_modes", "separation"),
    [
        ("mixture_2d", 2, 12, 8.0),
        ("mixture_8d", 8, 10, 12.0),
        ("mixture_32d", 32, 16, 16.0),
        ("mixture_128d", 128, 16, 24.0),
        ("mixture_512d", 512, 8, 40.0),
    ],
)
def test_registered_mixtures(name: str, dim: int, n_modes: int, separation: float) -> None:
    target = targets.get(name)
    assert target.dim == dim
    assert math.isclose(closest_pair(target), separation)
    assert math.isclose(sum(target.weights), 1)
    assert min(target.weights) >= 0.03
    assert len(set(target.weights)) > n_modes / 2
    # components this far apart lose less than Phi(-separation / 3) of their mass to others
    order = 0.999 * torch.tensor(target.weights, dtype=torch.float64)
    torch.testing.assert_close(target.modes.masses, order, rtol=5e-3, atol=0)
    assert target.modes.assign(torch.tensor(target.mixture.means)).tolist() == list(range(n_modes))


@pytest.mark.parametrize(
    ("name", "at_zeros", "at_ones"),  # by scipy from the drawn parameters: they pin the draw
    [
        ("mixture_2d", -238.44833741000954, -221.93328546001652),
        ("mixture_8d", -38.51629656803888, -54.37757518787394),
        ("mixture_32d", -98.71089920679859, -110.51025278821932),
        ("mixture_128d", -284.52857843803326, -343.60933843843884),
        ("mixture_512d", -873.337937220153, -1121.9629711433854),
    ],
)
def test_spot_values(name: str, at_zeros: float, at_ones: float) -> None:
    target = targets.get(name)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, target.dim)
    torch.testing.assert_close(
        target.log_prob(x), torch.tensor([at_zeros, at_ones], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_parameters_of_the_draw() -> None:
    base = RandomMixture(dim=3, n_modes=200, separation=5.0)
    assert base.mixture.sd == (1.0,) * 200
    assert base.mixture.weights is None
    assert base.mixture.means == RandomMixture(dim=3, n_modes=200, separation=5.0).mixture.means
    assert base.mixture.means != RandomMixture(dim=3, n_modes=200, separation=5.0, seed=1).mixture.means
    spread = RandomMixture(dim=3, n_modes=200, separation=5.0, sd_spread=2.0)
    logs = torch.tensor(spread.mixture.sd).log() / math.log(2)
    assert -1 <= logs.min() < -0.9  # uniform on [-1, 1]
    assert 0.9 < logs.max() <= 1
    assert abs(logs.mean()) < 5 / math.sqrt(3 * 200)
    assert math.isclose(closest_pair(spread), 5.0)


def test_knowledge_follows_the_parameters() -> None:
    target = RandomMixture(dim=5, n_modes=2, separation=20.0, sd_spread=3.0, weights=(0.8, 0.2), seed=7)
    m, s2 = torch.tensor(target.mixture.means).double(), torch.tensor(target.mixture.sd).double().square()[:, None]
    w = torch.tensor([0.8, 0.2], dtype=torch.float64)
    torch.testing.assert_close(target.moments.mean, torch.cat([w @ m, w @ (m**2 + s2)]), rtol=1e-6, atol=1e-6)
    x = target.sample(20_000, Generator().manual_seed(0))
    share = (target.modes.assign(x) == 0).double().mean()
    assert abs(share - 0.8 * 0.999) < 5 * math.sqrt(0.8 * 0.2 / 20_000)
    for marginal in target.marginals:
        ranks = marginal.cdf(marginal.statistic(x))  # uniform: mean 1/2, variance 1/12
        assert abs(ranks.mean() - 0.5) < 5 / math.sqrt(12 * 20_000)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"n_modes": 1}, "n_modes must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"separation": 0.0}, "separation must be positive and finite, got 0.0"),
        ({"sd_spread": 0.5}, "sd_spread must be at least 1, got 0.5"),
        ({"weights": (0.5, 0.5)}, "weights must hold one value for each of 12 means"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        targets.get("mixture_2d", **parameters)
