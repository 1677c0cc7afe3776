"""What the tests of the flow share: a small suite over a plug-in whose samplers go wrong on purpose."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from samplerbench.benchmarks import floor_finder
from samplerbench.benchmarks.described import TABLES, pattern_of
from samplerbench.benchmarks.plan import Suite, make_plan, parse_suite
from samplerbench.benchmarks.run import execute
from samplerbench.benchmarks.store import Plan, Store
from samplerbench.targets.datasets import DataFileError
from samplerbench.targets.logistic_regression import TrainedLogisticRegression

PLUGIN = Path(__file__).parent / "plugins" / "misbehaving.py"


@pytest.fixture(autouse=True)
def _own_floors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors that a test computes, or finds cached, are its own."""
    monkeypatch.setattr(floor_finder, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def plugin() -> Path:
    return PLUGIN


@pytest.fixture
def make_suite() -> Callable[..., Suite]:
    """A suite of the misbehaving sampler, one row per way to go wrong."""

    def make(*ways: str, targets: tuple[str, ...] = ("plain_normal",), **fields: object) -> Suite:
        table = {
            "n_samples": 200,
            "metrics": ["sliced_w2", "mode_tv", "energy_w1"],
            "targets": list(targets),
            "samplers": [{"name": "misbehaving", "label": way, "parameters": {"how": way}} for way in ways or ("not",)],
            **fields,
        }
        return parse_suite(table, "misbehaving")

    return make


@pytest.fixture
def run_here(plugin: Path) -> Callable[[Suite, Path], None]:
    """Run a suite into a store in this process, without workers."""

    def run(suite: Suite, path: Path) -> None:
        runs = make_plan(suite, plugins=[plugin])
        store = Store(path)
        with store.locked():
            store.write_plan(Plan(suite.name, suite.description, list(suite.metrics), runs), set())
            for spec in runs:
                store.save(*execute(spec))

    return run


@pytest.fixture
def assert_same_drawing() -> Callable[[Path, Path], None]:
    """Two SVG files show the same, to a thousandth of a point: rounding differs between machines, ids follow it."""

    def check(one: Path, other: Path) -> None:
        texts = [path.read_text() for path in (one, other)]
        numbers = [[float(number) for number in re.findall(r"-?\d+\.\d+", text)] for text in texts]
        rest = [re.sub(r"\b[a-z][0-9a-f]{10}\b|-?\d+(\.\d+)?", "_", text) for text in texts]
        assert rest[0] == rest[1], one.name
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-3), one.name

    return check


@pytest.fixture
def columns_are_described() -> Callable[[str, Iterable[str]], None]:
    """Check that every column of a kind of table is described, and no description is without a column."""

    def check(kind: str, columns: Iterable[str]) -> None:
        used = [pattern_of(kind, column).name for column in columns]
        assert set(used) == {column.name for column in TABLES[kind].columns}

    return check


@pytest.fixture
def sonar() -> TrainedLogisticRegression:
    """The well-conditioned posterior on real data, or a skip where this machine has no such file."""
    target = TrainedLogisticRegression("sonar")
    try:
        target.log_prob(target.reference()[:1])
    except DataFileError as error:
        pytest.skip(str(error))
    return target
