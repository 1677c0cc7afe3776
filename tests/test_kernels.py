"""Transitions: the acceptance formula, invariance, the closed-form bias of ULA, and the adaptation of the step."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.samplers.adaptation import StepAdaptation
from samplerbench.samplers.annealed import Base, Tempered
from samplerbench.samplers.base import Kernel, State
from samplerbench.samplers.kernels import (
    BAOABKernel,
    CoordinateWalk,
    Cycle,
    Dense,
    Diverged,
    HMCKernel,
    MALAKernel,
    RandomStep,
    RandomWalkKernel,
    Scales,
    ULAKernel,
    drift,
    finite,
)
from samplerbench.targets import Meter


class Quartic:
    """log p = -x^4/4 + x y - y^2, whose score is nonlinear; remembers where it was evaluated."""

    dim = 2
    scale = 1.0

    def __init__(self) -> None:
        self.visited: list[Tensor] = []

    def log_prob(self, x: Tensor) -> Tensor:
        self.visited.append(x.detach())
        return -0.25 * x[..., 0] ** 4 + x[..., 0] * x[..., 1] - x[..., 1] ** 2


class Normal:
    """N(0, variance I)."""

    scale = 1.0

    def __init__(self, dim: int = 1, variance: float = 1.0) -> None:
        self.dim = dim
        self.variance = variance

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1) / self.variance


class Edges(Normal):
    """A standard normal with NaN beyond 1, density zero below -1 and an infinite spike between 0.2 and 0.3."""

    def log_prob(self, x: Tensor) -> Tensor:
        first = x[..., 0]
        log_prob = super().log_prob(x)
        log_prob = torch.where(first > 1, math.nan, log_prob)
        log_prob = torch.where(first < -1, -math.inf, log_prob)
        return torch.where((first > 0.2) & (first < 0.3), math.inf, log_prob)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


Array: TypeAlias = npt.NDArray[np.float64]


def log_normal_density(x: Array, mean: Array, variance: float) -> Array:
    density: Array = -np.square(x - mean).sum(-1) / (2 * variance) - x.shape[-1] / 2 * np.log(2 * np.pi * variance)
    return density


@pytest.mark.parametrize("max_drift", [math.inf, 0.3])
def test_mala_accepts_with_the_metropolis_hastings_probability(max_drift: float) -> None:
    h = 0.35
    target = Quartic()
    meter = Meter(target, dtype=torch.float64)
    start = State.at(2 * torch.randn(500, 2, generator=generator(), dtype=torch.float64), meter)
    moved = MALAKernel(h, max_drift)(start, meter, generator(1))
    x, y = start.x.numpy(), target.visited[-1].numpy()

    def log_p(z: Array) -> Array:
        log_density: Array = -(z[:, 0] ** 4) / 4 + z[:, 0] * z[:, 1] - z[:, 1] ** 2
        return log_density

    def mean_of_proposal(z: Array) -> Array:
        score = np.stack([-(z[:, 0] ** 3) + z[:, 1], z[:, 0] - 2 * z[:, 1]], -1)
        length = h * np.linalg.norm(score, axis=-1, keepdims=True)
        mean: Array = z + h * score * np.minimum(1, max_drift * np.sqrt(2 * h * 2) / length)
        return mean

    there = log_normal_density(y, mean_of_proposal(x), 2 * h)
    back = log_normal_density(x, mean_of_proposal(y), 2 * h)
    with np.errstate(over="ignore"):
        expected = np.minimum(1, np.exp(log_p(y) + back - log_p(x) - there))
    np.testing.assert_allclose(moved.acceptance, expected, rtol=1e-9, atol=1e-12)

    went = (moved.x != start.x).any(-1).numpy()
    assert 50 < went.sum() < 450
    np.testing.assert_array_equal(moved.x, np.where(went[:, None], y, x))
    at_moved = State.at(moved.x, Meter(target, dtype=torch.float64))
    torch.testing.assert_close((moved.log_prob, moved.score), (at_moved.log_prob, at_moved.score))
    # accepted with that probability: the number of moves is a sum of independent Bernoullis
    sd = math.sqrt((expected * (1 - expected)).sum())
    assert abs(went.sum() - expected.sum()) < 4 * sd


def test_a_move_costs_one_score_per_point_and_leaves_its_argument() -> None:
    meter = Meter(Quartic())
    state = State.at(torch.randn(30, 2, generator=generator()), meter)
    copies = [part.clone() for part in state[:4]]
    for kernel in (ULAKernel(0.1), ULAKernel(0.1, 1.0), MALAKernel(0.1), MALAKernel(0.1, 1.0)):
        before = meter.counts["fit"].score
        kernel(state, meter, generator())
        assert meter.counts["fit"].score - before == 30
        assert meter.counts["fit"].log_prob == meter.counts["fit"].score
    for part, copy in zip(state[:4], copies, strict=True):
        assert torch.equal(part, copy)


Statistic = Callable[[Tensor], Tensor]


def narrowest_square(x: Tensor) -> Tensor:
    """Square of the coordinate along the last principal axis of gaussian_ill (a discrete cosine basis)."""
    k = torch.arange(10, dtype=torch.float64)
    axis = torch.cos(math.pi * 9 * (k + 0.5) / 10) * math.sqrt(2 / 10)
    return (x @ axis).square()


def change_in_errors(kernel: Kernel, target_name: str, statistic: Statistic) -> float:
    """Change of a mean over 20 moves that start from exact draws of the target, in standard errors."""
    target = targets.get(target_name)
    exact = target.sample(10_000, generator(2))  # type: ignore[attr-defined]
    meter = Meter(target, dtype=torch.float64)
    state = State.at(exact, meter)
    noise = generator(4)
    for _ in range(20):
        state = kernel(state, meter, noise)
    change = statistic(state.x) - statistic(exact)
    return float(change.mean().abs() / (change.std() / math.sqrt(len(change))))


MOMENTS = [
    pytest.param("funnel2", 0.7, lambda x: torch.tanh(x[:, 0]), id="funnel2-v"),
    pytest.param("funnel2", 0.7, lambda x: torch.tanh(x[:, 1].square()), id="funnel2-x"),  # bounded: heavy tails
    pytest.param("gaussian_ill", 1.2e-4, narrowest_square, id="gaussian_ill-narrowest"),
    pytest.param("gaussian_ill", 1.2e-4, lambda x: targets.get("gaussian_ill").log_prob(x), id="gaussian_ill-log_prob"),
]


@pytest.mark.parametrize("max_drift", [math.inf, 1.0])
@pytest.mark.parametrize(("target_name", "step", "statistic"), MOMENTS)
def test_mala_from_exact_draws_keeps_its_moments(
    target_name: str, step: float, statistic: Statistic, max_drift: float
) -> None:
    assert change_in_errors(MALAKernel(step, max_drift), target_name, statistic) < 4


@pytest.mark.parametrize(("target_name", "step", "statistic"), MOMENTS)
def test_the_same_check_fails_without_the_accept_step(target_name: str, step: float, statistic: Statistic) -> None:
    assert change_in_errors(ULAKernel(step), target_name, statistic) > 8


def test_proposals_without_a_finite_density_are_rejected() -> None:
    meter = Meter(Edges())
    state = State.at(torch.full((2_000, 1), 0.1), meter)
    noise = generator(5)
    for _ in range(20):
        before = state
        state = MALAKernel(0.5)(state, meter, noise)
        assert state.log_prob.isfinite().all()
        assert state.score.isfinite().all()
        stayed = (state.x == before.x).all(-1)
        assert stayed[state.acceptance == 0].all()
    assert ((state.x > -1) & (state.x < 1)).all()
    assert not ((state.x > 0.2) & (state.x < 0.3)).any()
    assert (state.x != 0.1).double().mean() > 0.98
    assert meter.n_nan > 0


def test_ula_has_the_closed_form_variance_and_a_bias_of_first_order() -> None:
    variance, n = 0.7, 100_000
    bias = {}
    for h in (0.28, 0.14):
        meter = Meter(Normal(variance=variance))
        state = State.at(math.sqrt(variance) * torch.randn(n, 1, generator=generator()), meter)
        noise = generator(1)
        for _ in range(60):  # (1 - h / v)^120 < 1e-11 of the start is left
            state = ULAKernel(h)(state, meter, noise)
        exact = variance / (1 - h / (2 * variance))
        measured = float(state.x.double().var())
        assert abs(measured - exact) < 4 * exact * math.sqrt(2 / n)
        bias[h] = measured - variance
    # (1 / (1 - h/2v) - 1) at h over the same at h/2: 2 in the limit, 2.25 at h = 0.4 v
    sd = variance * math.sqrt(2 / n)
    assert abs(bias[0.28] - 2.25 * bias[0.14]) < 4 * math.hypot(1.25, 2.25 * 1.12) * sd


def test_ula_raises_instead_of_returning_points_that_are_not_finite() -> None:
    meter = Meter(Normal(dim=2))
    state = State.at(torch.tensor([[0.0, 0.0], [1e38, 0.0], [0.0, 1.0]]), meter)
    with pytest.raises(Diverged, match=r"1 of 3 rows after a move with step 100"):
        ULAKernel(100.0)(state, meter, generator())


@pytest.mark.parametrize("part", ["x", "log_prob", "score"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_finite_sees_every_part_of_the_state(part: str, value: float) -> None:
    state = State(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, 2), torch.ones(3))
    assert finite(state, "") is state
    getattr(state, part)[1] = value
    with pytest.raises(Diverged, match="in 1 of 3 rows at the start"):
        finite(state, "at the start")


def test_drift_is_h_times_the_score_up_to_its_longest_length() -> None:
    h, limit = 0.02, 0.5 * math.sqrt(2 * 0.02 * 2)
    score = torch.tensor([[3.0, -1.0], [300.0, 400.0], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.stack([h * score[0], limit * torch.tensor([0.6, 0.8], dtype=torch.float64), score[2]])
    torch.testing.assert_close(drift(score, h, 0.5), expected)
    torch.testing.assert_close(drift(score, h, math.inf), h * score)


def test_adaptation_finds_the_step_with_the_stated_acceptance() -> None:
    adaptation = StepAdaptation(step=200.0, target=0.574)
    for _ in range(1_000):
        adaptation.update(torch.tensor([math.exp(-adaptation.step)], dtype=torch.float64))
    assert math.isclose(adaptation.frozen(), -math.log(0.574), rel_tol=1e-3)
    assert math.isclose(adaptation.acceptance_rate, 0.574, rel_tol=1e-3)
    # the recursion itself: log h_2 - log h_1 = 1^-0.6 (a_1 - target)
    assert math.isclose(math.log(adaptation.steps[1] / 200.0), math.exp(-200.0) - 0.574)


def test_adaptation_without_moves_keeps_its_start() -> None:
    adaptation = StepAdaptation(step=0.3, target=0.5)
    assert adaptation.frozen() == 0.3
    assert math.isnan(adaptation.acceptance_rate)


ADJUSTED = [
    pytest.param("funnel2", lambda h: MALAKernel(h**2 / 2), 0.9, id="mala-funnel2"),
    pytest.param("ring8", lambda h: MALAKernel(h**2 / 2, 1.0), 0.7, id="mala-ring8"),
    pytest.param("gaussian_ill", lambda h: MALAKernel(h**2 / 2, 1.0), 0.015, id="mala-gaussian_ill"),
    pytest.param("funnel2", lambda h: HMCKernel(h, 5), 0.5, id="hmc-funnel2"),
    pytest.param("ring8", lambda h: HMCKernel(h, 5), 0.6, id="hmc-ring8"),
    pytest.param("gaussian_ill", lambda h: HMCKernel(h, 5), 0.015, id="hmc-gaussian_ill"),
    pytest.param("funnel2", RandomWalkKernel, 1.0, id="random walk-funnel2"),
    pytest.param("ring8", RandomWalkKernel, 0.7, id="random walk-ring8"),
    pytest.param("gaussian_ill", RandomWalkKernel, 0.01, id="random walk-gaussian_ill"),
    pytest.param("funnel2", lambda h: CoordinateWalk(h, 0.1, 2), 2.0, id="coordinate walk-funnel2"),
    pytest.param("ring8", lambda h: CoordinateWalk(h, 0.1, 2), 3.0, id="coordinate walk-ring8"),
    pytest.param("gaussian_ill", lambda h: CoordinateWalk(h, 0.1, 2), 0.05, id="coordinate walk-gaussian_ill"),
    pytest.param("ring8", lambda h: Cycle(HMCKernel(h, 5), MALAKernel(h**2)), 0.6, id="cycle-ring8"),
    pytest.param("funnel2", lambda h: RandomStep(HMCKernel(h, 5), 0.1), 0.9, id="random step-funnel2"),
    pytest.param("ring8", lambda h: RandomStep(MALAKernel(h**2 / 2), 0.01), 1.0, id="random step-ring8"),
    pytest.param("gaussian_ill", lambda h: RandomStep(HMCKernel(h, 5), 0.1), 0.02, id="random step-gaussian_ill"),
]


@pytest.mark.parametrize(("target_name", "kernel", "step"), ADJUSTED)
def test_adjusted_kernels_keep_exact_draws_exact(
    target_name: str, kernel: Callable[[float], Kernel], step: float
) -> None:
    """Four statistics of 10,000 draws, before and after 20 moves, paired; 64 numbers in all, each at 4.5 errors.

    A normal number is beyond 4.5 errors once in 150,000, so that one of the 64 is once in 2,300 seeds.
    """
    target: Any = targets.get(target_name)

    def statistics(x: Tensor) -> Tensor:
        first, last = torch.tanh(x[:, 0]), torch.tanh(x[:, -1].square())  # bounded: heavy tails
        narrow = narrowest_square(x) if target_name == "gaussian_ill" else torch.tanh(x[:, 0] * x[:, 1])
        return torch.stack([first, last, torch.tanh(target.log_prob(x) / target.dim), narrow], -1)

    exact = target.sample(10_000, generator(2))
    meter = Meter(target, dtype=torch.float64)
    state = State.at(exact, meter)
    noise = generator(4)
    acceptance = []
    for _ in range(20):
        state = kernel(step)(state, meter, noise)
        acceptance.append(state.acceptance.mean().item())
    assert 0.2 < sum(acceptance) / 20 < 0.97  # some are rejected: without the decision the law would change
    change = statistics(state.x) - statistics(exact)
    assert (change.mean(0).abs() < 4.5 * change.std(0) / math.sqrt(len(change))).all()


@pytest.mark.parametrize(
    "kernel",
    [
        lambda scales: ULAKernel(0.05, 1.0, scales),
        lambda scales: MALAKernel(0.05, 1.0, scales),
        lambda scales: HMCKernel(0.3, 4, scales),
        lambda scales: RandomWalkKernel(0.5, scales),
        lambda scales: BAOABKernel(0.3, 1.0, 2.0, scales),
        lambda scales: RandomStep(HMCKernel(0.3, 4, scales), 0.1),
        lambda scales: CoordinateWalk(1.0, 0.1, 3, scales),
    ],
    ids=["ula", "mala", "hmc", "random walk", "baoab", "random step", "coordinate walk"],
)
def test_scales_are_a_change_of_coordinates(kernel: Callable[[Tensor | None], Kernel]) -> None:
    """The same noise moves x under p with scales as it moves z under the law of z = x / scales without them."""
    scales = torch.tensor([0.5, 3.0], dtype=torch.float64)

    class Scaled(Quartic):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(scales * x)

    z = torch.randn(200, 2, generator=generator(), dtype=torch.float64)
    plain, scaled = Meter(Scaled(), dtype=torch.float64), Meter(Quartic(), dtype=torch.float64)
    of_z, of_x = State.at(z, plain), State.at(scales * z, scaled)
    noise_z, noise_x = generator(1), generator(1)
    for _ in range(5):
        of_z, of_x = kernel(None)(of_z, plain, noise_z), kernel(scales)(of_x, scaled, noise_x)
    torch.testing.assert_close(of_x.x, scales * of_z.x)
    torch.testing.assert_close(of_x.acceptance, of_z.acceptance)
    assert (of_z.x != z).any()


class Correlated:
    """N(0, C), coordinates of sd 0.3, 1 and 20 and correlations .98 and .98^2: C has condition number 2e5."""

    dim = 3
    scale = 1.0
    sd = torch.tensor([0.3, 1.0, 20.0], dtype=torch.float64)

    def __init__(self) -> None:
        k = torch.arange(3)
        self.covariance = 0.98 ** (k[:, None] - k).abs() * self.sd[:, None] * self.sd
        self.precision = self.covariance.inverse()

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x @ self.precision.to(x)) * x).sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        z = torch.randn(n_samples, 3, generator=generator, dtype=torch.float64)
        x: Tensor = z @ torch.linalg.cholesky(self.covariance).T
        return x

    def whitened(self, x: Tensor) -> Tensor:
        """N(0, I) where x has the law, by another root than that of Dense."""
        z: Tensor = torch.linalg.solve_triangular(torch.linalg.cholesky(self.covariance), x.T, upper=False).T
        return z


def test_dense_is_the_symmetric_root_of_a_covariance() -> None:
    covariance = Correlated().covariance
    dense = Dense.of(covariance)
    torch.testing.assert_close(dense.root, dense.root.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(dense.root @ dense.root, covariance, rtol=1e-12, atol=0)
    assert (torch.linalg.eigvalsh(dense.root) > 0).all()
    torch.testing.assert_close(dense.diagonal, Correlated.sd, rtol=1e-12, atol=0)
    single = dense.to(torch.zeros(1, dtype=torch.float32))
    assert single.root.dtype == torch.float32
    torch.testing.assert_close(single.root.double(), dense.root, rtol=1e-6, atol=0)


def test_dense_of_a_covariance_without_full_rank_is_finite() -> None:
    """Rounding leaves the smallest eigenvalue of a rank-one matrix negative, and a root must not be NaN."""
    v = torch.tensor([0.3, -1.1, 2.7], dtype=torch.float64)
    dense = Dense.of(v[:, None] * v)
    torch.testing.assert_close(dense.root @ dense.root, v[:, None] * v, rtol=0, atol=1e-14)


DENSE = [
    pytest.param(lambda scales: MALAKernel(0.3, 1.0, scales), id="mala"),
    pytest.param(lambda scales: HMCKernel(0.9, 4, scales), id="hmc"),
    pytest.param(lambda scales: BAOABKernel(0.9, scales=scales), id="baoab"),
]


def errors_of_moments(kernel: Kernel, n_moves: int) -> Tensor:
    """Of mean and covariance after moves from exact draws, in whitened coordinates: 9 numbers, in standard errors."""
    target, noise = Correlated(), generator(1)
    meter = Meter(target, dtype=torch.float64)
    exact = target.sample(40_000, generator())
    state = State.at(exact, meter)
    for _ in range(n_moves):
        state = kernel(state, meter, noise)
    assert (state.x != exact).any(-1).double().mean() > 0.95
    z = target.whitened(state.x)
    first, second = torch.triu_indices(3, 3)
    values = torch.cat([z, z[:, first] * z[:, second]], -1)
    expected = torch.cat([torch.zeros(3, dtype=torch.float64), (first == second).double()])
    error: Tensor = (values.mean(0) - expected) / (values.std(0) / math.sqrt(len(z)))
    return error.abs()


@pytest.mark.parametrize(
    "kernel", [*DENSE, pytest.param(lambda scales: CoordinateWalk(1.0, 0.02, 5, scales), id="walk")]
)
def test_dense_scales_keep_exact_draws_of_a_correlated_gaussian(kernel: Callable[[Scales], Kernel]) -> None:
    """9 numbers of 4 kernels: one of 36 normal numbers is beyond 4 errors once in 440 seeds."""
    assert (errors_of_moments(kernel(Dense.of(Correlated().covariance)), 12) < 4).all()


def test_the_same_check_sees_a_kernel_that_is_never_corrected() -> None:
    """ULA has the variance 1 / (1 - h / 2) in whitened coordinates: 6.4% too much, 9 errors of sqrt(2 / n)."""
    assert errors_of_moments(ULAKernel(0.12, scales=Dense.of(Correlated().covariance)), 40).max() > 6


@pytest.mark.parametrize("kernel", DENSE)
def test_a_move_with_the_target_s_covariance_is_the_image_of_a_move_of_a_standard_normal(
    kernel: Callable[[Scales | None], Kernel],
) -> None:
    """x = C^1/2 z: the same noise moves x under N(0, C) as it moves z under N(0, I) without scales."""
    target, dense = Correlated(), Dense.of(Correlated().covariance)
    plain, scaled = Meter(Normal(3), dtype=torch.float64), Meter(target, dtype=torch.float64)
    z = torch.randn(200, 3, generator=generator(), dtype=torch.float64)
    of_z, of_x = State.at(z, plain), State.at(z @ dense.root, scaled)
    noise_z, noise_x = generator(1), generator(1)
    for _ in range(5):
        of_z, of_x = kernel(None)(of_z, plain, noise_z), kernel(dense)(of_x, scaled, noise_x)
    torch.testing.assert_close(of_x.x / Correlated.sd, of_z.x @ dense.root / Correlated.sd, rtol=0, atol=1e-9)
    torch.testing.assert_close(of_x.acceptance, of_z.acceptance, rtol=0, atol=1e-9)
    assert (of_z.x != z).any(-1).double().mean() > 0.95


def test_a_coordinate_walk_has_the_standard_deviations_of_dense_scales() -> None:
    target, dense = Correlated(), Dense.of(Correlated().covariance)
    meter = Meter(target, dtype=torch.float64)
    state = State.at(target.sample(200, generator()), meter)
    moved = [CoordinateWalk(1.0, 0.02, 5, scales)(state, meter, generator(1)) for scales in (dense, Correlated.sd)]
    torch.testing.assert_close(moved[0].x, moved[1].x, rtol=1e-12, atol=1e-12)
    assert (moved[0].x != state.x).any()


@pytest.mark.parametrize(
    "kernel",
    [
        lambda step, law: MALAKernel(0.5 * step**2, 1.0, law=law),
        lambda step, law: HMCKernel(step, 5, law=law),
        lambda step, law: RandomWalkKernel(step, law=law),
        lambda step, law: BAOABKernel(0.5, law=law),
        lambda step, law: CoordinateWalk(2 * step, 0.1, 2, law=law),
    ],
    ids=["mala", "hmc", "random walk", "baoab", "coordinate walk"],
)
def test_another_law_is_left_invariant_with_a_step_and_a_temperature_per_row(
    kernel: Callable[[Tensor, Tempered], Kernel],
) -> None:
    """Between N(0, 4 I) and N(0, 0.3 I) every row's own law is normal, and BAOAB exact."""
    n, variance = 100_000, 0.3
    base = Base(torch.zeros(2, dtype=torch.float64), torch.full((2,), 2.0, dtype=torch.float64))
    beta = torch.rand(n, 1, generator=generator(), dtype=torch.float64).clamp(min=0.01)
    sd = ((1 - beta) / 4 + beta / variance).rsqrt()
    meter = Meter(Normal(2, variance), dtype=torch.float64)
    start = sd * torch.randn(n, 2, generator=generator(1), dtype=torch.float64)
    state, noise = State.at(start, meter), generator(2)
    move = kernel(1.2 * sd, Tempered(base, beta))
    for _ in range(10):
        state = move(state, meter, noise)
    torch.testing.assert_close(state.log_prob, meter.log_prob(state.x))  # the state is the target's
    z = (state.x / sd).square().sum(-1)
    assert abs(z.mean() - 2) < 4.5 * 2 / math.sqrt(n)
    assert (state.x != start).any(-1).double().mean() > 0.95


