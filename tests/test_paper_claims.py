"""The ledger: numbers from tables with known content, verdicts by rule, shipped files that follow from their tables."""

import math
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.paper.claim_evidence import (
    falls_with_dimension,
    finite,
    higher,
    insensitive,
    lower,
    more_finite,
    more_modes,
    rival_times_dearer,
    steps_equal,
    times_cheaper,
)
from samplerbench.benchmarks.paper.claims import CLAIMS, write_claims
from samplerbench.benchmarks.paper.experiments import EXPERIMENTS
from samplerbench.benchmarks.paper.ledger import COLUMNS, Claim, Ledger, Tables
from samplerbench.benchmarks.paper.sweeps import sweep_runs
from samplerbench.benchmarks.plan import load_suite, make_plan

ROOT = Path(__file__).parent.parent


def put(folder: Path, suite: str, name: str, rows: list[dict[str, object]]) -> Tables:
    (folder / suite).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / suite / f"{name}.csv", index=False)
    return Tables(folder)


def cell(target: str, sampler: str, metric: str, values: list[float], floor: float = np.nan) -> list[dict[str, object]]:
    return [
        {
            "target": target, "sampler": sampler, "seed": seed, "metric": metric, "value": value, "floor": floor,
            "ratio": value / floor, "at_floor": "" if np.isnan(floor) else value <= floor, "status": "ok", "reason": "",
        }
        for seed, value in enumerate(values)
    ]  # fmt: skip


def test_modes_are_compared_where_there_are_many(tmp_path: Path) -> None:
    rows = [
        *cell("ring8", "DFT", "modes_asked", [8, 8]),
        *cell("mog2", "DFT", "modes_asked", [1, 1]),
        *cell("ring8", "DFT", "mode_recall", [0.5, 0.75]),
        *cell("ring8", "SVGD", "mode_recall", [1.0, 1.0]),
        *cell("mog2", "DFT", "mode_recall", [1.0, 1.0]),
        *cell("mog2", "SVGD", "mode_recall", [0.0, 0.0]),
    ]
    (found,) = more_modes(put(tmp_path, "paper-2d", "metrics", rows), "DFT", "SVGD")
    assert (found.of, found.value) == ("ring8", -0.375)


def test_lower_is_a_log_ratio_in_which_the_floor_is_the_best(tmp_path: Path) -> None:
    rows = [
        *cell("t", "DFT", "ksd_paper", [0.1, 0.2], floor=0.5),
        *cell("t", "Fisher", "ksd_paper", [1.0, 1.0], floor=0.5),
    ]
    (found,) = lower(put(tmp_path, "paper-2d", "metrics", rows), "paper-2d", "ksd_paper", "DFT", "Fisher")
    assert found.value == pytest.approx(math.log(2))


def test_a_lost_run_of_the_claimed_method_counts_against_it_and_one_of_the_other_for_it(tmp_path: Path) -> None:
    rows = [
        row
        for target in ("a", "b", "c")
        for sampler in ("DFT", "Fisher")
        for row in [
            *cell(target, sampler, "modes_asked", [8, 8, 8]),
            *cell(target, sampler, "mode_recall", [0.5, 0.5, 0.6]),
        ]
    ]
    lost = {"value": np.nan, "status": "diverged", "reason": "diverged"}
    for row in rows:
        if (row["target"], row["sampler"], row["seed"]) == ("a", "DFT", 1):
            row |= lost
        if (row["target"], row["sampler"]) == ("b", "Fisher") and row["seed"] != 1:
            row |= lost
        if (row["target"], row["sampler"], row["seed"]) == ("c", "DFT", 1):
            row |= {"value": np.nan, "status": "missing", "reason": "missing"}  # was not run: says nothing
    board: list[dict[str, object]] = [{"target": target, "development": target == "b"} for target in "abc"]
    put(tmp_path, "paper-2d", "leaderboard", board)
    found = more_modes(put(tmp_path, "paper-2d", "metrics", rows), "DFT", "Fisher")
    assert [(part.of, part.value) for part in found] == [
        ("a (DFT: 1 of 3 runs lost)", -math.inf),
        ("b (development) (Fisher: 2 of 3 runs lost)", math.inf),
        ("c", 0.0),
    ]


def test_accuracy_is_a_paired_difference(tmp_path: Path) -> None:
    rows = [*cell("r", "DFT", "accuracy", [0.8, 0.9]), *cell("r", "SGLD long", "accuracy", [0.7, 0.8])]
    (found,) = higher(put(tmp_path, "paper-blr", "metrics", rows), "accuracy", "DFT", "SGLD long")
    assert found.value == pytest.approx(0.1)


