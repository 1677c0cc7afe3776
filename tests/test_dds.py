"""The denoising diffusion sampler: weights against known normalisers, the noising, and what training gives."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samplerbench import targets
from samplerbench.samplers import dds
from samplerbench.samplers.dds import DDS, FittedDDS
from samplerbench.samplers.dds_chain import (
    Chain,
    Drift,
    clipped_variance,
    denoising_loss,
    log_tilt,
    log_variance_loss,
)
from samplerbench.samplers.descent import Descent
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.trainer import LOOK_EVERY
from samplerbench.samplers.kernels import Diverged
from samplerbench.samplers.moves import Moves
from samplerbench.samplers.replay import Replay
from samplerbench.targets import Budget, Meter, derive_generator

TOO_LARGE = 4  # standard errors
SMALL = Network(width=16, depth=2)
STILL = Replay(n_points=8, n_first=0, move_every=1_000, draw_every=1_000)  # a move of all points at step 0, no other


class Scaled:
    """exp(1) times the density of N(0, sd^2 I) without its constant; log Z = 1 + dim (log sd + log(2 pi) / 2)."""

    def __init__(self, sd: float = 0.5, dim: int = 2) -> None:
        self.sd, self.dim, self.scale = sd, dim, 0.6

    @property
    def exact_log_z(self) -> float:
        return 1 + self.dim * (math.log(self.sd) + 0.5 * math.log(2 * math.pi))

    def log_prob(self, x: Tensor) -> Tensor:
        return 1 - 0.5 * (x / self.sd).square().sum(-1)


class As(nn.Module):
    """A function of points, scores and steps in the place of a drift."""

    def __init__(self, function: Callable[..., tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(*arguments)


def double(target: Any, **limits: float) -> Meter:
    return Meter(target, dtype=torch.float64, budget=Budget(**limits))


def variance_at(chain: Chain, variance: float, k: Tensor) -> Tensor:
    """Of y at the starts of steps k if the target is N(0, variance I) in the chain's coordinates."""
    noise = chain.noise[k].square()
    return variance * (1 - noise) + noise


