import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.targets.base import HasModes, HasReference, HasScore
from samplerbench.targets.phi4 import LatticeField, OrderedPhi4, Phi4ByMass

KAPPA = {"k02": 0.2, "k03": 0.3, "k05": 0.5}
NAMES = [*(f"phi4_l{n_side}_{kappa}" for n_side in (8, 16, 32) for kappa in KAPPA), "phi4_l14"]


@dataclass(frozen=True)
class AnyField(LatticeField):
    """The law of any couplings."""

    n_side: int
    couplings: tuple[float, float, float] = (0.0, 0.0, 0.0)

    scale = 1.0


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest) -> LatticeField:
    built = targets.get(request.param)
    assert isinstance(built, LatticeField)
    return built


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def normal(n: int, dim: int, seed: int) -> Tensor:
    return torch.randn(n, dim, generator=seeded(seed), dtype=torch.float64)


def free_field_draws(n: int, n_side: int, hopping: float, seed: int) -> tuple[Tensor, Tensor]:
    """Exact draws for U = sum phi^2 - hopping phi (phi_right + phi_down), and the variances of the Fourier modes.

    Circulant: U = 1/2 phi K phi, and K has the eigenvalues 2 - 2 hopping (cos p1 + cos p2).
    """
    cosine = torch.cos(2 * math.pi * torch.arange(n_side, dtype=torch.float64) / n_side)
    variance = 1 / (2 - 2 * hopping * (cosine[:, None] + cosine))
    white = torch.fft.fft2(normal(n, n_side**2, seed).reshape(n, n_side, n_side))
    return torch.fft.ifft2(variance.sqrt() * white).real.flatten(1), variance


def test_log_prob_of_regular_fields(target: LatticeField) -> None:
    """By hand: a constant field, a checkerboard of signs, a single site of 2."""
    n_sites, side = target.dim, torch.arange(target.n_side)
    constant = torch.ones(n_sites, dtype=torch.float64)
    checkerboard = (1.0 - 2 * ((side[:, None] + side) % 2)).flatten().double()
    single = torch.zeros(n_sites, dtype=torch.float64)
    single[3] = 2.0
    if isinstance(target, Phi4ByMass):
        expected = [-4.75 + 5.1, 8 - 4.75 + 5.1, (16 - 19 + 81.6) / n_sites]
    else:
        kappa = target.couplings[0] / 2
        assert kappa in KAPPA.values()
        expected = [0.956 + 0.022 - 4 * kappa, 0.956 + 0.022 + 4 * kappa, (4 * 0.956 + 16 * 0.022) / n_sites]
    for field, energy in zip((constant, checkerboard, single), expected, strict=True):
        assert math.isclose(target.log_prob(field), -n_sites * energy, rel_tol=1e-12)


@pytest.mark.parametrize("name", ["phi4_l8_k02", "phi4_l16_k05", "phi4_l14"])
def test_log_prob_against_a_loop_over_the_sites(name: str) -> None:
    target = targets.get(name)
    n = math.isqrt(target.dim)
    x = normal(1, target.dim, seed=0)[0]
    phi = x.reshape(n, n).numpy()
    energy = 0.0
    for i in range(n):
        for j in range(n):
            value, right, down = phi[i, j], phi[i, (j + 1) % n], phi[(i + 1) % n, j]
            if name == "phi4_l14":
                neighbours = right + down + phi[i, j - 1] + phi[i - 1, j]
                energy += value * (4 * value - neighbours) - 4.75 * value**2 + 5.1 * value**4
            else:
                energy += -2 * KAPPA[name[-3:]] * value * (right + down) + 0.956 * value**2 + 0.022 * value**4
    assert math.isclose(target.log_prob(x), -energy, rel_tol=1e-12)


