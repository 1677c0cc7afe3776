"""Seconds, peak memory and the description of the machine."""

import contextlib
import functools
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): writing 5 to clear_refs resets the peak resident set size
MAX_BATCH, BATCH_FACTOR, MAX_BATCH_SECONDS = 2**20, 4, 1.0
PACKAGES = ("torch", "numpy", "scipy", "pandas", "pot", "scikit-learn")


def timed(work: Callable[[], T], device: str) -> tuple[T, float]:
    """Result of ``work`` and its seconds: on CUDA between synchronised events, on a CPU those of the processor.

    Processor time is that of one core, since a worker has one thread; it is added up over the threads of a library that
    starts its own. Time in which other processes have the core does not count, so that busy machines measure too.
    """
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        result = work()
        end.record()
        torch.cuda.synchronize()
        return result, begin.elapsed_time(end) / 1_000
    start = time.process_time()
    return work(), time.process_time() - start


def median_seconds(work: Callable[[], object], device: str, *, at_least: float = 0.5, at_most: int = 20) -> float:
    """Median seconds of repeated calls; the caller has warmed ``work`` up.

    Args:
        work: what is timed.
        device: "cpu" or "cuda".
        at_least: seconds of repetition after which it stops (three calls at least).
        at_most: calls.
    """
    seconds: list[float] = []
    while len(seconds) < at_most and (len(seconds) < 3 or sum(seconds) < at_least):
        seconds.append(timed(work, device)[1])
    return statistics.median(seconds)


def throughput_curve(
    draw: Callable[[int], object], device: str, *, at_most: float = MAX_BATCH_SECONDS
) -> list[tuple[int, float]]:
    """Microseconds per draw over batches of 1, 4, 16, ... draws, up to the best batch.

    It ends where two batches in a row are not 10% better than the best before them, where the next batch would take
    longer than ``at_most`` seconds, at a million draws, or where a draw fails: for want of memory, or because a method
    refuses so few or so many.

    Args:
        draw: makes that many draws.
        device: "cpu" or "cuda".
        at_most: seconds of one batch.
    Returns:
        (batch, microseconds per draw), batches ascending; the first call at each batch is not timed.
    """
    curve: list[tuple[int, float]] = []
    batch = 1
    while batch <= MAX_BATCH:
        try:
            once = functools.partial(draw, batch)
            timed(once, device)
            seconds = median_seconds(once, device, at_least=0.05, at_most=5)
        except Exception:  # the run's own draws are there: their timing must not lose them
            break
        curve.append((batch, 1e6 * seconds / batch))
        costs = [cost for _, cost in curve]
        if len(costs) > 2 and min(costs[-2:]) > 0.9 * min(costs[:-2]):
            break
        if BATCH_FACTOR * seconds > at_most:
            break
        batch *= BATCH_FACTOR
    return curve


def warm_up(device: str) -> None:
    """Start CUDA and its libraries, so that the first timed call does not pay for it."""
    if device == "cuda":
        x = torch.ones(64, 64, device=device, requires_grad=True)
        torch.autograd.grad((x @ x).exp().sum(), x)
        torch.cuda.synchronize()


def reset_peak_memory(device: str) -> None:
    """Start a new peak, so that each run of a worker has its own."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # absent outside Linux, forbidden in some containers
            _CLEAR_REFS.write_text(_RESET_PEAK)


def peak_memory_mb(device: str) -> float:
    """Peak memory since the reset, in units of 10^6 bytes: resident memory of the process, on CUDA of the device.

    Where the peak cannot be reset (outside Linux, in some containers), it is that of the whole process so far.
    """
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    if _STATUS.exists():
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1_024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1_024 / 1e6


def environment(device: str) -> dict[str, str]:
    """Versions, revision of the code, machine and device."""
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {
        "samplerbench": metadata.version("samplerbench"),
        "revision": _revision(),
        "python": platform.python_version(),
        **versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
    }


@functools.cache
def _revision() -> str:
    """Git revision of the source tree that this module lies in; "release" for an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        tracked = subprocess.run(
            [*command[:3], "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
        )
        if tracked.returncode:
            return "release"
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "release"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown processor"
