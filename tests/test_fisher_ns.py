"""Fisher-NS: the critic, counts, budgets and a Gaussian that is reached. Gradients: test_implicit_gradients.py."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.metrics.mmd import squared_mmd
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.fisher_ns import critic_value
from samplerbench.samplers.implicit.fitted import FittedImplicit
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.objective import Adversarial, Field
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.samplers.implicit.trainer import LOOK_EVERY, Training, train
from samplerbench.targets import Budget, Counts, Meter, derive_generator

SHORT = {"n_steps": 4, "n_warm_up": 3, "batch_size": 16, "n_score_steps": 2}
WARM_UP, CRITIC, SAMPLER = 3 * 16, 2 * 16, 16 * (1 + 2)  # gradient equivalents of SHORT, the last two per step


class Normal:
    """N((.5, ...), I / 4), whose scale here is 1."""

    scale = 1.0

    def __init__(self, dim: int = 2) -> None:
        self.dim = dim

    def log_prob(self, x: Tensor) -> Tensor:
        return -2 * (x - 0.5).square().sum(-1)


def fit(meter: Meter, **fields: Any) -> FittedImplicit:
    sampler = samplers.get("fisher_ns", **{"training": SHORT, **fields})
    fitted = sampler.fit(meter, derive_generator(0, "fit"))
    assert isinstance(fitted, FittedImplicit)
    return fitted


# The critic


@pytest.mark.parametrize("penalty", [0.5, 2.0])
def test_a_critic_of_a_sampler_at_rest_approaches_the_difference_of_the_scores(penalty: float) -> None:
    """x0 ~ N(0, I): the best critic is (-4 (x - 1/2) + x) / (2 penalty)."""
    seen: list[Field] = []

    def value(x0: Tensor, s_q: Field, f: Field, generator: Generator) -> Tensor:
        seen.append(f)
        return critic_value(x0, s_q, f, generator, penalty=penalty)

    meter, generator = Meter(Normal()), derive_generator("train")
    objective = Adversarial(value, TargetScore().of(meter, generator, differentiable=True))
    training = Training(n_steps=1, n_warm_up=500, batch_size=128, score_step_size=4e-3)
    train(objective, meter, generator, network=Network(width=32, depth=2), training=training)
    x = torch.randn(1_000, 2, generator=derive_generator("x"))
    best = (2 - 3 * x) / (2 * penalty)
    error = (seen[-1](x) - best).square().sum(-1).mean() / best.square().sum(-1).mean()
    assert error < 0.05  # an untrained critic, 0 everywhere, has 1


def test_the_value_is_its_definition() -> None:
    x0 = torch.randn(50, 2, generator=derive_generator("x"), dtype=torch.float64).requires_grad_()
    found = critic_value(x0, lambda x: -(x**3), torch.sin, derive_generator(), penalty=0.7)
    terms = -(x0**3) * x0.sin() + x0.cos() - 0.7 * x0.sin() ** 2
    torch.testing.assert_close(found, terms.sum(-1).mean())


# Training


def test_a_gaussian_is_reached_up_to_the_floor_from_twice_its_width() -> None:
    target, generator = targets.get("gaussian2"), derive_generator("floor")
    assert isinstance(target, targets.HasSample)
    bandwidth = 0.5 * math.sqrt(4 * math.log(2))  # median distance of two draws

    def exact() -> Tensor:
        return target.sample(1_000, generator)

    floor = torch.tensor([squared_mmd(exact(), exact(), bandwidth=bandwidth) for _ in range(60)]).quantile(0.95)
    training = {"n_steps": 250, "n_warm_up": 50, "n_score_steps": 3, "batch_size": 128, "ema_decay": 0.99}
    network = {"width": 32, "depth": 2, "start_scale": 2.0}
    fitted = fit(Meter(target), training=training, network=network)
    draws = [fitted.draw(1_000, derive_generator(seed, "draw")).samples for seed in range(10)]
    values = [squared_mmd(x, exact(), bandwidth=bandwidth) for x in draws]  # exact draws: 0 in the mean
    assert sum(values) / len(values) < floor


@pytest.mark.parametrize("dim", [2, 12])  # exact divergence, Hutchinson's
def test_counts_of_a_step(dim: int) -> None:
    """A log_prob and a score per point of every step, a Hessian-vector product per point of a sampler step."""
    meter = Meter(Normal(dim))
    fit(meter)
    n_points = 16 * (3 + 4 * (2 + 1))
    assert meter.counts["fit"] == Counts(log_prob=n_points, score=n_points, hvp=4 * 16)
    assert meter.counts["draw"] == Counts()


@pytest.mark.parametrize(
    ("budget", "n_steps"),
    [
        (WARM_UP - 1, None),
        (WARM_UP + 2 * (CRITIC + SAMPLER) + CRITIC - 1, 2),  # ends in the last step of the critic
        (WARM_UP + 2 * (CRITIC + SAMPLER) + CRITIC + SAMPLER - 1, 2),  # ends in the step of the sampler
    ],
)
def test_budget_ends_training_in_any_player_s_step(budget: float, n_steps: int | None) -> None:
    meter = Meter(Normal(), budget=Budget(fit=budget))
    fitted = fit(meter)
    assert fitted.trained.stopped == "budget"
    assert meter.counts["fit"].gradient_equivalents <= budget
    end = "before the first of 4 steps" if n_steps is None else f"after {n_steps} of 4 steps"
    assert end in fitted.trained.reason
    whole = fit(Meter(Normal(), budget=Budget(fit=WARM_UP + (n_steps or 0) * (CRITIC + SAMPLER))))
    for value, same in zip(fitted.trained.last.parameters(), whole.trained.last.parameters(), strict=True):
        assert torch.equal(value, same)


def test_a_critic_that_meets_nan_ends_the_training_before_its_warm_up_does() -> None:
    class Broken(Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) * math.nan

    meter = Meter(Broken())
    fitted = fit(meter, training={**SHORT, "n_warm_up": 3 * LOOK_EVERY})
    draws = fitted.draw(20, derive_generator(0, "draw"))
    assert draws.stopped == "diverged"
    assert "before the first step" in draws.reason
    assert draws.samples.isfinite().all()
    assert meter.counts["fit"].score == LOOK_EVERY * 16


def test_a_law_without_density_is_refused() -> None:
    with pytest.raises(NotApplicableError, match=r"latent dim must be at least the target's dim 2 .* got 1"):
        fit(Meter(Normal()), network={"latent": {"dim": 1}})


def test_a_penalty_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"penalty must be positive and finite, got 0.0"):
        samplers.get("fisher_ns", penalty=0.0)
