"""DFT+: the loss in local units, smoothed points, fitted mixtures, and moves between modes that keep the target."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.nn.utils import parameters_to_vector

from samplerbench import samplers, targets
from samplerbench.metrics.modes import mode_shares
from samplerbench.samplers.base import State
from samplerbench.samplers.dft import dft_loss
from samplerbench.samplers.dft_plus import DFTPlus, LocalFisher
from samplerbench.samplers.implicit.fitted import FittedImplicit
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.smoothed import LocalWidth, SmoothedPoints, Smoothing
from samplerbench.samplers.implicit.teaching import Teaching, _independent_move, _Walkers, teach
from samplerbench.samplers.mixture_fit import FittedMixture, fit_mixture
from samplerbench.samplers.smc_gmm import SMCGMM
from samplerbench.targets import Budget, Meter, derive_generator
from samplerbench.targets.mixture import GaussianMixture

Map = Callable[[Tensor], Tensor]

N_BLOCKS = 100
TOO_LARGE = 4  # standard errors


def normal(*shape: int, seed: object = 0) -> Tensor:
    return torch.randn(*shape, generator=derive_generator(seed, "normal"), dtype=torch.float64)


def standard_errors(values: Tensor, expected: Tensor | float) -> float:
    """Largest distance of the means of ``values (n, ...)`` over independent rows from what is expected."""
    error = values.std(0) / math.sqrt(len(values))
    return ((values.mean(0) - expected).abs() / error).max().item()


# The Fisher divergence in local units


class As(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function: Map) -> None:
        super().__init__()
        self.function = function

    def forward(self, y: Tensor) -> Tensor:
        return self.function(y)


def local_fisher(s_q: Map, width: Map, noise: float) -> LocalFisher:
    def guide(y: Tensor, progress: float, noise: Any = 0.0) -> Tensor:
        return s_q(y)

    stand_in: Any = As(width)
    return LocalFisher(guide, stand_in, noise)


class LinearGaussian:
    """x0 = A z + b and s of every coordinate against N(m, P^-1)."""

    noise = 0.4

    def __init__(self, *sigma: float) -> None:
        self.sigma = torch.tensor(sigma, dtype=torch.float64)
        a, b = [[1.6, -0.3], [-0.4, 0.9]], [1.1, 0.2]
        self.theta = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (a, b)]
        self.m = torch.tensor([-0.5, 0.6], dtype=torch.float64)
        self.p = torch.tensor([[0.6, -0.3], [-0.3, 1.1]], dtype=torch.float64)

    def width(self, x: Tensor) -> Tensor:
        return self.sigma.expand_as(x)

    def covariance(self) -> Tensor:
        return self.theta[0] @ self.theta[0].T + (self.noise * self.sigma).square().diag()

    def x0(self, z: Tensor) -> Tensor:
        return z @ self.theta[0].T + self.theta[1]

    def s_q(self, x: Tensor) -> Tensor:
        return (self.m - x) @ self.p

    def s_theta(self, x: Tensor) -> Tensor:
        return (self.theta[1].detach() - x) @ self.covariance().detach().inverse()

    def divergence(self) -> Tensor:
        """|sigma P (b - m)|^2 + tr[ sigma^2 (P - S^-1) S (P - S^-1) ], S the covariance of x."""
        s = self.covariance()
        gap = self.p - s.inverse()
        shift = self.sigma * (self.p @ (self.theta[1] - self.m))
        return shift.square().sum() + torch.trace(self.sigma.square().diag() @ gap @ s @ gap)


class Uneven:
    """x0 = a z + b in one dimension, where sigma is a field: trapezoidal sums over z, over x the divergence.

    The noise s = eta sigma(x0) belongs to z: it stays as it is where theta changes. Sums over z err by
    exp(-2 pi^2 (s / h)^2) with h = 0.12 the step of x0: s is 0.2 at least.
    """

    noise = 0.5

    def __init__(self) -> None:
        self.theta = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.2, 0.4)]
        self.nodes = torch.linspace(-6, 6, 121, dtype=torch.float64)
        self.log_weights = (-0.5 * self.nodes.square()).log_softmax(0)

    def width(self, x: Tensor) -> Tensor:
        return 0.8 * (0.6 * x.tanh()).exp()

    def x0(self, z: Tensor) -> Tensor:
        return self.theta[0] * z + self.theta[1]

    def s_q(self, x: Tensor) -> Tensor:
        return -(x + 0.3) / 0.8 + 0.6 * (1.5 * x).cos()

    def _log_p_and_score(self, x: Tensor, theta: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Log density and score of x, both ``(n, 1)``."""
        gap = theta[0] * self.nodes + theta[1] - x
        s = self.noise * self.width(self.x0(self.nodes).detach())
        log_joint = self.log_weights - 0.5 * (gap / s).square() - s.log() - 0.5 * math.log(2 * math.pi)
        return log_joint.logsumexp(-1, keepdim=True), (log_joint.softmax(-1) * gap / s**2).sum(-1, keepdim=True)

    def s_theta(self, x: Tensor) -> Tensor:
        return self._log_p_and_score(x, [value.detach() for value in self.theta])[1]

    def divergence(self) -> Tensor:
        x = torch.linspace(-14, 14, 1_401, dtype=torch.float64)[:, None]
        log_p, score = self._log_p_and_score(x, self.theta)
        return (log_p.exp() * (self.width(x) * (self.s_q(x) - score)).square()).sum() * 28 / 1_400


