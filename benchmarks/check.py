"""``samplerbench check``: the contract of any registered sampler, target or metric, one line per check."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from ..metrics.base import METRICS
from ..samplers.base import SAMPLERS
from ..targets.base import TARGETS
from ..targets.registry import Registry, load_plugin, unknown
from . import check_metric, check_sampler, check_target
from .check_metric import MetricSubject
from .contract import Finding, findings
from .sampler_subject import SamplerSubject
from .target_subject import TargetSubject

Kind: TypeAlias = Literal["sampler", "target", "metric"]
REGISTRIES: Mapping[Kind, Registry[Any]] = {"sampler": SAMPLERS, "target": TARGETS, "metric": METRICS}
WORDS = {"pass": "passed", "fail": "FAILED", "not_applicable": "does not apply"}


def kinds_of(name: str, kind: Kind | None = None) -> list[Kind]:
    """The kinds of plug-in that ``name`` is registered as; ``kind`` alone if it is given.

    Raises:
        UnknownNameError: naming the closest known name, if there is none.
    """
    if kind is not None:
        REGISTRIES[kind].entry(name)
        return [kind]
    found: list[Kind] = [each for each, registry in REGISTRIES.items() if name in registry.names()]
    if not found:
        known = [known for registry in REGISTRIES.values() for known in registry.names()]
        raise unknown("sampler, target or metric", name, known)
    return found


def check_plugin(
    name: str,
    *,
    kind: Kind | None = None,
    plugins: Sequence[Path] = (),
    on_end: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Check a registered plug-in against the contract of its kind, of each if the name is in several registries.

    Args:
        name: of the plug-in.
        kind: the only one to check.
        plugins: files to load first; another process loads them too.
        on_end: called with each finding when it is there.
    Raises:
        UnknownNameError: for an unknown name, before anything is computed.
    """
    for path in plugins:
        load_plugin(path)
    found = []
    with _one_thread():
        for each in kinds_of(name, kind):
            for finding in _findings(name, each, [str(path.resolve()) for path in plugins]):
                found.append(finding)
                on_end(finding)
    return found


def _findings(name: str, kind: Kind, plugins: Sequence[str]) -> Iterator[Finding]:
    versioned = REGISTRIES[kind].versioned(name)
    if kind == "sampler":
        build = lambda: SamplerSubject.registered(name, plugins)  # noqa: E731
        return findings(kind, versioned, build, check_sampler.CHECKS)
    if kind == "target":
        return findings(kind, versioned, lambda: TargetSubject.registered(name, plugins), check_target.CHECKS)
    return findings(kind, versioned, lambda: MetricSubject.registered(name, plugins), check_metric.CHECKS)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Draws are promised to be the same on one thread, which other processes use too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def line_of(finding: Finding) -> str:
    """What one check says, on one line."""
    name = finding.check.replace("_", " ")
    return f"{WORDS[finding.verdict]:<14}  {name:<28} {finding.seconds:6.1f} s  {finding.reason}"


def summary(found: Sequence[Finding]) -> str:
    """How many checks of each plug-in passed, failed and do not apply, and what the contract does not say."""
    lines = []
    for kind, name in dict.fromkeys((finding.kind, finding.name) for finding in found):
        own = [finding.verdict for finding in found if (finding.kind, finding.name) == (kind, name)]
        counts = ", ".join(f"{own.count(verdict)} {WORDS[verdict]}" for verdict in ("pass", "fail", "not_applicable"))
        lines.append(f"{kind} {name}: {len(own)} checks, {counts}")
        if kind == "target":
            bare = name.partition("@")[0]
            lines.append(f"whether density, draws, log Z and masses are one law: samplerbench certify {bare}")
    return "\n".join(lines)


def failed(found: Sequence[Finding]) -> bool:
    """Whether some check failed."""
    return any(finding.verdict == "fail" for finding in found)


def to_json(found: Sequence[Finding]) -> str:
    """The findings as a JSON list."""
    return json.dumps([dataclasses.asdict(finding) for finding in found], indent=1)