def test_finite_runs_are_counted_over_the_grid(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"target": "ring8", "sampler": sampler, "start_scale": 1, "noise": noise, "n_runs": n, "share_finite": share}
        for sampler, noise, n, share in (
            ("dft", 0.1, 4, 1.0),
            ("dft", 0.2, 4, 0.75),
            ("dft", 0.3, 0, np.nan),
            ("kl", 0.1, 4, 0),
        )
    ]
    (found,) = finite(put(tmp_path, "paper-robustness", "stability", rows), "dft")
    assert found.value == 7 / 8


def test_shares_of_finite_runs_are_compared(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"target": "ring8", "sampler": sampler, "start_scale": 1, "noise": noise, "n_runs": 48, "share_finite": share}
        for sampler, noise, share in (("dft", 0.1, 1.0), ("fisher", 0.1, 0.5), ("dft", 0.2, 0.0), ("kl", 0.3, 1.0))
    ]  # only the first two are of the same setting
    tables = put(tmp_path, "paper-robustness", "stability", rows)
    (found,) = more_finite(tables, "dft", "fisher")
    assert found.value == 0.5
    assert 0.3 < found.low < 0.4  # Wilson: .93 and .64, so .5 - hypot(.07, .14)
    assert 0.6 < found.high < 0.7
    assert more_finite(tables, "dft", "kl") == []


def test_sensitivity_turns_worst_over_best_around(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "sweep": "step size", "method": "DFT", "metric": "primary", "target": "t", "worst_over_best": 4.0, "low": 2.0,
        "high": np.inf, "best_ratio": 2.0, "worst_ratio": 8.0,
    }  # fmt: skip
    bad = {**row, "target": "bad", "low": 1.0, "worst_over_best": 1.1, "high": 1.2, "best_ratio": 30.0}
    gone = {**bad, "target": "gone", "low": np.inf, "worst_over_best": np.inf, "high": np.inf, "best_ratio": np.inf}
    tables = put(tmp_path, "paper-robustness", "sensitivity", [row, bad, gone])
    usable, open_, lost = insensitive(tables, "step size", "DFT")
    assert (usable.of, usable.value, usable.low, usable.high) == ("t (2 to 8 floors)", 0.25, 0.0, 0.5)
    assert (open_.low, open_.high) == (0.0, math.inf)  # bad at every setting alike is not robust
    assert (lost.value, lost.low, lost.high) == (0.0, 0.0, 0.0)


def test_steps_and_times_come_from_the_table_of_equal_steps(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "target": "m", "metric": "frechet", "sampler": "DFT", "chain": "MALA", "k": 40.0, "k_low": 0.0,
        "k_high": np.inf, "censored": "", "microseconds_ratio": 30.0, "microseconds_ratio_low": 20.0,
        "microseconds_ratio_high": 50.0,
    }  # fmt: skip
    put(tmp_path, "paper-ebm", "metrics", cell("m", "DFT", "frechet", [1.0, 2.0]))
    none = {**row, "target": "none", "k": 0.0, "k_high": 0.0, "censored": "below"}
    rows = [row, {**row, "chain": "ULA"}, {**row, "target": "lost", "k": np.nan}, none]
    tables = put(tmp_path, "paper-ebm", "equal_steps", rows)
    steps, _ = steps_equal(tables, "DFT", "frechet")
    assert (steps.of, steps.value, steps.low, steps.high) == ("m", 40.0, 0.0, np.inf)
    times, bounded = times_cheaper(tables, "DFT", "frechet")
    assert (times.value, times.low, times.high) == (30.0, 20.0, 50.0)
    assert bounded.value == 0.0  # fewer steps than were run are as good: the ratio in the table is only a bound
    lost = [{**one, "status": "failed"} for one in cell("lost", "DFT", "frechet", [np.nan, np.nan])]
    again = put(tmp_path, "paper-ebm", "metrics", [*cell("m", "DFT", "frechet", [1.0, 2.0]), *lost])
    worthless, *_ = steps_equal(again, "DFT", "frechet")
    assert (worthless.of, worthless.high) == ("lost (2 of 2 runs lost)", 0.0)


def test_rivals_cost_a_geometric_mean_over_seeds(tmp_path: Path) -> None:
    put(tmp_path, "paper-ebm", "rivals", [{"target": "m", "sampler": "DFT", "rival_seconds": "MALA long"}])
    rows: list[dict[str, object]] = [
        {"target": "m", "seed": seed, "sampler": sampler, "microseconds_per_effective_draw": cost}
        for sampler, costs in (("DFT", (1.0, 2.0)), ("MALA long", (10.0, 80.0)))
        for seed, cost in enumerate(costs)
    ]
    put(tmp_path, "paper-ebm", "costs", rows)
    lost = [{**one, "status": "failed"} for one in cell("lost", "DFT", "sliced_w2", [np.nan] * 2, floor=1.0)]
    judged = [
        *cell("m", "DFT", "sliced_w2", [1.0, 2.0], floor=1.0),
        *lost,
        *cell("lost", "KL", "sliced_w2", [1.0, 1.0], 1.0),
    ]
    gone, found = rival_times_dearer(put(tmp_path, "paper-ebm", "metrics", judged), "DFT")
    assert (found.of, found.value) == ("m, MALA long", pytest.approx(20.0))
    assert (gone.of, gone.high) == ("lost (2 of 2 runs lost)", 0.0)  # where no row has a rival too


