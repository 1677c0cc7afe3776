"""Floors of cells: shipped, cached, or computed when they are asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samplerbench.benchmarks import evaluate_store, floor_finder
from samplerbench.benchmarks.floor_finder import FloorFinder, Law
from samplerbench.benchmarks.floors import load_floor
from samplerbench.benchmarks.plan import MetricItem, RunSpec, Suite, make_plan, parse_suite
from samplerbench.metrics.base import METRICS, Truth
from samplerbench.targets import Draws, load_plugin
from samplerbench.targets.base import TARGETS

SLICED, TV, ENERGY = MetricItem("sliced_w2", 50), MetricItem("mode_tv", 50), MetricItem("energy_w1", 50)


@pytest.fixture(autouse=True)
def _few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor_finder, "n_repeats", lambda name: 30)


def spec(target: str = "ring8", plugins: tuple[Path, ...] = (), **parameters: object) -> RunSpec:
    table = {
        "n_samples": 50,
        "metrics": ["sliced_w2"],
        "targets": [{"name": target, "parameters": parameters}],
        "samplers": [{"name": "mala"}],
    }
    (run,) = make_plan(parse_suite(table, "floors"), plugins=list(plugins))
    return run


def test_shipped_floors_are_found_without_a_cache(tmp_path: Path) -> None:
    item = MetricItem("sliced_w2", 2_000)
    found = FloorFinder([item], compute=False, folder=tmp_path / "none").find(spec(), item)
    shipped = load_floor("ring8", TARGETS.entry("ring8").version, "sliced_w2", 1, 2_000)
    assert found is not None
    assert shipped is not None
    assert np.array_equal(found.null, shipped.null)
    assert not (tmp_path / "none").exists()


def test_a_missing_floor_is_computed_once_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert FloorFinder([SLICED, TV], compute=False, folder=tmp_path).find(spec(), SLICED) is None
    finder = FloorFinder([SLICED, TV], compute=True, folder=tmp_path)
    computed, tv = finder.find(spec(), SLICED), finder.find(spec(), TV)
    assert computed is not None
    assert tv is not None
    assert len(computed.null) == len(tv.null) == 30
    said = capsys.readouterr().err
    assert said.count("computing the floors of sliced_w2, mode_tv at n = 50") == 1
    assert "--no-floors" in said
    again = FloorFinder([SLICED], compute=True, folder=tmp_path).find(spec(), SLICED)
    assert again is not None
    assert np.array_equal(again.null, computed.null)
    assert capsys.readouterr().err == ""


def test_laws_at_other_parameters_and_of_plugins_have_floors_of_their_own(tmp_path: Path, plugin: Path) -> None:
    finder = FloorFinder([SLICED], compute=True, folder=tmp_path)
    narrow, wide = finder.find(spec(), SLICED), finder.find(spec(sd=0.6), SLICED)
    mine = finder.find(spec("plain_normal", (plugin,)), SLICED)
    assert narrow is not None
    assert wide is not None
    assert mine is not None
    assert wide.mean > narrow.mean
    names = {file.name for file in tmp_path.iterdir()}
    assert len(names) == 3
    assert "ring8.npz" in names
    assert "plain_normal.npz" not in names  # another file may register another law of that name
    law = Law.of(spec("plain_normal", (plugin,)))
    assert law.stem != replace(law, plugin_hash="of another file").stem


def test_what_the_target_does_not_know_is_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finder = FloorFinder([TV], compute=True, folder=tmp_path)
    assert finder.find(spec("donut"), TV) is None
    assert list(tmp_path.iterdir()) == []
    assert FloorFinder([TV, ENERGY], compute=True, folder=tmp_path).find(spec("donut"), ENERGY) is not None
    assert "floors of energy_w1 at" in capsys.readouterr().err


def test_metrics_without_a_null_law_and_other_sizes_have_no_floor(tmp_path: Path) -> None:
    found = MetricItem("modes_found", 50)
    finder = FloorFinder([found, SLICED], compute=True, folder=tmp_path)
    assert finder.find(spec(), found) is None
    assert finder.find(spec(), MetricItem("sliced_w2", 51)) is None


def test_a_cache_that_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    finder = FloorFinder([SLICED], compute=True, folder=tmp_path / "file")
    assert finder.find(spec(), SLICED) is None
    assert finder.find(spec(), SLICED) is None
    assert capsys.readouterr().err.count("ring8: no floors of sliced_w2 at n = 50") == 1


def test_too_few_reference_draws_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = MetricItem("sliced_w2", 10**6)
    assert FloorFinder([item], compute=True, folder=tmp_path).find(spec("breast_cancer_train"), item) is None
    assert "no floors of sliced_w2 at n = 1,000,000: n_samples must be from 1 to half of the" in capsys.readouterr().err


def test_evaluation_computes_floors_where_it_is_asked_to(
    make_suite: Callable[..., Suite],
    run_here: Callable[[Suite, Path], None],
    tmp_path: Path,
) -> None:
    run_here(make_suite("not"), tmp_path / "store")
    assert evaluate_store(tmp_path / "store")["ratio"].isna().all()
    frame = evaluate_store(tmp_path / "store", compute_floors=True).set_index("metric")
    assert frame.loc["sliced_w2", "ratio"] > 0
    assert frame.loc["sliced_w2", "p"] >= 1 / 31
    assert evaluate_store(tmp_path / "store").set_index("metric").loc["sliced_w2", "ratio"] > 0  # from the cache


METRICS_OF_A_PLUGIN = """
from samplerbench.metrics import register_metric
from samplerbench.targets import Draws


