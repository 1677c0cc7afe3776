"""Iterated denoising energy matching: the estimated score against closed forms, the reversed diffusion, training."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samplerbench import targets
from samplerbench.samplers import idem
from samplerbench.samplers.idem import IDEM, FittedIDEM, estimated_score, matching_loss, noised, reversed_diffusion
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.trainer import LOOK_EVERY
from samplerbench.targets import Budget, Meter, derive_generator

TOO_LARGE = 4  # standard errors
SMALL = Network(width=16, depth=2)


class Mixture:
    """Modes N(-1, .3^2 I) and N(1.5, .5^2 I) of shares .4 and .6, in units of a scale of 2."""

    scale = 2.0
    shares, means, sds = (0.4, 0.6), (-1.0, 1.5), (0.3, 0.5)

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def log_prob(self, x: Tensor) -> Tensor:
        return self.noised(x / self.scale, 0.0) - 3.0

    def noised(self, y: Tensor, s: Tensor | float) -> Tensor:
        """Log density of y + s eps."""
        parts = []
        for share, mean, sd in zip(self.shares, self.means, self.sds, strict=True):
            variance = torch.as_tensor(sd**2 + s**2, dtype=y.dtype)
            square = (y - mean).square().sum(-1) / variance
            parts.append(math.log(share) - 0.5 * (square + self.dim * variance.log()))
        return torch.logsumexp(torch.stack(parts), 0)

    def noised_score(self, y: Tensor, s: float) -> Tensor:
        y = y.detach().requires_grad_()
        (score,) = torch.autograd.grad(self.noised(y, s).sum(), y)
        return score

    def sample_y(self, n: int) -> Tensor:
        generator = derive_generator("exact")
        first = torch.rand(n, 1, generator=generator, dtype=torch.float64) < self.shares[0]
        z = torch.randn(n, self.dim, generator=generator, dtype=torch.float64)
        return torch.where(first, self.means[0] + self.sds[0] * z, self.means[1] + self.sds[1] * z)


class Normal:
    """N(0, sd^2 I), whose scale is 1."""

    scale = 1.0

    def __init__(self, sd: float = 1.0, dim: int = 1) -> None:
        self.sd, self.dim = sd, dim

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x / self.sd).square().sum(-1)


class As(nn.Module):
    """A function of points and levels in the place of a network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def double(target: Any, **limits: float) -> Meter:
    return Meter(target, dtype=torch.float64, budget=Budget(**limits))


def estimates(target: Any, y: float, s: float, n_particles: int, n: int) -> Tensor:
    """``n`` independent estimates at one point, shape ``(n,)``."""
    points = torch.full((n, 1), y, dtype=torch.float64)
    generator = derive_generator(n_particles, "estimate")
    return estimated_score(points, torch.full_like(points, s), double(target), n_particles, generator).squeeze(-1)


# The estimated score


def test_bias_of_the_estimate_falls_as_one_over_the_particles_with_the_constant_of_the_delta_method() -> None:
    """E A / B of means A of p's and B of p: A / B + (A Var p - B Cov(p', p)) / (B^3 k), moments by quadrature."""
    y, s, sd, n = 1.0, 1.0, 0.7, 100_000
    node = torch.linspace(-8, 8, 4_001, dtype=torch.float64)
    weights = (-0.5 * node.square()).softmax(0)
    p = (-0.5 * ((y + s * node) / sd).square()).exp()
    slope = -(y + s * node) / sd**2 * p
    a, b = (weights * slope).sum(), (weights * p).sum()
    assert math.isclose((a / b).item(), -y / (sd**2 + s**2), rel_tol=1e-6)
    variance, covariance = (weights * p * p).sum() - b * b, (weights * slope * p).sum() - a * b
    constant = ((a * variance - b * covariance) / b**3).item()
    for n_particles in (32, 64, 128):
        found = estimates(Normal(sd), y, s, n_particles, n)
        bias, error = found.mean().item() + y / (sd**2 + s**2), (found.std() / math.sqrt(n)).item()
        allowed = TOO_LARGE * error + 10 * abs(constant) / n_particles**2
        assert abs(bias - constant / n_particles) < allowed
        assert allowed < 0.6 * abs(constant) / n_particles


