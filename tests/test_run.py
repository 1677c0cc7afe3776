"""Executing one run, in this process."""

import dataclasses
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch

from samplerbench.benchmarks.plan import RunSpec, Suite, make_plan
from samplerbench.benchmarks.run import execute


def spec(suite: Suite, plugin: Path, **changes: object) -> RunSpec:
    return dataclasses.replace(make_plan(suite, plugins=[plugin])[0], **changes)  # type: ignore[arg-type]


def test_counts_seconds_and_environment_are_recorded(make_suite: Callable[..., Suite], plugin: Path) -> None:
    record, draws = execute(spec(make_suite(), plugin))
    assert record.status == "ok"
    assert draws is not None
    assert record.counts == {phase: {"log_prob": 0, "score": 0, "hvp": 0} for phase in ("fit", "draw")}
    assert set(record.seconds) == {"fit", "draw"}
    assert record.environment["torch"] == metadata.version("torch")  # without the build that torch.__version__ adds
    assert record.peak_memory_mb is not None
    assert record.peak_memory_mb > 10


def test_same_seed_same_draws_other_seed_other_draws(make_suite: Callable[..., Suite], plugin: Path) -> None:
    run = spec(make_suite(), plugin)
    first, second, other = (execute(dataclasses.replace(run, seed=seed))[1] for seed in (0, 0, 1))
    assert first is not None
    assert second is not None
    assert other is not None
    assert torch.equal(first.samples, second.samples)
    assert not torch.equal(first.samples, other.samples)


def test_dtype_belongs_to_the_run(make_suite: Callable[..., Suite], plugin: Path) -> None:
    _, draws = execute(spec(make_suite(), plugin, dtype="float64"))
    assert draws is not None
    assert draws.samples.dtype == torch.float64


def test_an_uncaught_budget_is_a_failure_that_says_what_was_left(
    make_suite: Callable[..., Suite], plugin: Path
) -> None:
    record, draws = execute(spec(make_suite("spend"), plugin, budget={"fit": 1e3, "draw": None}))
    assert (record.status, draws) == ("failed", None)
    assert "1000 are left in phase fit" in record.reason
    assert "BudgetReached" in record.traceback


def test_a_plug_in_that_changed_since_the_plan_is_refused(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "changed.py"
    changed.write_text("answer = 42\n")
    record, _ = execute(spec(make_suite(), plugin, plugins=[str(changed)]))
    assert record.status == "failed"
    assert "changed since the run was planned" in record.reason
