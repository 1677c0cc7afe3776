"""Draws as InferenceData and back, and what other people's InferenceData give."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from samplerbench.benchmarks import from_inference_data, to_inference_data
from samplerbench.benchmarks.inference_data import arviz
from samplerbench.metrics.chains import smallest_ess
from samplerbench.targets import Draws, Estimate, derive_generator

ARRAYS = ("samples", "log_weights", "log_density", "forward_log_ratio", "chains")


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=derive_generator("inference data", *shape))


CASES = {
    "samples": Draws(samples=normal(50, 3)),
    "weights": Draws(
        samples=normal(50, 3).double(),
        log_weights=torch.cat([normal(49), torch.tensor([-torch.inf])]),
        log_density=normal(50).double(),
    ),
    "everything": Draws(
        samples=normal(50, 3),
        log_weights=normal(50),
        log_density=normal(50).double(),
        forward_log_ratio=normal(70).double(),
        chains=normal(4, 20, 3),
        log_z=Estimate(-1.5, 0.1),
        stopped="budget",
        reason="after 7 moves",
        diagnostics={"acceptance_rate": 0.65, "largest": math.inf, "how": "well", "trace": [1.0, 0.1], "n": 3},
    ),
    "one chain": Draws(samples=normal(5, 1), chains=normal(1, 20, 1)),
}


def there_and_back(draws: Draws, by_file: Path | None) -> Draws:
    data = to_inference_data(draws)
    if by_file is not None:
        data = arviz().from_netcdf(data.to_netcdf(str(by_file / "draws.nc")))
    return from_inference_data(data)


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_on_the_way_there_and_back(case: str, by_file: bool, tmp_path: Path) -> None:
    draws = CASES[case]
    back = there_and_back(draws, tmp_path if by_file else None)
    for name in ARRAYS:
        before, after = getattr(draws, name), getattr(back, name)
        assert (before is None) == (after is None), name
        if before is not None:
            assert before.dtype == after.dtype
            assert torch.equal(before, after), name
    for name in ("log_z", "stopped", "reason", "diagnostics"):
        assert getattr(draws, name) == getattr(back, name)


def test_what_is_unknown_stays_unknown() -> None:
    back = there_and_back(CASES["samples"], None)
    assert [getattr(back, name) for name in ("log_weights", "log_density", "chains", "log_z", "stopped")] == [None] * 5


def test_diagnostics_may_hold_tensors_and_nothing_that_json_cannot() -> None:
    trace = Draws(samples=normal(5, 1), diagnostics={"trace": torch.tensor([1.0, 0.5])})
    assert there_and_back(trace, None).diagnostics == {"trace": [1.0, 0.5]}
    with pytest.raises(TypeError, match="must be numbers, strings and lists of numbers, got object"):
        to_inference_data(Draws(samples=normal(5, 1), diagnostics={"what": object()}))


def test_the_effective_sample_size_of_arviz_is_ours() -> None:
    steps = normal(4, 200, 2).double()
    chains = steps.cumsum(1) * 0.1 + steps  # correlated
    summary = arviz().summary(to_inference_data(Draws(samples=normal(50, 2), chains=chains)), round_to="none")
    assert list(summary.index) == ["x[0]", "x[1]"]
    ours = smallest_ess(chains)
    assert ours < 0.2 * 800
    assert math.isclose(summary["ess_bulk"].min(), ours, rel_tol=1e-12)


def foreign(**groups: Any) -> Any:
    rng = np.random.default_rng(0)
    posterior = {"mu": rng.normal(size=(2, 30)), "theta": rng.normal(size=(2, 30, 2, 2))}
    return arviz().from_dict(posterior, **groups)


def test_variables_of_other_peoples_posteriors_become_coordinates_chain_by_chain() -> None:
    data = foreign()
    draws = from_inference_data(data)
    mu, theta = data.posterior["mu"].values, data.posterior["theta"].values
    assert draws.samples.shape == (60, 5)
    assert draws.chains is not None
    assert torch.equal(draws.chains.reshape(60, 5), draws.samples)
    assert np.array_equal(draws.samples[30:, 0], mu[1])
    assert np.array_equal(draws.samples[7, 1:], theta[0, 7].ravel())
    turned = from_inference_data(data, variables=["theta", "mu"])
    assert torch.equal(turned.samples, draws.samples[:, [1, 2, 3, 4, 0]])


def test_weights_and_densities_come_from_sample_stats_and_lp_does_not() -> None:
    log_weight, log_density = np.arange(60.0).reshape(2, 30), -np.arange(60.0).reshape(2, 30)
    stats = {"log_weight": log_weight, "log_density": log_density, "lp": np.zeros((2, 30))}
    draws = from_inference_data(foreign(sample_stats=stats))
    assert draws.log_weights is not None
    assert draws.log_weights.tolist() == list(range(60))
    assert draws.log_density is not None
    assert draws.log_density[-1] == -59
    assert from_inference_data(foreign(sample_stats={"lp": np.zeros((2, 30))})).log_density is None


def test_one_chain_is_no_chains() -> None:
    data = arviz().from_dict({"x": np.zeros((1, 30, 2))})
    assert from_inference_data(data).chains is None


@pytest.mark.parametrize(
    ("data", "variables", "message"),
    [
        (lambda: arviz().from_dict(prior={"x": np.zeros((2, 3))}), (), "must have a group posterior, got prior"),
        (foreign, ("mu", "tau"), r"in the posterior \(mu, theta\), got tau"),
        (
            lambda: foreign(sample_stats={"log_weight": np.zeros((2, 30, 2))}),
            (),
            r"log_weight in sample_stats must have shape \(2, 30\) \(chain, draw\), got \(2, 30, 2\)",
        ),
        (
            lambda: arviz().convert_to_inference_data(foreign().posterior.mean("draw")),
            (),
            "must begin with chain, draw",
        ),
    ],
)
def test_what_holds_no_draws_is_named(data: Any, variables: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_inference_data(data(), variables=variables)
