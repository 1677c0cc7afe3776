import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samplerbench.benchmarks.plan import RunSpec, Suite, load_suite, make_plan, parse_suite, suite_names

TABLE: dict[str, Any] = {
    "n_samples": 100,
    "metrics": ["sliced_w2", {"name": "w2", "n_samples": 50}],
    "targets": ["donut"],
    "samplers": [{"name": "mala", "label": "MALA 5", "parameters": {"n_steps": 5}}, "svgd"],
}


def test_every_shipped_suite_can_be_planned() -> None:
    assert "quick" in suite_names()
    for name in suite_names():
        assert make_plan(load_suite(name))


def test_quick_holds_the_six_samplers_and_four_targets() -> None:
    suite = load_suite("quick")
    assert {item.name for item in suite.samplers} == {"dft", "fisher", "kl", "svgd", "ula", "mala"}
    assert {item.name for item in suite.targets} == {"donut", "ring8", "funnel10", "breast_cancer_train"}


def test_plan_is_plain_json_and_comes_back_equal() -> None:
    infinite = {"name": "mala", "label": "plain", "parameters": {"max_drift": math.inf}}
    for run in make_plan(parse_suite({**TABLE, "samplers": [*TABLE["samplers"], infinite]}, "s")):
        assert RunSpec(**json.loads(json.dumps(dataclasses.asdict(run)))) == run


def test_plan_holds_every_cell_once_with_the_whole_configuration() -> None:
    runs = make_plan(parse_suite({**TABLE, "seeds": 3}, "s"))
    assert len({run.run_id for run in runs}) == len({run.cell for run in runs}) == 2 * 3
    mala = next(run for run in runs if run.sampler == "mala")
    assert mala.configuration["n_steps"] == 5
    assert "mode" in mala.configuration


