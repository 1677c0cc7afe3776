"""What every registered sampler must keep, in a small configuration on a Gaussian in the plane with data rows."""

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from samplerbench import samplers, targets
from samplerbench.benchmarks import check_sampler
from samplerbench.benchmarks.contract import Check, DoesNotApply
from samplerbench.benchmarks.sampler_subject import SamplerSubject
from samplerbench.samplers import NotApplicableError
from samplerbench.targets import Draws, Meter, derive_generator

NAMES = samplers.names()
N = 20
NOT_SMALL = {  # needs the whole configuration, or the sampler as it is registered; test_check has these
    check_sampler.moments_of_gaussian2,
    check_sampler.moments_of_mog2,
    check_sampler.log_normaliser,
    check_sampler.another_process,
}
CHECKS = [check for check in check_sampler.CHECKS if check not in NOT_SMALL]
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
    """The configuration with every integer above SMALL replaced by SMALL, in nested configurations and tables too."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.init:
            changes[field.name] = _smaller(value)
    return dataclasses.replace(config, **changes)


def _smaller(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return smaller(value)
    if isinstance(value, Mapping):
        return {key: _smaller(part) for key, part in value.items()}
    return min(value, SMALL) if isinstance(value, int) and not isinstance(value, bool) else value


def run(name: str, meter: Meter) -> Draws:
    """Draws of one fit."""
    with meter.phase("fit"):
        try:
            fitted = smaller(samplers.get(name)).fit(meter, derive_generator(0, "fit"))
        except ModuleNotFoundError as error:
            pytest.skip(f"needs the package {error.name}")
    json.dumps(dict(fitted.diagnostics))  # numbers, strings and lists of them, as records store them
    with meter.phase("draw"):
        return fitted.draw(N, derive_generator(0, "draw"))


def test_the_samplers_of_the_first_suite_are_registered() -> None:
    assert set(NAMES) >= {"dft", "fisher", "kl", "mala", "mala_long", "svgd", "ula", "ula_long"}
    assert set(NAMES) >= {"fisher_ns", "ksd_ns", "sgld", "sgld_long"}
    assert set(NAMES) >= {"corrected", "dft_corrected", "afis", "dikl"}
    assert set(NAMES) >= {"dft_plus", "smc_gmm", "teacher", "dds", "dds_log_variance", "idem"}
    assert set(NAMES) >= {"laplace", "gaussian_vi", "flow", "fab", "flow_mcmc", "flow_mcmc_long"}


@pytest.mark.parametrize("name", NAMES)
def test_a_target_without_data_rows_is_sampled_or_not_applicable(name: str) -> None:
    try:
        outcome: str | None = run(name, Meter(Plain())).stopped
    except NotApplicableError as reason:
        outcome = str(reason)
    assert outcome in (None, "needs minibatch scores, target offers none")


@pytest.mark.parametrize("name", ["sgld", "sgld_long", "mala"])
def test_a_regression_is_sampled(name: str) -> None:
    draws = run(name, Meter(targets.get("breast_cancer_train")))
    assert draws.samples.shape == (N, 31)
    assert draws.samples.isfinite().all()
    assert draws.stopped is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_draws_are_n_finite_rows_on_the_meter_s_device(name: str, dtype: torch.dtype) -> None:
    meter = Meter(Normal(), dtype=dtype)
    draws = run(name, meter)
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


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_sampler_keeps_its_contract(name: str, check: Check[SamplerSubject]) -> None:
    try:
        check(subject(name))  # raises what is broken
    except DoesNotApply as reason:
        pytest.skip(str(reason))
    except ModuleNotFoundError as error:
        pytest.skip(f"needs the package {error.name}")


@cache
def subject(name: str) -> SamplerSubject:
    """The small sampler under examination."""
    return SamplerSubject(name, lambda **parameters: smaller(samplers.get(name, **parameters)))


@pytest.mark.parametrize("name", NAMES)
def test_bad_configurations_name_the_field(name: str) -> None:
    with pytest.raises(ValueError, match=rf"sampler '{name}': unknown parameter 'no_such_field'"):
        samplers.get(name, no_such_field=1)
    config: Any = samplers.get(name)
    for field in dataclasses.fields(config):
        with pytest.raises(ValueError, match=rf"sampler '{name}': {field.name} must be"):
            samplers.get(name, **{field.name: object()})
