"""Where the floor of a cell comes from: shipped with the package, kept from an earlier computation, or computed now.

``python -m samplerbench.benchmarks.floor_finder SUITE ...`` computes what the package lacks for suites that it ships.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..metrics.base import METRICS
from ..targets.base import TARGETS, HasClasses, HasFeatures, HasModes, HasReference, HasSample, HasWells, Target
from ..targets.datasets import cache_folder
from .floors import Floor, compute_floors, load_floor, n_repeats
from .plan import MetricItem, RunSpec, load_suite, make_plan

OPTIONAL: Mapping[str, type] = {
    "modes": HasModes,
    "wells": HasWells,
    "features": HasFeatures,
    "class_probabilities": HasClasses,
}


@dataclass(frozen=True)
class Law:
    """The law that floors belong to: a registered target at stated parameters.

    Attributes:
        name, version: of the registration.
        parameters: other than registered ones.
        plugin_hash: of the file that registers it; None for the package's own.
    """

    name: str
    version: int
    parameters: Mapping[str, Any]
    plugin_hash: str | None

    @classmethod
    def of(cls, run: RunSpec) -> "Law":
        """The law of a run, as it is registered now."""
        entry = TARGETS.entry(run.target)
        return cls(run.target, entry.version, run.target_parameters, entry.plugin_hash)

    @cached_property
    def stem(self) -> str:
        """Name of its file: the target's, with a digest of whatever is not registered by the package."""
        if not self.parameters and self.plugin_hash is None:
            return self.name
        identity = json.dumps([dict(self.parameters), self.plugin_hash], sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


class FloorFinder:
    """Floors of cells, from the package, else from the user's cache, else computed and kept there if asked to.

    Args:
        metrics: of the suite; what is missing is computed for all of them together, from the same draws.
        compute: whether to compute what is missing: minutes per target, with a line of progress on the standard error.
            An interrupted computation goes on where it stopped.
        folder: the cache; by default ``floors`` in the user's cache folder.
    """

    def __init__(self, metrics: Sequence[MetricItem], *, compute: bool, folder: Path | None = None) -> None:
        self.metrics = [item for item in metrics if METRICS.get(item.name).null is not None]
        self.compute = compute
        self.folder = folder or cache_folder() / "floors"
        self._prepared: set[str] = set()
        self._found: dict[tuple[str, MetricItem], Floor | None] = {}

    def find(self, run: RunSpec, item: MetricItem) -> Floor | None:
        """The floor of a metric of a run; None where there is none, or where the run met another version of the law."""
        law = Law.of(run)
        if item not in self.metrics or law.version != run.target_version:
            return None
        if self.compute and law.stem not in self._prepared:
            self._prepared.add(law.stem)
            self._compute(law)
        if (law.stem, item) not in self._found:
            self._found[law.stem, item] = self._known(law, item)
        return self._found[law.stem, item]

    def _known(self, law: Law, item: MetricItem) -> Floor | None:
        version = METRICS.entry(item.name).version
        if law.plugin_hash is None:
            shipped = load_floor(law.stem, law.version, item.name, version, item.n_samples)
            if shipped is not None:
                return shipped
        return load_floor(law.stem, law.version, item.name, version, item.n_samples, folder=self.folder)

    def _compute(self, law: Law) -> None:
        """Compute what is missing; what cannot be computed or kept is said once, and the cells stay without floor."""
        target = TARGETS.get(law.name, **law.parameters)
        missing = [item for item in self.metrics if self._known(law, item) is None and _applies(item, target)]
        for n_samples in sorted({item.n_samples for item in missing}):
            names = [item.name for item in missing if item.n_samples == n_samples]
            _say(
                f"{law.name}: computing the floors of {', '.join(names)} at n = {n_samples:,}, once (kept in "
                f"{self.folder}; --no-floors goes without)"
            )
            self._compute_some(law, target, names, n_samples)

    def _compute_some(self, law: Law, target: Target, names: Sequence[str], n_samples: int) -> None:
        sizes, repeats = dict.fromkeys(names, n_samples), {name: n_repeats(name) for name in names}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            compute_floors(law.stem, law.version, target, sizes, repeats=repeats, folder=self.folder)
        except Exception as error:  # of one metric, perhaps a plug-in's: it must not cost the others their floors
            if len(names) == 1 or isinstance(error, OSError):
                _say(f"{law.name}: no floors of {', '.join(names)} at n = {n_samples:,}: {error}")
                return
            for name in names:
                self._compute_some(law, target, [name], n_samples)


def _applies(item: MetricItem, target: Target) -> bool:
    """Whether exact or reference draws of the target can be judged by the metric."""
    needs = METRICS.get(item.name).needs
    return isinstance(target, HasSample | HasReference) and all(
        isinstance(target, part) for need, part in OPTIONAL.items() if need in needs
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: the floors of shipped suites that the package lacks, into its folder or another."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.floor_finder", description=main.__doc__)
    parser.add_argument("suites", nargs="+", metavar="SUITE", help="names of suites, or TOML files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "floors", help="folder")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in options.suites:
        suite = load_suite(name)
        finder = FloorFinder(suite.metrics, compute=True, folder=options.out)
        for run in make_plan(suite):
            finder.find(run, suite.metrics[0])


if __name__ == "__main__":
    main()