def loss_of(case: LinearGaussian | Uneven) -> tuple[LocalFisher, Map]:
    """The loss, and the best opponent F = sigma (s_q - s_theta)."""
    local = local_fisher(case.s_q, case.width, case.noise)
    return local, lambda x: case.width(x) * (case.s_q(x) - case.s_theta(x))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_at_a_constant_width_the_loss_is_that_of_dft_in_its_unit(sigma: float) -> None:
    """With s_phi = s_q - F / sigma, in value and gradient."""
    w, noise, x0 = normal(3, 3, seed="w"), 0.3, normal(40, 3).requires_grad_()

    def s_q(x: Tensor) -> Tensor:
        return -x - 0.2 * x**3

    def f(x: Tensor) -> Tensor:
        return (x @ w).sin() + 0.3 * x

    one = local_fisher(s_q, lambda x: torch.full_like(x, sigma), noise)
    ours = one.sampler_loss(As(f), x0, 0.5, derive_generator("eps"))
    dft = dft_loss(x0, s_q, lambda x: s_q(x) - f(x) / sigma, derive_generator("eps"), noise=noise * sigma)
    torch.testing.assert_close(ours, sigma**2 * dft, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(loss, x0)[0] for loss in (ours, sigma**2 * dft))
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-13)


CONSTANT = [
    pytest.param(lambda: LinearGaussian(0.7, 0.7), id="one width"),
    pytest.param(lambda: LinearGaussian(0.4, 1.3), id="two widths"),
]


@pytest.mark.parametrize("make_case", [*CONSTANT, pytest.param(Uneven, id="a field of widths")])
def test_gradient_of_the_sampler_loss_is_that_of_the_divergence(
    make_case: Callable[[], LinearGaussian | Uneven],
) -> None:
    case = make_case()
    local, best = loss_of(case)
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(case.divergence(), case.theta)])
    generator = derive_generator("gradient")
    gradients, values = [], []
    for _ in range(N_BLOCKS):
        z = torch.randn(4_000, len(case.theta[1]), generator=generator, dtype=torch.float64)
        value = local.sampler_loss(As(best), case.x0(z), 0.0, generator)
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, case.theta)]))
        values.append(value.detach())
    per_block = torch.stack(gradients)
    assert standard_errors(per_block, expected) < TOO_LARGE
    assert standard_errors(torch.stack(values), case.divergence().detach()) < TOO_LARGE
    precision = (per_block.std(0) / math.sqrt(N_BLOCKS)).norm() / expected.norm()
    assert precision < 0.03  # so that a wrong loss would be seen