def test_baoab_is_exact_on_a_gaussian_and_biased_at_second_order_elsewhere() -> None:
    n, noise = 400_000, generator(1)
    for step in (0.6, 1.5):  # of sd 1: stable below 2
        meter = Meter(Normal(), dtype=torch.float64)
        state = State.at(torch.randn(n, 1, generator=generator(), dtype=torch.float64), meter)
        for _ in range(20):
            state = BAOABKernel(step)(state, meter, noise)
        assert abs(state.x.var() - 1) < 4.5 * math.sqrt(2 / n)
        assert state.momentum is not None
        assert abs((state.x * state.momentum).mean()) < 4.5 / math.sqrt(n)

    class Wavy(Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) + 0.5 * torch.cos(2 * x[..., 0])

    axis = torch.linspace(-10, 10, 20_001, dtype=torch.float64)[:, None]
    weights = Wavy().log_prob(axis).softmax(0)
    exact, spread = ((weights @ axis**k).item() for k in (2, 4))
    bias = {}
    for step in (1.0, 0.5):
        meter = Meter(Wavy(), dtype=torch.float64)
        state = State.at(torch.randn(n, 1, generator=generator(), dtype=torch.float64), meter)
        for _ in range(60):
            state = BAOABKernel(step)(state, meter, noise)
        bias[step] = state.x.square().mean().item() - exact
    sd = math.sqrt((spread - exact**2) / n)
    assert abs(bias[1.0]) > 10 * sd
    assert abs(bias[0.5]) < abs(bias[1.0]) / 2**1.5 + 4 * sd