EXPONENT: dict[str, object] = {
    "family": "mixture", "sampler": "DFT", "quantity": "primary_ratio", "exponent": 0.5, "low": 0.2, "high": 0.8,
    "is_power_law": True, "dims": "2 8 32", "lost_dims": "",
}  # fmt: skip


def test_exponents_are_those_of_the_primary_ratio_and_lost_dimensions_are_a_fall(tmp_path: Path) -> None:
    lost = {**EXPONENT, "family": "many well", "dims": "2", "lost_dims": "8 32", "low": np.nan}
    rows = [EXPONENT, {**EXPONENT, "quantity": "fit_seconds"}, {**EXPONENT, "is_power_law": False}, lost]
    found = falls_with_dimension(put(tmp_path, "paper-dimensions", "exponents", rows), "DFT")
    assert [(part.of, part.value, part.low) for part in found] == [
        ("mixture", 0.5, 0.2),
        ("mixture (the points curve)", 0.5, 0.2),
        ("many well (runs lost in dimension 32)", math.inf, math.inf),
    ]


def test_without_tables_nothing_is_testable_and_the_reason_is_given(tmp_path: Path) -> None:
    ledger = Ledger(CLAIMS, Tables(tmp_path))
    table = ledger.table()
    assert list(table.columns) == COLUMNS
    assert set(table["verdict"]) == {"not testable"}
    assert table.loc[table["experiment"] != "", "note"].str.contains("was not run").all()
    assert ledger.details().empty


def test_claims_are_told_apart_and_name_experiments() -> None:
    suites = {experiment.suite for experiment in EXPERIMENTS}
    assert len({claim.text for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.experiment for claim in CLAIMS if isinstance(claim, Claim)} <= suites


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if isinstance(claim, Claim)], ids=lambda claim: claim.text)
@pytest.mark.parametrize("scale", ["small", "full"])
def test_claims_name_rows_sweeps_and_metrics_of_their_suites(claim: Claim, scale: Literal["small", "full"]) -> None:
    assert isinstance(claim.evidence, partial)
    suite = load_suite(claim.experiment, scale=scale)
    plan = make_plan(suite)
    names, labels = {run.sampler for run in plan}, {run.sampler_label.partition(" d=")[0] for run in plan}
    rows = names if claim.evidence.func in (finite, more_finite) else labels
    known = {
        "one": rows, "other": rows, "sampler": rows, "method": rows, "suite": {claim.experiment},
        "metric": {item.name for item in suite.metrics} | {"primary", "frechet_real"},
    }  # fmt: skip
    if claim.evidence.func is insensitive:
        known["sweep"] = set(sweep_runs(plan)["sweep"])
    assert claim.evidence.keywords
    for name, value in claim.evidence.keywords.items():
        assert value in known[name]


def test_the_page_and_the_tables_say_the_same(tmp_path: Path) -> None:
    put(tmp_path, "paper-dimensions", "exponents", [EXPONENT])
    csv, evidence, page = write_claims(tmp_path, tmp_path / "claims.csv", tmp_path / "claims.md")
    found = pd.read_csv(csv).set_index("claim").loc["Quality falls with the dimension"]
    assert (found["value"], found["interval"], found["verdict"]) == (0.5, "0.2 to 0.8", "replicated")
    assert pd.read_csv(evidence)[["of", "value"]].to_numpy().tolist() == [["mixture", 0.5]]
    assert (
        "| Quality falls with the dimension | arXiv 2411.01453 | 0.5 | 0.2 to 0.8 | **replicated** |"
        in page.read_text()
    )
    assert "| mixture | 0.5 | 0.2 to 0.8 |" in page.read_text()


def test_the_shipped_ledger_is_what_the_shipped_tables_say(tmp_path: Path) -> None:
    written = write_claims(ROOT / "results" / "paper", tmp_path / "claims.csv", tmp_path / "claims.md")
    shipped = ROOT / "results" / "claims.csv", ROOT / "results" / "claims_evidence.csv", ROOT / "docs" / "claims.md"
    for mine, theirs in zip(written, shipped, strict=True):
        assert mine.read_text() == theirs.read_text()
