"""``samplerbench check``: it passes what keeps the contract, and each broken rule is found by the check of its name."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from typer.testing import CliRunner

from samplerbench.benchmarks import check_costs, check_knowledge, check_law, check_metric, check_sampler, check_target
from samplerbench.benchmarks.check import check_plugin, failed, kinds_of, line_of
from samplerbench.benchmarks.check_metric import MetricSubject
from samplerbench.benchmarks.cli import app
from samplerbench.benchmarks.contract import Check, Finding, findings
from samplerbench.benchmarks.sampler_subject import SamplerSubject
from samplerbench.benchmarks.target_subject import TargetSubject
from samplerbench.benchmarks.witness import Witness
from samplerbench.metrics import Metric
from samplerbench.metrics.base import METRICS
from samplerbench.samplers.base import SAMPLERS
from samplerbench.targets import Draws, Estimate, Meter, Modes, from_log_prob, get, load_plugin
from samplerbench.targets.base import TARGETS
from samplerbench.targets.registry import UnknownNameError

ALWAYS = (
    check_target.shapes_and_dtypes,
    check_target.rows_alone,
    check_target.devices,
    check_target.float32_agrees,
    check_target.double_backward,
    check_target.starting_points,
)
BROKEN = Path(__file__).parent / "plugins" / "broken.py"
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
PLUGINS = [EXAMPLES / f"my_{kind}.py" for kind in ("sampler", "target", "metric")]


def only(kind: str, build: Callable[[], Any], check: Check[Any]) -> Finding:
    """The finding of one check."""
    construction, finding = findings(kind, "mine@1", build, [check])
    assert construction.verdict == "pass", construction.reason
    return finding


def broken(**parameters: object) -> SamplerSubject:
    load_plugin(BROKEN)
    return SamplerSubject("broken", lambda **given: SAMPLERS.get("broken", **{**parameters, **given}), [str(BROKEN)])


# Samplers


@pytest.mark.parametrize("name", ["mala", "ula", "svgd", "random_walk"])
def test_samplers_pass(name: str) -> None:
    found = check_plugin(name, kind="sampler", plugins=PLUGINS)
    assert [(finding.check, finding.reason) for finding in found if finding.verdict == "fail"] == []
    assert [finding.check for finding in found if finding.verdict == "not_applicable"] == ["log_normaliser", "density"]
    assert len(found) == 1 + len(check_sampler.CHECKS)


def test_a_sampler_of_one_normal_law_is_not_asked_for_two_modes() -> None:
    subject = SamplerSubject.registered("laplace")
    checks = [check_sampler.moments_of_gaussian2, check_sampler.moments_of_mog2, check_sampler.density]
    found = list(findings("sampler", "laplace@1", lambda: subject, checks))
    assert [finding.verdict for finding in found] == ["pass", "pass", "not_applicable", "pass"]
    assert found[2].reason == "it states that its draws follow one normal law, which mog2 is not"


def test_what_is_not_broken_passes() -> None:
    subject = broken()
    checks = [check for check in check_sampler.CHECKS if check is not check_sampler.another_process]
    found = list(findings("sampler", "broken@1", lambda: subject, checks))
    assert not failed(found), [finding.reason for finding in found]


@pytest.mark.parametrize(
    ("how", "check", "message"),
    [
        ("global_rng", check_sampler.global_random_states, "leave the global random states alone, got .* of torch"),
        ("global_rng", check_sampler.seeds, "draws of the same seed must be equal bit by bit"),
        ("one_seed", check_sampler.seeds, "draws of another seed must all be others, got 33 of 33 rows equal"),
        ("few", check_sampler.rows_and_dtypes, r"samples of draw\(33\) must be a tensor \(33, 2\).* got \(32, 2\)"),
        ("float64", check_sampler.rows_and_dtypes, r"must be a tensor \(33, 2\) torch.float32, got .*float64"),
        ("graph", check_sampler.rows_and_dtypes, "samples must be detached"),
        ("stateful", check_sampler.fitted_sampler_unchanged, "a later draw from the same seed must be the first one"),
        ("moved_start", check_sampler.inputs_unchanged, "start must be left as it is"),
        ("any_start", check_sampler.inputs_unchanged, "a start must be used or refused"),
        ("any_start", check_sampler.bad_starts, "a start with too few rows must be refused with a ValueError"),
        ("scaled", check_sampler.inputs_unchanged, "dim and scale must be left, got 1.0"),
        ("past_meter", check_costs.counts, "be counted as the target saw them, .* went past the meter"),
        ("uncounted", check_costs.counts, "be counted as the target saw them"),
        ("past_meter", check_costs.budget_of_draw, "the points that the target saw must be those paid"),
        ("escaping_budget", check_costs.budget_of_draw, "raised BudgetReached: 33 points of log_prob"),
        ("silent_budget", check_costs.budget_of_draw, "stopped under a budget of .* must be 'budget', got None"),
        ("log_z_after_stop", check_costs.budget_of_draw, "log_z must be None where stopped early"),
        ("wrong_log_z", check_law.log_normaliser, r"log_z of gaussian2 must be within 0.041 of 0 .*value=1.0"),
        ("wide", check_law.moments_of_gaussian2, "mean squares of gaussian2 must be within 43% .*% off"),
        ("one_mode", check_law.moments_of_mog2, r"means of mog2 must be within 0.226 sd .* got 0.\d+ sd"),
        ("raises", check_costs.divergence, "NaN everywhere must be reported in stopped, got ArithmeticError"),
    ],
)
def test_a_broken_sampler_is_found(how: str, check: Check[SamplerSubject], message: str) -> None:
    finding = only("sampler", lambda: broken(how=how), check)
    assert finding.verdict == "fail"
    assert re.search(message, finding.reason), finding.reason


@dataclasses.dataclass(frozen=True)
class WideGaussian:
    """Draws of N(0, (2 scale)^2 I), with its density times ``mass``, in draws times ``mass_of_draws``."""

    mass: float = 1.0
    mass_of_draws: float = 1.0

    def fit(self, meter: Meter, generator: Generator) -> "FittedWideGaussian":
        return FittedWideGaussian(self, meter)


@dataclasses.dataclass(frozen=True)
class FittedWideGaussian:
    config: WideGaussian
    meter: Meter
    diagnostics: dict[str, object] = dataclasses.field(default_factory=dict)

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        x = 2 * self.meter.scale * torch.randn(n_samples, 2, generator=generator)
        shift = math.log(self.config.mass_of_draws / self.config.mass)
        return Draws(samples=x, log_density=self.log_density(x) + shift)

    def log_density(self, x: Tensor) -> Tensor:
        sd = 2 * self.meter.scale
        return math.log(self.config.mass) - (0.5 * (x / sd).square() + math.log(sd) + 0.5 * math.log(2 * math.pi)).sum(
            -1
        )


@pytest.mark.parametrize(
    ("parameters", "verdict", "message"),
    [
        ({}, "pass", r"as at the draws, and (0\.99\d\d|1\.000\d) on a grid"),
        ({"mass": 1.1, "mass_of_draws": 1.1}, "fail", r"must integrate to 1 within 0\.02, got 1\.(0|1)"),
        ({"mass_of_draws": 1.1}, "fail", "log_density at the draws must be theirs within 0.001 nats, got 0.0953 off"),
    ],
)
def test_a_density_is_that_of_the_draws_and_integrates_to_one(
    parameters: dict[str, float], verdict: str, message: str
) -> None:
    subject = SamplerSubject("wide", lambda **given: WideGaussian(**{**parameters, **given}))
    finding = only("sampler", lambda: subject, check_law.density)
    assert finding.verdict == verdict, finding.reason
    assert re.search(message, finding.reason), finding.reason


def test_a_seed_from_a_hash_is_found_in_another_process() -> None:
    """Python salts the hash of a string in each process."""
    load_plugin(BROKEN)
    subject = SamplerSubject.registered("broken_seed", [str(BROKEN)])
    assert only("sampler", lambda: subject, check_sampler.seeds).verdict == "pass"
    finding = only("sampler", lambda: subject, check_sampler.another_process)
    assert finding.verdict == "fail"
    assert "draws in another process must be equal bit by bit, got 33 of 33 other rows" in finding.reason


def test_a_law_and_a_metric_from_a_hash_are_found_in_another_process() -> None:
    load_plugin(BROKEN)
    target = TargetSubject.registered("broken_hash", [str(BROKEN)])
    finding = only("target", lambda: target, check_target.another_process)
    assert finding.reason.startswith("log_prob in another process must be equal bit by bit, got ")
    metric = MetricSubject.registered("broken_hash", [str(BROKEN)])
    assert only("metric", lambda: metric, check_metric.seeds).verdict == "pass"
    finding = only("metric", lambda: metric, check_metric.another_process)
    assert finding.reason.startswith("values in another process must be {'broken_hash': ")


def test_what_only_this_process_knows_is_not_asked_of_another() -> None:
    finding = only("target", lambda: TargetSubject("plane", Plane()), check_target.another_process)
    assert (finding.verdict, finding.reason) == (
        "not_applicable",
        "only this process knows the name: give its file as --plugin",
    )


def test_a_configuration_that_can_be_changed_is_found() -> None:
    load_plugin(BROKEN)
    finding = only("sampler", lambda: SamplerSubject.registered("broken_mutable"), check_sampler.configuration)
    assert finding.verdict == "fail"
    assert finding.reason == "dataclass Mutable must be frozen, got frozen=False"


def test_a_sampler_that_needs_something_else_does_not_apply() -> None:
    finding = only("sampler", lambda: broken(how="inapplicable"), check_sampler.seeds)
    assert (finding.verdict, finding.reason) == ("not_applicable", "needs minibatches")


def test_the_witness_counts_every_pass() -> None:
    witness = Witness(get("mog2"))
    meter = Meter(witness)
    x = torch.zeros(5, 2)
    meter.log_prob(x)
    meter.score(x)
    inputs = x.clone().requires_grad_()
    meter.score(inputs, create_graph=True).square().sum().backward()
    counts = meter.counts["fit"]
    assert (witness.n_forward, witness.n_backward) == (15, 15)
    assert (counts.log_prob, counts.score, counts.hvp) == (15, 10, 5)
    assert torch.equal(witness.law(x), get("mog2").log_prob(x))
    assert witness.n_forward == 15


# Targets


class Plane:
    """Standard normal law of the plane."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