def test_baoab_reports_the_energy_error_of_its_deterministic_parts() -> None:
    """Without noise (no friction) a move is a leapfrog in the order drift inside kicks, and so is its acceptance."""
    meter = Meter(Quartic(), dtype=torch.float64)
    state = State.at(torch.randn(50, 2, generator=generator(), dtype=torch.float64), meter)
    v = torch.randn(50, 2, generator=generator(1), dtype=torch.float64)
    step = 0.7
    moved = BAOABKernel(step, friction=1e-300)(state._replace(momentum=v), meter, generator(2))
    half = v + 0.5 * step * state.score
    x = state.x + step * half
    log_prob, score = meter.log_prob_and_score(x)
    last = half + 0.5 * step * score
    torch.testing.assert_close(moved.x, x)
    torch.testing.assert_close(moved.momentum, last)
    energy = log_prob - state.log_prob + 0.5 * (v.square() - last.square()).sum(-1)
    torch.testing.assert_close(moved.acceptance, energy.clamp(max=0).exp())


def test_a_long_kick_is_shortened() -> None:
    meter = Meter(Normal(2, 1e-4), dtype=torch.float64)
    state = State.at(torch.full((1, 2), 50.0, dtype=torch.float64), meter)
    moved = BAOABKernel(0.1, friction=1e-300, max_kick=0.5)(
        state._replace(momentum=torch.zeros(1, 2, dtype=torch.float64)), meter, generator()
    )
    torch.testing.assert_close(moved.x, torch.full((1, 2), 50.0 - 0.1 * 0.5, dtype=torch.float64))


