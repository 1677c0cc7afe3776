"""Executes one run: fit, draw, and an honest account of how it ended. Reads and writes no files."""

import dataclasses
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..samplers.base import SAMPLERS, HasLogDensity, NotApplicableError
from ..targets.base import TARGETS, HasSample, Target
from ..targets.datasets import DataFileError
from ..targets.draws import Draws
from ..targets.meter import Budget, Meter, TargetError, derive_generator
from ..targets.registry import load_plugin
from . import measure
from .plan import RunSpec
from .store import Record, Status
from .truth import in_blocks

DTYPES = {"float32": torch.float32, "float64": torch.float64}
N_PROBES = 64
THROUGHPUT_BELOW = 10.0  # seconds: of a slower draw, batches would take minutes
REPEAT_BELOW = 1.0  # seconds: a faster draw is timed again and the median is kept


def execute(spec: RunSpec) -> tuple[Record, Draws | None]:
    """Run one spec.

    Returns:
        The record, whose status says how the run ended, and the draws if there are any.
    """
    progress: dict[str, Any] = {}
    try:
        measure.warm_up(spec.device)
        measure.reset_peak_memory(spec.device)
        draws = _fit_and_draw(spec, progress)
        status, reason = _judge(draws, spec)
        details = ""
    except Exception as error:
        draws = None
        status, reason = _status_of(error)
        details = "" if status in ("not_installed", "not_applicable") else traceback.format_exc()
    meter: Meter | None = progress.get("meter")
    if meter is not None and meter.n_nan and status == "ok":
        reason = f"log_prob was NaN at {meter.n_nan} finite points that the sampler visited"
    diagnostics = {**progress.get("diagnostics", {}), **(draws.diagnostics if draws else {})}
    record = Record(
        spec=spec,
        status=status,
        reason=reason,
        traceback=details,
        counts={} if meter is None else {phase: vars(counts).copy() for phase, counts in meter.counts.items()},
        seconds=progress.get("seconds", {}),
        throughput=progress.get("throughput", []),
        peak_memory_mb=progress.get("peak_memory_mb") or measure.peak_memory_mb(spec.device),
        environment=measure.environment(spec.device),
        diagnostics=diagnostics,
        log_z=vars(draws.log_z).copy() if draws and draws.log_z else None,
    )
    return record, draws


def _fit_and_draw(spec: RunSpec, progress: dict[str, Any]) -> Draws:
    """Fit and draw; ``progress`` keeps what is known already when an exception ends the run."""
    _load_plugins(spec)
    target = TARGETS.get(spec.target, **spec.target_parameters)
    sampler = SAMPLERS.get(spec.sampler, **spec.configuration)
    dtype = DTYPES[spec.dtype]
    _probe(target, spec, dtype)
    meter = progress["meter"] = Meter(target, device=spec.device, dtype=dtype, budget=Budget(**spec.budget))
    seconds = progress["seconds"] = {}

    def generator(phase: str) -> torch.Generator:
        return derive_generator(spec.seed, phase, device=spec.device)

    with meter.phase("fit"):
        fitted, seconds["fit"] = measure.timed(lambda: sampler.fit(meter, generator("fit")), spec.device)
    progress["diagnostics"] = dict(fitted.diagnostics)
    with meter.phase("draw"):
        draws, seconds["draw"] = measure.timed(lambda: fitted.draw(spec.n_samples, generator("draw")), spec.device)
        if seconds["draw"] < REPEAT_BELOW and draws.stopped is None:  # that call was the warm-up
            timing = generator("timing")
            with meter.uncounted():
                seconds["draw"] = measure.median_seconds(lambda: fitted.draw(spec.n_samples, timing), spec.device)
        progress["peak_memory_mb"] = measure.peak_memory_mb(spec.device)
        if spec.throughput and draws.stopped is None and seconds["draw"] < THROUGHPUT_BELOW:
            batches = generator("batches")
            with meter.uncounted():
                progress["throughput"] = measure.throughput_curve(lambda n: fitted.draw(n, batches), spec.device)
    _check_shapes(draws, spec, target.dim, dtype)
    is_usable = draws.stopped != "diverged" and bool(draws.samples.isfinite().all())
    if is_usable and isinstance(fitted, HasLogDensity) and isinstance(target, HasSample):
        exact = target.sample(spec.n_samples, derive_generator(spec.seed, "forward"))
        draws = dataclasses.replace(draws, forward_log_ratio=_forward_log_ratio(exact, fitted, target, spec))
    return draws