@register_metric("plugin_fails", version=1, needs=("samples",), unit="1", blind_to="everything")
def plugin_fails(draws: Draws, truth: object, *, seed: int) -> dict[str, float]:
    \"\"\"Breaks.\"\"\"
    raise RuntimeError("the metric broke")


@register_metric("plugin_mean", version=1, needs=("samples",), unit="1", blind_to="everything")
def plugin_mean(draws: Draws, truth: object, *, seed: int) -> dict[str, float]:
    \"\"\"Size of the mean.\"\"\"
    return {"plugin_mean": draws.samples.mean(0).norm().item()}
"""


def test_metrics_of_plugins_have_keys_of_their_own_and_one_that_breaks_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(METRICS_OF_A_PLUGIN)
    plugin_hash = load_plugin(file)
    fails, mine = MetricItem("plugin_fails", 50), MetricItem("plugin_mean", 50)
    finder = FloorFinder([fails, mine, SLICED], compute=True, folder=tmp_path / "floors")
    assert finder.find(spec(), fails) is None
    assert finder.find(spec(), mine) is not None
    assert finder.find(spec(), SLICED) is not None
    assert "no floors of plugin_fails at n = 50: the metric broke" in capsys.readouterr().err
    larger = MetricItem("plugin_mean", 60)
    FloorFinder([larger], compute=True, folder=tmp_path / "floors").find(spec(), larger)
    with np.load(tmp_path / "floors" / "ring8.npz", allow_pickle=False) as kept:  # another file may use the same name
        assert {f"plugin_mean@1{plugin_hash}/n={n}" for n in (50, 60)} <= set(kept.files)


def test_runs_of_another_version_of_the_law_have_no_floor(tmp_path: Path) -> None:
    finder = FloorFinder([SLICED], compute=True, folder=tmp_path)
    assert finder.find(replace(spec(), target_version=0), SLICED) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cache_is_said_and_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ring8.npz").write_bytes(b"junk")
    assert FloorFinder([SLICED], compute=True, folder=tmp_path).find(spec(), SLICED) is not None
    assert "ring8.npz cannot be read" in capsys.readouterr().err


def test_what_another_process_finished_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = METRICS.get("sliced_w2")

    def slow(draws: Draws, truth: Truth, *, seed: int) -> dict[str, float]:
        if seed == 0:
            FloorFinder([ENERGY], compute=True, folder=tmp_path).find(spec(), ENERGY)
        return metric.function(draws, truth, seed=seed)

    slowed = replace(metric, function=slow)
    get = METRICS.get
    monkeypatch.setattr(METRICS, "get", lambda name: slowed if name == "sliced_w2" else get(name))
    FloorFinder([SLICED], compute=True, folder=tmp_path).find(spec(), SLICED)
    monkeypatch.undo()
    for item in (SLICED, ENERGY):
        assert load_floor("ring8", TARGETS.entry("ring8").version, item.name, 1, 50, folder=tmp_path) is not None