@pytest.mark.parametrize(
    "make_case",
    [
        *CONSTANT,
        pytest.param(Uneven, id="a field of widths"),
    ],
)
def test_the_opponent_is_best_at_the_difference_of_scores(make_case: Callable[[], LinearGaussian | Uneven]) -> None:
    """The loss does not change to first order where features are added to F = sigma (s_q - s_theta)."""
    case = make_case()
    local, best = loss_of(case)
    generator, dim = derive_generator("opponent"), len(case.theta[1])

    def slopes(f: Map) -> Tensor:
        rows = []
        for _ in range(N_BLOCKS):
            added = torch.zeros(3 * dim, dim, dtype=torch.float64, requires_grad=True)

            def opponent(x: Tensor, added: Tensor = added) -> Tensor:
                return f(x) + torch.cat([torch.ones_like(x), x, (2 * x).sin()], dim=-1) @ added

            z = torch.randn(1_000, dim, generator=generator, dtype=torch.float64)
            loss = local.opponent_loss(As(opponent), case.x0(z).detach(), 0.0, generator)
            rows.append(torch.autograd.grad(loss, added)[0])
        return torch.stack(rows)

    assert standard_errors(slopes(best), 0.0) < TOO_LARGE
    assert standard_errors(slopes(lambda x: best(x) + 0.1), 0.0) > 2 * TOO_LARGE  # what is off would be seen


# Smoothed points


class Plain:
    """N(0, I) in three dimensions."""

    dim = 3
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


N_POINTS, N_NEIGHBOURS, BANDWIDTH = 60, 8, 0.4


def some_points() -> Tensor:
    """Three coordinates of unequal widths, of which two depend on each other."""
    z = normal(N_POINTS, 3, seed="points")
    return torch.stack([3 * z[:, 0], z[:, 1] * (0.5 * z[:, 0]).exp(), 0.01 * (z[:, 2] + z[:, 1])], dim=-1)


def smoothed(points: Tensor, dtype: torch.dtype = torch.float64) -> SmoothedPoints:
    smoothing = Smoothing(bandwidth=BANDWIDTH, n_neighbours=N_NEIGHBOURS)
    meter = Meter(Plain(), dtype=dtype)
    return SmoothedPoints(points.to(dtype), smoothing, Network(width=8, depth=1), meter, derive_generator("net"))


def nearest(points: Tensor) -> Tensor:
    """Indices of the neighbours of every point, in units of the standard deviations, by the definition."""
    z = points.double() / points.double().std(0)
    square = (z[:, None] - z).square().sum(-1)
    return square.fill_diagonal_(math.inf).argsort(1)[:, :N_NEIGHBOURS]


def test_untrained_draws_have_the_neighbours_covariance_around_their_point() -> None:
    points, n = some_points(), 20_000
    sampler = smoothed(points)
    for k in (0, 17, 41):
        xi, _ = sampler.latents(n, derive_generator("xi", k))
        x = sampler(xi, torch.full((n,), k)).detach()
        neighbours = points[nearest(points)[k]]
        covariance = BANDWIDTH**2 * torch.cov(neighbours.T, correction=0)
        assert standard_errors(x, points[k]) < TOO_LARGE
        products = (x - points[k])[:, :, None] * (x - points[k])[:, None]
        assert standard_errors(products, covariance) < TOO_LARGE


def test_widths_are_the_neighbours_standard_deviations() -> None:
    points = some_points()
    expected = torch.stack([points[rows].std(0, correction=0) for rows in nearest(points)])
    torch.testing.assert_close(smoothed(points).widths, expected, rtol=1e-12, atol=0)


def test_the_same_point_many_times_keeps_a_width() -> None:
    """As resampling leaves them: there is no spread to divide by."""
    points = some_points()
    points[:20] = points[0]
    sampler = smoothed(points)
    assert (sampler.widths > 0).all()
    assert sampler(*sampler.latents(100, derive_generator("xi"))).isfinite().all()