def first_order(chain: Chain, variance: float) -> As:
    """The drift of the reversed diffusion, y - y / noised variance, without its width."""

    def function(y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        u = y - y / variance_at(chain, variance, k)
        alpha = chain.alpha[k]
        return 2 * (1 - (1 - alpha).sqrt()) / alpha.sqrt() * u, torch.zeros_like(y)

    return As(function)


def exact(chain: Chain, variance: float) -> As:
    """The reversed noising: y_{k+1} given y_k has mean (1 - alpha)^.5 r y_k and variance alpha r, r = v_{k+1} / v_k."""

    def function(y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        ratio, alpha = variance_at(chain, variance, k + 1) / variance_at(chain, variance, k), chain.alpha[k]
        return (1 - alpha).sqrt() * (ratio - 1) / alpha.sqrt() * y, 0.5 * ratio.log().expand_as(y)

    return As(function)


def rough(config: DDS, meter: Meter) -> tuple[Chain, Drift]:
    """A drift that nobody trained: every parameter of the network drawn at random."""
    chain = config.chain(meter)
    drift, generator = Drift(config.network, chain, derive_generator("net")), derive_generator("rough")
    with torch.no_grad():
        for parameter in drift.net.parameters():
            parameter.normal_(generator=generator).mul_(0.3)
    return chain, drift


def backwards(chain: Chain, y: Tensor, drift: nn.Module) -> Tensor:
    """Log weights of paths noised step by step from the ends ``y``."""
    log_weights, generator = chain.log_ratio(y), derive_generator("back")
    for step in reversed(range(len(chain.levels))):
        k = torch.full_like(y[:, :1], step, dtype=torch.int64)
        y, push = chain.back(y, k, generator)
        with torch.no_grad():
            log_weights = log_weights - log_tilt(push, *drift(y, chain.score(y, k), k))
    return log_weights


# The weights


def variance_of_log_weights(n_levels: int) -> float:
    target = Scaled()
    chain = DDS(n_levels=n_levels, lowest=0.01, highest=100.0).chain(double(target))
    drift = first_order(chain, (target.sd / chain.sigma) ** 2)
    _, log_weights = chain.weighted(8_000, drift, derive_generator("paths"))
    variance = log_weights.var().item()
    assert abs(log_weights.mean().item() - target.exact_log_z) < 1.5 * variance  # KL, half of it if Gaussian
    return variance


def test_with_the_diffusion_s_drift_log_weights_are_log_z_up_to_the_steps_at_first_order() -> None:
    variances = [variance_of_log_weights(n_levels) for n_levels in (32, 64, 128, 256)]
    assert variances[-1] < 0.03
    for coarse, fine in itertools.pairwise(variances):
        assert 1.6 < coarse / fine < 2.4


def test_where_the_chain_reverses_the_noising_every_log_weight_is_log_z() -> None:
    """But for the start, whose variance is 1 and should be 1 + (variance - 1) / (1 + highest^2)."""
    target = Scaled()
    chain = DDS(n_levels=6, highest=1e4).chain(double(target))
    drift = exact(chain, (target.sd / chain.sigma) ** 2)
    y, forwards = chain.weighted(500, drift, derive_generator("paths"))
    assert (forwards - target.exact_log_z).abs().max() < 30 * 1e-8  # at most 30 = |y_0|^2 / 2 + dim / 2
    assert (backwards(chain, y, drift) - target.exact_log_z).abs().max() < 30 * 1e-8


@pytest.mark.parametrize("n_levels", [1, 3, 20])
@pytest.mark.parametrize("is_rough", [False, True], ids=["untrained", "rough"])
def test_the_mean_weight_is_z_whatever_the_drift_and_the_steps(n_levels: int, is_rough: bool) -> None:
    target, n = Scaled(), 100_000
    config, meter = DDS(network=SMALL, n_levels=n_levels, lowest=0.2, highest=2.0), double(target)
    chain, drift = rough(config, meter)
    if not is_rough:
        drift = Drift(SMALL, chain, derive_generator("net"))
    draws = fitted(chain, drift).draw(n, derive_generator("draw"))
    assert draws.log_weights is not None
    assert draws.log_z is not None
    ratio = (draws.log_weights - target.exact_log_z).exp()
    error = (ratio.std() / math.sqrt(n)).item()
    assert error < 0.05
    assert abs(ratio.mean().item() - 1) < TOO_LARGE * error
    assert math.isclose(draws.log_z.value - target.exact_log_z, ratio.mean().log().item(), abs_tol=1e-9)
    mean_square = (ratio[:, None] * draws.samples.square()).mean(0)  # over Z: weighted draws have the target's law
    spread = (ratio[:, None] * draws.samples.square()).std(0) / math.sqrt(n)
    assert ((mean_square - target.sd**2).abs() < TOO_LARGE * spread).all()


def fitted(chain: Chain, drift: Any) -> FittedDDS:
    return FittedDDS(chain, drift, {}, None, "")


def test_the_mean_of_one_over_the_weight_is_one_over_z_on_paths_backwards_from_the_target() -> None:
    target, n = Scaled(), 20_000
    chain, drift = rough(DDS(network=SMALL, n_levels=4, lowest=0.5, highest=2.0), double(target))
    y = target.sd / chain.sigma * chain.start(n, derive_generator("exact"))
    ratio = (target.exact_log_z - backwards(chain, y, drift)).exp()
    error = (ratio.std() / math.sqrt(n)).item()
    assert error < 0.05
    assert abs(ratio.mean().item() - 1) < TOO_LARGE * error


def test_weights_of_resampled_paths_are_those_of_the_draws() -> None:
    chain, drift = rough(DDS(network=SMALL, n_levels=5), double(Scaled()))
    y, log_weights = chain.weighted(40, drift, derive_generator("same"))
    draws = fitted(chain, drift).draw(40, derive_generator("same"))
    torch.testing.assert_close(log_weights, draws.log_weights, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(chain.sigma * y, draws.samples)


def test_widths_of_a_drift_start_between_those_for_a_wide_target_and_a_point_and_stay_near() -> None:
    chain = DDS().chain(double(Scaled()))
    drift, k = Drift(SMALL, chain, derive_generator("net")), torch.arange(79)[:, None]
    y = chain.start(79, derive_generator("y"))
    of_a_point = (chain.noise[k + 1] / chain.noise[k]).log()  # the exact width, see ``exact`` with variance 0
    _, log_width = drift(y, chain.score(y, k), k)
    torch.testing.assert_close(log_width, 0.5 * of_a_point.expand_as(y))
    with torch.no_grad():
        for parameter in drift.net.parameters():
            parameter.normal_(generator=derive_generator("rough"))
    _, log_width = drift(y, chain.score(y, k), k)
    assert (log_width <= -0.5 * of_a_point).all()
    assert (log_width >= 1.5 * of_a_point).all()


def test_any_drift_is_shown_a_score_no_longer_than_the_noise_allows() -> None:
    chain = DDS(max_score=0.7).chain(double(Scaled(sd=1e-3)))
    y = chain.start(50, derive_generator("y"))
    k = torch.arange(50)[:, None]
    scores = [chain.score(y, step) - chain.noise[step] * y for step in (0, 30, 63)]
    lengths = torch.stack([*scores, chain.score(y, k) - chain.noise[k] * y]).norm(dim=-1)
    assert lengths.max() <= 0.7 * math.sqrt(2) * (1 + 1e-9)
    assert lengths.max() > 0.69 * math.sqrt(2)


# The noising and its loss


def test_a_step_back_from_a_noised_point_has_the_noised_law_and_implies_the_push_between_the_two() -> None:
    chain, n = DDS(n_levels=7, lowest=0.3, highest=3.0).chain(double(Scaled())), 100_000
    end = torch.tensor([[2.0, -1.0]], dtype=torch.float64).expand(n, 2)
    k = torch.full((n, 1), 3)
    after = chain.noised(end, k + 1, derive_generator("after"))
    y, push = chain.back(after, k, derive_generator("back"))
    alpha, noise = chain.alpha[3], chain.noise[3]
    torch.testing.assert_close((1 - alpha).sqrt() * y + alpha.sqrt() * push, after)
    assert ((y.mean(0) - (1 - noise**2).sqrt() * end[0]).abs() < TOO_LARGE * noise / math.sqrt(n)).all()
    assert ((y.var(0) - noise**2).abs() < TOO_LARGE * noise**2 * math.sqrt(2 / n)).all()


def test_the_denoising_loss_differs_between_drifts_as_mean_log_weights_of_paths_backwards() -> None:
    target, n = Scaled(), 40_000
    chain, one = rough(DDS(network=SMALL, n_levels=4, lowest=0.5, highest=2.0), double(target))
    other = exact(chain, 0.4)
    y = chain.start(n, derive_generator("any law"))
    of_weights = backwards(chain, y, one) - backwards(chain, y, other)
    losses = [
        torch.stack([denoising_loss(d, chain, part, derive_generator(i)) for i, part in enumerate(torch.split(y, 400))])
        for d in (one, other)
    ]
    difference = losses[0] - losses[1]  # the same steps and noise
    error = math.hypot((of_weights.std() / math.sqrt(n)).item(), (difference.std() / math.sqrt(len(difference))).item())
    assert error < 0.1
    assert abs(difference.mean().item() - of_weights.mean().item()) < TOO_LARGE * error


def test_the_denoising_loss_is_least_at_the_reversed_noising() -> None:
    """Its gradient in a factor and a shift of c and of log g is zero there, within its standard error."""
    target, n = Scaled(), 500
    chain = DDS(n_levels=5, lowest=0.5, highest=2.0).chain(double(target))
    right = exact(chain, (target.sd / chain.sigma) ** 2)
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def bent(y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        c, log_width = right(y, score, k)
        return (1 + theta[0]) * c + theta[1], (1 + theta[2]) * log_width + theta[3]

    gradients = []
    for i in range(200):
        y = target.sd / chain.sigma * chain.start(n, derive_generator(i, "y"))
        loss = denoising_loss(As(bent), chain, y, derive_generator(i))
        gradients.append(torch.autograd.grad(loss, theta)[0])
    found = torch.stack(gradients)
    error = found.std(0) / math.sqrt(len(found))
    assert (error < 0.05).all()
    assert (found.mean(0).abs() < TOO_LARGE * error).all()


def test_the_log_variance_is_that_of_the_weights_of_draws() -> None:
    chain, drift = rough(DDS(network=SMALL, n_levels=5), double(Scaled()))
    _, log_weights = chain.weighted(40, drift, derive_generator("same"))
    loss = log_variance_loss(drift, chain, 40, derive_generator("same"))
    torch.testing.assert_close(loss.detach(), clipped_variance(log_weights), rtol=1e-10, atol=1e-10)


def test_half_the_gradient_of_the_log_variance_is_that_of_the_divergence_of_paths() -> None:
    """E of it is the gradient of KL(paths, reversed noising) = log Z - E log w, here by differences of equal noise."""
    target, n, step = Scaled(), 20_000, 1e-4
    chain = DDS(n_levels=4, lowest=0.5, highest=2.0).chain(double(target))
    right = exact(chain, 1.2 * (target.sd / chain.sigma) ** 2)  # nearly right, so that no path is clipped much

    def bent(theta: Tensor) -> As:
        def steer(y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            c, log_width = right(y, score, k)
            return (1.3 + theta[0]) * c + theta[1], log_width + theta[2]

        return As(steer)

    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    found = torch.stack(
        [
            torch.autograd.grad(log_variance_loss(bent(theta), chain, 200, derive_generator(i)), theta)[0] / 2
            for i in range(n // 200)
        ]
    )
    error = found.std(0) / math.sqrt(len(found))
    for i in range(3):
        mean = [
            chain.weighted(n, bent(sign * step * torch.eye(3, dtype=torch.float64)[i]), derive_generator("kl"))[1]
            for sign in (-1, 1)
        ]
        slopes = (mean[0] - mean[1]) / (2 * step)
        both = math.hypot(error[i].item(), (slopes.std() / math.sqrt(n)).item())
        assert both < 0.1
        assert abs(found.mean(0)[i].item() - slopes.mean().item()) < TOO_LARGE * both + 0.03 * abs(slopes.mean().item())


def test_at_the_reversed_noising_the_log_variance_and_its_gradient_are_zero() -> None:
    target = Scaled()
    chain = DDS(n_levels=5, lowest=0.01, highest=100.0).chain(double(target))
    right = exact(chain, (target.sd / chain.sigma) ** 2)
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def bent(y: Tensor, score: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        c, log_width = right(y, score, k)
        return (1 + theta[0]) * c, log_width

    loss = log_variance_loss(As(bent), chain, 500, derive_generator("paths"))
    assert loss.item() < 1e-6
    assert abs(torch.autograd.grad(loss, theta)[0].item()) < 0.05


def test_values_far_from_the_median_count_by_the_limit_over_their_distance() -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 3.0, 102.0], dtype=torch.float64)  # distances 2, 1, 0, 1, 100 of median 1
    share = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.05], dtype=torch.float64)
    mean = (share * values).sum() / share.sum()
    expected = (share * (values - mean).square()).sum() / 4
    assert math.isclose(clipped_variance(values).item(), expected.item())
    assert math.isclose(clipped_variance(values[:4]).item(), values[:4].var().item())
    assert clipped_variance(torch.cat([values, values.new_tensor([-math.inf, math.nan])])) == clipped_variance(values)
    with pytest.raises(Diverged, match="2 of 3 paths"):
        clipped_variance(values.new_tensor([-math.inf, 1.0, math.nan]))


# Training


def test_training_by_the_log_variance_pays_scores_and_densities_of_its_paths_and_no_products() -> None:
    meter = double(Scaled())
    config = DDS(network=SMALL, loss="log_variance", descent=Descent(n_steps=3, batch_size=8), n_levels=5)
    config.fit(meter, derive_generator("fit"))
    counts = meter.counts["fit"]
    assert (counts.log_prob, counts.score, counts.hvp) == (3 * 8 * 6, 3 * 8 * 5, 0)


def test_training_pays_scores_of_its_pairs_moves_and_draws_and_no_products() -> None:
    meter = double(Scaled())
    replay = Replay(n_points=8, n_first=2, move_every=2, draw_every=100, moves=Moves(method="mala"))
    DDS(network=SMALL, descent=Descent(n_steps=3, batch_size=16), n_levels=5, replay=replay).fit(
        meter, derive_generator("fit")
    )
    counts = meter.counts["fit"]
    n_scores = 8 * (1 + 2 + 2) + 3 * 16  # the start, first moves and those before steps 1 and 3
    assert (counts.log_prob, counts.score, counts.hvp) == (n_scores, n_scores, 0)


@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_a_short_training_leads_to_the_target(name: str) -> None:
    target: Any = targets.get(name)
    config = DDS(
        network=Network(width=32, depth=2),
        descent=Descent(n_steps=400, batch_size=1_024, step_size=2e-3, clip_norm=1.0),
        replay=Replay(n_points=1_024, n_first=50),
        n_levels=32,
        lowest=0.01,
    )
    draws = config.fit(Meter(target), derive_generator("fit")).draw(4_000, derive_generator("draw"))
    assert draws.stopped is None
    assert draws.log_z is not None
    assert abs(draws.log_z.value) < TOO_LARGE * draws.log_z.std_error + 1e-3  # rounding of float32
    assert draws.log_z.std_error < 0.02
    assert draws.diagnostics["ess_share"] > 0.8  # type: ignore[operator]
    x, truth = draws.samples.double(), target.moments
    error = TOO_LARGE * truth.variance.sqrt() / math.sqrt(len(x))
    square_error = (x.square().mean(0) - truth.mean[2:]).abs()
    assert ((x.mean(0) - truth.mean[:2]).abs() < error[:2] + 0.1 * truth.variance[:2].sqrt()).all()
    assert (square_error < error[2:] + 0.15 * truth.mean[2:]).all()  # unweighted: biased by what is left to learn


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, bad_step = double(Scaled()), LOOK_EVERY + 7
    config = DDS(network=SMALL, descent=Descent(n_steps=2 * LOOK_EVERY, batch_size=4), n_levels=3, replay=STILL)

    def fit_when_broken_at(step: int) -> FittedDDS:
        calls = itertools.count(1)

        def breaks(*arguments: Any) -> Tensor:
            return denoising_loss(*arguments) * (math.nan if next(calls) == step else 1.0)

        monkeypatch.setattr(dds, "denoising_loss", breaks)
        result = config.fit(meter, derive_generator("fit"))
        assert isinstance(result, FittedDDS)
        return result

    broken = fit_when_broken_at(bad_step)
    draws = broken.draw(20, derive_generator("draw"))
    assert draws.stopped == "diverged"
    assert f"step {bad_step}; the state after step {LOOK_EVERY} is kept" in draws.reason
    assert broken.diagnostics["n_steps"] == LOOK_EVERY
    assert draws.samples.isfinite().all()
    assert draws.log_z is None
    assert torch.equal(fit_when_broken_at(bad_step + 5).draw(20, derive_generator("draw")).samples, draws.samples)


def test_a_budget_of_fit_keeps_the_steps_before_it() -> None:
    replay = replace(STILL, moves=Moves(method="mala"))
    config = DDS(network=SMALL, descent=Descent(n_steps=5, batch_size=8), n_levels=4, replay=replay)
    meter = double(Scaled(), fit=(2 + 2.9) * 8)  # the start and a move, and two steps and a part of the third
    short = config.fit(meter, derive_generator("fit"))
    with meter.phase("draw"):
        draws = short.draw(10, derive_generator("draw"))
    assert short.diagnostics["n_steps"] == 2
    assert draws.stopped == "budget"
    assert draws.reason.startswith("after 2 of 5 steps")
    assert draws.log_z is None


def test_a_budget_that_ends_in_the_draws_of_training_keeps_the_steps_before_them() -> None:
    replay = replace(STILL, draw_every=2, n_fresh=6, moves=Moves(method="mala"))
    config = DDS(network=SMALL, descent=Descent(n_steps=5, batch_size=8), n_levels=4, replay=replay)
    short = config.fit(double(Scaled(), fit=(2 + 2) * 8 + 2.5 * 6), derive_generator("fit"))
    assert short.diagnostics["n_steps"] == 2
    assert isinstance(short, FittedDDS)
    assert short.fit_stopped == "budget"
    assert short.fit_reason.startswith("after 2 of 5 steps")


def test_a_budget_of_draw_leaves_the_points_that_were_reached_without_weights() -> None:
    chain, drift = rough(DDS(network=SMALL, n_levels=4), double(Scaled()))
    generator = derive_generator("draw")
    legs = list(chain.legs(chain.start(10, generator), drift, generator))
    meter = double(Scaled(), draw=25.0)
    with meter.phase("draw"):
        draws = fitted(replace(chain, meter=meter), drift).draw(10, derive_generator("draw"))
    assert draws.stopped == "budget"
    assert draws.reason.endswith("stopped after 2 of 4 steps")
    assert draws.log_weights is None
    assert draws.log_z is None
    torch.testing.assert_close(draws.samples, chain.sigma * legs[1].end)


def test_a_target_without_density_anywhere_is_diverged() -> None:
    class Nowhere(Scaled):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) * math.nan

    config = DDS(network=SMALL, descent=Descent(n_steps=5, batch_size=8), n_levels=4, replay=STILL)
    draws = config.fit(double(Nowhere()), derive_generator("fit")).draw(10, derive_generator("draw"))
    assert draws.stopped == "diverged"
    assert draws.reason == "after 0 of 5 steps: the log density is finite at none of 8 points"


def test_points_where_the_target_is_nan_have_no_weight() -> None:
    class Half(Scaled):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) + torch.where(x[..., 0] > 0, math.nan, 0.0).to(x)

    chain, drift = rough(DDS(network=SMALL, n_levels=3), double(Half()))
    draws = fitted(chain, drift).draw(100, derive_generator("draw"))
    assert draws.log_weights is not None
    assert torch.equal(draws.log_weights.isneginf(), draws.samples[:, 0] > 0)


def test_a_start_is_refused() -> None:
    chain, drift = rough(DDS(network=SMALL, n_levels=3), double(Scaled()))
    with pytest.raises(ValueError, match=r"start must be None, got \(5, 2\)"):
        fitted(chain, drift).draw(5, derive_generator("draw"), torch.zeros(5, 2))


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_levels", 0), ("loss", "variance"), ("base_width", -1.0), ("lowest", 0.0), ("highest", 0.001)],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value!r}"):
        DDS(**{field: value})
