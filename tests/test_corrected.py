"""Moves on the draws of another sampler: their law, counts and budgets, what is handed on, and identities."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.benchmarks.plan import make_plan, parse_suite, plain
from samplerbench.samplers.base import SAMPLERS
from samplerbench.samplers.corrected import Corrected, Correction, FittedCorrected
from samplerbench.samplers.kernels import RandomStep
from samplerbench.samplers.moves import Moves
from samplerbench.targets import Budget, Draws, Estimate, Meter, derive_generator
from samplerbench.targets.registry import load_plugin

SDS = torch.tensor([1.0, 0.2])
TINY = {"n_steps": 4, "n_warm_up": 2, "batch_size": 16, "n_score_steps": 1}
PLUGIN = """
from samplerbench.samplers import register_sampler
from samplerbench.samplers.kl import KL

@register_sampler("kl_of_a_plug_in", version=3)
class Mine(KL):
    '''KL training.'''
"""


class Normal:
    """Independent N(0, sd_i^2)."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x / SDS.to(x)).square().sum(-1)


@dataclass(frozen=True)
class Base:
    """A fitted sampler that draws N(0, (width sd_i)^2), with whatever ``also`` holds, and evaluates nothing."""

    width: float = 1.0
    also: dict[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, object] = field(default_factory=lambda: {"n_steps": 3})

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        x = self.width * SDS * torch.randn(n_samples, 2, generator=generator)
        return Draws(samples=x if start is None else start, **self.also)


def corrected(base: Base, meter: Meter | None = None, **fields: Any) -> FittedCorrected:
    meter = meter or Meter(Normal())
    with meter.phase("fit"):
        fitted = Correction(**fields).of(base, meter, derive_generator(0, "fit"))
    assert isinstance(fitted, FittedCorrected)
    return fitted


def assert_moments(x: Tensor) -> None:
    """Means and mean squares of both coordinates within 4 standard errors: of 4 statistics, wrong once in 4,000."""
    z = (x / SDS).double()
    assert (z.mean(0).abs() < 4 / math.sqrt(len(z))).all()
    assert ((z.square().mean(0) - 1).abs() < 4 * math.sqrt(2 / len(z))).all()


# Law


@pytest.mark.parametrize("method", ["mala", "hmc"])
def test_exact_draws_stay_exact(method: Literal["mala", "hmc"]) -> None:
    fitted = corrected(Base(), n_steps=5, moves=Moves(method=method))
    draws = fitted.draw(10_000, derive_generator("draw"))
    assert isinstance(draws.diagnostics["acceptance_rate"], float)
    assert draws.diagnostics["acceptance_rate"] > 0.4
    assert_moments(draws.samples)


def test_draws_of_a_wrong_base_converge() -> None:
    few, many = (corrected(Base(1.5), n_steps=n).draw(10_000, derive_generator("draw")).samples for n in (2, 60))
    gap = (few / SDS).square().mean(0) - 1
    assert (gap > 20 * math.sqrt(2 / 10_000)).all()  # of 1.25 at the start
    assert (gap < 1.25).all()
    assert_moments(many)


def test_scales_and_step_are_adapted_in_fit_and_stay() -> None:
    fitted = corrected(Base(1.5), n_adapt=150)
    assert isinstance(fitted.kernel, RandomStep)
    scales = fitted.kernel.kernel.scales
    assert scales is not None
    assert 0.8 < (scales[0] / scales[1] / 5).item() < 1.25  # 256 chains: the ratio is known to 6%
    before = fitted.kernel
    rate = fitted.draw(2_000, derive_generator("draw")).diagnostics["acceptance_rate"]
    assert isinstance(rate, float)
    assert abs(rate - 0.574) < 0.06
    assert fitted.kernel is before
    assert set(fitted.diagnostics) == {"n_steps", "correction_step_size", "correction_acceptance_rate"}


# Counts and budgets


def test_counts_equal_hand_counts() -> None:
    meter = Meter(Normal())
    fitted = corrected(Base(), meter, n_steps=7, n_pilot=20, n_adapt=30)
    assert vars(meter.counts["fit"]) == {"log_prob": 20 * 31, "score": 20 * 31, "hvp": 0}
    with meter.phase("draw"):
        fitted.draw(13, derive_generator())
    assert vars(meter.counts["draw"]) == {"log_prob": 13 * 8, "score": 13 * 8, "hvp": 0}