def test_categories_are_uniform_and_latents_normal() -> None:
    sampler, n = smoothed(some_points()), 60_000
    xi, k = sampler.latents(n, derive_generator("latents"))
    assert k is not None
    assert xi.shape == (n, N_NEIGHBOURS)
    expected = n / N_POINTS
    chi_square = ((torch.bincount(k, minlength=N_POINTS) - expected).square() / expected).sum().item()
    assert abs(chi_square - (N_POINTS - 1)) < TOO_LARGE * math.sqrt(2 * (N_POINTS - 1))
    assert standard_errors(torch.cat([xi, xi**2], dim=-1), torch.tensor([0.0, 1.0]).repeat_interleave(8)) < TOO_LARGE


def test_draws_do_not_depend_on_how_many_there_are() -> None:
    sampler = smoothed(some_points())
    xi, k = sampler.latents(2_500, derive_generator("latents"))
    assert k is not None
    torch.testing.assert_close(sampler(xi, k)[2_000:], sampler(xi[2_000:], k[2_000:]), rtol=1e-12, atol=1e-12)


def test_a_draw_without_a_point_is_refused() -> None:
    sampler = smoothed(some_points())
    with pytest.raises(ValueError, match="component must be given: every draw belongs to a point, got None"):
        sampler(torch.zeros(1, N_NEIGHBOURS, dtype=torch.float64))


def test_neighbours_in_a_narrow_place_are_found_in_single_precision() -> None:
    """Half of the points lie in a place that is a thousand times as narrow as the others' law, far from the mean."""
    points = normal(400, 3, seed="wide")
    points[200:] = 2 + 1e-3 * points[200:]
    points = points.float().double()
    expected = torch.stack([points[rows].std(0, correction=0) for rows in nearest(points)])
    torch.testing.assert_close(smoothed(points, torch.float32).widths.double(), expected, rtol=1e-2, atol=0)


# Fitted mixtures


def some_mixture() -> FittedMixture:
    factors = [[[1.0, 0.0], [0.6, 0.5]], [[0.4, 0.0], [-0.3, 1.2]], [[0.7, 0.0], [0.0, 0.3]]]
    return FittedMixture(
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([[0.0, 1.0], [2.0, -1.0], [-2.0, 0.5]], dtype=torch.float64),
        torch.tensor(factors, dtype=torch.float64),
    )


def test_density_of_a_mixture_integrates_to_one_and_is_that_of_scipy() -> None:
    mixture = some_mixture()
    axis = torch.linspace(-10, 10, 801, dtype=torch.float64)
    log_p = mixture.log_density(torch.cartesian_prod(axis, axis))
    assert math.isclose(log_p.logsumexp(0).item() + 2 * math.log(20 / 800), 0.0, abs_tol=1e-8)
    x = 3 * normal(50, 2)
    covariances = mixture.factors @ mixture.factors.mT
    expected = sum(
        w * multivariate_normal(m.numpy(), c.numpy()).pdf(x.numpy())
        for w, m, c in zip(mixture.weights.tolist(), mixture.means, covariances, strict=True)
    )
    np.testing.assert_allclose(mixture.log_density(x).exp().numpy(), expected, rtol=1e-10)


def test_draws_of_a_mixture_have_its_moments() -> None:
    mixture = some_mixture()
    x = mixture.sample(100_000, derive_generator("mixture"))
    w, m = mixture.weights, mixture.means
    second = (w[:, None, None] * (mixture.factors @ mixture.factors.mT + m[:, :, None] * m[:, None])).sum(0)
    assert standard_errors(x, w @ m) < TOO_LARGE
    assert standard_errors(x[:, :, None] * x[:, None], second) < TOO_LARGE


