import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.targets.double_well_particles import DoubleWellParticles
from samplerbench.targets.lennard_jones import LennardJones, LennardJones13, LennardJones55
from samplerbench.targets.particles import Particles, helmert

NAMES = ["dw4", "lj13_bgflow", "lj13_efm", "lj55_bgflow", "lj55_efm"]


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest) -> Particles:
    built = targets.get(request.param)
    assert isinstance(built, Particles)
    return built


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def some_points(target: Particles, n: int) -> Tensor:
    if isinstance(target, LennardJones):
        return target.start(n, seeded(0))
    return 2 * torch.randn(n, target.dim, generator=seeded(0), dtype=torch.float64)


def icosahedron() -> Tensor:
    """Twelve vertices at distance 1 of a centre, shape (13, 3)."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, one, two) for one in (-1.0, 1.0) for two in (-golden, golden)]
    vertices = torch.tensor([corner[k:] + corner[:k] for corner in corners for k in range(3)], dtype=torch.float64)
    return torch.cat([torch.zeros(1, 3, dtype=torch.float64), vertices / vertices[0].norm()])


@pytest.mark.parametrize("n", [2, 4, 13, 55])
def test_helmert_is_an_orthonormal_basis_of_the_mean_free_space(n: int) -> None:
    basis = helmert(n)
    torch.testing.assert_close(basis @ basis.T, torch.eye(n - 1, dtype=torch.float64))
    torch.testing.assert_close(basis.T @ basis, torch.eye(n, dtype=torch.float64) - 1 / n)


def test_coordinates_and_positions_are_inverse_and_keep_lengths(target: Particles) -> None:
    x = some_points(target, 12).reshape(3, 4, target.dim)
    positions = target.to_particles(x)
    assert positions.shape == (3, 4, target.n_particles, target.space_dim)
    torch.testing.assert_close(positions.mean(-2), torch.zeros(3, 4, target.space_dim, dtype=torch.float64))
    torch.testing.assert_close(positions.square().sum((-2, -1)), x.square().sum(-1))
    torch.testing.assert_close(target.from_particles(positions + 7.5), x)
    distances2 = torch.cdist(positions, positions).square()
    first, second = torch.triu_indices(target.n_particles, target.n_particles, offset=1)
    torch.testing.assert_close(target.distances2(x), distances2[..., first, second])


def test_dw4_at_configurations_worked_out_by_hand() -> None:
    dw4 = DoubleWellParticles()
    square = torch.tensor([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=torch.float64)  # four sides of no energy
    line = torch.tensor([[0, 0], [3, 0], [6, 0], [9, 0]], dtype=torch.float64)  # 3 (.9 - 4) + 2 (14.4 - 16) + 462.5
    assert math.isclose(dw4.log_prob(dw4.from_particles(square)), 8.39664253075405, rel_tol=1e-12)
    assert math.isclose(dw4.log_prob(dw4.from_particles(line)), -450.0, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("name", "radius", "expected"),
    [  # 12 pairs at r, 30 at r / sin(72 degrees), 30 at 1.618... times that, 6 at 2 r; trap 6 r^2; by mpmath
        ("lj13_bgflow", 1.0, 36.58154296875),
        ("lj13_efm", 1.0, 79.1630859375),
        ("lj13_bgflow", 0.9, 28.01393077556036),
        ("lj13_efm", 0.9, 60.88786155112077),
    ],
)
def test_lj13_icosahedron(name: str, radius: float, expected: float) -> None:
    target = targets.get(name)
    assert isinstance(target, LennardJones13)
    x = target.from_particles(radius * icosahedron())
    assert math.isclose(target.log_prob(x), expected, rel_tol=1e-12)


@pytest.mark.parametrize(("convention", "counted"), [("bgflow", 1), ("efm", 2)])
def test_lj55_against_a_loop_over_the_pairs(convention: str, counted: int) -> None:
    target = targets.get(f"lj55_{convention}")
    assert isinstance(target, LennardJones55)
    x = target.start(2, seeded(1))
    for one, positions in zip(x, target.to_particles(x).numpy(), strict=True):
        distances = [float(np.linalg.norm(p - q)) for p, q in itertools.combinations(positions, 2)]
        energy = counted * sum(d**-12 - 2 * d**-6 for d in distances) + 0.5 * (positions**2).sum()
        assert math.isclose(target.log_prob(one), -energy, rel_tol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_points_in_blocks_are_each_their_own(dtype: torch.dtype) -> None:
    target = LennardJones55()
    x = target.start(2_000, seeded(2)).to(dtype)
    few = torch.cat([x[:3], x[-3:]])
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    log_prob, score = target.log_prob(x.reshape(4, 500, -1)), target.score(x.reshape(4, 500, -1))
    assert log_prob.shape == (4, 500)
    assert score.shape == (4, 500, 162)
    flat = torch.cat([log_prob.flatten()[:3], log_prob.flatten()[-3:]])
    torch.testing.assert_close(flat, target.log_prob(few), rtol=tolerance, atol=tolerance)
    flat = torch.cat([score.flatten(0, 1)[:3], score.flatten(0, 1)[-3:]])
    torch.testing.assert_close(flat, target.score(few), rtol=tolerance, atol=10 * tolerance)


def test_score_is_the_gradient(target: Particles) -> None:
    x = some_points(target, 20).requires_grad_()
    (expected,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    torch.testing.assert_close(target.score(x.detach()), expected, rtol=1e-10, atol=1e-10 * expected.abs().max().item())
    direction = torch.randn(x.shape, generator=seeded(3), dtype=torch.float64)
    h = 1e-6
    ahead, behind = (target.log_prob(x.detach() + sign * h * direction) for sign in (1, -1))
    slopes = (expected * direction).sum(-1)
    assert ((slopes - (ahead - behind) / (2 * h)).abs() <= 1e-5 * (1 + slopes.abs().max())).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-4, 0.0099, 0.0101])
def test_particles_that_touch_give_no_nan(target: Particles, dtype: torch.dtype, gap: float) -> None:
    positions = target.to_particles(some_points(target, 3))
    positions[:, 1] = positions[:, 0]
    positions[:, 1, 0] += gap
    x = target.from_particles(positions).to(dtype).requires_grad_()
    log_prob = target.log_prob(x)
    (score,) = torch.autograd.grad(log_prob.sum(), x, create_graph=True)
    (hvp,) = torch.autograd.grad((score * torch.linspace(1, 2, target.dim)).sum(), x)
    assert not any(value.isnan().any() for value in (log_prob, score, hvp, target.score(x.detach())))
    assert log_prob.isfinite().all()
    if isinstance(target, LennardJones):
        assert (log_prob < -1e22).all()


@pytest.mark.parametrize("size", [0.0, 1e6, 1e12, 1e25])
def test_log_prob_is_never_nan(target: Particles, size: float) -> None:
    log_prob = target.log_prob(size * some_points(target, 3).float())
    assert not log_prob.isnan().any()
    assert (log_prob < (-1e11 if size else 0.0)).all()


def test_scrambled_points_keep_their_density_and_invariants(target: Particles) -> None:
    assert isinstance(target, targets.HasSymmetry)
    x = some_points(target, 50)
    y = target.scramble(x, seeded(4))
    assert y.shape == x.shape
    assert ((y - x).norm(dim=-1) > 0.1 * x.norm(dim=-1)).all()
    torch.testing.assert_close(target.log_prob(y), target.log_prob(x))
    torch.testing.assert_close(target.invariants(y), target.invariants(x))
    assert torch.equal(y, target.scramble(x, seeded(4)))
    assert target.scramble(x.float(), seeded(4)).dtype == torch.float32


@pytest.mark.parametrize("name", ["dw4", "lj13_bgflow"])
def test_scrambling_is_uniform_over_rotations_reflections_and_permutations(name: str) -> None:
    target = targets.get(name)
    assert isinstance(target, Particles)
    n_draws, d = 20_000, target.space_dim
    x = torch.randn(1, target.dim, generator=seeded(5), dtype=torch.float64)
    before = target.to_particles(x)[0]
    after = target.to_particles(target.scramble(x.expand(n_draws, -1), seeded(6)))
    # the particles of largest, second largest, ... radius, found again by their radius, which the maps keep
    order, new_order = before.norm(dim=-1).argsort(descending=True), after.norm(dim=-1).argsort(-1, descending=True)
    for rank in (0, 1):
        counts = torch.bincount(new_order[:, rank], minlength=target.n_particles)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-5
    found = after.gather(1, new_order[..., None].expand(-1, -1, d))[:, :d]
    image = torch.linalg.solve(before[order[:d]].expand(n_draws, d, d), found)  # of the frame: the orthogonal map
    identity = torch.eye(d, dtype=torch.float64).expand(n_draws, d, d)
    torch.testing.assert_close(image @ image.mT, identity, rtol=0, atol=1e-8)
    assert stats.binomtest(int((image.det() > 0).sum()), n_draws).pvalue > 1e-5
    marginal = stats.beta(0.5, (d - 1) / 2)  # square of a coordinate of a uniform direction
    for entry in image.flatten(1).T.numpy():
        assert stats.kstest(entry**2, marginal.cdf).pvalue > 1e-5
        assert stats.binomtest(int((entry > 0).sum()), n_draws).pvalue > 1e-5


@pytest.mark.parametrize("name", NAMES[1:])
def test_starting_points_have_no_overlap(name: str) -> None:
    target = targets.get(name)
    assert isinstance(target, LennardJones)
    state = torch.get_rng_state()
    x = target.start(200, seeded(7))
    assert x.shape == (200, target.dim)
    assert x.dtype == torch.float64
    assert torch.equal(x, target.start(200, seeded(7)))
    assert not torch.equal(x, target.start(200, seeded(8)))
    assert torch.equal(torch.get_rng_state(), state)
    distances = target.distances2(x).sqrt()
    assert distances.min() >= 0.8
    # at 0.8 a pair's energy is 6.92; each particle has at most 6 sites beside it, each pair of them counted once
    worst = 3 * target.n_particles * 6.92 * (2 if target.convention == "efm" else 1)
    assert (target.log_prob(x) > -worst - 0.5 * x.square().sum(-1)).all()


def test_invariants_of_a_pair_of_known_shapes() -> None:
    dw4 = DoubleWellParticles()
    rectangle = torch.tensor([[3, 0], [0, 4], [0, 0], [3, 4]], dtype=torch.float64)
    expected = torch.tensor([3, 3, 4, 4, 5, 5], dtype=torch.float64)
    torch.testing.assert_close(dw4.invariants(dw4.from_particles(rectangle)), expected)
    lj13 = LennardJones13()
    gyration, sixth, twelfth, bound, smallest, mean, largest = lj13.invariants(lj13.from_particles(icosahedron()))
    edge, diagonal = 1.0514622242382672, 1.7013016167040799
    assert math.isclose(gyration, 12 / 13)
    assert math.isclose(sixth, 12 + 30 * edge**-6 + 30 * diagonal**-6 + 6 / 64)
    assert math.isclose(twelfth, 12 + 30 * edge**-12 + 30 * diagonal**-12 + 6 / 4096)
    steps = [1 / (1 + math.exp((d - 1.5) / 0.1)) for d in (1, edge, diagonal, 2)]
    assert math.isclose(bound, 12 * steps[0] + 30 * steps[1] + 30 * steps[2] + 6 * steps[3])
    assert math.isclose(smallest, 1.0)
    assert math.isclose(mean, (12 + 30 * edge + 30 * diagonal + 12) / 78)
    assert math.isclose(largest, 1.0)


def test_what_is_unknown_is_absent() -> None:
    for name in NAMES:
        target = targets.get(name)
        assert not isinstance(target, targets.HasLogZ | targets.HasSample | targets.HasModes)
        assert isinstance(target, targets.HasReference) == (not name.startswith("lj55"))


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ValueError, match=r"convention.*got 'once'"):
        targets.get("lj13_efm", convention="once")
    with pytest.raises(ValueError, match=r"convention must be bgflow or efm, got 'twice'"):
        LennardJones13("twice")  # type: ignore[arg-type]
