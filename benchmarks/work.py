"""Work on a suite: what is left to run, how long it will take, and doing it with progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from .engine import Outcome, run_suite, unfinished
from .estimates import Estimates, duration
from .plan import DeviceClass, RunSpec, Suite, make_plan
from .store import Plan, Store
from .terminal import progress_bar

FAILURES = ("failed", "killed", "timeout", "missing")  # a diverged run is a result


@dataclass(frozen=True, kw_only=True)
class Work:
    """A suite, or a part of it, to be run into a store.

    Attributes:
        suite, store: what, and where to.
        workers: processes, one run each.
        device, only_targets, only_samplers, plugins: see ``engine.run_suite``.
        longest: seconds; runs that are estimated to take longer stay missing.
    """

    suite: Suite
    store: Path
    workers: int
    device: DeviceClass = "cpu"
    only_targets: Sequence[str] = ()
    only_samplers: Sequence[str] = ()
    plugins: Sequence[Path] = ()
    longest: float | None = None

    @cached_property
    def runs(self) -> list[RunSpec]:
        """All runs of the plan."""
        return make_plan(
            self.suite,
            only_targets=self.only_targets,
            only_samplers=self.only_samplers,
            device=self.device,
            plugins=self.plugins,
        )

    @cached_property
    def estimates(self) -> Estimates:
        """From the shipped table and the store."""
        return Estimates.known(Store(self.store))

    @cached_property
    def left(self) -> list[RunSpec]:
        """Runs that the store does not hold yet."""
        return unfinished(
            Plan(self.suite.name, self.suite.description, list(self.suite.metrics), self.runs), self.store
        )

    @cached_property
    def too_long(self) -> set[str]:
        """Identities of those that are left out."""
        if self.longest is None:
            return set()
        return {run.run_id for run in self.left if (self.estimates.seconds(run) or 0) > self.longest}

    @cached_property
    def todo(self) -> list[RunSpec]:
        """Runs that ``execute`` would begin with now."""
        return [run for run in self.left if run.run_id not in self.too_long]

    def summary(self) -> str:
        """What is done, what is to do and how long it will take."""
        n_done = len(self.runs) - len(self.left)
        text = (
            f"suite {self.suite.name}: {len(self.runs)} runs, {n_done} of them done, store {self.store}\n"
            f"{len(self.todo)} runs, {self.estimates.total(self.todo, self.workers)}"
        )
        if self.too_long:
            text += (
                f"\n{len(self.too_long)} runs are left out: each is estimated to take longer than {self.longest:g} s"
            )
        return text

    def lines(self) -> list[str]:
        """Identity, estimated time and title of every run to do."""
        seconds = [self.estimates.seconds(run) for run in self.todo]
        texts = ["unknown" if estimate is None else duration(estimate) for estimate in seconds]
        return [f"  {run.run_id}  {text:>8}  {run.title}" for run, text in zip(self.todo, texts, strict=True)]

    def execute(self) -> pd.DataFrame:
        """Run what is to do, with progress.

        Returns:
            Runs that did not end by themselves: target, sampler, seed, status, reason, run_id.
        """
        with progress_bar("runs", len(self.todo)) as progress:
            frame = run_suite(
                self.suite,
                self.store,
                workers=self.workers,
                device=self.device,
                only_targets=self.only_targets,
                only_samplers=self.only_samplers,
                plugins=self.plugins,
                skip=lambda run: run.run_id in self.too_long,
                on_start=lambda run: progress.start(run.title),
                on_end=lambda outcome: progress.end(outcome.spec.title, _outcome_line(outcome)),
            )
        return frame[frame["status"].isin(FAILURES) & ~frame["run_id"].isin(self.too_long)]


def summary_of_all(works: Sequence[Work]) -> str:
    """How long several works will take one after the other."""
    seconds = [estimate for work in works for run in work.todo if (estimate := work.estimates.seconds(run)) is not None]
    n_runs, workers = sum(len(work.todo) for work in works), works[0].workers
    text = (
        f"{len(works)} suites, {n_runs} runs, estimated to take {duration(sum(seconds) / workers)} on {workers} workers"
    )
    unknown = n_runs - len(seconds)
    return text + (f", and {unknown} runs of which nothing is known" if unknown else "")


def _outcome_line(outcome: Outcome) -> str:
    reason = f"  {outcome.reason}" if outcome.reason else ""
    return f"{outcome.spec.title:<50} {outcome.status:<8} {outcome.seconds:7.1f} s{reason}"
