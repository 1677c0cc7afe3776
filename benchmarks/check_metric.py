"""The contract of a metric, rule by rule, on draws of N(0, I) in the plane with all that can be known of it.

There are 100 draws, or as many as the metric asks for.
"""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..metrics.base import METRICS, OR, Metric, Predictive, Truth, Values
from ..targets.base import LOG_2PI, Modes, Moments, Wells, normal
from ..targets.draws import Draws, Estimate
from ..targets.meter import derive_generator
from .contract import BrokenRule, Check, DoesNotApply, global_states, require, require_states
from .other_process import in_another_process

T = TypeVar("T", Draws, Truth)
OF_DRAWS = (
    "chains",
    "log_weights",
    "log_density",
    "forward_log_ratio",
    "log_z",
)  # what a metric may need of Draws, beside the samples
N_CHAINS, N_DRAWS = 4, 100
OF_TRUTH = tuple(part.name for part in dataclasses.fields(Truth))


def _log_prob(x: Tensor) -> Tensor:
    return -0.5 * x.square().sum(-1) - LOG_2PI


def exact_draws(n_samples: int = N_DRAWS) -> Draws:
    """At least so many independent draws in 4 chains, float32, with weights and densities."""
    n_kept = math.ceil(n_samples / N_CHAINS)
    samples = normal(N_CHAINS * n_kept, 2, derive_generator("check", "draws")).float()
    return Draws(
        samples=samples,
        chains=samples.reshape(N_CHAINS, n_kept, 2),
        log_weights=torch.zeros(len(samples)),
        log_density=_log_prob(samples),
        forward_log_ratio=torch.zeros(len(samples)),
        log_z=Estimate(0.1, 0.2),
    )


def full_truth() -> Truth:
    """Everything that can be known about N(0, I) in the plane, with the half planes as modes."""
    return Truth(
        samples=normal(100, 2, derive_generator("check", "truth")),
        log_prob=_log_prob,
        score=lambda x: -x,
        view=lambda x: x,
        modes=Modes(lambda x: (x[:, 0] > 0).long(), torch.tensor([0.5, 0.5], dtype=torch.float64)),
        wells=Wells(lambda x: x > 0, torch.tensor([0.5, 0.5], dtype=torch.float64)),
        moments=Moments(torch.tensor([0.0, 0, 1, 1]).double(), torch.tensor([1.0, 1, 2, 2]).double()),
        bandwidth=1.5,
        spacing=0.1,
        predictive=Predictive(lambda x: x, torch.tensor([0, 1])),
        normaliser=Estimate(0.0, 0.0),
        features=lambda x: x,
        class_probabilities=lambda x: x.softmax(-1),
    )


@dataclass(frozen=True)
class MetricSubject:
    """A metric under examination.

    Attributes:
        name: as registered.
        metric: as built.
        plugins: files that register it, for another process.
        draws, truth: what it is computed from.
    """

    name: str
    metric: Metric
    plugins: Sequence[str] = ()
    draws: Draws = field(default_factory=exact_draws)
    truth: Truth = field(default_factory=full_truth)

    @classmethod
    def registered(cls, name: str, plugins: Sequence[str] = ()) -> "MetricSubject":
        """The metric of that name; UnknownNameError as in the registry."""
        metric = METRICS.get(name)
        return cls(name, metric, plugins, exact_draws(max(N_DRAWS, metric.fewest_draws(full_truth()))))

    def values(self) -> Values:
        """What the metric says with seed 0, of copies: what it modifies must not meet the other checks."""
        return self.metric(copy.deepcopy(self.draws), copy.deepcopy(self.truth), seed=0)