@pytest.mark.parametrize("s", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("y", [-1.2, 0.1, 1.0])
def test_the_estimate_approaches_the_score_of_the_noised_mixture(y: float, s: float) -> None:
    """In units of 1 / scale; with 4,000 particles the bias is below the variance of one estimate over its score."""
    target, n = Mixture(), 200
    found = estimates(target, y, s, 4_000, n)
    truth = target.noised_score(torch.tensor([y], dtype=torch.float64), s).item()
    assert abs(found.mean().item() - truth) < TOO_LARGE * (found.std() / math.sqrt(n)).item() + 0.01 * abs(truth)


@pytest.mark.parametrize("dim", [1, 3])
def test_the_estimate_obeys_the_denoising_identity(dim: int) -> None:
    """E <f(x), score_s(x)> = -E <f(x), eps / s> at x = x0 + s eps of exact draws x0, for any f."""
    target, n, s = Mixture(dim), 10_000, 0.6
    eps = torch.randn(n, dim, generator=derive_generator("eps"), dtype=torch.float64)
    x = target.sample_y(n) + s * eps
    level = torch.full_like(x[:, :1], s)
    score = estimated_score(x, level, double(target), 500, derive_generator("estimate"))
    for f in (x, x.sin(), torch.ones_like(x)):
        gap = (f * (score + eps / s)).sum(-1)
        assert abs(gap.mean()) < TOO_LARGE * gap.std() / math.sqrt(n) + 0.02


def test_particles_where_the_target_is_nan_have_no_weight() -> None:
    class Half(Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) + torch.where(x[..., 0] > 0, math.nan, 0.0).to(x)

    y = torch.tensor([[-0.1], [9.0]], dtype=torch.float64)
    score = estimated_score(y, torch.full_like(y, 0.5), double(Half()), 50, derive_generator("estimate"))
    assert score[0].item() > 0  # all weight lies left of zero, where the score of N(0, 1) is positive
    assert score[1].isnan()


def test_matching_loss_is_the_weighted_squared_error() -> None:
    y, s = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[0.5], [2.0]])
    loss = matching_loss(As(lambda y, s: y / s), y, s, torch.zeros(2, 2))
    by_hand = 0.5 * (0.25 * 1.25 * (2.0**2 + 4.0**2) + 4 * 5 * 0.5**2)
    assert math.isclose(loss.item(), by_hand, rel_tol=1e-6)


# The reversed diffusion


def variance_of_draws(sd: float, config: IDEM) -> float:
    """Of the reversed diffusion at the exact score of N(0, sd^2): a linear recursion."""
    share = torch.linspace(0, 1, config.n_levels, dtype=torch.float64)
    levels = [*(config.highest ** (1 - share) * config.lowest**share).tolist(), 0.0]
    variance = 1 + levels[0] ** 2
    for here, there in itertools.pairwise(levels):
        gap = here**2 - there**2
        variance = (1 - gap / (sd**2 + here**2)) ** 2 * variance + gap * (there / here) ** 2
    return variance


@pytest.mark.parametrize("sd", [0.2, 1.0])
def test_draws_at_the_exact_score_of_a_gaussian_have_the_variance_of_the_recursion(sd: float) -> None:
    config, n = IDEM(n_levels=60), 50_000
    exact = As(lambda y, s: -y / (sd**2 + s.square()))
    y = reversed_diffusion(config, exact, n, double(Normal(sd, dim=2)), derive_generator("draw"))
    ratio = y.square().mean(0) / variance_of_draws(sd, config)
    assert ((ratio - 1).abs() < TOO_LARGE * math.sqrt(2 / n)).all()


def test_the_recursion_s_variance_approaches_the_target_s_at_first_order() -> None:
    errors = [variance_of_draws(1.0, IDEM(n_levels=n, lowest=1e-3)) - 1 for n in (100, 200, 400)]
    assert abs(errors[-1]) < 0.02
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


# Training


def test_the_buffer_keeps_the_youngest_draws_and_training_leaves_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(buffer: Tensor, config: IDEM, generator: Any) -> tuple[Tensor, Tensor]:
        seen.append((buffer, buffer.clone()))
        return noised(buffer, config, generator)

    monkeypatch.setattr(idem, "noised", watched)
    config = IDEM(
        network=SMALL, n_rounds=4, n_inner=2, n_fresh=10, buffer_size=25, batch_size=8, n_particles=4, n_levels=5
    )
    config.fit(double(Normal()), derive_generator("fit"))
    assert [len(buffer) for buffer, _ in seen] == [10, 10, 20, 20, 25, 25, 25, 25]
    assert not any(buffer.requires_grad for buffer, _ in seen)
    assert all(torch.equal(buffer, before) for buffer, before in seen)
    assert torch.equal(seen[4][0][:15], seen[2][0][5:])  # the five oldest left for ten new ones
    assert torch.equal(seen[6][0][:15], seen[4][0][10:])


