"""The checks of certificates have teeth: known published errors are caught, and exact draws raise no alarm."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks.certificates import (
    certify,
    check_drift,
    check_laplacian,
    check_log_z,
    check_marginals,
    check_mode_masses,
    check_moments,
    check_score,
    check_stein,
)
from samplerbench.benchmarks.spot_values import check_spot_values
from samplerbench.benchmarks.subject import FAST, FULL, Effort, Row, Subject
from samplerbench.samplers.base import State
from samplerbench.samplers.kernels import MALAKernel
from samplerbench.targets.base import Target, normal
from samplerbench.targets.meter import Meter

QUICK = dataclasses.replace(FAST, n_draws=20_000, n_laplacian=2_000, n_drift=1_000, n_paths=300, n_nodes=401)


class Altered:
    """A target with some of its parts replaced: those of ``target`` are its own, unless named in ``parts``."""

    def __init__(self, target: Target, **parts: Any) -> None:
        vars(self).update({name: getattr(target, name) for name in _knowledge(target)} | parts)


def _knowledge(target: Target) -> list[str]:
    names = ("log_z", "sample", "reference", "modes", "moments", "marginals", "view", "invariants", "scramble", "start")
    return ["dim", "scale", "log_prob", *(name for name in names if hasattr(type(target), name))]


Check = Callable[[Subject], list[Row]]


def failures(target: Any, *checks: Check, effort: Effort = FAST) -> set[str]:
    """Names of the rows that fail; every row is judged."""
    subject = Subject("altered@1", target, effort, is_shipped=False)
    rows = [row for check in checks for row in check(subject)]
    assert {row.verdict for row in rows} <= {"pass", "fail"}
    return {row.check for row in rows if row.verdict == "fail"}


def test_a_polar_jacobian_that_the_draws_forget_is_caught() -> None:
    donut = targets.get("donut")

    def sample(n_samples: int, generator: Generator) -> Tensor:
        radius = 2.6 + math.sqrt(0.033 / 2) * normal(n_samples, 1, generator)
        angle = 2 * math.pi * torch.rand(n_samples, 1, generator=generator, dtype=torch.float64)
        return radius * torch.cat([angle.cos(), angle.sin()], dim=-1)

    assert "marginal radius" in failures(Altered(donut, sample=sample), check_marginals)


def test_funnel_draws_clipped_to_30_are_caught() -> None:
    funnel = targets.get("funnel10")
    clipped = Altered(funnel, sample=lambda n, generator: funnel.sample(n, generator).clamp(-30, 30))
    assert "marginal x[1]" in failures(clipped, check_marginals, effort=FULL)


def test_a_covariance_ten_percent_too_wide_is_caught() -> None:
    gaussian = targets.get("gaussian_ill")
    wide = Altered(gaussian, sample=lambda n, generator: math.sqrt(1.1) * gaussian.sample(n, generator))
    assert {"stein", "moments", "drift of log_prob"} <= failures(wide, check_stein, check_moments, check_drift)


@pytest.mark.parametrize("name", ["ring8", "mixture_8d", "bimodal50"])
def test_a_weight_multiplied_by_1_1_is_caught(name: str) -> None:
    mixture = targets.get(name)
    modes = mixture.modes
    heavy = int((modes.masses - 0.1).abs().masked_fill(modes.masses < 0.0999 * 0.999, 1.0).argmin())
    share = modes.masses[heavy].item()

    def sample(n_samples: int, generator: Generator) -> Tensor:
        x = mixture.sample(3 * n_samples, generator)
        odds = 1.1 * (1 - share) / (1 - 1.1 * share)  # of keeping a draw of this mode, against any other
        keep = torch.where(modes.assign(x) == heavy, 1.0, 1 / odds)
        return x[torch.rand(len(x), generator=generator) < keep][:n_samples]

    assert failures(Altered(mixture, sample=sample), check_mode_masses) == {"mode_masses"}


def test_a_prior_left_out_is_caught() -> None:
    posterior = targets.get("breast_cancer_full")
    improper = Altered(posterior, log_prob=lambda x: posterior.log_prob(x) + x.square().sum(-1) / 200)
    assert failures(improper, check_stein, check_drift) >= {"stein", "drift of log_prob"}


def test_lennard_jones_draws_of_half_the_energy_are_caught() -> None:
    double, single = targets.get("lj13_efm"), targets.get("lj13_bgflow")
    wrong = Altered(double, reference=single.reference)
    assert {"stein", "drift of log_prob"} <= failures(wrong, check_stein, check_drift)


def test_draws_of_dw4_before_equilibrium_are_caught() -> None:
    dw4 = targets.get("dw4")
    generator = Generator().manual_seed(0)
    meter = Meter(dw4, dtype=torch.float64)
    state = State.at(meter.start(10_000, generator), meter)
    for _ in range(300):
        state = MALAKernel(0.005)(state, meter, generator)
    assert failures(Altered(dw4, reference=lambda: state.x), check_stein, check_drift)


def test_a_log_z_that_is_not_the_density_s_is_caught() -> None:
    for name in ("himmelblau", "many_well6"):
        target = targets.get(name)
        wrong = targets.Estimate(target.log_z.value + 0.2, target.log_z.std_error)
        assert failures(Altered(target, log_z=wrong), check_log_z) == {"log_z"}


def test_a_law_that_changes_under_its_version_is_caught() -> None:
    rows = check_spot_values(Subject("ring8@1", targets.get("ring8", sd=0.51)))
    assert [row.verdict for row in rows] == ["fail"]
    assert [row.verdict for row in check_spot_values(Subject("ring8@2", targets.get("ring8")))] == ["uncertified"]


def test_a_wrong_score_is_caught() -> None:
    posterior = targets.get("breast_cancer_full")
    wrong = Altered(posterior, score=lambda x: 1.01 * posterior.score(x))
    rows = check_score(Subject("altered@1", wrong))
    assert {row.check for row in rows if row.verdict == "fail"} == {"score, the target's own"}


@pytest.mark.parametrize("name", ["gaussian10", "ring8", "donut", "funnel10", "many_well6", "rare_modes8"])
def test_exact_draws_with_20_seeds_raise_no_alarm(name: str) -> None:
    target = targets.get(name)
    alarms: list[Row] = []
    for seed in range(1, 21):
        rows = certify(Subject(f"{name}@1", target, QUICK, seed))
        alarms += [row for row in rows if row.verdict in ("fail", "uncertified")]
    assert not alarms


def test_stated_moments_and_variances_are_both_checked() -> None:
    target = targets.get("gaussian10")
    mean, variance = target.moments.mean, target.moments.variance
    shifted = Altered(target, moments=targets.Moments(mean + 0.1, 1e9 * variance))
    assert failures(shifted, check_moments) == {"moments", "variances"}


def test_nan_is_no_spot_value() -> None:
    target = targets.get("ring8")
    rows = check_spot_values(Subject("ring8@1", Altered(target, log_prob=lambda x: target.log_prob(x) + x[:, 0].log())))
    assert [row.verdict for row in rows] == ["fail"]


def test_a_laplacian_that_does_not_belong_to_the_draws_is_caught() -> None:
    gaussian = targets.get("gaussian10")
    wide = Altered(gaussian, sample=lambda n, generator: 1.1 * gaussian.sample(n, generator))
    assert failures(wide, check_laplacian) == {"laplacian"}


def test_mode_masses_of_rare_cells_raise_no_alarm() -> None:
    """Cells are merged until they expect 10 draws: many_well16 has modes that expect a draw in a thousand samples."""
    assert not failures(targets.get("many_well16"), check_mode_masses, effort=QUICK)


@dataclass(frozen=True)
class Bare:
    """A density and nothing else."""

    dim: int = 3
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


def test_what_is_unknown_is_not_applicable_and_no_draws_no_certificate() -> None:
    rows = certify(Subject("bare@1", Bare(), is_shipped=False))
    assert rows[-1].verdict == "uncertified"
    assert "neither exact nor certified reference draws" in rows[-1].reason
    assert all(row.verdict in ("pass", "not_applicable", "uncertified") for row in rows)
