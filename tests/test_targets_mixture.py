import math
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import integrate, special, stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.targets.base import Marginal
from samplerbench.targets.mixture import GaussianMixture, fab_means

UNEVEN = GaussianMixture(means=((0.0, 0.0), (2.5, 0.5), (-4.0, 1.0)), sd=(1.0, 0.4, 1.5), weights=(0.5, 0.2, 0.3))
# three means on a plane of R^6 that holds neither the origin nor an axis
PLANAR = GaussianMixture(
    means=((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (3.0, 1.0, 3.5, 4.0, 5.0, -1.0), (0.0, 0.0, 1.0, 2.0, 9.0, 6.0)),
    sd=(1.0, 0.4, 1.5),
    weights=(0.5, 0.2, 0.3),
)
LAWS = {name: targets.get(name) for name in ("mog2", "ring8", "gmm40_fab", "grid25", "bimodal50")}
LAWS |= {"uneven": UNEVEN, "planar": PLANAR, "one": GaussianMixture(((1.0, 2.0, 3.0),), sd=2.0)}


@pytest.mark.parametrize("target", LAWS.values(), ids=LAWS)
def test_log_prob_equals_scipy(target: GaussianMixture) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (20, target.dim)) * 3 * target.scale
    sds = np.broadcast_to(target.sd, len(target.means))
    weights = target.weights or np.full(len(target.means), 1 / len(target.means))
    components = [stats.norm(m, s).logpdf(x).sum(-1) for m, s in zip(target.means, sds, strict=True)]
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
    np.testing.assert_allclose(np.linalg.norm(targets.get("ring8_stein").means, axis=1), 15.0)
    assert set(targets.get("grid9").means) == {(x, y) for x in (-5.0, 0.0, 5.0) for y in (-5.0, 0.0, 5.0)}


@pytest.mark.parametrize(
    ("name", "at_ones"),  # by scipy
    [
        ("ring8_stein", -96.20011754981994),
        ("grid9", -6.1644621727251865),
        ("grid25", -7.1861134202571675),
        ("gmm40_seed1", -12.694986044453112),
        ("gmm40_seed2", -10.17729116390331),
        ("gmm40_seed3", -28.29122523798336),
        ("bimodal50", -71.2346087326854),
    ],
)
def test_spot_values(name: str, at_ones: float) -> None:
    target = targets.get(name)
    assert math.isclose(target.log_prob(torch.ones(target.dim, dtype=torch.float64)), at_ones, rel_tol=1e-12)


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


def test_masses_of_overlapping_components_in_many_dimensions() -> None:
    """Against an integral over the coordinate along both means, given which the rest is chi^2 with dim - 1."""
    dim, gap, weights = 40, 4.0, (0.9, 0.1)
    direction = np.cos(np.arange(1, dim + 1))
    far = tuple((gap * direction / np.linalg.norm(direction)).tolist())
    modes = GaussianMixture(((0.0,) * dim, far), weights=weights).modes
    region, middle = stats.chi2(dim).ppf(0.999), gap / 2 + math.log(weights[0] / weights[1]) / gap

    def density_of_first(t: float) -> float:
        """Of t = x . direction, times the probability that x goes to the first component."""
        near, other = stats.chi2(dim - 1).cdf([region - t**2, region - (gap - t) ** 2])
        joint = weights[0] * stats.norm.pdf(t) + weights[1] * stats.norm.pdf(t - gap)
        return joint * (near if t < middle else max(near - other, 0.0))

    cuts = [-8.0, gap / 2, middle, 12.0]
    first = sum(integrate.quad(density_of_first, *cuts[i : i + 2], epsabs=1e-10)[0] for i in range(3))
    assert abs(modes.masses[0] - first) < 1e-4


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


def test_marginals_by_hand() -> None:
    """ring8 at x[0] = 0: one half by symmetry; bimodal50 at 1: .75 Phi(1) + .25 Phi(-5) in x[0]."""
    ring8, bimodal = targets.get("ring8").marginals, targets.get("bimodal50").marginals
    assert [marginal.name for marginal in ring8] == ["x[0]", "x[1]", "projection"]
    assert [marginal.name for marginal in bimodal] == ["x[0]", "x[1]", "x[2]", "x[3]", "projection"]
    assert math.isclose(ring8[0].cdf(torch.zeros(1)), 0.5)
    assert math.isclose(bimodal[0].cdf(torch.ones(1)), 0.75 * 0.8413447460685429 + 0.25 * 2.8665157187919e-07)
    for marginal in bimodal[1:4]:
        assert math.isclose(marginal.cdf(torch.ones(1)), 0.75 * 0.8413447460685429 + 0.25 * 0.9522096477271853)
    x = torch.tensor([[0.3, -0.7]])
    projected = (0.3 * math.cos(1) - 0.7 * math.cos(2)) / math.hypot(math.cos(1), math.cos(2))
    assert math.isclose(ring8[2].statistic(x), projected, rel_tol=1e-6)


def pvalue(x: Tensor, marginal: Marginal) -> float:
    def cdf(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return marginal.cdf(torch.from_numpy(t)).numpy()

    return float(stats.kstest(marginal.statistic(x).numpy(), cdf).pvalue)


@pytest.mark.parametrize("target", LAWS.values(), ids=LAWS)
def test_marginals_are_those_of_the_draws(target: GaussianMixture) -> None:
    x = target.sample(50_000, Generator().manual_seed(0))
    assert min(pvalue(x, marginal) for marginal in target.marginals) > 1e-5


def test_memory_does_not_grow_with_components_times_dimensions() -> None:
    """What autograd keeps: no tensor of n_points x n_components x dim numbers."""
    n_points, n_components, dim = 100, 16, 512
    means = torch.randn(n_components, dim, generator=Generator().manual_seed(0)).tolist()
    target = GaussianMixture(tuple(map(tuple, means)))
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        target.log_prob(torch.zeros(n_points, dim, requires_grad=True))
    assert max(sizes) <= n_points * dim


@pytest.mark.parametrize("separation", [10.0, 1_000.0])
def test_float32_far_from_the_centre(separation: float) -> None:
    """Error of log_prob: that of a squared distance, 2 |x - mean| |x - centre| epsilon; ten times that at the most."""
    means = torch.randn(4, 64, generator=Generator().manual_seed(0), dtype=torch.float64) * separation / math.sqrt(128)
    target = GaussianMixture(tuple(map(tuple, means.tolist())))
    x = target.sample(1_000, Generator().manual_seed(1)).float()
    error = (target.log_prob(x).double() - target.log_prob(x.double())).abs().max()
    assert error < 10 * 2 * 8 * (x - x.mean(0)).norm(dim=-1).max() * torch.finfo(torch.float32).eps / 2


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
