"""Figures of the experiments with chains of many lengths: what they show of synthetic tables, and a tiny store each."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.floors import load_floor
from samplerbench.benchmarks.paper import images, plane
from samplerbench.benchmarks.paper.shipped import read_panels, write_panels
from samplerbench.benchmarks.paper.step_columns import TABLES
from samplerbench.benchmarks.paper.step_figures import beyond, steps_figure, time_figure
from samplerbench.benchmarks.plan import Suite, load_suite, make_plan, parse_suite
from samplerbench.benchmarks.report import write_leaderboard

Run = Callable[[Suite, Path], None]
SHORT = {"training": {"n_steps": 2, "n_warm_up": 0, "batch_size": 16}, "network": {"width": 8, "depth": 1}}


def curves_of(*targets: str) -> pd.DataFrame:
    """MALA at 1, 10 and 100 steps, the second without a value; a network at 3, another without a value."""
    rows = [
        (target, name, chain, k, value, 0.9 * value, 1.1 * value, has_floor, cost)
        for target, has_floor in zip(targets, (True, False), strict=False)
        for name, chain, k, value, cost in (
            ("m1", "MALA", 1, 9.0, 2.0),
            ("m10", "MALA", 10, math.nan, 20.0),
            ("m100", "MALA", 100, 2.0, 200.0),
            ("DFT", "", math.nan, 3.0, 0.5),
            ("KL", "", math.nan, math.nan, 0.5),
            ("MALA long", "", math.nan, 1.5, 70.0),
        )
    ]
    columns = ["target", "sampler", "chain", "n_steps", "quality", "low", "high", "has_floor", "microseconds_per_draw"]
    return pd.DataFrame(rows, columns=columns)


def test_levels_end_right_of_all_steps_and_lost_rows_are_named() -> None:
    figure = steps_figure(curves_of("t", "u"), ["DFT", "KL"], y_label="y", title="A title")
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["t", "u"]
    assert [text.get_text() for text in first.texts] == ["no value: KL"]
    lines = {tuple(np.asarray(line.get_xdata(), float)) for line in first.get_lines()}
    assert (1.0, 10.0, 100.0) in lines
    assert (10.0,) in lines  # the cross
    assert (1 / 1.4, beyond((1.0, 100.0), 1 / 3)) in lines
    assert first.get_xlim()[1] > beyond((1.0, 100.0), 2 / 3) > 100
    assert len(first.get_lines()) == len(second.get_lines()) + 1  # the floor
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MALA, k steps", "ULA, k steps", "DFT", "KL"]


def test_what_is_measured_may_differ_by_target() -> None:
    figure = steps_figure(curves_of("t", "u"), ["DFT"], y_label={"t": "over floor", "u": "bare"}, title="A title")
    assert [axis.get_ylabel() for axis in figure.axes] == ["over floor", "bare"]


def test_time_has_a_mark_per_row_and_names_the_ends_of_a_chain() -> None:
    figure = time_figure(curves_of("t"), ["DFT", "KL", "MALA long"], y_label="y", title="A title")
    (axis,) = figure.axes
    assert {text.get_text() for text in axis.texts} == {"k = 1", "k = 100", "no value: KL"}
    marks = {tuple(np.asarray(line.get_xydata()).ravel()) for line in axis.get_lines()}
    assert {(0.5, 3.0), (70.0, 1.5)} <= marks


def metrics_of_modes(n_seeds: int) -> pd.DataFrame:
    values = {"modes_asked": 8.0, "modes_found": 6.0, "mode_tv": 0.3}
    rows = [
        (target, sampler, seed, metric, math.nan if sampler == "lost" else value, 0.05)
        for target in ("two", "ring8")
        for sampler in ("DFT", "KL", "lost")
        for seed in range(n_seeds)
        for metric, value in ({**values, "modes_asked": 2.0} if target == "two" else values).items()
    ]
    return pd.DataFrame(rows, columns=["target", "sampler", "seed", "metric", "value", "floor"])


def test_coverage_has_a_dot_per_seed_on_targets_of_many_modes() -> None:
    figure = plane.modes_figure(metrics_of_modes(3))
    assert figure is not None
    found, weights = figure.axes
    assert found.get_title() == "ring8: 8 modes"
    dots, bars = found.get_lines()
    assert len(np.asarray(dots.get_xdata())) == 6
    assert list(np.asarray(bars.get_xdata())) == [0.75, 0.75]
    assert [text.get_text() for text in found.texts] == ["no value"]
    assert [label.get_text() for label in found.get_yticklabels()] == ["DFT", "KL", "lost"]
    assert np.asarray(weights.get_lines()[-1].get_xdata())[0] == 0.05
    metrics = metrics_of_modes(3)
    metrics.loc[(metrics["sampler"] == "KL") & (metrics["seed"] == 1), "value"] = math.nan
    partly = plane.modes_figure(metrics)
    assert partly is not None
    assert [text.get_text() for text in partly.axes[0].texts] == ["2 of 3 seeds", "no value"]
    assert plane.modes_figure(metrics_of_modes(1).query("target == 'two'")) is None
    assert plane.modes_figure(metrics_of_modes(1).query("metric == 'mode_tv'")) is None


def test_panels_come_back_with_their_reasons(tmp_path: Path) -> None:
    draws = np.array([[1.0, 2.0], [1e9, -1e9]])
    write_panels(tmp_path, {"donut": {"DFT": draws, "a/b": "failed: it broke"}})
    found = read_panels(tmp_path)
    assert found["donut"]["a/b"] == "failed: it broke"
    assert np.array_equal(found["donut"]["DFT"], np.clip(draws, -65504, 65504))
    figure = plane.draws_figure({**found, "ring8": {"DFT": draws}})
    assert [axis.get_title() for axis in figure.axes[:3]] == ["truth", "DFT", "a/b"]
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == ["donut", "ring8"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["failed: it broke"]


def test_images_are_tiled_in_rows_of_six() -> None:
    page = images.tiled(np.stack([np.full(4, -2.0 + k) for k in range(8)]))
    assert page.shape == (2 * 3 - 1, 6 * 3 - 1)
    assert page[0, 0] == -1
    assert page[0, 9] == 1
    assert page[3, 3] == 1
    assert page[3, 6] == page[2, 0] == 0.2


@pytest.mark.parametrize(("name", "ratio"), [("paper-2d", {"DFT": 768, "Fisher": 896, "KL": 256}), ("paper-ebm", {})])
def test_training_of_dft_fisher_and_kl_costs_the_same(name: str, ratio: dict[str, int]) -> None:
    """Points per step x (score 1, Hessian-vector product 2); Fisher has half as many points, and a trace each."""
    per_step = ratio or {"DFT": 768, "Fisher": 640, "KL": 256}
    suite = load_suite(name)
    runs = {run.sampler_label: run.configuration for run in make_plan(suite)}
    assert len({per_step[label] * runs[label]["training"]["n_steps"] for label in per_step}) == 1
    different = {"training", "warm_start", "alpha", "terms", "returns"}
    settings = [{key: part for key, part in runs[label].items() if key not in different} for label in per_step]
    assert settings[0] == settings[1] == settings[2]
    for label in per_step:
        del runs[label]["training"]["n_steps"]
    assert runs["DFT"]["training"] == runs["Fisher"]["training"] == runs["KL"]["training"]


@pytest.mark.parametrize("name", ["paper-2d", "paper-ebm"])
def test_the_small_scale_keeps_the_rows_that_figures_and_claims_need(name: str) -> None:
    runs = make_plan(load_suite(name, scale="small"))
    labels = {run.sampler_label for run in runs}
    assert {run.seed for run in runs} == {0, 1}
    assert {*images.LEVELS, *(plane.SHOWN if name == "paper-2d" else images.LONG)} <= labels
    assert {"MALA long", "ULA long"} <= labels


def test_floors_of_the_suites_are_shipped() -> None:
    """Of the metrics that figures show over their floor."""
    for name, metrics in (
        ("paper-2d", ["sliced_w2", "ksd_paper"]),
        ("paper-ebm", ["sliced_w2", "frechet", "class_tv"]),
    ):
        for run in make_plan(load_suite(name)):
            if not run.target.startswith("ebm_"):
                for metric in metrics:
                    assert load_floor(run.target, run.target_version, metric, 1, 2_000) is not None


def run_tiny(run_here: Run, tmp_path: Path, suite: str, targets: list[str], metrics: list[str]) -> Path:
    """Two seeds of the suite's own labels with next to no training; one row fails."""
    networks = [
        {"name": name, "label": label, "parameters": SHORT}
        for name, label in (("dft", "DFT"), ("fisher", "Fisher"), ("kl", "KL"))
    ]
    chains = [
        {"name": name, "label": f"{name.upper()} {k} steps", "parameters": {"mode": "restart", "n_steps": k}}
        for name in ("mala", "ula")
        for k in (1, 10)
    ]
    long = {"mode": "long", "burn_in": 10, "thinning": 2}
    others: list[dict[str, Any]] = [
        {"name": "mala", "label": "MALA long", "parameters": long},
        {"name": "misbehaving", "label": "SVGD", "parameters": {"how": "raise"}},
    ]
    table = {"n_samples": 2_000, "seeds": 2, "metrics": metrics, "targets": targets}
    run_here(parse_suite({**table, "samplers": [*networks, *chains, *others]}, suite), tmp_path / "store")
    return tmp_path / "store"


