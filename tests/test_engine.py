import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from samplerbench.benchmarks import run_suite
from samplerbench.benchmarks.engine import Outcome
from samplerbench.benchmarks.plan import Suite
from samplerbench.benchmarks.store import Store

WAYS = {
    "not": "ok",
    "raise": "failed",
    "diverge": "diverged",
    "few": "failed",
    "die": "killed",
    "uninstalled": "not_installed",
    "inapplicable": "not_applicable",
}
REASONS = {
    "raise": "RuntimeError: the method broke",
    "diverge": "1 of 200 draws are not finite",
    "few": "must return samples (200, 2) torch.float32, got (199, 2)",
    "die": "SIGKILL",
    "uninstalled": "nowhere",
    "inapplicable": "needs second derivatives",
}


def test_every_way_to_end_is_a_row_with_its_reason_and_leaves_the_others_whole(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    suite = make_suite(*WAYS)
    seen: list[Outcome] = []
    frame = run_suite(suite, tmp_path, plugins=[plugin], on_end=seen.append).set_index("sampler")
    assert dict(frame["status"]) == WAYS
    for way, reason in REASONS.items():
        assert reason in frame.loc[way, "reason"]
    assert len(seen) == len(WAYS)
    again: list[Outcome] = []
    run_suite(suite, tmp_path, plugins=[plugin], on_end=again.append)
    assert {outcome.status for outcome in again} == {"failed", "killed", "not_installed"}  # the rest is final


def test_a_broken_target_fails_with_its_name_and_what_it_returned(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    suite = make_suite(targets=("nan_density", "wrong_shape"))
    frame = run_suite(suite, tmp_path, plugins=[plugin]).set_index("target")
    assert set(frame["status"]) == {"failed"}
    assert "log_prob of target 'nan_density' is NaN at 64 of 64" in frame.loc["nan_density", "reason"]
    assert "WrongShape.log_prob must map" in frame.loc["wrong_shape", "reason"]


def test_a_run_out_of_time_is_stopped_and_recorded(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    frame = run_suite(make_suite("hang", timeout=1), tmp_path, plugins=[plugin])
    assert list(frame["status"]) == ["timeout"]
    assert "not done after 1 s" in frame.loc[0, "reason"]


SCRIPT = """
import sys
from pathlib import Path
from samplerbench.benchmarks import run_suite
from samplerbench.benchmarks.plan import load_suite

if __name__ == "__main__":
    frame = run_suite(load_suite(sys.argv[1]), sys.argv[2], workers=1, plugins=[Path(sys.argv[3])])
    print(frame.to_csv())
"""
SMALL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""
LARGE_DRAWS = """
n_samples = 300_000
metrics = ["energy_w1"]
targets = ["plain_normal"]
samplers = [
    { name = "misbehaving", label = "large" },
    { name = "misbehaving", label = "nothing", parameters = { how = "inapplicable" } },
]
"""
SUITE = """
n_samples = 50
seeds = 20
metrics = ["energy_w1"]
targets = ["plain_normal"]
samplers = [{ name = "misbehaving", parameters = { sleep = 0.3 } }]
"""


def test_a_record_that_does_not_fit_on_the_disk_fails_its_own_run_only(plugin: Path, tmp_path: Path) -> None:
    script, suite = tmp_path / "script.py", tmp_path / "suite.toml"
    script.write_text(SMALL_DISK + SCRIPT)
    suite.write_text(LARGE_DRAWS)
    command = [sys.executable, str(script), str(suite), str(tmp_path / "store"), str(plugin)]
    frame = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "failed" in frame
    assert "cannot be stored" in frame
    assert "File too large" in frame
    assert "not_applicable" in frame
    assert len(_done(tmp_path / "store")) == 1


def test_killed_at_any_moment_it_goes_on_where_it_stopped(plugin: Path, tmp_path: Path) -> None:
    script, suite, store = tmp_path / "script.py", tmp_path / "suite.toml", tmp_path / "store"
    script.write_text(SCRIPT)
    suite.write_text(SUITE)
    command = [sys.executable, str(script), str(suite), str(store), str(plugin)]
    process = subprocess.Popen(command)
    while len(_done(store)) < 2 and process.poll() is None:
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "a worker outlived its parent"
    before = _done(store)
    assert 2 <= len(before) < 20
    subprocess.run(command, check=True)
    after = _done(store)
    assert len(after) == 20
    assert {run: after[run] for run in before} == before  # nothing was computed twice


def _done(store: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in store.glob("runs/[!.]*/record.json")}


def test_workers_must_be_positive(make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        run_suite(make_suite(), tmp_path, plugins=[plugin], workers=0)


def test_what_no_record_can_hold_is_a_failure_with_its_cause(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    frame = run_suite(make_suite("unrecordable"), tmp_path, plugins=[plugin])
    assert list(frame["status"]) == ["failed"]
    assert "the run cannot be recorded: TypeError" in frame.loc[0, "reason"]


def test_a_smaller_suite_drops_the_cells_that_it_no_longer_has(
    make_suite: Callable[..., Suite], plugin: Path, tmp_path: Path
) -> None:
    run_suite(make_suite("not", "inapplicable"), tmp_path, plugins=[plugin])
    run_suite(make_suite("not", n_samples=100), tmp_path, plugins=[plugin])
    assert [(run.sampler_label, run.n_samples) for run in Store(tmp_path).plan().runs] == [("not", 100)]
