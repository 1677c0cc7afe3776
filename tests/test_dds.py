"""The denoising diffusion sampler: weights against known normalisers, their log-variance, and what training gives."""

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
from samplerbench.samplers.dds import DDS, Chain, Drift, FittedDDS, Paths, log_variance
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.trainer import LOOK_EVERY
from samplerbench.targets import Budget, Meter, derive_generator

TOO_LARGE = 4  # standard errors
SMALL = Network(width=16, depth=2)


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

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def double(target: Any, **limits: float) -> Meter:
    return Meter(target, dtype=torch.float64, budget=Budget(**limits))


def exact(chain: Chain, variance: float) -> As:
    """The drift that leads to N(0, variance I), in the chain's coordinates: sigma u = y - y / noised variance."""

    def function(y: Tensor, score: Tensor, k: Tensor) -> Tensor:
        signal = 1 / (1 + chain.levels[k].square())
        u = y - y / (variance * signal + 1 - signal)
        alpha = chain.alpha[k]
        return 2 * (1 - (1 - alpha).sqrt()) / alpha.sqrt() * u

    return As(function)


def rough(config: DDS, meter: Meter) -> tuple[Chain, Drift]:
    """A drift that nobody trained: every parameter of the network drawn at random."""
    chain = Chain.of(config, meter)
    drift, generator = Drift(config.network, chain, meter, derive_generator("net")), derive_generator("rough")
    with torch.no_grad():
        for parameter in drift.net.parameters():
            parameter.normal_(generator=generator).mul_(0.3)
    return chain, drift


# The weights


def variance_at_the_exact_drift(n_levels: int) -> float:
    target = Scaled()
    chain = Chain.of(DDS(n_levels=n_levels, highest=100.0), double(target))
    drift = exact(chain, (target.sd / chain.sigma) ** 2)
    paths = Paths.along(chain, drift, 8_000, derive_generator("paths"))
    weights = paths.log_weights(drift)
    assert abs(weights.mean().item() - target.exact_log_z) < 1.5 * weights.var().item()  # KL, half of it if Gaussian
    return log_variance(drift, paths).item()


def test_at_the_exact_drift_log_weights_are_log_z_up_to_the_steps_at_first_order() -> None:
    variances = [variance_at_the_exact_drift(n_levels) for n_levels in (32, 64, 128, 256)]
    assert variances[-1] < 0.03
    for coarse, fine in itertools.pairwise(variances):
        assert 1.6 < coarse / fine < 2.4


@pytest.mark.parametrize("n_levels", [1, 3, 20])
@pytest.mark.parametrize("is_rough", [False, True], ids=["untrained", "rough"])
def test_the_mean_weight_is_z_whatever_the_drift_and_the_steps(n_levels: int, is_rough: bool) -> None:
    target, n = Scaled(), 100_000
    config, meter = DDS(network=SMALL, n_levels=n_levels, lowest=0.2, highest=2.0), double(target)
    chain, drift = rough(config, meter)
    if not is_rough:
        drift = Drift(SMALL, chain, meter, derive_generator("net"))
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
    return FittedDDS(chain, drift, torch.zeros(1, 0), None, "")


def test_weights_of_paths_are_those_of_the_draws() -> None:
    chain, drift = rough(DDS(network=SMALL, n_levels=5), double(Scaled()))
    paths = Paths.along(chain, drift, 40, derive_generator("same"))
    draws = fitted(chain, drift).draw(40, derive_generator("same"))
    torch.testing.assert_close(paths.log_weights(drift).detach(), draws.log_weights, rtol=1e-10, atol=1e-10)


def test_any_drift_is_shown_a_score_no_longer_than_the_noise_allows() -> None:
    config = DDS(max_score=0.7)
    chain = Chain.of(config, double(Scaled(sd=1e-3)))
    y = chain.start(50, derive_generator("y"))
    lengths = torch.stack([chain.score(y, k).norm(dim=-1) for k in (0, 30, 63)])
    assert lengths.max() <= 0.7 * math.sqrt(2) * (1 + 1e-12)
    assert lengths.max() > 0.69 * math.sqrt(2)


# The loss


