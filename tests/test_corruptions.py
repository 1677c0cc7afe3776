import math
from collections import Counter

import pytest
import torch
from scipy.stats import kstest, norm, t as student_t
from torch import Tensor

from samplerbench import targets
from samplerbench.benchmarks.corruptions import (
    CORRUPTIONS,
    Anatomy,
    Corruption,
    add_noise,
    burn_in,
    duplicate,
    inflate_tails,
    move_weights,
    shrink_mode,
)
from samplerbench.targets import derive_generator
from samplerbench.targets.mixture import GaussianMixture

N = 20_000
BIMODAL = GaussianMixture(((-4.0, 0.0), (4.0, 0.0)))
THREE = GaussianMixture(((0.0, 0.0), (20.0, 0.0), (0.0, 20.0)), sd=(1.0, 2.0, 0.5), weights=(0.2, 0.3, 0.5))


def pool_of(target: GaussianMixture, n: int, key: str = "pool") -> Tensor:
    return target.sample(n, derive_generator(key))


@pytest.fixture(scope="module")
def bimodal() -> Anatomy:
    return Anatomy.of(BIMODAL)


@pytest.fixture(scope="module")
def three() -> Anatomy:
    return Anatomy.of(THREE)


def shares(x: Tensor, target: GaussianMixture) -> Tensor:
    index = target.modes.assign(x)
    return torch.bincount(index[index >= 0], minlength=len(target.modes.masses)).double() / len(x)


def assert_shares(x: Tensor, target: GaussianMixture, expected: Tensor) -> None:
    error = (expected * (1 - expected) / len(x)).sqrt()
    assert ((shares(x, target) - expected).abs() <= 4.5 * error).all()


def rows(x: Tensor) -> Counter[tuple[float, ...]]:
    return Counter(map(tuple, x.tolist()))


@pytest.mark.parametrize("corruption", CORRUPTIONS.values(), ids=lambda c: c.name)
def test_corruptions_are_pure_functions_of_pool_and_generator(corruption: Corruption, bimodal: Anatomy) -> None:
    pool = pool_of(BIMODAL, 4_000)
    before = pool.clone()
    first, same, other = (corruption(pool, 999, bimodal, derive_generator(key)) for key in ("a", "a", "b"))
    assert first.shape == (999, 2)
    assert first.dtype == pool.dtype
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(pool, before)
    if corruption.name != "nothing":
        assert rows(first) != rows(pool[:999])


def test_the_control_returns_the_draws_themselves_in_another_order(bimodal: Anatomy) -> None:
    pool = pool_of(BIMODAL, 500)
    x = CORRUPTIONS["nothing"](pool, 400, bimodal, derive_generator("a"))
    assert rows(x) == rows(pool[:400])
    assert not torch.equal(x, pool[:400])


def test_the_lightest_mode_of_one_percent_is_dropped_and_the_others_keep_their_odds() -> None:
    target = GaussianMixture(((0.0, 0.0), (20.0, 0.0), (0.0, 20.0), (20.0, 20.0)), weights=(0.005, 0.6, 0.015, 0.38))
    x = CORRUPTIONS["drop_mode"](pool_of(target, 4 * N), N, Anatomy.of(target), derive_generator("a"))
    kept = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    assert shares(x, target)[2] == 0
    assert_shares(x, target, kept * target.modes.masses / (1 - target.modes.masses[2]))
    assert max(rows(x).values()) == 1


def test_moved_weights_are_nine_to_one(bimodal: Anatomy, three: Anatomy) -> None:
    inside = BIMODAL.modes.masses.sum()
    x = CORRUPTIONS["move_weights"](pool_of(BIMODAL, 4 * N), N, bimodal, derive_generator("a"))
    assert_shares(x, BIMODAL, inside * torch.tensor([0.9, 0.1], dtype=torch.float64))
    assert max(rows(x).values()) == 1
    masses = THREE.modes.masses  # the first half is modes 0 and 1
    half = masses[:2].sum()
    expected = masses.sum() * torch.cat([0.9 * masses[:2] / half, masses.new_tensor([0.1])])
    assert_shares(CORRUPTIONS["move_weights"](pool_of(THREE, 4 * N), N, three, derive_generator("b")), THREE, expected)


def test_moved_weights_leave_each_mode_as_it_is(bimodal: Anatomy) -> None:
    x = move_weights(pool_of(BIMODAL, 4 * N), N, bimodal, derive_generator("a"))
    for sign in (-1, 1):
        inside = x[x[:, 0] * sign > 0]
        assert kstest((inside[:, 0] - 4 * sign).numpy(), "norm").pvalue > 1e-4
        assert kstest(inside[:, 1].numpy(), "norm").pvalue > 1e-4