def test_score_is_the_gradient(target: LatticeField) -> None:
    assert isinstance(target, HasScore)
    x = normal(6, target.dim, seed=1).reshape(2, 3, -1).requires_grad_()
    (expected,) = torch.autograd.grad(target.log_prob(x).sum(), x)
    torch.testing.assert_close(target.score(x.detach()), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("hopping", [0.3, 0.48])
def test_the_free_field_is_the_gaussian_of_its_fourier_modes(hopping: float) -> None:
    field = AnyField(n_side=8, couplings=(hopping, 1.0, 0.0))
    x, variance = free_field_draws(40_000, 8, hopping, seed=2)
    power = torch.fft.fft2(x.reshape(-1, 8, 8)).abs().square() / 64
    torch.testing.assert_close(field.log_prob(x), -0.5 * (power / variance).sum((1, 2)))
    # E phi^2 and E phi phi_right are inverse Fourier transforms of the variances; both bonds are alike by symmetry
    covariance = torch.fft.ifft2(variance).real
    assert isinstance(field, targets.HasSymmetry)
    invariants = field.invariants(x)
    expected = [math.sqrt(2 / math.pi * variance[0, 0] / 64), covariance[0, 0], covariance[0, 1]]
    errors = invariants.std(0) / math.sqrt(len(x))
    for k in range(3):
        assert abs(invariants[:, k].mean() - expected[k]) < 4.5 * errors[k]
    assert abs(invariants[:, 3].mean() - 3 * covariance[0, 0] ** 2) < 4.5 * errors[3]


def test_scrambled_fields_keep_their_density_and_invariants(target: LatticeField) -> None:
    assert isinstance(target, targets.HasSymmetry)
    x = normal(40, target.dim, seed=3)
    y = target.scramble(x, seeded(4))
    torch.testing.assert_close(target.log_prob(y), target.log_prob(x))
    torch.testing.assert_close(target.invariants(y), target.invariants(x))
    torch.testing.assert_close(y.abs().sort(-1).values, x.abs().sort(-1).values)
    assert not torch.equal(y, x)
    assert torch.equal(y, target.scramble(x, seeded(4)))
    assert target.scramble(x.float(), seeded(4)).dtype == torch.float32


def test_scrambling_is_uniform_over_the_group() -> None:
    """2 signs x 64 translations x 8 rotations and reflections, told apart by three marked sites."""
    field = torch.zeros(8, 8, dtype=torch.float64)
    field[0, 0], field[0, 1], field[2, 0] = 1.0, 2.0, 3.0
    target = targets.get("phi4_l8_k02")
    assert isinstance(target, targets.HasSymmetry)
    y = target.scramble(field.flatten().expand(200_000, -1), seeded(5))
    origin, right, down = ((y.abs() == mark).to(torch.int64).argmax(-1) for mark in (1.0, 2.0, 3.0))
    sign = (y.gather(1, origin[:, None])[:, 0] > 0).to(torch.int64)
    (rights, to_right), (downs, to_down) = (
        torch.unique((site // 8 - origin // 8) % 8 * 8 + (site - origin) % 8, return_inverse=True)
        for site in (right, down)
    )
    assert len(rights) == len(downs) == 4
    counts = torch.bincount(((sign * 64 + origin) * 4 + to_right) * 4 + to_down)
    counts = counts[counts > 0]
    assert len(counts) == 2 * 64 * 8
    assert stats.chisquare(counts.numpy()).pvalue > 1e-5


def test_modes_are_the_signs_of_the_mean() -> None:
    for name in NAMES:
        target = targets.get(name)
        assert isinstance(target, HasModes) == (not name.endswith("k02"))
        if isinstance(target, HasModes):
            field = torch.tensor([[-1.0], [1.0], [1e6], [-1e6], [math.nan]]).expand(-1, target.dim).clone()
            lone = field[1:2].clone()
            lone[0, 5] = 1e3
            assert target.modes.assign(torch.cat([field, lone])).tolist() == [0, 1, -1, -1, -1, -1]
            torch.testing.assert_close(target.modes.masses, torch.tensor([0.5, 0.5]).double(), rtol=0, atol=1e-6)
            assert 0 < 1 - target.modes.masses.sum() < 2e-6


@pytest.mark.parametrize("couplings", [OrderedPhi4(8, 0.3).couplings, OrderedPhi4(8, 0.5).couplings, (2.0, -0.75, 5.1)])
def test_the_region_of_the_modes_holds_all_but_a_millionth(couplings: tuple[float, float, float]) -> None:
    """On a 2 x 2 torus the sites form a ring with doubled bonds: masses are traces of powers of a transfer matrix."""
    hopping, quadratic, quartic = couplings
    assign = AnyField(2, couplings)._signs_of_mean().assign
    heights = torch.linspace(0, 40, 40_001, dtype=torch.float64)
    spike = torch.zeros(40_001, 4, dtype=torch.float64)
    spike[:, 0] = heights
    bound = heights[assign(spike) >= 0].max().item()
    axis = np.linspace(-1.5 * bound, 1.5 * bound, 1_201)
    site = 0.5 * (quadratic * axis**2 + quartic * axis**4)
    log_transfer = 2 * hopping * np.outer(axis, axis) - site[:, None] - site
    transfer = np.exp(log_transfer - log_transfer.max())
    inside = np.abs(axis) <= bound
    outside = 1 - np.trace(np.linalg.matrix_power(transfer[inside][:, inside], 4)) / np.trace(
        np.linalg.matrix_power(transfer, 4)
    )
    assert outside <= 1e-6
    typical = abs(axis[np.linalg.matrix_power(transfer, 4).diagonal().argmax()])
    assert bound < 5 * typical  # and the bound says something


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e6, 1e12, 1e25])
def test_far_fields_have_no_nan_in_float32(name: str, size: float) -> None:
    target = targets.get(name)
    assert isinstance(target, HasScore)
    x = size * normal(3, target.dim, seed=6).float()
    assert (target.log_prob(x) < -1e20).all()
    assert not target.score(x).isnan().any()


def test_reference_draws_are_claimed_for_registered_laws_alone() -> None:
    assert all(isinstance(targets.get(name), HasReference) for name in NAMES)
    assert not isinstance(AnyField(8), HasReference)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_side": 9}, r"n_side must be one of \(8, 16, 32\), got 9"),
        ({"kappa": 0.2}, r"kappa must be one of \(0.3, 0.5\), got 0.2"),
        ({"lam": 1.0}, "unknown parameter 'lam'"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        targets.get("phi4_l8_k03", **parameters)
