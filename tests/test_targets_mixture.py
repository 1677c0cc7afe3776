import math
import re

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Generator

from samplerbench import targets
from samplerbench.targets.mixture import GaussianMixture, fab_means

UNEVEN = GaussianMixture(means=((0.0, 0.0), (2.5, 0.5), (-4.0, 1.0)), sd=(1.0, 0.4, 1.5), weights=(0.5, 0.2, 0.3))


@pytest.mark.parametrize("target", [targets.get("mog2"), targets.get("ring8"), targets.get("gmm40_fab"), UNEVEN])
def test_log_prob_equals_scipy(target: GaussianMixture) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2)) * 3 * target.scale
    sds = np.broadcast_to(target.sd, len(target.means))
    weights = target.weights or np.full(len(target.means), 1 / len(target.means))
    components = [
        stats.multivariate_normal(m, s**2 * np.eye(2)).logpdf(x) for m, s in zip(target.means, sds, strict=True)
    ]
    expected = special.logsumexp(np.array(components) + np.log(weights)[:, None], axis=0)
    torch.testing.assert_close(target.log_prob(torch.from_numpy(x)), torch.from_numpy(expected))


def test_constants() -> None:
    assert targets.get("mog2").means == ((-1.0, -1.0), (1.0, 1.0))
    ring8, gmm40 = targets.get("ring8"), targets.get("gmm40_fab")
    assert ring8.sd == 0.5
    np.testing.assert_allclose(np.linalg.norm(ring8.means, axis=1), 4.0)
    neighbours = np.linalg.norm(np.diff(ring8.means, axis=0), axis=1)
    np.testing.assert_allclose(neighbours, 8 * math.sin(math.pi / 8))
    assert len(gmm40.means) == 40
    assert abs(gmm40.sd - 1.313262) < 5e-7


def test_means_of_gmm40_fab_are_the_published_draw() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        published = (torch.rand(40, 2) - 0.5) * 2 * 40
    assert torch.equal(torch.tensor(fab_means(0)), published)
    assert torch.equal(torch.tensor(targets.get("gmm40_fab").means), published)


def masses_by_quadrature(target: GaussianMixture, half_width: float, n_nodes: int) -> torch.Tensor:
    """Midpoint rule of the assignment on a fine grid."""
    step = 2 * half_width / n_nodes
    axis = (torch.arange(n_nodes, dtype=torch.float64) + 0.5) * step - half_width
    modes = target.modes
    masses = torch.zeros(len(modes.masses) + 1, dtype=torch.float64)
    for rows in axis.split(100):
        x = torch.cartesian_prod(rows, axis)
        masses.index_add_(0, modes.assign(x) + 1, target.log_prob(x).exp() * step**2)
    return masses[1:]


@pytest.mark.parametrize(
    ("target", "half_width"), [(targets.get("mog2"), 7.0), (targets.get("ring8"), 7.0), (UNEVEN, 10.0)]
)
def test_masses_equal_quadrature(target: GaussianMixture, half_width: float) -> None:
    assert (masses_by_quadrature(target, half_width, 1_600) - target.modes.masses).abs().max() < 1e-4


def test_masses_of_far_components_are_closed() -> None:
    weights = (0.6, 0.3, 0.0999, 1e-4)
    means = tuple((60.0 * k,) * 8 for k in range(4))
    modes = GaussianMixture(means, sd=(1.0, 2.0, 0.5, 1.0), weights=weights).modes
    torch.testing.assert_close(modes.masses, 0.999 * torch.tensor(weights, dtype=torch.float64), rtol=1e-9, atol=0)


def test_components_that_overlap_are_one_mode() -> None:
    """Bayes error of two equal components at distance d: Phi(-d / 2), 5% at d = 3.29."""
    for distance, n_modes in ((3.2, 1), (3.4, 2)):
        for weights in (None, (0.99, 0.01)):
            pair = GaussianMixture(((0.0, 0.0, 0.0), (0.0, distance, 0.0)), weights=weights)
            assert len(pair.modes.masses) == n_modes
    assert len(targets.get("mog2").modes.masses) == 1  # d = 2.83
    assert len(targets.get("ring8").modes.masses) == 8  # d = 6.12
    assert len(targets.get("gmm40_fab").modes.masses) == 31


def test_assignment_by_hand() -> None:
    """Region of a planar component: squared radius -2 log(0.001) = 13.8 standard deviations squared."""
    edge = 0.5 * math.sqrt(-2 * math.log(0.001))
    x = torch.tensor([[4.0, 0.0], [4 + 0.99 * edge, 0.0], [4 + 1.01 * edge, 0.0], [0.0, -4.0], [0.0, 0.0]])
    assert targets.get("ring8").modes.assign(x.double()).tolist() == [0, 0, -1, 6, -1]


def test_moments_of_two_points() -> None:
    moments = GaussianMixture(((0.0,), (10.0,)), sd=(1.0, 2.0), weights=(0.75, 0.25)).moments
    second, fourth = 0.75 * 1 + 0.25 * 104, 0.75 * 3 + 0.25 * (10**4 + 6 * 100 * 4 + 3 * 16)
    expected = [2.5, second], [second - 2.5**2, fourth - second**2]
    torch.testing.assert_close(
        (moments.mean, moments.variance), tuple(torch.tensor(e, dtype=torch.float64) for e in expected)
    )


def test_weights_and_widths_of_the_draws() -> None:
    x = UNEVEN.sample(200_000, Generator().manual_seed(0)).numpy()

    def cdf(t: np.ndarray) -> np.ndarray:
        return 0.5 * stats.norm(0, 1).cdf(t) + 0.2 * stats.norm(2.5, 0.4).cdf(t) + 0.3 * stats.norm(-4, 1.5).cdf(t)

    assert stats.kstest(x[:, 0], cdf).pvalue > 1e-5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"means": ()}, "means must hold at least one point, all of one length, got ()"),
        ({"means": ((0.0, 1.0), (2.0,))}, "means must hold at least one point, all of one length"),
        ({"means": ((0.0, math.nan),)}, "means must be finite"),
        ({"sd": -1.0}, "sd must be positive and finite, got -1.0"),
        ({"sd": (1.0, 0.0)}, "sd[1] must be positive and finite, got 0.0"),
        ({"sd": (1.0, 1.0, 1.0)}, "sd must hold one value for each of 2 means"),
        ({"weights": (1.5, -0.5)}, "weights[1] must be positive and finite, got -0.5"),
        ({"weights": (0.5, 0.4)}, "weights must sum to 1, got (0.5, 0.4) with sum 0.9"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        targets.get("mog2", **parameters)