def description(subject: MetricSubject) -> str:
    """What tables say of it, and needs that exist."""
    metric, summary = subject.metric, METRICS.entry(subject.name).summary
    require(summary.endswith("."), "the docstring's first line", "be a sentence", repr(summary))
    require(metric.unit, "unit", "be stated", repr(metric.unit))
    require(metric.blind_to, "blind_to", "say what the metric cannot see", repr(metric.blind_to))
    require(metric.outputs[0] == subject.name, "outputs", f"begin with {subject.name!r}", metric.outputs)
    require(
        metric.direction in ("lower", "higher", None), "direction", "be 'lower', 'higher' or None", metric.direction
    )
    known = {*OF_DRAWS, *OF_TRUTH}
    strange = [field for field in metric.fields if field not in known]
    require(not strange, "needs", f"name fields of Draws or Truth: {', '.join(sorted(known))}", strange)
    return f"needs {', '.join(metric.needs) or 'nothing'}; unit {metric.unit}; blind to {metric.blind_to}"


def values(subject: MetricSubject) -> str:
    """Every output by its name, a finite number on exact draws."""
    got, outputs = subject.values(), subject.metric.outputs
    require(tuple(got) == outputs, "names of the values", f"be the outputs {outputs}", tuple(got))
    for name, value in got.items():
        finite = isinstance(value, float) and math.isfinite(value)
        require(finite, f"{name} of exact draws", "be a finite float", repr(value))
    return (
        ", ".join(f"{name} = {value:.4g}" for name, value in got.items())
        + f" on {len(subject.draws.samples)} exact draws"
    )


def seeds(subject: MetricSubject) -> str:
    """The same seed gives the same value."""
    first, again = subject.values(), subject.values()
    require(first == again, "values of the same seed", f"be {first} again", again)
    return "the same seed, the same values"


def another_process(subject: MetricSubject) -> str:
    """Another process has the same values."""
    here, there = subject.values(), in_another_process(subject.plugins, values_of, subject.name)
    require(here == there, "values in another process", f"be {here}", there)
    return "the same values from the same draws and seed"


def values_of(name: str) -> Values:
    """The values of a registered metric; for another process."""
    return MetricSubject.registered(name).values()


def devices(subject: MetricSubject) -> str:
    """Draws on a CUDA device have the values of those on the cpu, to rounding."""
    if not torch.cuda.is_available():
        subject.values()
        return "draws on the cpu; this machine offers no CUDA device, so that was not tried"
    draws, truth = _on_cuda(subject.draws), _on_cuda(subject.truth)
    for name, value in subject.metric(draws, truth, seed=0).items():
        expected = subject.values()[name]
        close = math.isclose(value, expected, rel_tol=1e-6, abs_tol=1e-9)
        require(close, f"{name} of draws on CUDA", f"be {expected} within 1e-6 of it", value)
    return "draws on the cpu and on CUDA"


def _on_cuda(knowledge: T) -> T:
    """Draws or truth with its tensors there, as an evaluation gives them to a metric."""
    tensors: dict[str, Any] = {
        part.name: value.cuda()
        for part in dataclasses.fields(knowledge)
        if isinstance(value := getattr(knowledge, part.name), Tensor)
    }
    return dataclasses.replace(knowledge, **tensors)


def global_random_states(subject: MetricSubject) -> str:
    """All randomness comes from the seed."""
    before = global_states()
    subject.values()
    return require_states(before, "the metric")


def inputs_unchanged(subject: MetricSubject) -> str:
    """Draws and truth stay as they are."""
    draws, truth = copy.deepcopy(subject.draws), copy.deepcopy(subject.truth)
    subject.metric(draws, truth, seed=0)
    given, left = _tensors(subject.draws, subject.truth), _tensors(draws, truth)
    changed = [name for name, tensor in given.items() if not torch.equal(tensor, left[name])]
    require(not changed, "draws and truth", "be left as they are", f"other values of {', '.join(changed)}")
    return f"not modified: {', '.join(given)}"


def _tensors(draws: Draws, truth: Truth) -> dict[str, Tensor]:
    named = {name: getattr(draws, name) for name in ("samples", *OF_DRAWS)} | {"truth's samples": truth.samples}
    if truth.modes is not None and truth.moments is not None:
        named |= {"masses": truth.modes.masses, "mean": truth.moments.mean, "variance": truth.moments.variance}
    return {name: tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}


