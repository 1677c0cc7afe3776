"""Reference draws, where exact ones are impossible: two long runs that must agree, and the certificate that says so.

``python -m samplerbench.benchmarks.reference [TARGET ...]`` makes two independent runs of 64 chains in float64, by HMC
and by MALA (or longer HMC) from different starts, checks each and both against each other, and writes
``<target>.npz`` (draws) and ``<target>.json`` (certificate). Killed at any point, it goes on where it stopped.
"""

import argparse
import dataclasses
import hashlib
import importlib.resources
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from ..metrics.chains import smallest_ess
from ..samplers.base import Kernel, State
from ..samplers.kernels import HMCKernel, MALAKernel
from ..targets.base import TARGETS, HasReference, HasStart, HasSymmetry, Target, normal
from ..targets.meter import Meter, derive_generator
from .agreement import MIN_ESS_SHARE, check_agreement, check_chains, statistics_of_draws
from .measure import environment
from .store import write_json

GAIN = 0.1  # of the step's adaptation: log step moves by this times (acceptance - wanted acceptance)
SETTLING_STEP, N_SETTLING = 0.05, 400  # in units of the target's scale; moves before the warm-up
MIN_STEP_SHARE = 1 / 16  # every transition shortens the step by a random factor down to this one
START_NOISE = 0.1  # of constant starts, in units of the target's scale
STARTS_PER_COORDINATE = 40  # starting points behind the first whitening, where the target offers its own
VISITS_PER_COORDINATE = 20  # fewer give no covariance worth whitening by
MAX_BYTES = 1_000_000  # of the draws that are written, above 100 coordinates


