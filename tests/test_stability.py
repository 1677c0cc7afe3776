"""The table and figure of stability: medians, ranges and shares by hand, and a real store."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.plan import Suite, load_suite, parse_suite
from samplerbench.benchmarks.stability import main, settings, stability_figure, stability_table


def values_and_settings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three seeds of two settings; the last run of the second has diverged."""
    found = [("a", 1.0, "ok"), ("b", 4.0, "ok"), ("c", 3.0, "budget"), ("d", 2.0, "ok"), ("e", 6.0, "ok")]
    rows = [
        {"run_id": run_id, "target": "t", "sampler": "label", "status": status, "metric": metric, "value": value}
        for run_id, value, status in [*found, ("f", np.nan, "diverged")]
        for metric in ("sliced_w2", "modes_found")
    ]
    values = pd.DataFrame(rows)
    values["floor"] = np.where(values["metric"] == "sliced_w2", 0.5, np.nan)
    of_runs = [(run_id, "dft", 1.0, 0.1 if run_id in "abc" else 0.2) for run_id in "abcdef"]
    return values, pd.DataFrame(of_runs, columns=["run_id", "sampler", "start_scale", "noise"])


def test_rows_are_medians_ranges_and_shares_over_the_runs_of_a_setting() -> None:
    table = stability_table(*values_and_settings()).set_index("noise")
    assert list(table["n_runs"]) == [3, 3]
    assert list(table["share_finite"]) == [1.0, pytest.approx(2 / 3)]
    assert list(table["sliced_w2_median"]) == [3.0, 4.0]
    assert list(table["sliced_w2_min"]) == [1.0, 2.0]
    assert list(table["sliced_w2_max"]) == [4.0, 6.0]
    assert list(table["sliced_w2_ratio"]) == [6.0, 8.0]
    assert "modes_found_median" in table
    assert "modes_found_ratio" not in table  # it has no floor


def test_a_run_that_is_missing_is_not_one_that_diverged() -> None:
    values, of_runs = values_and_settings()
    values["status"] = values["status"].replace("diverged", "missing")
    table = stability_table(values, of_runs).set_index("noise")
    assert list(table["n_runs"]) == [3, 2]
    assert list(table["share_finite"]) == [1.0, 1.0]


def test_the_figure_says_every_cell_and_what_did_not_end_finite() -> None:
    values, of_runs = values_and_settings()
    other = values.assign(target="u", value=2 * values["value"], run_id=values["run_id"] + "u")
    both = pd.concat([of_runs, of_runs.assign(run_id=of_runs["run_id"] + "u")])
    figure = stability_figure(stability_table(pd.concat([values, other]), both))
    axis = figure.axes[0]
    assert figure.axes[1].texts[0].get_text() == "12.0\n4.0 to 16.0"
    assert figure.axes[1].get_title() == "u, dft"
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["6.0\n2.0 to 8.0", "8.0\n4.0 to 12.0\n67% finite"]
    assert axis.get_title() == "t, dft"


def test_a_suite_without_sliced_w2_is_named() -> None:
    values, of_runs = values_and_settings()
    table = stability_table(values[values["metric"] == "modes_found"], of_runs)
    with pytest.raises(ValueError, match="the suite must have the metric sliced_w2 with a floor, got target"):
        stability_figure(table)


def test_samplers_without_start_and_noise_are_refused_by_title(
    make_suite: Callable[..., Suite], run_here: Callable[[Suite, Path], None], tmp_path: Path
) -> None:
    run_here(make_suite("not"), tmp_path)
    with pytest.raises(ValueError, match=r"network\.start_scale and noise.level, plain_normal / not / seed 0 has not"):
        settings(tmp_path)


def test_a_store_gives_the_same_files_every_time(run_here: Callable[[Suite, Path], None], tmp_path: Path) -> None:
    short = {"training": {"n_steps": 2, "n_warm_up": 0, "batch_size": 16}}
    samplers = [
        {"name": "kl", "label": f"KL {start}", "parameters": {"network": {"start_scale": start}, **short}}
        for start in (0.5, 1.0)
    ]
    table = {"n_samples": 2000, "seeds": 2, "metrics": ["sliced_w2"], "targets": ["ring8"], "samplers": samplers}
    run_here(parse_suite(table, "short"), tmp_path / "store")
    for to in ("a", "b"):
        main([str(tmp_path / "store"), "--to", str(tmp_path / to)])
    for name in ("stability.csv", "stability.png", "stability.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    written = pd.read_csv(tmp_path / "a" / "stability.csv")
    assert list(written["start_scale"]) == [0.5, 1.0]
    assert list(written["n_runs"]) == [2, 2]


def test_the_shipped_suite_is_a_full_grid() -> None:
    suite = load_suite("stability")
    cells = [
        (item.name, item.parameters["network"], item.parameters["noise"])  # type: ignore[index]
        for item in suite.samplers
    ]
    starts, levels = (0.3, 1.0, 3.0), (0.01, 0.03, 0.1)
    assert cells == [
        (name, {"start_scale": start}, {"level": level})
        for name in ("dft", "fisher", "kl")
        for start in starts
        for level in levels
    ]
    assert suite.seeds == 5