def test_training_pays_the_particles_of_its_batches_and_draws_are_free() -> None:
    meter = double(Normal())
    config = IDEM(network=SMALL, n_rounds=2, n_inner=3, n_fresh=10, batch_size=8, n_particles=4, n_levels=5)
    fitted = config.fit(meter, derive_generator("fit"))
    with meter.phase("draw"):
        fitted.draw(10, derive_generator("draw"))
    assert (meter.counts["fit"].score, meter.counts["fit"].hvp) == (6 * 8 * 4, 0)
    assert meter.counts["draw"].gradient_equivalents == 0


@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_a_short_training_leads_to_the_target(name: str) -> None:
    target: Any = targets.get(name)
    config = IDEM(network=Network(width=32, depth=2), n_rounds=10, n_inner=40, n_particles=64, n_levels=50)
    draws = config.fit(Meter(target), derive_generator("fit")).draw(4_000, derive_generator("draw"))
    assert draws.stopped is None
    x, truth = draws.samples.double(), target.moments
    error = TOO_LARGE * truth.variance.sqrt() / math.sqrt(len(x))
    assert ((x.mean(0) - truth.mean[:2]).abs() < error[:2] + 0.1 * truth.variance[:2].sqrt()).all()
    assert ((x.square().mean(0) - truth.mean[2:]).abs() < error[2:] + 0.15 * truth.mean[2:]).all()


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, bad_step = double(Normal()), LOOK_EVERY + 7
    config = IDEM(network=SMALL, n_rounds=10, n_inner=10, n_fresh=10, batch_size=8, n_particles=4, n_levels=5)

    def fit_when_broken_at(step: int) -> FittedIDEM:
        calls = itertools.count(1)

        def breaks(network: nn.Module, y: Tensor, s: Tensor, score: Tensor) -> Tensor:
            return matching_loss(network, y, s, score) * (math.nan if next(calls) == step else 1.0)

        monkeypatch.setattr(idem, "matching_loss", breaks)
        result = config.fit(meter, derive_generator("fit"))
        assert isinstance(result, FittedIDEM)
        return result

    broken = fit_when_broken_at(bad_step)
    draws = broken.draw(20, derive_generator("draw"))
    assert draws.stopped == "diverged"
    assert f"step {bad_step}; the state after step {LOOK_EVERY} is kept" in draws.reason
    assert broken.diagnostics["n_steps"] == LOOK_EVERY
    assert draws.samples.isfinite().all()
    assert torch.equal(fit_when_broken_at(bad_step + 5).draw(20, derive_generator("draw")).samples, draws.samples)


def test_a_budget_of_fit_keeps_the_steps_before_it() -> None:
    config = IDEM(network=SMALL, n_rounds=2, n_inner=3, n_fresh=10, batch_size=8, n_particles=4, n_levels=5)
    short = config.fit(double(Normal(), fit=4.5 * 8 * 4), derive_generator("fit"))
    draws = short.draw(10, derive_generator("draw"))
    assert short.diagnostics["n_steps"] == 4
    assert draws.stopped == "budget"
    assert draws.reason.startswith("after 4 of 6 steps")
    assert draws.samples.isfinite().all()


def test_a_start_is_refused() -> None:
    config = IDEM(network=SMALL, n_rounds=1, n_inner=1, n_fresh=10, batch_size=8, n_particles=4, n_levels=5)
    fitted = config.fit(double(Normal()), derive_generator("fit"))
    with pytest.raises(ValueError, match=r"start must be None, got \(5, 1\)"):
        fitted.draw(5, derive_generator("draw"), torch.zeros(5, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_rounds", 0), ("n_particles", 0), ("buffer_size", 0), ("max_score", 0.0), ("lowest", -1.0), ("highest", 0.005)],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        IDEM(**{field: value})  # type: ignore[arg-type]
