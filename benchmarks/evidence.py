"""Log normalisers of posteriors, where no closed form is known: two independent estimators that must agree.

``python -m samplerbench.benchmarks.evidence [TARGET ...]`` anneals as many paths up from a base as down from reference
draws, and writes ``<target>.evidence.json``. The base is fitted to half of the draws, and the paths start at the other;
where they are few, it is the Laplace approximation, which depends on no draws, and all of them are used.
"""

import argparse
import dataclasses
import importlib.resources
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..targets.base import TARGETS, HasReference, HasSample, Target
from ..targets.meter import derive_generator
from .agreement import MAX_STANDARD_ERRORS
from .annealing import fit_base, laplace_base, log_normaliser, plan_path
from .measure import environment
from .store import write_json

MIN_EFFECTIVE = 0.9995  # four to five times the temperatures of a certificate
# Effective paths in each direction, or their standard errors mean nothing: so many, or half of all.
MIN_ESS, MIN_ESS_SHARE = 100.0, 0.5


def make_evidence(
    name: str,
    target: Target,
    *,
    seed: int,
    folder: Path,
    n_paths: int = 5_000,
    min_effective: float = MIN_EFFECTIVE,
) -> bool:
    """Estimate the log normaliser and write ``folder/<name>.evidence.json``.

    Args:
        name: of the target's registration.
        target: with its registered parameters and reference draws.
        seed: of base and paths.
        folder: it must exist.
        n_paths: in each direction; at most half of the reference draws, or all where the base is not fitted to them.
        min_effective: share of a pilot's particles that is effective after each step of temperature.
    Returns:
        Whether both directions agree within 4 standard errors, with 100 effective paths each, or half of all.
    Raises:
        ValueError: if the target has no reference draws.
    """
    if not isinstance(target, HasReference):
        raise ValueError(f"{name} must have reference draws to anneal from, it has none")
    began = time.monotonic()
    generator = derive_generator("evidence", name, seed)
    draws = target.reference()
    draws = draws[torch.randperm(len(draws), generator=generator)]
    few = len(draws) < 4 * target.dim
    ends, fitted = (draws, draws) if few else draws.tensor_split(2)  # the Laplace approximation depends on no draws
    ends = ends[:n_paths]
    base = laplace_base(target, fitted.mean(0)) if few else fit_base(target, fitted)
    path = plan_path(target, base, fitted, generator, min_effective=min_effective)
    estimate = log_normaliser(path, ends, generator)
    record: dict[str, Any] = {
        "target": TARGETS.versioned(name),
        "log_z": dataclasses.asdict(estimate.both),
        "how": "annealed importance sampling in both directions, combined by Bennett's acceptance ratio; the base is "
        + ("the Laplace approximation" if few else "fitted to the other half of the reference draws"),
        "up": {**dataclasses.asdict(estimate.up), "ess": estimate.ess_up},
        "down": {**dataclasses.asdict(estimate.down), "ess": estimate.ess_down},
        "gap_in_standard_errors": estimate.gap,
        "n_paths_each": estimate.n_paths,
        "n_temperatures": estimate.n_temperatures,
        "min_effective": min_effective,
        "seconds": round(time.monotonic() - began, 1),
        "seed": seed,
        "environment": environment("cpu"),
    }
    record["verdict"] = "certified" if agrees(record) else "uncertified"
    write_json(folder / f"{name}.evidence.json", record)
    print(
        f"{name}: log Z {estimate.both.value:.4f} +- {estimate.both.std_error:.4f}, up {estimate.up.value:.4f}, down "
        f"{estimate.down.value:.4f}, gap {estimate.gap:.2f}, ESS {estimate.ess_up:.0f} and {estimate.ess_down:.0f} of "
        f"{estimate.n_paths}, {record['verdict']}, {record['seconds']} s",
        flush=True,
    )
    return agrees(record)


def agrees(record: Mapping[str, Any]) -> bool:
    """Whether both directions of an evidence record agree, and enough paths of each are effective."""
    enough = min(MIN_ESS, MIN_ESS_SHARE * record["n_paths_each"])
    effective = min(record["up"]["ess"], record["down"]["ess"])
    return bool(abs(record["gap_in_standard_errors"]) < MAX_STANDARD_ERRORS and effective >= enough)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 1 if the estimators of some target disagree."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.evidence", description="Estimate log normalisers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: those that ship an estimate")
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("--paths", type=int, default=5_000, help="in each direction (default %(default)s)")
    parser.add_argument(
        "--min-effective",
        type=float,
        default=MIN_EFFECTIVE,
        help="share of a pilot after each step of temperature; nearer to 1, more steps (default %(default)s)",
    )
    shipped = Path(str(importlib.resources.files("samplerbench.targets.data")))
    parser.add_argument("--out", type=Path, default=shipped, help="folder (default: the package's own)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.targets or [name for name in TARGETS.names() if _ships_estimate(TARGETS.get(name))]
    agree = [
        make_evidence(
            name,
            TARGETS.get(name),
            seed=options.seed,
            folder=options.out,
            n_paths=options.paths,
            min_effective=options.min_effective,
        )
        for name in names
    ]
    return 0 if all(agree) else 1


def _ships_estimate(target: Target) -> bool:
    """Whether log_z is stated (its value may be missing yet) and exact draws are impossible."""
    return hasattr(type(target), "log_z") and not isinstance(target, HasSample)


if __name__ == "__main__":
    sys.exit(main())
