"""HMC and underdamped Langevin as samplers: adaptation, both modes, what their draws converge to."""

import math
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.metrics.chains import smallest_ess, worst_rhat
from samplerbench.samplers.adaptation import warm_up
from samplerbench.samplers.chains import LongChains, RestartedChains, Walk
from samplerbench.samplers.hmc import HMC
from samplerbench.samplers.kernels import MALAKernel
from samplerbench.samplers.moves import Moves
from samplerbench.samplers.underdamped import Underdamped
from samplerbench.targets import Meter


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


class Wide:
    """Independent normals with standard deviations 0.01, 1 and 100."""

    dim = 3
    scale = 1.0
    sd = torch.tensor([0.01, 1.0, 100.0])

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        return -0.5 * (x / self.sd.to(x)).square().sum(-1)


def test_warm_up_finds_the_scales_of_the_coordinates() -> None:
    meter = Meter(Wide(), dtype=torch.float64)
    walk = Walk(meter.start(64, generator()), meter, generator(1))
    scales, adaptation = warm_up(
        walk,
        Moves().kernel,
        1_500,
        scales=torch.ones(3, dtype=torch.float64),
        step=0.1,
        acceptance=0.8,
    )
    ratio = scales / Wide.sd
    assert ((ratio > 0.3) & (ratio < 3)).all()
    assert abs(adaptation.acceptance_rate - 0.8) < 0.05
    assert walk.n_moves == 1_500


def test_warm_up_that_is_stopped_keeps_what_it_has() -> None:
    meter = Meter(Wide(), dtype=torch.float64)
    walk = Walk(torch.full((4, 3), math.nan, dtype=torch.float64), meter, generator(1))
    ones = torch.ones(3, dtype=torch.float64)
    scales, adaptation = warm_up(
        walk, lambda step, scales: MALAKernel(step, scales=scales), 70, scales=ones, step=0.1, acceptance=0.8
    )
    assert torch.equal(scales, ones)
    assert adaptation.frozen() == 0.1


def check_law(name: str, law: Any, exact: Tensor) -> None:
    """Chains at the defaults have the law's mean log density; 10% of the spread allows for uncorrected dynamics."""
    draws = samplers.get(name).fit(Meter(law), generator()).draw(1_000, generator(1))
    assert draws.stopped is None
    assert draws.diagnostics["n_unmoved"] == 0
    log_prob, truth = law.log_prob(draws.samples.double()), law.log_prob(exact)
    error = math.sqrt(truth.var().item() / 1_000)
    assert abs(log_prob.mean() - truth.mean()) < 4 * error + 0.1 * truth.std()


@pytest.mark.parametrize("name", ["hmc", "underdamped"])
@pytest.mark.parametrize("target", ["gaussian2", "ring8"])
def test_defaults_bring_every_chain_to_the_law(name: str, target: str) -> None:
    law: Any = targets.get(target)
    check_law(name, law, law.sample(10_000, generator(2)))


@pytest.mark.parametrize("name", ["hmc", "underdamped"])
def test_defaults_bring_every_chain_to_a_posterior(name: str, sonar: Any) -> None:
    check_law(name, sonar, sonar.reference())


@pytest.mark.parametrize("name", ["hmc_long", "underdamped_long"])
def test_long_chains_agree_with_each_other_and_with_the_variances(name: str) -> None:
    law = targets.get("mog2")
    draws = samplers.get(name, thinning=10).fit(Meter(law), generator()).draw(16_000, generator(1))
    assert draws.chains is not None
    assert worst_rhat(draws.chains) < 1.05
    f = draws.chains.double().square()
    error = f.mean(1).std(0) / math.sqrt(len(f))
    exact = law.moments.mean[law.dim :]  # type: ignore[attr-defined]
    assert ((f.mean((0, 1)) - exact).abs() < 4.5 * error).all()
    assert smallest_ess(draws.chains) > 200


def test_hmc_brings_in_chains_that_start_far_out() -> None:
    """From N(0, scale^2 I), trajectories alone leave a fifth of the chains where they are."""
    draws = samplers.get("hmc").fit(Meter(targets.get("funnel10")), generator()).draw(500, generator(1))
    assert draws.diagnostics["n_unmoved"] == 0


def test_presets_choose_the_mode_and_the_kind_of_chains() -> None:
    assert samplers.get("hmc_long") == HMC(mode="long")
    assert samplers.get("underdamped") == Underdamped(mode="restart")
    meter = Meter(targets.get("gaussian2"))
    assert isinstance(samplers.get("hmc", n_steps=5).fit(meter, generator()), RestartedChains)
    assert isinstance(samplers.get("hmc_long", burn_in=5).fit(meter, generator()), LongChains)


def test_hmc_wants_hamiltonian_moves() -> None:
    with pytest.raises(ValueError, match="moves must have method 'hmc', got 'mala'"):
        HMC(moves=Moves(method="mala"))


@pytest.mark.parametrize(
    ("field", "value"),
    [("method", "gibbs"), ("max_leapfrog", 0), ("acceptance", 1.0), ("min_step", 0.0), ("max_drift", -1.0)],
)
def test_moves_out_of_range_name_field_and_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*{value}"):
        Moves(**{field: value})