def test_a_random_walk_pays_densities_only() -> None:
    meter = Meter(Quartic())
    state = State.at(torch.randn(30, 2, generator=generator()), meter)
    moved = RandomWalkKernel(0.5)(state, meter, generator(1))
    assert vars(meter.counts["fit"]) == {"log_prob": 60, "score": 30, "hvp": 0}
    assert moved.score.isnan().all()
    assert 0 < (moved.x != state.x).any(-1).sum() < 30


def test_coordinate_walk_moves_one_coordinate_at_a_time_and_ends_with_a_score() -> None:
    target = Quartic()
    meter = Meter(target, dtype=torch.float64)
    state = State.at(torch.randn(300, 2, generator=generator(), dtype=torch.float64), meter)
    moved = CoordinateWalk(2.0, 0.01, 3)(state, meter, generator(1))
    # three moves of a density each, and a density and a score for the state that is left
    assert vars(meter.counts["fit"]) == {"log_prob": 300 * (1 + 3 + 1), "score": 300 * 2, "hvp": 0}
    changed = target.visited[1] != state.x
    assert (changed.sum(-1) == 1).all()
    assert abs(changed[:, 0].double().mean() - 0.5) < 4 * 0.5 / math.sqrt(300)
    torch.testing.assert_close((moved.log_prob, moved.score), State.at(moved.x, meter)[1:3])
