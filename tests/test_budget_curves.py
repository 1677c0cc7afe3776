import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.budget_curves import budget_figure, budget_table, main
from samplerbench.benchmarks.compare_files import read_runs, suite_of
from samplerbench.benchmarks.leaderboard import collect
from samplerbench.benchmarks.plan import Suite, parse_suite
from samplerbench.benchmarks.report import write_leaderboard

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
    cheap = collect(stores[0])
    table = budget_table((suite_of(path), read_runs(path)) for path in reversed(stores))
    assert [tuple(row) for row in table[["sampler", "suite"]].to_numpy()] == [
        ("a", "cheap"), ("a", "dear"), ("c", "dear"), ("b", "cheap"),
    ]  # fmt: skip
    own = cheap.costs[cheap.costs["sampler"] == "a"]
    spent = (own["fit_gradient_equivalents"] + own["draw_gradient_equivalents"]).mean()
    row = table.iloc[0]
    assert row["equivalents"] == spent
    place = cheap.places[cheap.places["sampler"] == "a"].iloc[0]
    expected = [place["ratio"], place["ratio_low"], place["ratio_high"]]
    np.testing.assert_allclose(
        row[["ratio", "low", "high"]].to_numpy(dtype=float), expected, rtol=2e-4
    )  # six digits of each run
    with pytest.raises(ValueError, match="different suites, got cheap twice"):
        budget_table([("cheap", read_runs(stores[0]))] * 2)


def test_rows_without_a_ratio_are_left_out(run_here: Run, tmp_path: Path) -> None:
    cheap = read_runs(run_suites(run_here, tmp_path)[0])
    is_lost = (cheap.metrics["sampler"] == "a") & (cheap.metrics["seed"] == 1)
    lost = dataclasses.replace(cheap, metrics=cheap.metrics.assign(ratio=cheap.metrics["ratio"].mask(is_lost)))
    assert list(budget_table([("cheap", lost)])["sampler"]) == ["b"]


def test_files_are_the_same_every_time(run_here: Run, tmp_path: Path) -> None:
    stores = [str(path) for path in run_suites(run_here, tmp_path)]
    for folder in "xy":
        main([*stores, "--to", str(tmp_path / folder)])
    for name in ("budget_curves.csv", "budget_curves.png", "budget_curves.svg"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_folders_of_leaderboards_do_as_well_as_stores(
    run_here: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = run_suites(run_here, tmp_path)
    for store in stores:
        write_leaderboard(store, tmp_path / "boards" / store.name)
    main([*map(str, stores), "--to", str(tmp_path / "x")])
    main([str(tmp_path / "boards" / "cheap"), str(stores[1]), "--to", str(tmp_path / "y")])
    assert (tmp_path / "x" / "budget_curves.csv").read_bytes() == (tmp_path / "y" / "budget_curves.csv").read_bytes()
    (tmp_path / "boards" / "cheap" / "costs.csv").unlink()
    (tmp_path / "boards" / "cheap" / "leaderboard.csv").unlink()
    for path, wrong in ((tmp_path, "is neither a store"), (tmp_path / "boards" / "cheap", "has no costs.csv")):
        with pytest.raises(SystemExit):
            main([str(path)])
        assert wrong in capsys.readouterr().err


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