def test_inflated_tails_are_those_of_student_t_with_the_same_variance(bimodal: Anatomy) -> None:
    pool = pool_of(BIMODAL, N)
    x = inflate_tails(pool, N, bimodal, derive_generator("a"))
    deviation = (x - torch.where(pool[:, :1] > 0, 4.0, -4.0) * torch.tensor([1.0, 0.0]))[:, 1].numpy()
    assert kstest(deviation, student_t(df=5, scale=math.sqrt(3 / 5)).cdf).pvalue > 1e-4
    assert kstest(deviation, norm.cdf).pvalue < 1e-10
    assert abs(deviation.var() - 1) < 4.5 * math.sqrt(8 / N)  # kurtosis 9


def test_only_the_heaviest_mode_shrinks_and_by_half(three: Anatomy) -> None:
    pool = pool_of(THREE, N)
    x = shrink_mode(pool, N, three, derive_generator("a"))
    inside = THREE.modes.assign(pool) == 2
    centre = three.centres[2]
    assert torch.equal(x[~inside], pool[~inside])
    torch.testing.assert_close(x[inside] - centre, 0.5 * (pool[inside] - centre))
    sd, error = x[inside].std(0), 0.25 / math.sqrt(2 * int(inside.sum()))
    assert ((sd - 0.25).abs() < 4.5 * error + 0.002).all()  # the 0.1% outside the mode's region are cut off


@pytest.mark.parametrize("n", [1_000, 1_001])
def test_every_draw_comes_twice(n: int, bimodal: Anatomy) -> None:
    pool = pool_of(BIMODAL, n)
    copies = rows(duplicate(pool, n, bimodal, derive_generator("a")))
    assert Counter(copies.values()) == (Counter({2: 500}) if n == 1_000 else Counter({2: 500, 1: 1}))
    assert set(copies) <= set(rows(pool))


def test_burn_in_shifts_the_first_coordinate_by_the_stated_amounts(bimodal: Anatomy) -> None:
    pool = pool_of(BIMODAL, N)
    shift = (burn_in(pool, N, bimodal, derive_generator("a")) - pool) / bimodal.sd[0]
    assert (shift[:, 1] == 0).all()
    assert math.isclose(shift[0, 0].item(), 3.0, rel_tol=1e-12)
    assert math.isclose(shift[:, 0].mean().item(), 0.06, rel_tol=2 / (0.02 * N))  # sum of the series, to 1 / (0.02 n)
    assert abs((shift[:, 0] > 0.15).double().mean().item() - 0.06) < 1e-3


def test_noise_adds_a_quarter_of_the_variance_of_a_mode(three: Anatomy) -> None:
    pool = pool_of(THREE, N)
    noise = add_noise(pool, N, three, derive_generator("a")) - pool
    for j in range(2):
        assert kstest((noise[:, j] / (0.5 * three.width[j])).numpy(), "norm").pvalue > 1e-4
        correlation = torch.corrcoef(torch.stack([noise[:, j], pool[:, j]]))[0, 1].item()
        assert abs(correlation) < 4.5 / math.sqrt(N)


def test_anatomy_of_normal_modes(bimodal: Anatomy) -> None:
    median_error = math.sqrt(math.pi / 2 / 25_000)
    exact = torch.tensor([[-4.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    assert ((bimodal.centres - exact).abs() < 4.5 * median_error).all()
    assert ((bimodal.width - 1).abs() < 4.5 * 1.17 / math.sqrt(50_000)).all()  # sd of the median distance, times 1.4826
    assert abs(bimodal.sd[0].item() - math.sqrt(17)) < 4.5 * math.sqrt(17 / 50_000)  # too large: the law is bimodal


def test_points_outside_all_modes_belong_to_the_nearest_centre(bimodal: Anatomy) -> None:
    far = torch.tensor([[-30.0, 0.0], [30.0, 5.0], [0.1, 50.0]], dtype=torch.float64)
    assert (BIMODAL.modes.assign(far) == -1).all()
    assert torch.equal(bimodal.centre_of(far), bimodal.centres[[0, 1, 1]])


def test_what_needs_modes_says_so_where_there_are_none() -> None:
    anatomy = Anatomy.of(targets.get("funnel10"))  # type: ignore[arg-type]
    assert {c.name for c in CORRUPTIONS.values() if c.missing(anatomy)} == {"drop_mode", "move_weights", "shrink_mode"}
    with pytest.raises(ValueError, match="drop_mode needs a law with at least 2 modes"):
        CORRUPTIONS["drop_mode"](torch.zeros(40, 10), 10, anatomy, derive_generator("a"))


def test_a_pool_that_is_too_small_is_an_error(bimodal: Anatomy) -> None:
    with pytest.raises(ValueError, match="pool must hold 40 draws for drop_mode, got 39"):
        CORRUPTIONS["drop_mode"](pool_of(BIMODAL, 39), 10, bimodal, derive_generator("a"))
    lost = int(BIMODAL.modes.masses.argmin())
    with pytest.raises(ValueError, match="pool must leave 400 draws, it left 0"):
        CORRUPTIONS["drop_mode"](bimodal.centres[lost].repeat(1_600, 1), 400, bimodal, derive_generator("a"))
