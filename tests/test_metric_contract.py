import dataclasses
import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics.base import METRICS, Predictive, Truth
from samplerbench.targets import Draws, Modes, Moments


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def draws() -> Draws:
    chains = normal(4, 25, 2).float()
    return Draws(samples=chains.reshape(-1, 2), chains=chains)


@pytest.fixture
def truth() -> Truth:
    """Everything that can be known about N(0, I_2), with the half planes as modes."""
    return Truth(
        samples=normal(100, 2, seed=1),
        log_prob=lambda x: -0.5 * x.square().sum(-1),
        score=lambda x: -x,
        modes=Modes(lambda x: (x[:, 0] > 0).long(), torch.tensor([0.5, 0.5])),
        moments=Moments(torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])),
        bandwidth=1.5,
        spacing=0.1,
        predictive=Predictive(lambda x: x, torch.tensor([0, 1])),
    )


def test_the_metrics_of_the_first_suite_are_registered() -> None:
    expected = "sliced_w2 w2 mmd2 energy_w1 ksd ksd_paper mode_tv modes_found mode_recall moment_bias2 accuracy nll"
    assert set(METRICS.names()) >= {*expected.split(), "rhat", "ess_bulk"}


@pytest.mark.parametrize("name", METRICS.names())
def test_metric_keeps_its_contract(name: str, draws: Draws, truth: Truth) -> None:
    metric = METRICS.get(name)
    samples, exact = draws.samples.clone(), known_samples(truth).clone()
    values = metric(draws, truth, seed=0)

    assert metric.unit
    assert metric.blind_to
    assert metric.outputs[0] == name
    assert tuple(values) == metric.outputs
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())
    assert metric(draws, truth, seed=0) == values
    torch.testing.assert_close(draws.samples, samples, rtol=0, atol=0)
    torch.testing.assert_close(known_samples(truth), exact, rtol=0, atol=0)


@pytest.mark.parametrize("name", METRICS.names())
def test_metric_without_its_needs_is_nan_with_a_reason(name: str, draws: Draws) -> None:
    metric, nothing = METRICS.get(name), Truth()
    alone = dataclasses.replace(draws, chains=None)
    assert metric.missing(alone, nothing) == f"needs {', '.join(metric.needs)}"
    assert all(math.isnan(value) for value in metric(alone, nothing, seed=0).values())


@pytest.mark.parametrize("name", METRICS.names())
def test_metric_refuses_draws_that_are_too_few_or_not_finite(name: str, draws: Draws, truth: Truth) -> None:
    bad_chains = draws.samples.reshape(4, 25, 2) / 0
    for bad in (
        Draws(samples=draws.samples[:1], chains=bad_chains),
        Draws(samples=draws.samples / 0, chains=bad_chains),
    ):
        with pytest.raises(ValueError, match="must"):
            METRICS.get(name)(bad, truth, seed=0)


@pytest.mark.parametrize("name", METRICS.names())
def test_float32_draws_are_judged_as_their_float64_copies(name: str, draws: Draws, truth: Truth) -> None:
    chains = None if draws.chains is None else draws.chains.double()
    copies = Draws(samples=draws.samples.double(), chains=chains)
    assert METRICS.get(name)(draws, truth, seed=0) == METRICS.get(name)(copies, truth, seed=0)


def known_samples(truth: Truth) -> Tensor:
    assert truth.samples is not None
    return truth.samples