class Crowd(Plane):
    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x - x.reshape(-1, 2).mean(0)).square().sum(-1)


class Double(Plane):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x.double())


class _Detached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return -0.5 * x.square().sum(-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return -ctx.saved_tensors[0].detach() * grad_outputs[0].detach()[..., None]


class OnceDifferentiable(Plane):
    def log_prob(self, x: Tensor) -> Tensor:
        value: Tensor = _Detached.apply(x)  # type: ignore[no-untyped-call]
        return value


class Halved(Plane):
    def score(self, x: Tensor) -> Tensor:
        return -0.5 * x


class GlobalDraws(Plane):
    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.randn(n_samples, 2, dtype=torch.float64)


class Overfull(Plane):
    modes = Modes(lambda x: (x[:, 0] > 0).long(), torch.tensor([0.6, 0.6], dtype=torch.float64))


class Renamed(Plane):
    modes = Modes(lambda x: 1 + (x[:, 0] > 0).long(), torch.tensor([0.5, 0.49], dtype=torch.float64))


class Number(Plane):
    log_z = 0.0


class Nowhere(Plane):
    def start(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.full((n_samples, 2), math.nan)


class Shrunk(Plane):
    def log_prob(self, x: Tensor) -> Tensor:
        x *= 0.5
        return super().log_prob(x)


@pytest.mark.parametrize(
    ("target", "check", "message"),
    [
        (Crowd, check_target.rows_alone, "log_prob of a point alone and among others must agree"),
        (Double, check_target.shapes_and_dtypes, "must be a tensor (6,) torch.float32, got (6,) torch.float64"),
        (Shrunk, check_target.shapes_and_dtypes, "the points must be left as they are"),
        (OnceDifferentiable, check_target.double_backward, "the gradient must be differentiable again"),
        (Halved, check_target.score_is_gradient, "score and gradient must agree"),
        (GlobalDraws, check_knowledge.sample, "draws of the same seed must be equal"),
        (Overfull, check_knowledge.modes, "modes.masses must be positive with a sum of at most 1, got 1.2"),
        (Renamed, check_knowledge.modes, "modes.assign must be -1 or the index of one of 2 modes"),
        (Number, check_knowledge.log_normaliser, "log_z must be an Estimate, got 0.0"),
        (Nowhere, check_target.starting_points, "at 64 starting points must be no NaN, got 64"),
    ],
)
def test_a_broken_target_is_found(target: type[Plane], check: Check[TargetSubject], message: str) -> None:
    finding = only("target", lambda: TargetSubject("plane", target()), check)
    assert finding.verdict == "fail"
    assert message in finding.reason


def test_a_scale_of_two_digits_is_found() -> None:
    @dataclasses.dataclass(frozen=True)
    class Precise(Plane):
        """A law."""

        scale: float = 1.25

    TARGETS.register("test_check_precise", Precise, version=1)
    finding = only("target", lambda: TargetSubject.registered("test_check_precise"), check_target.description)
    assert finding.reason == "scale must be rounded to one digit, 1: it is public, got 1.25"


def test_what_a_target_does_not_know_does_not_apply() -> None:
    subject = TargetSubject("plane", Plane())
    checks = [check for check in check_target.CHECKS if check is not check_target.description]
    found = {finding.check: finding.verdict for finding in findings("target", "plane", lambda: subject, checks)}
    kept = {check.__name__ for check in ALWAYS} | {"construction"}
    assert {name for name, verdict in found.items() if verdict == "pass"} == kept
    assert {verdict for name, verdict in found.items() if name not in kept} == {"not_applicable"}


@pytest.mark.parametrize("name", ["tilted_ring", "logistic5", "gumbel3", "mog2", "eight_schools"])
def test_targets_pass(name: str) -> None:
    found = check_plugin(name, plugins=PLUGINS)
    assert [(finding.check, finding.reason) for finding in found if finding.verdict == "fail"] == []


# Metrics


def metric(function: Any, *, needs: tuple[str, ...] = ("samples",), outputs: tuple[str, ...] = ("mine",)) -> Metric:
    return Metric("mine", 1, function, outputs, needs, "lower", "1", "everything", None)


def mean_gap(draws: Any, truth: Any, *, seed: int) -> dict[str, float]:
    """Gap of the means."""
    return {"mine": (draws.samples.double().mean() - truth.samples.mean()).item()}


def sorting(draws: Any, truth: Any, *, seed: int) -> dict[str, float]:
    draws.samples.copy_(draws.samples.sort(0).values)
    return mean_gap(draws, truth, seed=seed)


def global_noise(draws: Any, truth: Any, *, seed: int) -> dict[str, float]:
    return {"mine": float(np.random.normal())}  # noqa: NPY002


def undeclared(draws: Any, truth: Any, *, seed: int) -> dict[str, float]:
    return {"mine": truth.score(draws.samples).square().mean().item()}


@pytest.mark.parametrize(
    ("function", "check", "message"),
    [
        (sorting, check_metric.inputs_unchanged, "draws and truth must be left as they are, got other values of sampl"),
        (global_noise, check_metric.seeds, "values of the same seed must be"),
        (global_noise, check_metric.global_random_states, "got another state of numpy"),
        (undeclared, check_metric.needs_are_complete, "needs must name what the metric uses, ('samples',)"),
        (mean_gap, check_metric.bad_draws, "draws of one row must be refused with a ValueError"),
        (lambda draws, truth, *, seed: {"mine": math.nan}, check_metric.values, "must be a finite float, got nan"),
        (lambda draws, truth, *, seed: {"other": 1.0}, check_metric.values, "must be the outputs ('mine',)"),
    ],
)
def test_a_broken_metric_is_found(function: Any, check: Check[MetricSubject], message: str) -> None:
    finding = only("metric", lambda: MetricSubject("mine", metric(function)), check)
    assert finding.verdict == "fail"
    assert message in finding.reason


def test_needs_must_exist() -> None:
    def build() -> Metric:
        """A metric."""
        return metric(mean_gap, needs=("sample",), outputs=("test_check_needs",))

    METRICS.register("test_check_needs", build, version=1)
    finding = only("metric", lambda: MetricSubject.registered("test_check_needs"), check_metric.description)
    assert "needs must name fields of Draws or Truth: bandwidth, chains" in finding.reason


@pytest.mark.parametrize("name", ["covariance_error", "sliced_w2", "ksd", "rhat"])
def test_metrics_pass(name: str) -> None:
    found = check_plugin(name, plugins=PLUGINS)
    assert [(finding.check, finding.reason) for finding in found if finding.verdict == "fail"] == []


def test_the_example_s_covariance_error_is_that_of_a_scaled_sample() -> None:
    load_plugin(EXAMPLES / "my_metric.py")
    subject = MetricSubject.registered("covariance_error")
    truth = subject.truth.samples
    assert truth is not None
    draws = dataclasses.replace(subject.draws, samples=math.sqrt(3) * truth)
    assert math.isclose(subject.metric(draws, subject.truth, seed=0)["covariance_error"], 2.0)  # |3 C - C| / |C|


# The command


def check(*arguments: object) -> "Any":
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_lines_end_with_a_summary_and_exit_code_0() -> None:
    done = check("logistic5", "--plugin", EXAMPLES / "my_target.py")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("passed          construction")
    assert any(line.startswith("does not apply  score is gradient") for line in lines)
    assert lines[-2] == "target logistic5@1: 23 checks, 12 passed, 0 FAILED, 11 does not apply"
    assert lines[-1].endswith("samplerbench certify logistic5")


def test_a_name_of_two_kinds_is_checked_as_both_and_exit_code_1_says_that_one_failed() -> None:
    done = check("broken_twice", "--plugin", BROKEN)
    assert done.exit_code == 1
    assert "FAILED          rows alone" in done.stdout
    assert "FAILED          needs are complete" in done.stdout
    assert "metric broken_twice@1: 12 checks" in done.stdout
    alone = check("broken_twice", "--plugin", BROKEN, "--kind", "metric")
    assert "target broken_twice@1" not in alone.stdout
    assert kinds_of("broken_twice") == ["target", "metric"]


def test_json_holds_every_finding_and_lines_go_to_stderr() -> None:
    done = check("moment_bias2", "--json")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["check"] for row in rows] == ["construction", *(check.__name__ for check in check_metric.CHECKS)]
    assert {row["verdict"] for row in rows} == {"pass"}
    assert set(rows[0]) == {"kind", "name", "check", "verdict", "reason", "seconds"}
    assert done.stderr.splitlines() == [line_of(Finding(**row)) for row in rows]


def test_a_plug_in_that_cannot_be_built_has_one_finding() -> None:
    def refuse(**parameters: object) -> Any:
        raise ValueError("n_steps must be at least 1, got 0")

    (finding,) = findings("sampler", "mine@1", lambda: SamplerSubject("mine", refuse), check_sampler.CHECKS)
    assert (finding.verdict, finding.check) == ("fail", "construction")
    assert finding.reason == "raised ValueError: n_steps must be at least 1, got 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["malla"], "unknown sampler, target or metric 'malla'; did you mean 'mala'"),
        (["donat", "--kind", "target"], "unknown target 'donat'; did you mean 'donut'"),
        (["mala", "--plugin", "absent.py"], "absent.py"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(
    arguments: Sequence[str], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", "check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_name_is_found_before_anything_is_computed() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sliced_w2'"):
        check_plugin("sliced_w3")


def test_a_user_target_states_what_it_knows() -> None:
    target = from_log_prob(
        Plane().log_prob, dim=2, scale=1.0, name="plane", register=False, log_z=Estimate(math.log(2 * math.pi), 0.0)
    )
    assert only("target", lambda: TargetSubject("plane", target), check_knowledge.log_normaliser).verdict == "pass"