@pytest.mark.parametrize(
    "change",
    [
        {"target_version": 2}, {"sampler_version": 2}, {"seed": 9}, {"n_samples": 9}, {"device": "cuda"},
        {"dtype": "float64"}, {"budget": {"fit": 1.0, "draw": None}}, {"plugin_hashes": ["0"]},
        {"configuration": {}}, {"target_parameters": {"dim": 3}}, {"target": "ring8"}, {"sampler": "ula"},
    ],
)  # fmt: skip
def test_identity_sees_everything_that_decides_the_outcome(change: dict[str, object]) -> None:
    run = make_plan(parse_suite(TABLE, "s"))[0]
    assert dataclasses.replace(run, **change).run_id != run.run_id  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"target_label": "t"}, {"sampler_label": "s"}, {"timeout": 1.0}, {"plugins": ["elsewhere.py"]}]
)
def test_identity_ignores_what_does_not_decide_it(change: dict[str, object]) -> None:
    run = make_plan(parse_suite(TABLE, "s"))[0]
    assert dataclasses.replace(run, **change).run_id == run.run_id  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_samples": 1}, "n_samples"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"seeds": "two"}, "seeds must be int, got 'two'"),
        ({"targets": []}, "targets must be a list that is not empty"),
        ({"targets": "donut"}, "targets must be a list that is not empty, got 'donut'"),
        ({"samplers": [{"name": "mala", "parameters": 3}]}, "parameters must be a table, got 3"),
        ({"samplers": [{"name": "mala", "label": 3}]}, "label must be str, got 3"),
        ({"metrics": ["w2", {"name": "w2", "n_samples": 50}]}, "metrics must differ, got w2 more than once"),
        ({"extra": 1}, "unknown parameter 'extra'"),
        ({"dtype": "float16"}, "dtype must be one of 'float32', 'float64', got 'float16'"),
        ({"metrics": [{"name": "w2", "n_samples": 101}]}, r"n_samples of metric w2 must be in 2..100, got 101"),
        ({"samplers": ["mala", "mala"]}, "labels of samplers must differ, got mala"),
        ({"samplers": [{"label": "x"}]}, "must be a name or a table with a name"),
        ({"budget": {"fit": -1}}, "budget fit must be positive, got -1"),
    ],
)
def test_a_bad_suite_names_the_field_the_rule_and_the_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_suite({**TABLE, **change}, "s")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"targets": ["donat"]}, {}, "unknown target 'donat'; did you mean 'donut'"),
        ({"samplers": ["svdg"]}, {}, "unknown sampler 'svdg'; did you mean 'svgd'"),
        ({"metrics": ["sliced_w1"]}, {}, "unknown metric 'sliced_w1'; did you mean 'sliced_w2'"),
        ({}, {"only_samplers": ["MALA 6"]}, "unknown sampler of the suite 'MALA 6'; did you mean 'MALA 5'"),
    ],
)
def test_unknown_names_list_the_known_and_the_closest(
    table: dict[str, object], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(KeyError) as caught:
        make_plan(parse_suite({**TABLE, **table}, "s"), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_only_keeps_names_and_labels() -> None:
    suite = parse_suite(TABLE, "s")
    assert [run.sampler for run in make_plan(suite, only_samplers=["MALA 5"])] == ["mala"]
    assert [run.sampler for run in make_plan(suite, only_samplers=["svgd"])] == ["svgd"]


def test_a_plug_in_belongs_to_the_identity_of_its_runs_only(make_suite: Callable[..., Suite], plugin: Path) -> None:
    mine = make_plan(make_suite(), plugins=[plugin])[0]
    other = make_plan(parse_suite(TABLE, "s"), plugins=[plugin])[0]
    assert len(mine.plugin_hashes) == 1
    assert other.plugin_hashes == []


def test_scale_small_keeps_what_the_file_says() -> None:
    table = {**TABLE, "seeds": 5, "small": {"seeds": 2, "samplers": ["MALA 5"]}}
    full, small = (make_plan(parse_suite(table, "s", scale=scale)) for scale in ("full", "small"))
    assert (len(full), len(small)) == (10, 2)
    assert {run.run_id for run in small} < {run.run_id for run in full}


def test_a_sampler_may_be_limited_to_some_targets() -> None:
    limited = {"name": "ula", "targets": ["ring", "donut"]}
    targets = [{"name": "ring8", "label": "ring"}, "donut", "funnel10"]
    table = {**TABLE, "targets": targets, "samplers": [limited, "svgd"], "small": {"targets": ["ring8", "funnel10"]}}
    cells = [run.cell[:2] for run in make_plan(parse_suite(table, "s"))]
    assert cells == [
        ("ring", "ula"), ("ring", "svgd"), ("donut", "ula"), ("donut", "svgd"), ("funnel10", "svgd"),
    ]  # fmt: skip
    small = parse_suite(table, "s", scale="small")
    assert [run.cell[:2] for run in make_plan(small)] == [("ring", "ula"), ("ring", "svgd"), ("funnel10", "svgd")]
    gone = parse_suite({**table, "small": {"targets": ["funnel10"]}}, "s", scale="small")
    assert [item.name for item in gone.samplers] == ["svgd"]
    with pytest.raises(KeyError, match="unknown target of the suite 'nowhere'"):
        parse_suite({**table, "samplers": [{"name": "ula", "targets": ["nowhere"]}]}, "s")
    with pytest.raises(ValueError, match="ring8: a table may hold name, label, parameters, got targets"):
        parse_suite({**table, "targets": [{"name": "ring8", "targets": ["donut"]}]}, "s")


def test_samplers_of_one_label_on_different_targets_are_one_row() -> None:
    rows = [
        {"name": "ula", "label": "ULA", "parameters": {"n_steps": n}, "targets": [target]}
        for n, target in ((5, "ring8"), (7, "donut"))
    ]
    table = {**TABLE, "targets": ["ring8", "donut"], "samplers": rows}
    runs = make_plan(parse_suite(table, "s"))
    assert [(*run.cell[:2], run.configuration["n_steps"]) for run in runs] == [("ring8", "ULA", 5), ("donut", "ULA", 7)]
    twice = {**table, "samplers": [*rows, {"name": "svgd", "label": "ULA", "targets": ["donut"]}]}
    with pytest.raises(ValueError, match="labels of samplers must differ, got ULA more than once"):
        parse_suite(twice, "s")


@pytest.mark.parametrize(
    ("small", "message"),
    [
        (None, r"scale small needs a table \[small\]"),
        ({"seed": 2}, "seeds"),
        ({"seeds": "2"}, "seeds must be"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"targets": ["ring8"]}, "ring8"),
    ],
)
def test_a_wrong_small_scale_is_named(small: object, message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        parse_suite({**TABLE, "small": small}, "s", scale="small")


def test_a_missing_or_broken_suite_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent\.toml does not exist"):
        load_suite(str(tmp_path / "absent.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("n_samples = = 3")
    with pytest.raises(ValueError, match=r"broken\.toml"):
        load_suite(str(broken))
    with pytest.raises(KeyError, match="quick"):
        load_suite("quik")