@dataclass(frozen=True)
class Whitened:
    """The target of factor x: with factor factor^T near its covariance, one step size fits all coordinates."""

    target: Target
    factor: Tensor

    scale = 1.0

    @property
    def dim(self) -> int:
        """That of the target."""
        return self.target.dim

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, up to the constant log det factor: shape ``(..., dim)`` to ``(...)``."""
        return self.target.log_prob(x @ self.factor.T)


@dataclass(frozen=True)
class Method:
    """A family of kernels, the acceptance that its step is adapted to, and how wide its chains start.

    Attributes:
        kernel: the kernel of a given step, in whitened coordinates; MALA's is that of one leapfrog step of this size.
        acceptance: mean over the chains that the warm-up aims at.
        start: standard deviation of the starting points, in units of the target's scale, or of its own starts.
    """

    name: str
    kernel: Callable[[float], Kernel]
    acceptance: float
    start: float


HMC = Method("HMC", HMCKernel, acceptance=0.85, start=1.0)
LONG_HMC = Method("HMC64", lambda step: HMCKernel(step, max_leapfrog=64), acceptance=0.85, start=3.0)
MALA = Method("MALA", lambda step: MALAKernel(0.5 * step**2), acceptance=0.7, start=3.0)
SECOND = {method.name: method for method in (MALA, LONG_HMC)}


@dataclass(frozen=True)
class Settings:
    """Length of a run.

    Attributes:
        n_chains, n_kept: chains, and draws kept of each.
        n_rounds, n_transitions: warm-up rounds and transitions in each. Every round adapts the step, every round but
            the last ends by setting the whitening to the covariance of its second half.
        max_thinning: where thinning stops even if the draws are still dependent.
        n_draws: how many draws of both runs together are written.
        second: name of the method beside HMC.
        start: "scattered": the target's own starts, or else normal in every coordinate; "constant": one number, plus or
            minus the width, in all coordinates of a chain, for lattices that scattered starts leave in domain walls.
    """

    n_chains: int = 64
    n_kept: int = 320
    n_rounds: int = 8
    n_transitions: int = 300
    max_thinning: int = 16_384
    n_draws: int = 10_000
    second: str = MALA.name
    start: Literal["scattered", "constant"] = "scattered"

    @classmethod
    def for_target(cls, target: Target) -> "Settings":
        """10,000 draws up to 100 coordinates, above them what fits in 1 MB as float32, and shorter runs for it.

        Particles and lattices, the laws with a symmetry, are out of the reach of MALA's short moves.
        """
        symmetric = isinstance(target, HasSymmetry)
        settings = cls(second=LONG_HMC.name) if symmetric else cls()
        if target.dim > 100:
            n_draws = min(5_000, MAX_BYTES // (4 * target.dim))
            return dataclasses.replace(settings, n_kept=80, n_rounds=2, n_draws=n_draws)
        return dataclasses.replace(settings, n_kept=160) if symmetric else settings


@dataclass
class Run:
    """A run as it stands between two pieces of work; what a checkpoint holds.

    Attributes:
        identity: target with its version, method, settings and seed; a checkpoint of another one is not continued.
        x: current points, shape ``(n_chains, dim)``.
        factor: of the whitening, shape ``(dim, dim)``, lower triangular.
        step: longest of the kernel, in whitened coordinates.
        generator_state: of the run's own generator.
        kept: draws so far, shape ``(n_chains, n, dim)``, ``thinning`` transitions apart.
        acceptance: of the last piece of work.
        n_scores, seconds: spent so far.
    """

    identity: str
    x: Tensor
    factor: Tensor
    generator_state: Tensor
    kept: Tensor
    step: float = 1.0
    n_rounds: int = 0
    thinning: int = 1
    acceptance: float = math.nan
    n_scores: int = 0
    seconds: float = 0.0
    done: bool = False

    @classmethod
    def begin(cls, identity: str, target: Target, method: Method, settings: Settings, generator: Generator) -> "Run":
        """A run at its starting points."""
        n_chains, dim = settings.n_chains, target.dim
        if settings.start == "constant":
            width, noise = method.start * target.scale, START_NOISE * target.scale
            signs = normal(n_chains, 1, generator).sign()
            x, factor = width * signs + noise * normal(n_chains, dim, generator), width * torch.eye(dim).to(signs)
        elif isinstance(target, HasStart):
            starts = target.start(max(n_chains, STARTS_PER_COORDINATE * dim), generator).to(torch.float64)
            x = starts.mean(0) + method.start * (starts[:n_chains] - starts.mean(0))
            factor = torch.linalg.cholesky(starts.T.cov().reshape(dim, dim))
        else:
            width = method.start * target.scale
            x, factor = width * normal(n_chains, dim, generator), width * torch.eye(dim, dtype=torch.float64)
        kept = torch.empty(n_chains, 0, dim, dtype=torch.float64)
        x, n_scores = _settled(x, target, generator)
        return cls(identity, n_scores=n_scores, x=x, factor=factor, generator_state=generator.get_state(), kept=kept)

    @classmethod
    def load(cls, checkpoint: Path, identity: str) -> "Run | None":
        """The run in a checkpoint; None if there is no checkpoint or it is of another run."""
        if not checkpoint.exists():
            return None
        fields = torch.load(checkpoint, weights_only=True)
        return cls(**fields) if fields["identity"] == identity else None

    def save(self, checkpoint: Path) -> None:
        """Replace the checkpoint at once, so that it is whole at every moment."""
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        _write(checkpoint, buffer.getvalue())


def _settled(x: Tensor, target: Target, generator: Generator) -> tuple[Tensor, int]:
    """Where ``x`` is after short moves of limited drift: a leapfrog of any useful step fails far out in stiff tails.

    Returns:
        The points, and the number of scores.
    """
    kernel = MALAKernel(0.5 * (SETTLING_STEP * target.scale) ** 2, max_drift=1.0)
    meter = Meter(target, dtype=torch.float64)
    state = State.at(x, meter)
    for _ in range(N_SETTLING):
        state = kernel(state, meter, generator)
    return state.x, int(meter.counts["fit"].score)


def long_run(name: str, target: Target, method: Method, settings: Settings, *, seed: int, folder: Path) -> Run:
    """Run one method until its kept draws are nearly independent, with a checkpoint after every piece of work.

    Args:
        name: of the target, for its checkpoint and the progress that goes to the standard error.
        target: evaluated in float64.
        method, settings, seed: with the target's registration, the identity of the run.
        folder: where the checkpoint lies; it stays there when the run is done.
    """
    identity = repr((TARGETS.versioned(name), target, method.name, settings, seed))
    checkpoint = folder / f"{name}.{method.name}.partial"
    run = Run.load(checkpoint, identity)
    if run is None:
        generator = derive_generator("reference", name, method.name, seed)
        run = Run.begin(identity, target, method, settings, generator)
    while not run.done:
        began = time.monotonic()
        if run.n_rounds < settings.n_rounds:
            _warm_up(run, target, method, settings)
        else:
            _keep(run, target, method, settings)
        run.seconds += time.monotonic() - began
        run.save(checkpoint)
        _report(name, method, run, settings)
    return run


def _warm_up(run: Run, target: Target, method: Method, settings: Settings) -> None:
    """One round: adapt the step, then (but for the last round) the whitening."""
    state, meter, generator = _resume(run, target)
    visited, log_steps = [], []
    for i in range(settings.n_transitions):
        state = _move(run, method, state, meter, generator)
        run.acceptance = state.acceptance.mean().item()
        run.step *= math.exp(GAIN * (run.acceptance - method.acceptance))
        if i >= settings.n_transitions // 2:
            visited.append(state.x @ run.factor.T)
            log_steps.append(math.log(run.step))
    _suspend(run, state, meter, generator)
    run.n_rounds += 1
    run.step = math.exp(math.fsum(log_steps) / len(log_steps))
    if run.n_rounds < settings.n_rounds and _whitens(target, settings):
        run.factor, run.step = torch.linalg.cholesky(torch.cat(visited).T.cov().reshape(run.factor.shape)), 1.0


def _whitens(target: Target, settings: Settings) -> bool:
    """Whether the warm-up ends in a covariance worth whitening by.

    A symmetry makes coordinates alike, and the covariance of chains in several of its orbits is that of no orbit.
    """
    n_visits = settings.n_chains * settings.n_transitions // 2
    return n_visits >= VISITS_PER_COORDINATE * target.dim and not isinstance(target, HasSymmetry)


def _keep(run: Run, target: Target, method: Method, settings: Settings) -> None:
    """Keep 10 more draws of every chain; once all are there, thin them by 2 and go on unless they are independent."""
    state, meter, generator = _resume(run, target)
    acceptances = []
    for _ in range(min(10, settings.n_kept - run.kept.shape[1])):
        for _ in range(run.thinning):
            state = _move(run, method, state, meter, generator)
            acceptances.append(state.acceptance.mean().item())
        x = state.x @ run.factor.T
        if isinstance(target, HasSymmetry):  # chains may stay in one orbit: what is kept is spread over all of them
            x = target.scramble(x, generator)
        run.kept = torch.cat([run.kept, x[:, None]], dim=1)
    run.acceptance = math.fsum(acceptances) / len(acceptances)
    _suspend(run, state, meter, generator)
    if run.kept.shape[1] == settings.n_kept:
        independent = smallest_ess(statistics_of_draws(run.kept, target)) >= MIN_ESS_SHARE * run.kept[..., 0].numel()
        if independent or run.thinning >= settings.max_thinning:
            run.done = True
        else:
            run.kept, run.thinning = run.kept[:, 1::2].clone(), 2 * run.thinning


def _move(run: Run, method: Method, state: State, meter: Meter, generator: Generator) -> State:
    """One transition; its step is log-uniform, because where the curvature is high, chains stick to a fixed one."""
    share = MIN_STEP_SHARE ** torch.rand((), generator=generator, dtype=torch.float64).item()
    return method.kernel(share * run.step)(state, meter, generator)


def _resume(run: Run, target: Target) -> tuple[State, Meter, Generator]:
    generator = Generator()
    generator.set_state(run.generator_state)
    meter = Meter(Whitened(target, run.factor), dtype=torch.float64)
    y = torch.linalg.solve_triangular(run.factor, run.x.T, upper=False).T
    return State.at(y, meter), meter, generator


def _suspend(run: Run, state: State, meter: Meter, generator: Generator) -> None:
    run.x = state.x @ run.factor.T
    run.generator_state = generator.get_state()
    run.n_scores += int(meter.counts["fit"].score)


def make_reference(name: str, target: Target, settings: Settings, *, seed: int, folder: Path) -> bool:
    """Run both methods, check them, and write ``folder/<name>.npz`` and ``folder/<name>.json``.

    The draws are a random subset, in random order, of those of both runs, as float32.

    Args:
        name: of the target's registration.
        target: with its registered parameters.
        settings, seed: of the runs.
        folder: where the files are written; it must exist.
    Returns:
        Whether the draws are certified: whether every check passed.
    """
    methods = HMC, SECOND[settings.second]
    runs = [long_run(name, target, method, settings, seed=seed, folder=folder) for method in methods]
    checks = [
        check
        for run, method in zip(runs, methods, strict=True)
        for check in check_chains(run.kept, target, method.name)
    ]
    first, second = (run.kept.flatten(0, 1) for run in runs)
    checks += check_agreement(first, second, target)
    certified = all(check.passed for check in checks)

    pooled = torch.cat([first, second])
    order = torch.randperm(len(pooled), generator=derive_generator("reference", name, seed, "order"))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, samples=pooled[order[: settings.n_draws]].to(torch.float32).numpy())
    _write(folder / f"{name}.npz", buffer.getvalue())
    certificate: dict[str, Any] = {
        "target": TARGETS.versioned(name),
        "verdict": "certified" if certified else "uncertified",
        "reason": "; ".join(
            f"{check.name} is {check.value:.4g}, not {check.rule}" for check in checks if not check.passed
        ),
        "checks": [dataclasses.asdict(check) for check in checks],
        "how": f"{min(settings.n_draws, len(pooled))} draws from both runs, pooled in random order, float32",
        "runs": [_summary(run, method, target, settings) for run, method in zip(runs, methods, strict=True)],
        "settings": dataclasses.asdict(settings),
        "seed": seed,
        "sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
        "environment": {**environment("cpu"), "arviz": metadata.version("arviz")},
    }
    write_json(folder / f"{name}.json", certificate)
    for method in methods:
        (folder / f"{name}.{method.name}.partial").unlink()
    return certified


def _summary(run: Run, method: Method, target: Target, settings: Settings) -> dict[str, object]:
    whitening = "whitened by the covariance of its warm-up" if _whitens(target, settings) else "without whitening"
    if settings.start == "constant":
        start = f"plus or minus {method.start:g} scale in all coordinates, with noise of {START_NOISE:g} scale"
    elif isinstance(target, HasStart):
        start = f"{method.start:g} times the target's own"
    else:
        start = f"N(0, ({method.start:g} scale)^2 I)"
    return {
        "method": f"{method.name}, {whitening}, steps log-uniform",
        "start": f"{start}, settled by {N_SETTLING} MALA moves of limited drift",
        "longest_step": run.step,
        "shortest_step": MIN_STEP_SHARE * run.step,
        "acceptance_rate": run.acceptance,
        "thinning": run.thinning,
        "n_scores": run.n_scores,
        "seconds": round(run.seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if some target's draws are not certified."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.reference", description="Make reference draws.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="registered names; by default those that ship some"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("--kept", type=int, help="draws kept of each of 64 chains (default: by dimension)")
    parser.add_argument("--second", choices=SECOND, help="the method beside HMC (default: MALA, or HMC64 for lattices)")
    parser.add_argument("--start", choices=("scattered", "constant"), help="of the chains (default: scattered)")
    shipped = Path(str(importlib.resources.files("samplerbench.targets.data")))
    parser.add_argument("--out", type=Path, default=shipped, help="folder (default: the package's own)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.targets or [name for name in TARGETS.names() if isinstance(TARGETS.get(name), HasReference)]
    verdicts: dict[str, bool] = {}
    for name in names:
        target = TARGETS.get(name)
        chosen = {"n_kept": options.kept, "second": options.second, "start": options.start}
        settings = dataclasses.replace(Settings.for_target(target), **{k: v for k, v in chosen.items() if v})
        verdicts[name] = make_reference(name, target, settings, seed=options.seed, folder=options.out)
    for name, certified in verdicts.items():
        print(f"{name}: {'certified' if certified else 'uncertified'}")
    return 0 if all(verdicts.values()) else 1


def _report(name: str, method: Method, run: Run, settings: Settings) -> None:
    stage = f"warm-up {run.n_rounds}/{settings.n_rounds}"
    if run.kept.numel() or run.done:
        stage = f"kept {run.kept.shape[1]}/{settings.n_kept} at thinning {run.thinning}"
    numbers = f"step {run.step:.3g}, acceptance {run.acceptance:.2f}, {run.n_scores} scores, {run.seconds:.0f} s"
    print(f"{name} {method.name}: {stage}, {numbers}", file=sys.stderr, flush=True)


def _write(file: Path, contents: bytes) -> None:
    """Replace ``file`` at once, so that it is whole at every moment."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as stream:
        stream.write(contents)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


if __name__ == "__main__":
    sys.exit(main())
