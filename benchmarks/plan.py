"""From a suite (TOML) to a plan: the list of runs, each identified by everything that decides its outcome."""

import dataclasses
import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from ..metrics.base import METRICS
from ..samplers.base import SAMPLERS
from ..targets.base import TARGETS
from ..targets.meter import Budget
from ..targets.registry import Entry, configure, load_plugin, unknown

DeviceClass: TypeAlias = Literal["cpu", "cuda"]
Dtype: TypeAlias = Literal["float32", "float64"]
Scale: TypeAlias = Literal["full", "small"]
SUITES = "samplerbench.benchmarks.suites"


@dataclass(frozen=True)
class Item:
    """A target or sampler of a suite; ``label`` names its row or column in the leaderboard.

    ``targets``, labels or names, limits a sampler to some of the suite's targets; empty is all. Samplers of one label
    on different targets are one row, whose parameters differ between targets.
    """

    name: str
    label: str
    parameters: Mapping[str, object]
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricItem:
    """A metric of a suite; ``n_samples`` limits it to the first draws of a fixed permutation (exact transport)."""

    name: str
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Targets x samplers x seeds, and what is measured on them; a sampler may be limited to some targets.

    Attributes:
        n_samples: draws per run.
        seeds: number of seeds; the seeds are 0, 1, ...
        timeout: seconds after which a run is stopped and recorded as timeout.
        budget: limits in gradient equivalents, per phase and in total.
        throughput: whether the time of a draw is also measured over batch sizes, which takes seconds per run.
    """

    name: str
    description: str
    targets: tuple[Item, ...]
    samplers: tuple[Item, ...]
    metrics: tuple[MetricItem, ...]
    n_samples: int
    seeds: int = 1
    timeout: float = 600.0
    dtype: Dtype = "float32"
    budget: Budget = field(default_factory=Budget)
    throughput: bool = False

    def __post_init__(self) -> None:
        for name, least in (("n_samples", 2), ("seeds", 1), ("timeout", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for item in self.samplers:
            _chosen("target", self.targets, item.targets)
        for kind, names in (
            ("labels of targets", [item.label for item in self.targets]),
            ("metrics", [metric.name for metric in self.metrics]),
            *(
                ("labels of samplers", [item.label for item in self.samplers if _is_on(item, target)])
                for target in self.targets
            ),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} must differ, got {', '.join(twice)} more than once")


@dataclass(frozen=True, kw_only=True)
class _Small:
    """What scale "small" keeps of a suite; empty keeps all."""

    seeds: int | None = None
    targets: tuple[str, ...] = ()  # names or labels
    samplers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: everything that decides its outcome, as plain data.

    ``target_label``, ``sampler_label``, ``timeout``, ``throughput`` and ``plugins`` (paths) do not belong to the
    identity; ``plugin_hashes`` does.
    """

    target: str
    target_version: int
    target_label: str
    target_parameters: dict[str, Any]
    sampler: str
    sampler_version: int
    sampler_label: str
    configuration: dict[str, Any]
    seed: int
    n_samples: int
    device: DeviceClass
    dtype: Dtype
    budget: dict[str, float]
    plugin_hashes: list[str]
    plugins: list[str]
    timeout: float
    throughput: bool = False

    @property
    def run_id(self) -> str:
        """Hash of the identity, 16 hexadecimal digits."""
        identity = dataclasses.asdict(self)
        for name in ("target_label", "sampler_label", "timeout", "throughput", "plugins"):
            del identity[name]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def cell(self) -> tuple[str, str, int]:
        """Place in the leaderboard: target label, sampler label, seed."""
        return self.target_label, self.sampler_label, self.seed

    @property
    def title(self) -> str:
        """What people read: target, sampler, seed."""
        return f"{self.target_label} / {self.sampler_label} / seed {self.seed}"


def suite_names() -> list[str]:
    """Suites shipped with the package."""
    return sorted(Path(file.name).stem for file in resources.files(SUITES).iterdir() if file.name.endswith(".toml"))