def test_a_draw_pays_for_the_base_too() -> None:
    meter = Meter(Normal())
    parameters = {"n_steps": 5, "n_chains": 4}
    sampler = samplers.get("corrected", base="mala", parameters=parameters, correction={"n_steps": 3, "n_pilot": 10})
    fitted = sampler.fit(meter, derive_generator())
    assert meter.counts["fit"].score == 4 * 6 + 10 * 6 + 10 * 61
    with meter.phase("draw"):
        draws = fitted.draw(20, derive_generator())
    assert meter.counts["draw"].score == 20 * (6 + 4)
    assert draws.chains is None


def test_budget_cuts_the_moves() -> None:
    meter = Meter(Normal(), budget=Budget(draw=20 * 3 + 19))
    fitted = corrected(Base(), meter)
    with meter.phase("draw"):
        draws = fitted.draw(20, derive_generator("draw"))
    assert meter.counts["draw"].score == 20 * 3
    assert draws.stopped == "budget"
    assert draws.reason.endswith("stopped after 2 moves")
    two = corrected(Base(), n_steps=2).draw(20, derive_generator("draw"))
    assert torch.equal(draws.samples, two.samples)


def test_budget_that_pays_no_move_leaves_the_base_s_draws() -> None:
    meter = Meter(Normal(), budget=Budget(fit=5, draw=5))
    fitted = corrected(Base(), meter)
    with meter.phase("draw"):
        draws = fitted.draw(20, derive_generator("draw"))
    assert draws.stopped == "budget"
    assert torch.equal(draws.samples, Base().draw(20, derive_generator("draw")).samples)
    assert meter.counts["fit"].score == meter.counts["draw"].score == 0


def test_budget_of_the_adaptation_is_reported() -> None:
    meter = Meter(Normal(), budget=Budget(fit=256 * 10))
    fitted = corrected(Base(), meter)
    with meter.phase("draw"):
        draws = fitted.draw(20, derive_generator())
    assert draws.stopped == "budget"
    assert draws.reason.startswith("in fit: ")
    assert draws.diagnostics["n_moves"] == 10


# What is handed on


def test_what_no_longer_holds_is_dropped() -> None:
    weights, log_z = torch.randn(20, generator=Generator().manual_seed(0)), Estimate(1.0, 0.1)
    also = {"log_weights": weights, "log_density": weights, "chains": torch.zeros(1, 20, 2), "log_z": log_z}
    draws = corrected(Base(), n_pilot=20).draw(20, derive_generator())
    assert (draws.log_weights, draws.log_density, draws.log_z, draws.chains) == (None, None, None, None)
    draws = corrected(Base(also=also), n_pilot=20).draw(20, derive_generator())
    assert draws.log_weights is weights
    assert draws.log_z == log_z
    assert draws.log_density is draws.chains is None


def test_weighted_draws_stay_properly_weighted() -> None:
    """Draws of N(0, (1.2 sd)^2) with weights p / q: their weighted moments are the target's before and after."""

    @dataclass(frozen=True)
    class Weighted(Base):
        def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
            x = super().draw(n_samples, generator).samples
            return Draws(samples=x, log_weights=-0.5 * (1 - 1.2**-2) * (x / SDS).square().sum(-1))

    draws = corrected(Weighted(1.2), n_steps=3).draw(20_000, derive_generator("draw"))
    assert draws.log_weights is not None
    weights = draws.log_weights.double().softmax(0)
    square = (draws.samples / SDS).double().square()
    mean = (weights[:, None] * square).sum(0)
    error = (weights.square()[:, None] * (square - mean).square()).sum(0).sqrt()
    assert ((mean - 1).abs() < 4 * error).all()
    assert (error < 0.02).all()


def test_a_diverged_base_is_handed_on() -> None:
    base = Base(also={"stopped": "diverged", "reason": "loss not finite"})
    draws = corrected(base).draw(20, derive_generator("draw"))
    assert (draws.stopped, draws.reason) == ("diverged", "base: loss not finite")
    assert torch.equal(draws.samples, base.draw(20, derive_generator("draw")).samples)