def missing_needs(subject: MetricSubject) -> str:
    """What is missing gives nan, for every output, and a reason."""
    metric = subject.metric
    if not metric.needs:
        raise DoesNotApply("it needs nothing but samples")
    nothing = Draws(samples=subject.draws.samples), Truth()
    cases = {metric.needs: nothing}
    for need in metric.needs:
        fields = need.split(OR)
        of_draws: dict[str, Any] = dict.fromkeys(field for field in fields if field in OF_DRAWS)
        of_truth: dict[str, Any] = dict.fromkeys(field for field in fields if field in OF_TRUTH)
        cases[(need,)] = dataclasses.replace(subject.draws, **of_draws), dataclasses.replace(subject.truth, **of_truth)
    for needs, (draws, truth) in cases.items():
        reason = f"needs {', '.join(needs)}"
        require(metric.missing(draws, truth) == reason, "the reason", f"be {reason!r}", metric.missing(draws, truth))
        got = metric(draws, truth, seed=0)
        require(tuple(got) == metric.outputs, f"outputs without {needs}", f"be {metric.outputs}", tuple(got))
        known = [name for name, value in got.items() if not math.isnan(value)]
        require(not known, f"outputs without {', '.join(needs)}", "be nan", f"values of {', '.join(known)}")
    return f"nan and a reason without {', '.join(metric.needs)}, and without each of them"


def needs_are_complete(subject: MetricSubject) -> str:
    """With what it needs and nothing else, the value is the same: nothing else was used."""
    needs = subject.metric.fields
    draws = Draws(
        samples=subject.draws.samples, **{need: getattr(subject.draws, need) for need in OF_DRAWS if need in needs}
    )
    truth = Truth(**{need: getattr(subject.truth, need) for need in OF_TRUTH if need in needs})
    expected = subject.values()
    try:
        got = subject.metric(draws, truth, seed=0)
    except Exception as error:
        raise BrokenRule(f"needs must name what the metric uses, {needs}; without the rest: {error}") from error
    require(got == expected, f"values from {needs} alone", f"be {expected}", got)
    return "the same values from what it needs alone"


def bad_draws(subject: MetricSubject) -> str:
    """Draws that are too few or not finite are a ValueError; nan and a reason, if the metric asks for a number."""
    chains = torch.full((N_CHAINS, 25, 2), math.nan)
    one, infinite = subject.draws.samples[:1], subject.draws.samples / 0
    for what, samples in (("one row", one), ("rows that are not finite", infinite)):
        weights, log_density = torch.zeros(len(samples)), samples[:, 0]
        bad = dataclasses.replace(
            subject.draws, samples=samples, chains=chains, log_weights=weights, log_density=log_density
        )
        if subject.metric.missing(bad, subject.truth):
            continue  # nan and a reason, because they are fewer than it asks for
        try:
            got = subject.metric(bad, subject.truth, seed=0)
        except ValueError as error:
            require("must" in str(error), f"the error of {what}", "state the rule (with the word 'must')", f"{error}")
        else:
            raise BrokenRule(f"draws of {what} must be refused with a ValueError, got {got}")
    return "a single row, and rows that are not finite, are refused"


def float32_is_judged_as_float64(subject: MetricSubject) -> str:
    """Float32 draws have the value of their float64 copies."""
    draws = subject.draws
    parts = {name: getattr(draws, name) for name in ("samples", *OF_DRAWS)}
    copies: dict[str, Any] = {name: part.double() if isinstance(part, Tensor) else part for name, part in parts.items()}
    got, expected = subject.values(), subject.metric(Draws(**copies), subject.truth, seed=0)
    require(got == expected, "values of float32 draws", f"be those of their float64 copies, {expected}", got)
    return "the values of float64 copies"


CHECKS: tuple[Check[MetricSubject], ...] = (
    description,
    values,
    seeds,
    another_process,
    devices,
    global_random_states,
    inputs_unchanged,
    missing_needs,
    needs_are_complete,
    bad_draws,
    float32_is_judged_as_float64,
)