def _forward_log_ratio(x: Tensor, fitted: HasLogDensity, target: Target, spec: RunSpec) -> Tensor:
    """log_prob less the sampler's log density at exact draws ``(n, dim)``, shape ``(n,)``."""
    log_density = in_blocks(fitted.log_density)(x.to(spec.device, DTYPES[spec.dtype])).to(x)
    n_nan = int(log_density.isnan().sum())
    if log_density.shape != (len(x),) or n_nan:
        got = f"{tuple(log_density.shape)} with {n_nan} NaN"
        raise ValueError(f"log_density of sampler {spec.sampler!r} must be ({len(x)},) without NaN, got {got}")
    return in_blocks(target.log_prob)(x) - log_density


def _load_plugins(spec: RunSpec) -> None:
    loaded = {load_plugin(Path(plugin)) for plugin in spec.plugins}
    if not loaded.issuperset(spec.plugin_hashes):
        raise ValueError(f"a plug-in changed since the run was planned: {', '.join(spec.plugins)}")


def _probe(target: Target, spec: RunSpec, dtype: torch.dtype) -> None:
    """Evaluate the target at public starting points, uncounted: a broken target fails before a sampler meets it."""
    meter = Meter(target, device=spec.device, dtype=dtype)
    x = meter.start(N_PROBES, derive_generator(spec.seed, "probe", device=spec.device))
    log_prob, score = meter.log_prob_and_score(x)
    for name, value in (("log_prob", log_prob), ("score", score.sum(-1))):
        n_nan = int(value.isnan().sum())
        if n_nan:
            raise TargetError(f"{name} of target {spec.target!r} is NaN at {n_nan} of {N_PROBES} starting points")


def _check_shapes(draws: Draws, spec: RunSpec, dim: int, dtype: torch.dtype) -> None:
    n = spec.n_samples
    expected = {"samples": (n, dim), "log_weights": (n,), "log_density": (n,)}
    if draws.chains is not None:
        expected["chains"] = (*draws.chains.shape[:2], dim)
    for name, shape in expected.items():
        value: Tensor | None = getattr(draws, name)
        if value is not None and (tuple(value.shape) != shape or value.dtype != dtype):
            got = f"{tuple(value.shape)} {value.dtype}"
            raise ValueError(f"sampler {spec.sampler!r} must return {name} {shape} {dtype}, got {got}")
    for name in ("log_weights", "log_density"):
        value = getattr(draws, name)
        if value is not None and value.isnan().any() and draws.stopped != "diverged":
            raise ValueError(f"sampler {spec.sampler!r} must return {name} without NaN, got {int(value.isnan().sum())}")


def _judge(draws: Draws, spec: RunSpec) -> tuple[Status, str]:
    n_bad = int((~draws.samples.isfinite().all(-1)).sum())
    if draws.stopped == "diverged" or n_bad:
        return "diverged", draws.reason or f"{n_bad} of {spec.n_samples} draws are not finite"
    if draws.stopped == "budget":
        return "budget", draws.reason or "the budget was reached"
    return "ok", draws.reason


def _status_of(error: Exception) -> tuple[Status, str]:
    if isinstance(error, ModuleNotFoundError):
        return "not_installed", f"needs the package {error.name}"
    if isinstance(error, DataFileError):
        return "not_installed", str(error)
    if isinstance(error, NotApplicableError):
        return "not_applicable", str(error)
    return "failed", f"{type(error).__name__}: {error}"