def load_suite(name_or_path: str, *, scale: Scale = "full") -> Suite:
    """A shipped suite by name, or any TOML file by path.

    Args:
        name_or_path: a name of ``suite_names()``, or a path that ends with ``.toml``.
        scale: "small" keeps what the file's table ``[small]`` says.
    Raises:
        KeyError: for an unknown name, listing the known ones.
        ValueError: for a file that is not a suite, naming the file, the field, the rule and the value.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"suite file {path} does not exist")
        text, name = path.read_text(), path.stem
    elif name_or_path in suite_names():
        text, name = (resources.files(SUITES) / f"{name_or_path}.toml").read_text(), name_or_path
    else:
        raise unknown("suite", name_or_path, suite_names())
    try:
        return parse_suite(tomllib.loads(text), name, scale=scale)
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"suite {name_or_path}: {error}") from error


def parse_suite(table: Mapping[str, Any], name: str, *, scale: Scale = "full") -> Suite:
    """A suite from its TOML table.

    Args:
        table: fields of ``Suite``, and maybe a table ``small`` with fewer seeds, and labels of targets and samplers
            to keep: ``seeds``, ``targets``, ``samplers``.
        name: of the suite, if the table has none.
        scale: "small" keeps what that table says.
    Raises:
        ValueError: naming the field, the rule and the value.
    """
    table, small = {key: value for key, value in table.items() if key != "small"}, table.get("small")
    for required in ("targets", "samplers", "metrics"):
        if not table.get(required) or not isinstance(table[required], list):
            raise ValueError(f"{required} must be a list that is not empty, got {table.get(required)!r}")
    if not isinstance(table.get("n_samples"), int):
        raise ValueError(f"n_samples must be an integer, got {table.get('n_samples')!r}")
    n_samples = table["n_samples"]
    metrics = [
        configure(MetricItem, {"n_samples": n_samples, **(entry if isinstance(entry, Mapping) else {"name": entry})})
        for entry in table["metrics"]
    ]
    for metric in metrics:
        if not 2 <= metric.n_samples <= n_samples:
            raise ValueError(f"n_samples of metric {metric.name} must be in 2..{n_samples}, got {metric.n_samples}")
    parsed = {
        **table,
        "name": table.get("name", name),
        "description": table.get("description", ""),
        "targets": tuple(_item(entry, "target") for entry in table["targets"]),
        "samplers": tuple(_item(entry, "sampler") for entry in table["samplers"]),
        "metrics": tuple(metrics),
    }
    suite: Suite = configure(Suite, parsed)
    if scale == "full":
        return suite
    if not isinstance(small, Mapping):
        raise ValueError(f"scale small needs a table [small], got {small!r}")
    return _made_small(suite, configure(_Small, small))


def _made_small(suite: Suite, small: _Small) -> Suite:
    targets = tuple(_chosen("target", suite.targets, small.targets))
    kept = {name for target in targets for name in (target.name, target.label)}
    samplers = [
        dataclasses.replace(item, targets=tuple(name for name in item.targets if name in kept))
        for item in _chosen("sampler", suite.samplers, small.samplers)
        if not item.targets or kept & set(item.targets)
    ]
    seeds = suite.seeds if small.seeds is None else small.seeds
    return dataclasses.replace(suite, seeds=seeds, targets=targets, samplers=tuple(samplers))


def _item(entry: object, kind: Literal["target", "sampler"]) -> Item:
    if isinstance(entry, str):
        return Item(entry, entry, {})
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(f"a target or sampler must be a name or a table with a name, got {entry!r}")
    fields = ["name", "label", "parameters", *(["targets"] if kind == "sampler" else [])]
    wrong = set(entry) - set(fields)
    if wrong:
        raise ValueError(f"{entry['name']}: a table may hold {', '.join(fields)}, got {', '.join(sorted(wrong))}")
    return configure(Item, {"label": entry["name"], "parameters": {}, **entry})


def make_plan(
    suite: Suite,
    *,
    only_targets: Sequence[str] = (),
    only_samplers: Sequence[str] = (),
    device: DeviceClass = "cpu",
    plugins: Sequence[Path] = (),
) -> list[RunSpec]:
    """All runs of a suite, seeds outermost, so that a plan that is cut short has whole tables of fewer seeds.

    Args:
        suite: what to run.
        only_targets, only_samplers: labels or names to keep; empty keeps all.
        device: class of device; belongs to the identity.
        plugins: files to import before names are looked up.
    Raises:
        KeyError: for an unknown name or label, listing the known ones.
        ValueError: for a configuration that its sampler or target refuses.
    """
    for plugin in plugins:
        load_plugin(plugin)
    for metric in suite.metrics:
        METRICS.entry(metric.name)
    runs = []
    targets = _chosen("target", suite.targets, only_targets)
    samplers = _chosen("sampler", suite.samplers, only_samplers)
    checked = [(item, SAMPLERS.entry(item.name), _configuration(item)) for item in samplers]
    for target in targets:
        TARGETS.get(target.name, **target.parameters)
    for seed in range(suite.seeds):
        for target in targets:
            for sampler, entry, configuration in checked:
                if not _is_on(sampler, target):
                    continue
                target_entry = TARGETS.entry(target.name)
                runs.append(
                    RunSpec(
                        target=target.name,
                        target_version=target_entry.version,
                        target_label=target.label,
                        target_parameters=plain(target.parameters),
                        sampler=sampler.name,
                        sampler_version=entry.version,
                        sampler_label=sampler.label,
                        configuration=configuration,
                        seed=seed,
                        n_samples=suite.n_samples,
                        device=device,
                        dtype=suite.dtype,
                        budget={k: v for k, v in dataclasses.asdict(suite.budget).items() if v is not None},
                        plugin_hashes=_plugin_hashes(entry, target_entry),
                        plugins=[str(plugin.resolve()) for plugin in plugins],
                        timeout=suite.timeout,
                        throughput=suite.throughput,
                    )
                )
    return runs


def _is_on(sampler: Item, target: Item) -> bool:
    return not sampler.targets or not {target.name, target.label}.isdisjoint(sampler.targets)


def _chosen(kind: str, items: tuple[Item, ...], only: Sequence[str]) -> list[Item]:
    known = {item.label for item in items} | {item.name for item in items}
    for name in only:
        if name not in known:
            raise unknown(f"{kind} of the suite", name, known)
    return [item for item in items if not only or item.label in only or item.name in only]


def _configuration(item: Item) -> dict[str, Any]:
    """The sampler's whole configuration, defaults included."""
    sampler = SAMPLERS.get(item.name, **item.parameters)
    if not dataclasses.is_dataclass(sampler) or isinstance(sampler, type):
        raise ValueError(f"sampler {item.name!r} must be a dataclass, got {type(sampler).__name__}")
    return cast(dict[str, Any], plain(dataclasses.asdict(sampler)))


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: tuples become lists, infinities the strings that ``configure`` reads as such."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _plugin_hashes(*entries: Entry[Any]) -> list[str]:
    return sorted({entry.plugin_hash for entry in entries if entry.plugin_hash})
