"""Measured: moments of NUTS rows on posteriors against the truth, in standard errors, with counts and seconds beside.

``n_standard_errors`` in ``extra_info`` holds every first and second moment: its difference over the standard errors of
the chains, by the ESS of that very average, and of the reference draws.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from samplerbench import samplers, targets
from samplerbench.targets import Draws, HasMoments, HasReference, Meter, Moments, Target, derive_generator

N_SAMPLES = 2_000
TOO_LARGE = 4.0


@pytest.mark.parametrize("target_name", ["eight_schools", "sonar_train", "breast_cancer_train"])
@pytest.mark.parametrize("name", ["pyro_nuts", "nutpie_nuts", "blackjax_nuts"])
def test_posterior_moments(name: str, target_name: str, benchmark: BenchmarkFixture) -> None:
    target = targets.get(target_name)
    meter = Meter(target, dtype=torch.float64)

    def sample() -> Draws:
        with meter.phase("fit"):
            fitted = samplers.get(name).fit(meter, derive_generator(0, "fit"))
        with meter.phase("draw"):
            return fitted.draw(N_SAMPLES, derive_generator(0, "draw"))

    try:
        draws: Draws = benchmark.pedantic(sample)  # type: ignore[no-untyped-call]
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} needs the package {error.name}")
    assert draws.stopped is None
    assert draws.chains is not None
    truth, n_truth = truth_of(target)
    moments = torch.cat([draws.chains, draws.chains.square()], dim=-1)
    sizes = effective_sizes(moments)
    std_error = (truth.variance / sizes + truth.variance / n_truth).sqrt()
    n_errors = (moments.mean((0, 1)) - truth.mean) / std_error
    benchmark.extra_info.update(
        target=target_name,
        n_samples=N_SAMPLES,
        fit=asdict(meter.counts["fit"]),
        draw=asdict(meter.counts["draw"]),
        smallest_ess=sizes.min().item(),
        largest=n_errors.abs().max().item(),
        root_mean_square=n_errors.square().mean().sqrt().item(),
        n_standard_errors=n_errors.tolist(),
        diagnostics=dict(draws.diagnostics),
    )
    assert n_errors.abs().max() < TOO_LARGE


def truth_of(target: Target) -> tuple[Moments, float]:
    """Moments of (x, x^2), and how many independent draws they come from: infinitely many of a quadrature."""
    if isinstance(target, HasMoments):
        return target.moments, math.inf
    assert isinstance(target, HasReference)
    reference = target.reference()
    both = torch.cat([reference, reference.square()], dim=-1)
    return Moments(both.mean(0), both.var(0)), len(both)


def effective_sizes(chains: Tensor) -> Tensor:
    """Effective number of draws for the mean of each column of ``(n_chains, n_kept, k)``, shape ``(k,)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    ess: Callable[..., float] = arviz.ess
    columns = chains.numpy().transpose(2, 0, 1)
    return torch.tensor([float(ess(column, method="mean")) for column in columns], dtype=torch.float64)