def test_a_ring_of_eight_modes_has_eight_components() -> None:
    """Means within 4 standard errors, sd 0.5 / sqrt(n / 8), of those of the target; the modes hardly overlap.

    In one of eight fits EM leaves two modes to one of eight components: there are 16 then.
    """
    target, n = targets.get("ring8"), 8_000
    x = target.sample(n, derive_generator("ring"))  # type: ignore[attr-defined]
    fits = [fit_mixture(x, 64, derive_generator("fit", k)) for k in range(5)]
    eight = [fitted for fitted in fits if len(fitted.weights) == 8]
    assert len(eight) >= 3
    assert {len(fitted.weights) for fitted in fits} <= {8, 16}
    weights, factors = eight[0].weights, eight[0].factors
    assert ((weights - 1 / 8).abs() < 4 * math.sqrt(1 / 8 * 7 / 8 / n)).all()
    means = torch.tensor(target.means, dtype=torch.float64)  # type: ignore[attr-defined]
    gap = eight[0].means[torch.cdist(means, eight[0].means).argmin(1)] - means
    assert (gap.abs() < 4 * 0.5 / math.sqrt(n / 8)).all()
    variance = (factors @ factors.mT).diagonal(dim1=1, dim2=2)
    assert ((variance / 0.25 - 1).abs() < 4 * math.sqrt(2 / (n / 8))).all()


