"""What every registered sampler must keep, in a small configuration on a Gaussian in the plane with data rows."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.samplers import NotApplicableError
from samplerbench.targets import Budget, Draws, Meter, derive_generator

NAMES = samplers.names()
N = 20
SMALL = 32  # every count of a small configuration is at most this


class Plain:
    """N(0, I / 4) in the plane."""

    dim = 2
    scale = 0.5

    def log_prob(self, x: Tensor) -> Tensor:
        return -2 * x.square().sum(-1)


class Normal(Plain):
    """The same as the posterior of a mean, given 48 rows on a circle, so that samplers on minibatches run too."""

    n_rows = 48

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        angle = rows.to(x) * (2 * torch.pi / self.n_rows)
        return 4 * (torch.stack([angle.cos(), angle.sin()]).mean(-1) - x)


def smaller(config: Any) -> Any:
    """The configuration with every integer above SMALL replaced by SMALL, in nested tables too."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = smaller(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            changes[field.name] = min(value, SMALL)
    return dataclasses.replace(config, **changes)


def run(
    name: str, *, seed: int = 0, meter: Meter | None = None, start: Tensor | None = None, n_draws: int = 1
) -> list[Draws]:
    """Draws of one fit, each with the same generator."""
    meter = meter or Meter(Normal())
    with meter.phase("fit"):
        fitted = smaller(samplers.get(name)).fit(meter, derive_generator(seed, "fit"))
    json.dumps(dict(fitted.diagnostics))  # numbers, strings and lists of them, as records store them
    with meter.phase("draw"):
        return [fitted.draw(N, derive_generator(seed, "draw"), start) for _ in range(n_draws)]


def test_the_samplers_of_the_first_suite_are_registered() -> None:
    assert set(NAMES) >= {"dft", "fisher", "kl", "mala", "mala_long", "svgd", "ula", "ula_long"}
    assert set(NAMES) >= {"sgld", "sgld_long"}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_without_data_rows_is_sampled_or_not_applicable(name: str) -> None:
    try:
        outcome: str | None = run(name, meter=Meter(Plain()))[0].stopped
    except NotApplicableError as reason:
        outcome = str(reason)
    assert outcome in (None, "needs minibatch scores, target offers none")


@pytest.mark.parametrize("name", ["sgld", "sgld_long", "mala"])
def test_a_regression_is_sampled(name: str) -> None:
    (draws,) = run(name, meter=Meter(targets.get("sonar_train")))
    assert draws.samples.shape == (N, 61)
    assert draws.samples.isfinite().all()
    assert draws.stopped is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_draws_are_n_finite_rows_on_the_meter_s_device(name: str, dtype: torch.dtype) -> None:
    meter = Meter(Normal(), dtype=dtype)
    (draws,) = run(name, meter=meter)
    assert draws.samples.shape == (N, 2)
    assert draws.samples.dtype == dtype
    assert draws.samples.device == meter.device
    assert not draws.samples.requires_grad
    assert draws.samples.isfinite().all()
    assert draws.stopped is None, draws.reason
    if draws.chains is not None:
        n_chains, n_kept, dim = draws.chains.shape
        assert n_chains <= 64
        assert n_kept <= 1_000
        assert dim == 2
    json.dumps(dict(draws.diagnostics))
    spent = {phase: counts.gradient_equivalents for phase, counts in meter.counts.items()}
    assert sum(spent.values()) > 0, "a sampler that never asks the target cannot know it"


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_and_draw_leaves_the_fitted_sampler(name: str) -> None:
    first, again = run(name, n_draws=2)
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.samples, run(name)[0].samples)
    other = run(name, seed=1)[0].samples
    assert not torch.isclose(first.samples, other, atol=1e-4).all(-1).any()


@pytest.mark.parametrize("name", NAMES)
def test_global_random_states_are_left_alone(name: str) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    run(name)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state(legacy=False)) == str(numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
def test_start_is_used_or_refused_and_not_modified(name: str) -> None:
    start = 0.5 * torch.randn(N, 2, generator=Generator().manual_seed(7))
    copy = start.clone()
    try:
        started = run(name, start=start)
    except ValueError:
        started = []  # no use for a start
    assert torch.equal(start, copy)
    for draws in started:
        assert not torch.equal(draws.samples, run(name)[0].samples)
    for wrong in (start[1:], start[:, :1], torch.full_like(start, torch.nan)):
        with pytest.raises(ValueError, match="start"):
            run(name, start=wrong)


@pytest.mark.parametrize("phase", ["fit", "draw"])
@pytest.mark.parametrize("name", NAMES)
def test_budget_is_respected_and_reported(name: str, phase: str) -> None:
    free = Meter(Normal())
    run(name, meter=free)
    cost = free.counts[phase].gradient_equivalents  # type: ignore[index]
    for limit in (0.6 * cost or 1.0, 0.1):
        meter = Meter(Normal(), budget=Budget(**{phase: limit}))
        (draws,) = run(name, meter=meter)
        assert meter.counts[phase].gradient_equivalents <= limit  # type: ignore[index]
        assert draws.stopped == ("budget" if cost else None)
        assert bool(draws.reason) == bool(cost)
        assert draws.log_z is None or not cost
        assert draws.samples.shape == (N, 2)
        assert draws.samples.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_a_frozen_dataclass_that_survives_a_record(name: str) -> None:
    config: Any = samplers.get(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)
    assert samplers.get(name, **dataclasses.asdict(config)) == config
    small = smaller(config)
    assert samplers.get(name, **dataclasses.asdict(small)) == small


@pytest.mark.parametrize("name", NAMES)
def test_bad_configurations_name_the_field(name: str) -> None:
    with pytest.raises(ValueError, match=rf"sampler '{name}': unknown parameter 'no_such_field'"):
        samplers.get(name, no_such_field=1)
    config: Any = samplers.get(name)
    for field in dataclasses.fields(config):
        with pytest.raises(ValueError, match=rf"sampler '{name}': {field.name} must be"):
            samplers.get(name, **{field.name: object()})
