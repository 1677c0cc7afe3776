import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.budget_curves import budget_figure, budget_table, main
from samplerbench.benchmarks.leaderboard import Results, collect
from samplerbench.benchmarks.plan import Suite, parse_suite

Run = Callable[[Suite, Path], None]


def run_suites(run_here: Run, folder: Path) -> list[Path]:
    """The same two rows at two prices; the second suite's second row is another's."""
    for suite, n_steps, labels in (("cheap", 10, ("a", "b")), ("dear", 40, ("a", "c"))):
        samplers = [
            {"name": "ula", "label": label, "parameters": {"n_steps": n_steps, "step_size": step}}
            for label, step in zip(labels, (0.02, 0.05), strict=True)
        ]
        table = {"n_samples": 2_000, "seeds": 2, "metrics": ["sliced_w2"], "targets": ["donut"], "samplers": samplers}
        run_here(parse_suite(table, suite), folder / suite)
    return [folder / "cheap", folder / "dear"]


def test_rows_of_different_suites_are_joined_by_label(run_here: Run, tmp_path: Path) -> None:
    stores = run_suites(run_here, tmp_path)
    cheap, dear = map(collect, stores)
    table = budget_table([dear, cheap])
    assert [tuple(row) for row in table[["sampler", "suite"]].to_numpy()] == [
        ("a", "cheap"), ("a", "dear"), ("c", "dear"), ("b", "cheap"),
    ]  # fmt: skip
    own = cheap.costs[cheap.costs["sampler"] == "a"]
    spent = (own["fit_gradient_equivalents"] + own["draw_gradient_equivalents"]).mean()
    row = table.iloc[0]
    assert row["equivalents"] == spent
    place = cheap.places[cheap.places["sampler"] == "a"].iloc[0]
    assert (row["ratio"], row["low"], row["high"]) == (place["ratio"], place["ratio_low"], place["ratio_high"])
    with pytest.raises(ValueError, match="different suites, got cheap twice"):
        budget_table([cheap, cheap])


def test_rows_without_a_ratio_are_left_out(run_here: Run, tmp_path: Path) -> None:
    cheap = collect(run_suites(run_here, tmp_path)[0])
    places = cheap.places.assign(ratio=[np.nan, 2.0])
    lost: Results = dataclasses.replace(cheap, places=places)
    assert list(budget_table([lost])["sampler"]) == ["b"]


def test_files_are_the_same_every_time(run_here: Run, tmp_path: Path) -> None:
    stores = [str(path) for path in run_suites(run_here, tmp_path)]
    for folder in "xy":
        main([*stores, "--to", str(tmp_path / folder)])
    for name in ("budget_curves.csv", "budget_curves.png", "budget_curves.svg"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_of_many_samplers_only_those_best_somewhere_are_named() -> None:
    rows = [
        ("t", f"s{k}", suite, budget, 1.0, 3, 2.0 + k if suite == "cheap" else 15.0 - k, 1.0, 20.0)
        for suite, budget in (("cheap", 1e5), ("dear", 1e6))
        for k in range(14)
    ]
    columns = ["target", "sampler", "suite", "equivalents", "seconds", "n_seeds", "ratio", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    named = [text.get_text() for text in budget_figure(table).legends[0].get_texts()]
    assert named == ["s0", "s13"]
    few = table[table["sampler"].isin(["s3", "s4", "s5"])]
    assert len(budget_figure(few).legends[0].get_texts()) == 3