@pytest.mark.parametrize("dim", [1, 2, 10])
def test_a_gaussian_is_one_component_in_any_unit(dim: int) -> None:
    x = 1e-3 * normal(4_000, dim) @ normal(dim, dim, seed="w") + 5
    mixture = fit_mixture(x, 64, derive_generator("fit"))
    assert len(mixture.weights) == 1
    torch.testing.assert_close(mixture.means[0], x.mean(0), rtol=1e-10, atol=0)
    covariance = (mixture.factors @ mixture.factors.mT)[0]
    expected = torch.cov(x.T, correction=0).reshape(dim, dim)
    sd = expected.diagonal().sqrt()
    torch.testing.assert_close(covariance / sd / sd[:, None], expected / sd / sd[:, None], rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:std:UserWarning")
@pytest.mark.parametrize("n", [0, 1])
def test_too_few_points_are_refused_by_name(n: int) -> None:
    with pytest.raises(ValueError, match=f"points must determine a normal law, got {n} of dimension 3"):
        fit_mixture(normal(n, 3), 4, derive_generator("fit"))


# Moves between modes


def wrong_mixture(x: Tensor) -> FittedMixture:
    """A mixture fitted to ``x``, then shifted by half a standard deviation, 1.5 times as wide, with other weights."""
    right = fit_mixture(x, 16, derive_generator("fit"))
    weights = 1 / (1 + torch.arange(len(right.weights)).to(right.weights))
    shift = 0.5 * right.factors.sum(-1)
    return FittedMixture(weights / weights.sum(), right.means + shift, 1.5 * right.factors)


def moved(x: Tensor, meter: Meter, n_rounds: int, *, local: bool) -> tuple[Tensor, float]:
    generator, state, rate = derive_generator("moves"), State.at(x, meter), 0.0
    walkers = _Walkers(Teaching().smc, meter, generator)
    mixture = wrong_mixture(x)
    for _ in range(n_rounds):
        state = _independent_move(state, mixture, meter, generator)
        rate = state.acceptance.mean().item()
        if local:
            state = walkers.move(state)
    return state.x, rate


def of_ring(x: Tensor) -> Tensor:
    modes = targets.get("ring8").modes  # type: ignore[attr-defined]
    return torch.cat([x, x.square(), torch.eye(9, dtype=x.dtype)[modes.assign(x)][:, :8]], dim=-1)


def of_funnel(x: Tensor) -> Tensor:
    """Functions of v and of x[1] exp(-v / 2), both standard normal and independent."""
    v, z = x[:, 0], x[:, 1] * (-0.5 * x[:, 0]).exp()
    return torch.stack([v, v**2, v**3, z, z**2, v * z, v * z**2, z.abs() * v], dim=-1)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(("name", "statistics"), [("ring8", of_ring), ("funnel2", of_funnel)])
def test_moves_of_a_wrong_mixture_leave_the_target_invariant(name: str, statistics: Map, local: bool) -> None:
    """8 or 12 statistics within 4 standard errors: by chance one is outside in less than one of 1,000 cases."""
    target, n = targets.get(name), 16_000
    meter = Meter(target, dtype=torch.float64)
    x = target.sample(n, derive_generator("exact"))  # type: ignore[attr-defined]
    after, rate = moved(x, meter, 8, local=local)
    assert 0.05 < rate < 0.95
    assert (after != x).any(-1).double().mean() > 0.5
    if name == "ring8":
        masses, moments = target.modes.masses, target.moments.mean  # type: ignore[attr-defined]
        expected = torch.cat([moments, masses])
    else:
        expected = torch.tensor([0, 1, 0, 0, 1, 0, 0, 0], dtype=torch.float64)
    assert standard_errors(statistics(after), expected) < TOO_LARGE


def test_weights_of_modes_are_recovered_where_the_mixture_covers_them() -> None:
    """All particles begin in four of eight modes; every one of them is a chain of its own, so shares are binomial."""
    target, n = targets.get("ring8"), 6_000
    exact = target.sample(3 * n, derive_generator("exact"))  # type: ignore[attr-defined]
    x = exact[(target.modes.assign(exact) % 2) == 0][:n]  # type: ignore[attr-defined]
    assert len(x) == n
    meter, generator = Meter(target, dtype=torch.float64), derive_generator("moves")
    mixture, state = wrong_mixture(exact), State.at(x, meter)
    for _ in range(60):
        state = _independent_move(state, mixture, meter, generator)
    masses = target.modes.masses  # type: ignore[attr-defined]
    error = (masses * (1 - masses) / n).sqrt()
    assert ((mode_shares(state.x, target.modes)[:8] - masses).abs() < TOO_LARGE * error).all()  # type: ignore[attr-defined]


def test_a_proposal_without_density_is_never_taken() -> None:
    """The half plane x[0] > 0 of a normal law: half of the proposals have no density."""

    class Half:
        dim = 2
        scale = 1.0

        def log_prob(self, x: Tensor) -> Tensor:
            return (-0.5 * x.square().sum(-1)).masked_fill(x[..., 0] <= 0, -math.inf)

    x, meter, generator = normal(20_000, 2), Meter(Half(), dtype=torch.float64), derive_generator("moves")
    x[:, 0] = x[:, 0].abs()
    eye = torch.eye(2, dtype=torch.float64)
    mixture = FittedMixture(eye[:1, 0], torch.zeros(1, 2, dtype=torch.float64), 1.2 * eye[None])
    state = State.at(x, meter)
    for _ in range(3):
        state = _independent_move(state, mixture, meter, generator)
        rate = state.acceptance.mean().item()
        assert 0.3 < rate < 0.6
    assert (state.x[:, 0] > 0).all()
    assert standard_errors(state.x.square(), 1.0) < TOO_LARGE


# A narrow mode next to a wide one

NARROW_SD, N_TAUGHT = 0.35, 2_000
NEXT_TO_WIDE = GaussianMixture(((0.0,) * 20, (3.0, *(0.0,) * 19)), sd=(1.0, NARROW_SD), weights=(0.75, 0.25))


def narrow_share(n_scouts: int, seed: int) -> float:
    """Mean posterior probability of the narrow mode at the points: .25, its weight, if they have the target's law."""
    config = Teaching(n_particles=N_TAUGHT, n_scouts=n_scouts, max_components=4)
    x = teach(config, Meter(NEXT_TO_WIDE), derive_generator(seed, "teach")).x.double()
    means = torch.tensor(NEXT_TO_WIDE.means, dtype=torch.float64)
    wide, narrow = (x - means[0]).square().sum(-1), (x - means[1]).square().sum(-1) / NARROW_SD**2
    log_odds = 0.5 * (wide - narrow) - 20 * math.log(NARROW_SD) + math.log(0.25 / 0.75)
    return log_odds.sigmoid().mean().item()


def test_scouts_and_moves_between_modes_weigh_a_narrow_mode_next_to_a_wide_one() -> None:
    """In 20 dimensions it has .35^20 = 8e-10 of the wide one's volume, so nearly all of SMC's particles pass it by.

    Independent points have the standard error .0097; .05 more is left to points that still depend on each other.
    Without scouts a particle of SMC meets the mode by chance in one run of eight, hence a median.
    """
    error = math.sqrt(0.25 * 0.75 / N_TAUGHT)
    for seed in range(3):
        assert abs(narrow_share(256, seed) - 0.25) < TOO_LARGE * error + 0.05
    assert sorted(narrow_share(0, seed) for seed in range(5))[2] < 0.1


# Mixtures fitted to the particles of SMC


def test_density_of_smc_gmm_is_that_of_its_draws_and_near_the_target_s() -> None:
    """The mean of log p - log q over draws of q is log Z - KL(q | p), log Z = 0.

    Two modes in the plane have 11 parameters, so of n independent particles KL is 11 / 2n on average, .0028 here, and
    chi-square: .02 is 7 times that, for particles that descend from few.
    """
    target: Any = targets.get("mog2")
    for seed in range(3):
        config = SMCGMM(n_particles=2_000, max_components=8)
        fitted: Any = config.fit(Meter(target, dtype=torch.float64), derive_generator(seed, "fit"))
        draws = fitted.draw(20_000, derive_generator(seed, "draw"))
        x, mixture = draws.samples, fitted.mixture
        components = MultivariateNormal(mixture.means, scale_tril=mixture.factors)
        expected = MixtureSameFamily(Categorical(mixture.weights), components).log_prob(x)
        torch.testing.assert_close(draws.log_density, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(fitted.log_density(x), draws.log_density, rtol=0, atol=0)
        assert fitted.diagnostics == {"n_components": 2}
        log_ratio = target.log_prob(x) - draws.log_density
        error = log_ratio.std().item() / math.sqrt(len(x))
        assert -0.02 - TOO_LARGE * error < log_ratio.mean() < TOO_LARGE * error


# Budgets


SMALL = Teaching(n_particles=200, n_scouts=8, n_climb=5, n_chains=40, n_look=2, n_fits=1, n_rounds=4, max_components=4)


def taught(budget: float | None = None, **changes: Any) -> tuple[Any, float]:
    """The points of ring8 and what they have cost."""
    meter = Meter(targets.get("ring8"), budget=Budget(fit=budget))
    result = teach(dataclasses.replace(SMALL, **changes), meter, derive_generator("teach"))
    return result, meter.counts["fit"].gradient_equivalents


def test_a_budget_ends_the_teaching_with_the_best_points_so_far() -> None:
    """Whole rounds only, each an independent and a local move; before the first there is what SMC has brought."""
    ends = [taught(n_rounds=k) if k else taught(n_fits=0) for k in range(5)]
    assert all(end.stopped is None for end, _ in ends)
    for (end, _), (_, next_cost) in itertools.pairwise(ends):
        short, cost = taught(next_cost - 0.5)
        assert short.stopped == "budget"
        assert "fits" in short.reason
        assert cost <= next_cost - 0.5
        assert torch.equal(short.x, end.x)
    whole, cost = taught(ends[-1][1])
    assert whole.stopped is None
    assert cost == ends[-1][1]
    assert torch.equal(whole.x, ends[-1][0].x)


@pytest.mark.parametrize("share", [1e-4, 0.1, 0.5, 0.9, 0.97])
def test_no_budget_is_overdrawn(share: float) -> None:
    _, whole = taught()
    short, cost = taught(share * whole)
    assert short.stopped == "budget"
    assert cost <= share * whole
    assert short.x.shape == (SMALL.n_particles, 2)
    assert short.x.isfinite().all()


# The whole sampler

N_STEPS, N_WARM_UP, BATCH = 4, 3, 16
SHORT: dict[str, Any] = {
    "teaching": {
        "n_particles": 64,
        "n_scouts": 8,
        "n_climb": 5,
        "n_chains": 16,
        "n_look": 2,
        "n_rounds": 1,
        "n_fits": 1,
    },
    "smoothing": {"n_neighbours": 4},
    "network": {"width": 8, "depth": 1},
    "training": {"n_steps": N_STEPS, "n_warm_up": N_WARM_UP, "batch_size": BATCH, "n_score_steps": 2},
}


def fit_plus(name: str = "dft_plus", budget: float = math.inf) -> tuple[FittedImplicit, Meter]:
    meter = Meter(targets.get("ring8"), budget=Budget(fit=budget))
    fitted = samplers.get(name, **SHORT).fit(meter, derive_generator(0, "plus"))
    assert isinstance(fitted, FittedImplicit)
    return fitted, meter


def test_the_last_step_pays_for_its_scores_and_products_alone() -> None:
    (finished, with_it), (_, without) = fit_plus(), fit_plus("dft_plus_unfinished")
    spent, before = with_it.counts["fit"], without.counts["fit"]
    of_opponent = (N_WARM_UP + 2 * N_STEPS) * BATCH
    assert finished.trained.n_steps == N_STEPS
    assert spent.score - before.score == of_opponent + N_STEPS * BATCH
    assert spent.log_prob - before.log_prob == of_opponent + N_STEPS * BATCH
    assert spent.hvp - before.hvp == N_STEPS * BATCH
    assert before.hvp == 0


def test_without_it_draws_are_those_of_the_points_smoothed() -> None:
    unfinished, _ = fit_plus("dft_plus_unfinished")
    target, generator = targets.get("ring8"), derive_generator(0, "plus")
    meter, config = Meter(target), samplers.get("dft_plus_unfinished", **SHORT)
    assert isinstance(config, DFTPlus)
    points = teach(config.teaching, meter, generator).x / meter.scale
    smoothed = SmoothedPoints(points, config.smoothing, config.network, meter, generator)
    with torch.no_grad():
        y = smoothed(*smoothed.latents(50, derive_generator("draw")))
    torch.testing.assert_close(unfinished.draw(50, derive_generator("draw")).samples, meter.scale * y)


def test_it_moves_the_network_and_neither_points_nor_widths() -> None:
    (finished, _), (unfinished, _) = fit_plus(), fit_plus("dft_plus_unfinished")
    buffers, same = dict(finished.trained.last.named_buffers()), dict(unfinished.trained.last.named_buffers())
    assert buffers.keys() == same.keys()
    assert buffers
    assert all(torch.equal(buffers[name], same[name]) for name in buffers)
    last, start = (parameters_to_vector(f.trained.last.parameters()) for f in (finished, unfinished))
    assert not torch.equal(last, start)


def test_a_budget_that_ends_in_the_last_step_keeps_whole_steps() -> None:
    before = fit_plus("dft_plus_unfinished")[1].counts["fit"].gradient_equivalents
    of_step = (2 + 1 + 2) * BATCH  # scores of two opponent's steps and of the sampler's, and its products
    fitted, _ = fit_plus(budget=before + N_WARM_UP * BATCH + 2 * of_step + 1)
    assert fitted.trained.stopped == "budget"
    assert fitted.trained.n_steps == 2
    assert "after 2 of 4 steps" in fitted.trained.reason


def test_the_learned_width_is_that_of_the_neighbours() -> None:
    """Points whose spread in x2 grows with x1: the field must follow it, and stay as it is afterwards."""
    n = 2_000
    x1 = 4 * torch.rand(n, generator=derive_generator("x1"), dtype=torch.float64) - 2
    points = torch.stack([x1, 0.1 * x1.exp() * normal(n)], -1)
    meter, generator = Meter(targets.get("ring8"), dtype=torch.float64), derive_generator("width")
    smoothed = SmoothedPoints(points, Smoothing(n_neighbours=32), Network(width=32, depth=2), meter, generator)
    width = LocalWidth(smoothed, Network(width=32, depth=2), meter, generator)
    assert not any(value.requires_grad for value in width.parameters())
    left, right = x1 < -1, x1 > 1
    log_width, field = smoothed.widths.log()[:, 1], width(points).log()[:, 1]
    assert log_width[right].mean() - log_width[left].mean() > 1  # there is something to learn
    error = math.sqrt(log_width.var().item() / 500)
    for part in (left, right):
        assert abs((field - log_width)[part].mean()) < 0.05 + TOO_LARGE * error


def test_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"network\.latent must be .*: the latent is the points and their neighbours"):
        samplers.get("dft_plus", network={"latent": {"n_components": 64}})