def written_twice(module: Any, store: Path, tmp_path: Path) -> tuple[Path, set[str]]:
    """Tables and figures twice, the figures without the store; the folder, and names of all files beyond the board."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        results = write_leaderboard(store, folder)
        before = {path.name for path in folder.iterdir()}
        module.write_tables(store, results, folder)
    shutil.rmtree(store)
    for name in {path.stem for path in folders[0].glob("*.csv")} & set(TABLES):
        assert list(pd.read_csv(folders[0] / f"{name}.csv")) == [column.name for column in TABLES[name].columns]
    files = [module.write_figures(folder) for folder in folders]
    tables = {path.name for path in folders[0].iterdir() if path.is_file()} - before
    for name in tables:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one
    return folders[0], {*tables, *(path.name for path in files[0] if path.suffix == ".png")}


def test_a_store_in_the_plane_gives_tables_and_figures_the_same_every_time(run_here: Run, tmp_path: Path) -> None:
    metrics = ["sliced_w2", "mode_tv", "modes_found", "ksd_paper", "ess_bulk"]
    store = run_tiny(run_here, tmp_path, "paper-2d", ["donut", "ring8"], metrics)
    folder, names = written_twice(plane, store, tmp_path)
    tables = {"step_curves.csv", "equal_steps.csv", "rivals.csv", "panels.npz"}
    assert names == {
        *tables, "steps_primary.png", "steps_sliced_w2.png", "steps_ksd_paper.png", "modes.png", "draws.png"
    }  # fmt: skip
    steps = pd.read_csv(folder / "equal_steps.csv")
    assert len(steps) == 2 * 3 * 3 * 2  # targets, metrics, networks, chains
    assert steps["microseconds_ratio"].notna().all()
    assert list(read_panels(folder)["ring8"]) == ["DFT", "Fisher", "KL", "SVGD"]
    assert str(read_panels(folder)["ring8"]["SVGD"]).startswith("failed")
    assert set(pd.read_csv(folder / "rivals.csv")["sampler"]) == {"DFT", "Fisher", "KL"}


def test_a_store_of_images_gives_tables_and_figures_the_same_every_time(run_here: Run, tmp_path: Path) -> None:
    metrics = ["sliced_w2", "mode_tv", "frechet", "class_tv", "classes_found", "ess_bulk"]
    store = run_tiny(run_here, tmp_path, "paper-ebm", ["mfa_digits", "ebm_digits"], metrics)
    folder, names = written_twice(images, store, tmp_path)
    shown = {"steps_primary", "steps_frechet", "time_primary", "time_frechet", "images_mfa_digits", "images_ebm_digits"}
    assert {name for name in names if name.endswith(".png")} == {f"{name}.png" for name in shown}
    real = pd.read_csv(folder / "images.csv")
    held_out = real[real["sampler"] == "real images"]
    assert len(held_out) == 2
    assert held_out["frechet_real"].max() < real.loc[real["sampler"] == "DFT", "frechet_real"].min()
    assert real.loc[real["sampler"] == "SVGD", "reason"].str.startswith("failed").all()
    steps = pd.read_csv(folder / "equal_steps.csv").groupby("target")["metric"].agg(set)
    assert steps["mfa_digits"] == {"primary", "sliced_w2", "frechet", "class_tv"}
    assert steps["ebm_digits"] == {"frechet_real"}
    panels = read_panels(folder)
    assert list(panels["mfa_digits"]) == [
        "real images",
        "exact draws",
        "DFT",
        "Fisher",
        "KL",
        "MALA 10 steps",
        "MALA long",
    ]
    assert np.asarray(panels["ebm_digits"]["DFT"]).shape == (24, 64)


def test_targets_without_images_are_refused(run_here: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="targets must be laws of images, got donut"):
        images._images_of("donut", {})