def test_gradient_of_the_log_variance_is_its_closed_form_and_its_difference_quotient() -> None:
    """2 cov(log w, d log w) with d log w = -sum <dc, c' + eps - c>, c' of the drift that drew the paths."""
    config, meter = DDS(network=Network(width=6, depth=1), n_levels=4), double(Scaled())
    chain, drift = rough(config, meter)
    paths = Paths.along(chain, exact(chain, 0.3), 30, derive_generator("paths"))  # drawn by another drift
    parameters = list(drift.parameters())
    gradient = torch.autograd.grad(log_variance(drift, paths), parameters)

    k = torch.arange(4).repeat_interleave(30)[:, None]
    c = drift(paths.y.view(-1, 2), paths.score.view(-1, 2), k).view_as(paths.y)
    log_weights = paths.log_weights(drift).detach()
    change = -(c * (paths.push - c.detach())).sum(-1).sum(0)  # its derivative is that of log w
    covariance = (2 / 29 * (log_weights - log_weights.mean()) * change).sum()
    for here, closed in zip(gradient, torch.autograd.grad(covariance, parameters), strict=True):
        torch.testing.assert_close(here, closed, rtol=1e-9, atol=1e-10)

    direction = [torch.ones_like(p) for p in parameters]
    step = 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(sign * step * d)
            values.append(log_variance(drift, paths).item())
            for p, d in zip(parameters, direction, strict=True):
                p.sub_(sign * step * d)
    slope = sum((g * d).sum().item() for g, d in zip(gradient, direction, strict=True))
    assert math.isclose(slope, (values[0] - values[1]) / (2 * step), rel_tol=1e-6)


def test_paths_far_from_the_median_count_by_the_limit_over_their_distance() -> None:
    log_ratio = torch.tensor([0.0, 1.0, 2.0, 3.0, 102.0], dtype=torch.float64)  # distances 2, 1, 0, 1, 100 of median 1
    paths = Paths(*(torch.zeros(1, 5, 2, dtype=torch.float64) for _ in range(3)), log_ratio)
    still = As(lambda y, score, k: torch.zeros_like(y))
    assert math.isclose(log_variance(still, paths).item(), log_ratio.var().item())
    share = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.05], dtype=torch.float64)
    mean = (share * log_ratio).sum() / share.sum()
    clipped = (share * (log_ratio - mean).square()).sum() / 4
    assert math.isclose(log_variance(still, paths, clip=5.0).item(), clipped.item())


# Training


def test_training_pays_scores_and_densities_of_its_paths_and_no_products() -> None:
    meter = double(Scaled())
    DDS(network=SMALL, n_steps=3, batch_size=8, n_levels=5).fit(meter, derive_generator("fit"))
    counts = meter.counts["fit"]
    assert (counts.log_prob, counts.score, counts.hvp) == (3 * 8 * 6, 3 * 8 * 5, 0)


@pytest.mark.parametrize("name", ["gaussian2", "mog2"])
def test_a_short_training_leads_to_the_target(name: str) -> None:
    target: Any = targets.get(name)
    config = DDS(network=Network(width=32, depth=2), n_steps=100, batch_size=128, n_levels=32, step_size=5e-3)
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
    config = DDS(network=SMALL, n_steps=2 * LOOK_EVERY, batch_size=4, n_levels=3)

    def fit_when_broken_at(step: int) -> FittedDDS:
        calls = itertools.count(1)

        def breaks(drift: nn.Module, paths: Paths, clip: float) -> Tensor:
            return log_variance(drift, paths, clip) * (math.nan if next(calls) == step else 1.0)

        monkeypatch.setattr(dds, "log_variance", breaks)
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
    config = DDS(network=SMALL, n_steps=5, batch_size=8, n_levels=4)
    path = 4.5  # gradient equivalents
    meter = double(Scaled(), fit=2.9 * 8 * path)
    short = config.fit(meter, derive_generator("fit"))
    with meter.phase("draw"):
        draws = short.draw(10, derive_generator("draw"))
    assert short.diagnostics["n_steps"] == 2
    assert draws.stopped == "budget"
    assert draws.reason.startswith("after 2 of 5 steps")
    assert draws.log_z is None


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
    [("n_steps", 0), ("batch_size", 1), ("step_size", 0.0), ("base_width", -1.0), ("lowest", 0.0), ("highest", 0.005)],
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        DDS(**{field: value})  # type: ignore[arg-type]