def test_a_base_that_stopped_is_corrected_unless_its_weights_may_be_for_another_law() -> None:
    also: dict[str, Any] = {"stopped": "budget", "reason": "after 3 steps", "log_weights": None}
    for weights, n_moves in ((None, 10), (torch.zeros(20), None)):
        draws = corrected(Base(also={**also, "log_weights": weights}), n_pilot=20).draw(20, derive_generator())
        assert (draws.stopped, draws.reason) == ("budget", "base: after 3 steps")
        assert draws.diagnostics.get("n_moves") == n_moves


def test_start_is_the_base_s() -> None:
    start = torch.full((20, 2), 0.1)
    moved = corrected(Base(), n_steps=1).draw(20, derive_generator(), start=start).samples
    assert (moved == start).all(-1).any()  # a rejected proposal
    assert (moved - start).abs().max() < 6  # of one move
    assert torch.equal(start, torch.full((20, 2), 0.1))
    fitted = samplers.get("corrected", parameters={"training": TINY}).fit(Meter(Normal()), derive_generator())
    with pytest.raises(ValueError, match="one-pass samplers start from latents, start must be None"):
        fitted.draw(20, derive_generator(), start=start)


# Configuration and identity


def run_id(**parameters: Any) -> str:
    entry = {"name": "corrected", "parameters": parameters}
    table = {"targets": ["gaussian2"], "samplers": [entry], "metrics": ["sliced_w2"], "n_samples": 10}
    return make_plan(parse_suite(table, "suite"))[0].run_id


def test_identity_holds_the_whole_configuration_of_the_base() -> None:
    assert run_id() == run_id(base="kl", parameters={"training": {"n_steps": 2_500}}, base_version="kl@2")
    assert run_id() != run_id(parameters={"training": {"n_steps": 2_501}})
    assert run_id() != run_id(base="dft")
    assert run_id() != run_id(correction={"n_steps": 11})


def test_identity_changes_with_the_version_of_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_id()
    old = samplers.get("corrected")
    assert isinstance(old, Corrected)
    bumped = dataclasses.replace(SAMPLERS.entry("kl"), version=9)
    monkeypatch.setitem(SAMPLERS._entries, "kl", bumped)
    assert run_id() != before
    with pytest.raises(ValueError, match="base_version must be that of the registered base, kl@9, got 'kl@2'"):
        samplers.get("corrected", **plain(dataclasses.asdict(old)))


def test_identity_has_the_hash_of_a_base_from_a_plug_in(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    digest = load_plugin(tmp_path / "mine.py")
    assert Corrected(base="kl_of_a_plug_in").base_version == f"kl_of_a_plug_in@3+{digest}"


def test_configuration_survives_json_even_nested() -> None:
    inner = {"base": "mala", "parameters": {"n_steps": 3, "max_drift": math.inf}}
    sampler = samplers.get("corrected", base="corrected", parameters=inner)
    assert isinstance(sampler, Corrected)
    text = json.dumps(plain(dataclasses.asdict(sampler)), allow_nan=False)
    assert samplers.get("corrected", **json.loads(text)) == sampler
    assert sampler._sampler() == samplers.get("corrected", **inner)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": "kll"}, "base: unknown sampler 'kll'; did you mean 'kl'"),
        ({"parameters": {"n_stps": 3}}, "parameters: sampler 'kl': unknown parameter 'n_stps'"),
        ({"parameters": {"training": {"n_steps": 0}}}, "parameters: sampler 'kl': n_steps must be at least 1, got 0"),
        ({"correction": {"n_steps": 0}}, "n_steps must be at least 1, got 0"),
        ({"correction": {"n_pilot": 1}}, "n_pilot must be at least 2, got 1"),
        ({"correction": {"n_adapt": -1}}, "n_adapt must be at least 0, got -1"),
    ],
    ids=str,
)
def test_bad_configurations_name_field_rule_and_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.get("corrected", **fields)


def test_presets_choose_the_base() -> None:
    assert samplers.get("corrected") == Corrected(base="kl")
    assert samplers.get("dft_corrected") == Corrected(base="dft")
