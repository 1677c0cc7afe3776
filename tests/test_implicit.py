"""What the one-pass neural samplers share: training, its ends, draws and configuration."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from samplerbench import samplers, targets
from samplerbench.metrics.mmd import squared_mmd
from samplerbench.samplers.implicit import fitted as fitted_module
from samplerbench.samplers.implicit.fitted import FittedImplicit
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.noise import Level, Noise
from samplerbench.samplers.implicit.objective import Denoised, Field
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.samplers.implicit.trainer import LOOK_EVERY, Trained, Training, train
from samplerbench.targets import Budget, Meter, derive_generator

METHODS = ["dft", "fisher", "fisher_ns", "kl", "ksd_ns"]
SHORT = {"n_steps": 8, "n_warm_up": 3, "batch_size": 16, "n_score_steps": 2}


@dataclass(frozen=True)
class Normal:
    """N(0, sd^2 I) in the plane."""

    sd: float = 0.5
    dim: int = 2

    @property
    def scale(self) -> float:
        return self.sd

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x / self.sd).square().sum(-1)


class Breaks:
    """A standard normal whose log density is NaN from a given call on."""

    dim = 2
    scale = 1.0

    def __init__(self, first_bad_call: int) -> None:
        self.first_bad_call, self.n_calls = first_bad_call, 0

    def log_prob(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        log_prob = -0.5 * x.square().sum(-1)
        return log_prob * math.nan if self.n_calls >= self.first_bad_call else log_prob


def fit(
    name: str, meter: Meter, *, seed: int = 0, training: dict[str, Any] | None = None, **fields: Any
) -> FittedImplicit:
    sampler = samplers.get(name, training={**SHORT, **(training or {})}, **fields)
    fitted = sampler.fit(meter, derive_generator(seed, "fit"))
    assert isinstance(fitted, FittedImplicit)
    return fitted


def draw(fitted: FittedImplicit, n: int = 50) -> Tensor:
    return fitted.draw(n, derive_generator(0, "draw")).samples


def train_with(
    loss: Callable[[Tensor, Field, Field, Generator], Tensor],
    target: Any = None,
    score: TargetScore | None = None,
    **training: Any,
) -> Trained:
    meter = Meter(target or Normal(1.0))
    generator = derive_generator("train")

    def of_noised(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: Level) -> Tensor:
        return loss(x0, s_q, s_phi, generator)

    objective = Denoised(of_noised, (score or TargetScore()).of(meter, generator), Noise(level=0.1))
    schedule = Training(**{**SHORT, **training})
    return train(objective, meter, generator, network=Network(width=16), training=schedule)


# Quality


@pytest.fixture(scope="module")
def exact_and_floor() -> tuple[Callable[[], Tensor], float, float]:
    """Fresh exact draws of gaussian2, the kernel's bandwidth, and mmd2's 95% point between two exact sets."""
    target, generator = targets.get("gaussian2"), derive_generator("floor")
    assert isinstance(target, targets.HasSample)
    sample = partial(target.sample, 2_000)

    def exact() -> Tensor:
        return sample(generator)

    bandwidth = 0.5 * math.sqrt(4 * math.log(2))  # median distance of two draws: |x - y|^2 is 2 sd^2 chi^2_2
    null = torch.tensor([squared_mmd(exact(), exact(), bandwidth=bandwidth) for _ in range(100)])
    return exact, bandwidth, null.quantile(0.95).item()


@pytest.mark.parametrize("name", ["dft", "kl"])
def test_a_gaussian_is_reached_up_to_the_floor(
    name: str, exact_and_floor: tuple[Callable[[], Tensor], float, float]
) -> None:
    exact, bandwidth, floor = exact_and_floor
    network = {"width": 64, "depth": 2, "start_scale": 2.0}  # at 1 the untrained sampler would have the target's law
    sampler = samplers.get(name, training={"n_steps": 600, "n_warm_up": 100}, network=network)
    fitted = sampler.fit(Meter(targets.get("gaussian2")), derive_generator(0, "fit"))
    generator = derive_generator(0, "draw")
    # The mean over 10 sets: for exact draws a single one exceeds the floor in 5% of cases, the mean practically never.
    values = [squared_mmd(fitted.draw(2_000, generator).samples, exact(), bandwidth=bandwidth) for _ in range(10)]
    assert sum(values) / len(values) < floor


# Training


def test_score_network_learns_the_score_of_the_noised_sampler() -> None:
    """With a loss that keeps theta where it is, x ~ N(0, 1 + s^2) and s_phi(x) = -x / (1 + s^2)."""
    seen: list[Field] = []

    def still(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator) -> Tensor:
        seen.append(s_phi)
        return 0 * x0.sum()

    train_with(still, n_steps=1, n_warm_up=1_500, batch_size=256, score_step_size=3e-3)
    x = torch.randn(1_000, 2, generator=derive_generator("x")) * math.sqrt(1.01)
    error = (seen[0](x) + x / 1.01).square().sum(-1).mean() / (2 / 1.01)
    assert error < 0.05  # relative to E|score|^2; an untrained network has 1


def test_sampler_step_sees_a_frozen_score_network_and_leaves_it() -> None:
    after_score_step: list[dict[str, Tensor]] = []
    networks: list[nn.Module] = []

    def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator) -> Tensor:
        assert isinstance(s_phi, nn.Module)
        assert not any(value.requires_grad for value in s_phi.parameters())
        assert x0.requires_grad
        model = s_phi(x0)
        assert model.requires_grad, "the gradient flows through the argument of s_phi"
        networks.append(s_phi)
        after_score_step.append({name: value.clone() for name, value in s_phi.state_dict().items()})
        return torch.sum(model.square())

    train_with(loss, n_steps=2)
    changed = networks[0].state_dict()
    assert all(torch.equal(changed[name], value) for name, value in after_score_step[1].items())
    assert any(not torch.equal(changed[name], value) for name, value in after_score_step[0].items())


def test_nothing_has_a_unit() -> None:
    """A target four times as wide gives draws four times as wide, to the last bit (4 is a power of 2)."""
    for name in [*METHODS, "dikl"]:
        narrow, wide = (draw(fit(name, Meter(Normal(sd)))) for sd in (1.0, 4.0))
        assert torch.equal(4 * narrow, wide)


def test_the_score_of_the_target_is_clamped() -> None:
    seen: list[Tensor] = []

    class Steep(Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            return 1e30 * x[..., 0] + 3 * x[..., 1]

    def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator) -> Tensor:
        seen.append(s_q(x0.detach()))
        return x0.sum()

    train_with(loss, Steep(1.0), TargetScore(max_score=1e3), n_steps=1)
    torch.testing.assert_close(seen[0], torch.tensor([1e3, 3.0]).expand_as(seen[0]))


def test_one_point_cannot_drown_the_others() -> None:
    """A row of the gradient in x0 counts at most clip_rows times the median row."""

    def trained_with(largest: float) -> Tensor:
        weights = torch.ones(8, 2)
        weights[3] = largest
        last = train_with(lambda x0, *_: (weights * x0).sum(), clip_norm=1e9, clip_rows=5.0, n_steps=3).last
        return torch.cat([value.detach().flatten() for value in last.parameters()])

    torch.testing.assert_close(trained_with(1e12), trained_with(5.0))
    assert not torch.allclose(trained_with(5.0), trained_with(1.0))


def test_a_batch_without_gradient_changes_nothing() -> None:
    trained = train_with(lambda x0, *_: 0 * x0.sum())
    untrained = train_with(lambda x0, *_: 0 * x0.sum(), n_steps=1)
    assert trained.stopped is None
    for value, same in zip(trained.last.parameters(), untrained.last.parameters(), strict=True):
        assert torch.equal(value, same)


def test_average_forgets_the_untrained_network() -> None:
    """The first decay is 1/10, the second 2/11: average = d2 (d1 theta0 + (1 - d1) theta1) + (1 - d2) theta2."""
    trained = train_with(lambda x0, *_: 1e-3 * x0.sum(), n_steps=2)  # too small to be clipped
    bias, average = trained.last.linear.bias, trained.average.linear.bias
    # theta0 = 0; Adam without momentum moves the bias by the whole step size against a constant gradient
    first_step, second_step = (1e-3 * 0.5 * (1 + math.cos(math.pi * done / 2)) for done in (0, 1))
    theta1, theta2 = -first_step, -first_step - second_step
    expected = 2 / 11 * (9 / 10 * theta1) + 9 / 11 * theta2
    torch.testing.assert_close(bias, torch.full_like(bias, theta2), rtol=1e-4, atol=0)
    torch.testing.assert_close(average, torch.full_like(average, expected), rtol=1e-4, atol=0)


def test_average_without_memory_is_the_last_iterate() -> None:
    fitted = fit("kl", Meter(Normal()), training={"ema_decay": 0.0})
    assert torch.equal(draw(replace(fitted, output="ema")), draw(replace(fitted, output="last")))
    remembering = fit("kl", Meter(Normal()), output="ema")
    assert torch.equal(draw(replace(remembering, output="last")), draw(replace(fitted, output="last")))
    assert not torch.equal(draw(remembering), draw(replace(remembering, output="last")))


# How training ends


@pytest.mark.parametrize(
    ("name", "cost"),
    [("dft", 3 * 16), ("fisher", (1 + 2 * 3) * 8), ("kl", 16), ("ksd_ns", 3 * 16), ("dikl", 20 * 16)],
)
def test_budget_pays_whole_steps_and_keeps_their_state(name: str, cost: int) -> None:
    ends: dict[float, list[Tensor]] = {}
    for budget in (3 * cost, 3 * cost + 0.4 * cost, 4 * cost, 4 * cost - 0.5):
        meter = Meter(Normal(), budget=Budget(fit=budget))
        fitted = fit(name, meter)
        n_whole = budget // cost
        assert meter.counts["fit"].gradient_equivalents <= budget
        assert n_whole * cost <= meter.counts["fit"].gradient_equivalents
        result = fitted.draw(50, derive_generator(0, "draw"))
        assert result.stopped == "budget"
        assert f"after {n_whole:.0f} of 8 steps" in result.reason
        assert fitted.diagnostics["n_steps"] == n_whole
        ends.setdefault(n_whole, []).append(result.samples)
    assert torch.equal(ends[3][0], ends[3][1])
    assert torch.equal(ends[3][0], ends[3][2])
    assert not torch.equal(ends[3][0], ends[4][0])


def test_without_a_step_the_sampler_is_wide() -> None:
    fitted = fit("kl", Meter(Normal(), budget=Budget(fit=0.5)), network={"start_scale": 2.0}, returns="x0")
    samples = draw(fitted, 20_000)
    assert fitted.diagnostics["sampler_loss"] == []
    assert abs(samples.std().item() - 2.0 * 0.5) < 5 * 1.0 / math.sqrt(2 * 40_000)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_that_is_not_finite_ends_the_training(name: str) -> None:
    n_steps = LOOK_EVERY + 30
    bad_step = LOOK_EVERY + 21
    calls_per_step, n_warm_up = (2, SHORT["n_warm_up"]) if name == "fisher_ns" else (1, 0)  # its critic asks too
    bad_call = n_warm_up + calls_per_step * bad_step
    fitted = fit(name, Meter(Breaks(bad_call)), training={"n_steps": n_steps, "n_score_steps": 1})
    result = fitted.draw(50, derive_generator(0, "draw"))
    assert result.stopped == "diverged"
    assert f"step {bad_step};" in result.reason
    assert f"after step {LOOK_EVERY} is kept" in result.reason
    assert result.samples.isfinite().all()
    assert fitted.diagnostics["n_steps"] == LOOK_EVERY
    assert fitted.trained.trace.shape[1] == bad_step - 1  # all losses that were finite
    other = fit(name, Meter(Breaks(bad_call + 5)), training={"n_steps": n_steps, "n_score_steps": 1})
    assert torch.equal(draw(other), result.samples)


def test_a_target_that_is_nan_everywhere_leaves_the_untrained_sampler() -> None:
    result = fit("dft", Meter(Breaks(1))).draw(50, derive_generator(0, "draw"))
    assert result.stopped == "diverged"
    assert "in step 1; the state after step 0 is kept" in result.reason
    assert result.samples.isfinite().all()


def test_a_gradient_that_is_not_finite_ends_the_training() -> None:
    bad_step, calls = 23, itertools.count(1)

    def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator) -> Tensor:
        broken = (x0 - x0.detach()).square().sum().sqrt()  # 0, but its gradient is 0 / 0
        return broken if next(calls) == bad_step else x0.square().mean()

    trained = train_with(loss, n_steps=40)
    assert trained.stopped == "diverged"
    assert f"in step {bad_step}; the state after step 0 is kept" in trained.reason
    assert trained.trace.shape == (2, bad_step - 1)
    assert trained.n_steps == 0
    assert all(value.isfinite().all() for value in [*trained.last.parameters(), *trained.average.parameters()])


@pytest.mark.parametrize("name", [*METHODS, "dikl"])
def test_a_funnel_does_not_overflow(name: str) -> None:
    """N(0, scale^2 I), where training starts, reaches v = -40, where scores are of order exp(40)."""
    fitted = fit(name, Meter(targets.get("funnel10")), training={"n_steps": 30, "batch_size": 128})
    assert fitted.trained.stopped is None, fitted.trained.reason
    assert draw(fitted).isfinite().all()


# Draws


def test_x_is_x0_with_its_noise() -> None:
    x0 = draw(fit("kl", Meter(Normal()), returns="x0"), 20_000)
    x = draw(fit("kl", Meter(Normal()), returns="x", noise={"level": 0.02}), 20_000)
    eps = (x - x0) / (0.02 * 0.5)
    assert abs(eps.mean().item()) < 5 / math.sqrt(40_000)
    assert abs(eps.square().mean().item() - 1) < 5 * math.sqrt(2 / 40_000)


def test_draws_come_in_blocks_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(Normal(), budget=Budget(draw=0.5))
    fitted = fit("dft", meter)
    monkeypatch.setattr(fitted_module, "BLOCK", 64)
    with meter.phase("draw"):
        samples = draw(fitted, 150)
    assert samples.shape == (150, 2)
    assert len(torch.unique(samples, dim=0)) == 150
    assert meter.counts["draw"].gradient_equivalents == 0


def test_latents_of_another_dimension() -> None:
    narrow = fit("kl", Meter(Normal(), budget=Budget(fit=0.5)), network={"latent": {"dim": 1}}, returns="x0")
    assert narrow.trained.last.latent_dim == 1
    assert torch.equal(draw(narrow)[:, 1], torch.zeros(50))
    wide = fit("kl", Meter(Normal()), network={"latent": {"dim": 5}})
    assert draw(wide).shape == (50, 2)


def test_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one-pass samplers start from latents, start must be None, got \(4, 2\)"):
        fit("kl", Meter(Normal())).draw(4, derive_generator(), start=torch.zeros(4, 2))


def test_losses_are_thinned_in_diagnostics() -> None:
    fitted = fit("kl", Meter(Normal()))
    trace = torch.arange(2 * 450, dtype=torch.float32).reshape(2, 450)
    diagnostics = replace(fitted, trained=replace(fitted.trained, trace=trace)).diagnostics
    assert diagnostics["n_steps_per_loss"] == 3
    assert diagnostics["sampler_loss"] == [1.0 + 3 * k for k in range(150)]
    assert diagnostics["opponent_loss"] == [451.0 + 3 * k for k in range(150)]


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for name in METHODS:
        fitted = fit(name, Meter(Normal()))
        assert torch.equal(draw(fitted), draw(fit(name, Meter(Normal()))))
        assert not torch.isclose(draw(fitted), draw(fit(name, Meter(Normal()), seed=1)), atol=1e-4).all(-1).any()
    assert torch.equal(torch.get_rng_state(), before)


# Configuration


def test_methods_have_the_same_defaults() -> None:
    configs: list[Any] = [samplers.get(name) for name in METHODS]
    for field in ("network", "training", "target_score", "stopping", "output"):
        assert len({getattr(config, field) for config in configs}) == 1
    assert len({config.noise for config in configs if hasattr(config, "noise")}) == 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_score": {"path": 1.5}}, "path must be from 0 to 1, got 1.5"),
        ({"target_score": {"source": "guess"}}, "source must be one of 'exact', 'minibatch', 'posterior', got 'guess'"),
        ({"target_score": {"max_score": 0.0}}, "max_score must be positive and finite, got 0.0"),
        ({"stopping": {"patience": 0}}, "patience must be at least 1, got 0"),
        ({"output": "best"}, "output must be one of 'last', 'ema', got 'best'"),
        ({"network": {"width": 0}}, "width must be at least 1, got 0"),
        ({"network": {"depth": 0}}, "depth must be at least 1, got 0"),
        ({"network": {"latent": {"dim": 0}}}, "dim must be at least 1, got 0"),
        ({"network": {"latent": {"n_components": 0}}}, "n_components must be at least 1, got 0"),
        ({"network": {"start_scale": -1.0}}, "start_scale must be positive and finite, got -1.0"),
        ({"training": {"n_steps": 0}}, "n_steps must be at least 1, got 0"),
        ({"training": {"n_score_steps": 0}}, "n_score_steps must be at least 1, got 0"),
        ({"training": {"n_warm_up": -1}}, "n_warm_up must be at least 0, got -1"),
        ({"training": {"batch_size": 7}}, "batch_size must be even and at least 2, got 7"),
        ({"training": {"sampler_step_size": 0.0}}, "sampler_step_size must be positive and finite, got 0.0"),
        ({"training": {"score_step_size": math.nan}}, "score_step_size must be positive and finite, got nan"),
        ({"training": {"clip_rows": 0.0}}, "clip_rows must be positive and finite, got 0.0"),
        ({"training": {"clip_norm": -2.0}}, "clip_norm must be positive and finite, got -2.0"),
        ({"training": {"ema_decay": 1.0}}, "ema_decay must be at least 0 and below 1, got 1.0"),
        ({"training": {"momentum": 0.9}}, "unknown parameter 'momentum'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_bad_configurations_name_field_rule_and_value(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **fields)


@pytest.mark.parametrize("name", ["dft", "fisher", "kl"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise": {"level": 0.0}}, "level must be positive and finite, got 0.0"),
        ({"noise": {"level": 2.0}}, "level must be at most 1, the target's scale, got 2.0"),
        ({"noise": {"highest": 1.5}}, "highest must be at most 1, the target's scale, got 1.5"),
        ({"noise": {"level": 0.5, "highest": 0.1}}, "highest must be at least level 0.5, got 0.1"),
        ({"noise": {"schedule": "falling"}}, "schedule must be one of 'constant', 'annealed', 'levels', got 'falling'"),
        ({"noise": {"share": 0.0}}, "share must be above 0 and at most 1, got 0.0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_bad_noise_is_named_too(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.get(name, **fields)


@pytest.mark.parametrize("name", ["dft", "kl"])
def test_levels_need_a_noised_target(name: str) -> None:
    with pytest.raises(ValueError, match="schedule 'levels' needs the score of the noised target"):
        samplers.get(name, noise={"schedule": "levels"})


@pytest.mark.parametrize("name", ["dft", "kl"])
def test_configuration_built_directly_is_checked_too(name: str) -> None:
    build: Any = type(samplers.get(name))
    with pytest.raises(ValueError, match="returns must be one of 'x', 'x0', got 'z'"):
        build(returns="z")
