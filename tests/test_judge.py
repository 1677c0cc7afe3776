"""Judged draws: the numbers of evaluate, the sizes, the words, the place, and the command."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from samplerbench import targets
from samplerbench.benchmarks import evaluate_store, judge_draws
from samplerbench.benchmarks.floors import load_floor
from samplerbench.benchmarks.judge import COLUMNS, MIN_DRAWS, judged_size, remarks, texts, to_json, verdict
from samplerbench.benchmarks.place import place_of, read_leaderboard
from samplerbench.benchmarks.plan import make_plan, parse_suite
from samplerbench.benchmarks.store import Plan, Record, Store
from samplerbench.targets import Draws, Estimate, derive_generator
from samplerbench.targets.base import HasReference, HasSample

RESULTS = Path(__file__).parent.parent / "results"
JSON_KEYS = {"metric", "value", "floor", "ratio", "z", "p", "at_floor"}


def exact(name: str, n: int, *, seed: int = 0, **parameters: object) -> Tensor:
    """Exact draws that no truth of an evaluation shares random numbers with."""
    target = targets.get(name, **parameters)
    assert isinstance(target, HasSample)
    return target.sample(n, derive_generator("judged", name, seed))


# --- numbers -----------------------------------------------------------------------------------------------------


def test_values_are_those_that_evaluate_gives_a_run_with_these_draws(tmp_path: Path) -> None:
    """Weights, chains, log Z and the order of the draws included."""
    x = exact("ring8", 2_000)
    draws = Draws(
        samples=x.float(), log_weights=0.3 * x[:, 0], log_z=Estimate(0.1, 0.2), chains=x[:400].reshape(4, 100, 2)
    )
    metrics = ["sliced_w2", "mode_tv", "modes_found", "mmd2", "energy_w1", "log_z_error", "ess_bulk", "accuracy"]
    table = {
        "n_samples": 2_000,
        "metrics": [*metrics, "w2"],
        "targets": ["ring8"],
        "samplers": [{"name": "mala"}],
    }
    suite = parse_suite(table, "judged")
    (run,) = make_plan(suite)
    store = Store(tmp_path)
    with store.locked():
        store.write_plan(Plan("judged", "", list(suite.metrics), [run]), set())
        store.save(Record(spec=run, status="ok", log_z={"value": 0.1, "std_error": 0.2}), draws)
    evaluated = evaluate_store(tmp_path)
    judged = judge_draws(draws, "ring8", metrics=[*metrics, "w2"])
    assert evaluated["value"].notna().sum() == 14
    shared = [name for name in COLUMNS if name in evaluated]
    assert len(shared) == len(COLUMNS) - 2
    pd.testing.assert_frame_equal(judged[shared], evaluated[shared], check_exact=True)
    assert judged.set_index("metric").loc["accuracy", "note"] == "needs predictive"


def test_weights_make_another_law_of_the_draws() -> None:
    x = exact("ring8", 4_000)
    log_weights = torch.where(x[:, 0] > 0, 0.0, -torch.inf)  # three modes whole, two by half
    weighted = judge_draws(Draws(samples=x, log_weights=log_weights), "ring8", metrics=["mode_tv"])
    plain = judge_draws(Draws(samples=x), "ring8", metrics=["mode_tv"])
    assert abs(weighted["value"].item() - 3 / 8) < 5 * math.sqrt(0.25 / 2_000)
    assert plain["value"].item() < 0.05
    n_kept = int((log_weights == 0).sum())
    assert math.isclose(weighted.attrs["ess"], n_kept, rel_tol=1e-9)
    assert any(f"they count as {n_kept:,}," in line for line in remarks(weighted))


def test_what_chains_are_worth_is_said() -> None:
    x = exact("mog2", 2_000)
    stuck = x[::10].repeat_interleave(10, 0)  # every state stays for ten moves
    table = judge_draws(Draws(samples=x, chains=stuck.reshape(4, 500, 2)), "mog2", metrics=["ess_bulk"])
    (line,) = [line for line in remarks(table) if "chains" in line]
    worth = int(line.split("count as ")[1].split(",")[0])
    assert 100 < worth < 400
    assert worth == round(table["value"].item())


def test_the_seed_is_that_of_the_truth() -> None:
    draws = Draws(samples=exact("mog2", 2_000))
    first, again, other = (
        judge_draws(draws, "mog2", metrics=["sliced_w2"], seed=seed)["value"].item() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_by_default_all_metrics_that_apply_are_judged_primary_ones_first() -> None:
    table = judge_draws(Draws(samples=exact("mog2", 2_000)), "mog2")
    assert set(table["metric"].head(2)) == {"sliced_w2", "mode_tv"}
    assert {"mmd2", "w2", "ksd", "energy_w1", "moment_bias2", "modes_found"} <= set(table["metric"])
    assert table.attrs["left_out"]["rhat"] == "needs chains"
    assert not {"rhat", "accuracy"} & set(table["metric"])
    assert any("rhat (no chains)" in line for line in remarks(table))


# --- sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "metric", "n", "size"),
    [
        ("funnel10", "sliced_w2", 20_000, 10_000),
        ("funnel10", "sliced_w2", 9_999, 2_000),
        ("funnel10", "ksd", 20_000, 2_000),  # has no floor at 10,000
        ("ring8", "w2", 20_000, 2_000),
        ("rings", "w2", 20_000, 1_000),  # has no floor at 2,000
        ("ring8", "w2", 500, 500),
        ("plain_normal", "sliced_w2", 20_000, 2_000),  # no floor: the size that suites use
        ("ring8", "modes_found", 20_000, 20_000),  # no null law: all draws
    ],
)
def test_a_metric_judges_the_largest_size_that_has_a_floor(
    target: str, metric: str, n: int, size: int, plugin: Path
) -> None:
    targets.load_plugin(plugin)
    assert judged_size(target, metric, n) == size


def test_where_the_truth_is_reference_draws_at_most_half_of_them_are_judged() -> None:
    target = targets.get("breast_cancer_train")
    assert isinstance(target, HasReference)
    reference = target.reference()
    draws = Draws(samples=reference)
    table = judge_draws(draws, "breast_cancer_train", metrics=["accuracy", "sliced_w2"]).set_index("metric")
    assert table["n_samples"].to_dict() == {"accuracy": len(reference) // 2, "sliced_w2": 2_000}
    assert table["value"].notna().all()


def test_the_size_is_said_and_its_floor_is_used() -> None:
    table = judge_draws(Draws(samples=exact("funnel10", 10_500)), "funnel10", metrics=["sliced_w2", "energy_w1"])
    rows = table.set_index("metric")
    assert rows["n_samples"].to_dict() == {"sliced_w2": 10_000, "energy_w1": 2_000, "energy_tv": 2_000}
    floor = load_floor("funnel10", 1, "sliced_w2", 1, 10_000)
    assert floor is not None
    assert rows.loc["sliced_w2", "floor"] == floor.value
    assert rows.loc["sliced_w2", "smallest_p"] == 1 / 1_001
    assert any("10,500 draws" in line for line in remarks(table))
    assert list(texts(table)["n"]) == ["10,000", "2,000", "2,000"]


def test_without_a_floor_there_is_a_value_and_a_note(plugin: Path) -> None:
    draws = Draws(samples=torch.randn(300, 2, generator=derive_generator("plain")))
    table = judge_draws(draws, "plain_normal", metrics=["sliced_w2"], plugins=[plugin])
    (row,) = table.to_dict("records")
    assert row["value"] > 0
    assert math.isnan(row["floor"])
    assert row["note"] == "no floor for n = 300"
    assert verdict(table).startswith("No metric has a floor")
    assert texts(table).loc[0, "note"] == "no floor for n = 300"


# --- what is refused ---------------------------------------------------------------------------------------------


def with_bad_row(value: float) -> Tensor:
    x = torch.zeros(200, 2)
    x[16, 1] = value
    return x


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (Draws(samples=torch.zeros(200, 3)), r"draws of ring8 must have shape \(n, 2\), got \(200, 3\)"),
        (Draws(samples=torch.zeros(MIN_DRAWS - 1, 2)), "draws must be at least 100, got 99"),
        (Draws(samples=with_bad_row(math.nan)), "must be finite, got NaN or infinities in 1 rows, first in row 17"),
        (Draws(samples=with_bad_row(math.inf)), "must be finite, got NaN or infinities in 1 rows, first in row 17"),
        (Draws(samples=torch.zeros(200, 2), log_weights=torch.zeros(199)), r"log_weights must have shape \(200,\)"),
        (Draws(samples=torch.zeros(200, 2), log_weights=with_bad_row(math.nan)[:, 1]), "log_weights must be finite or"),
        (Draws(samples=torch.zeros(200, 2), log_weights=torch.full((200,), -math.inf)), "weight 0 in every row"),
        (Draws(samples=torch.zeros(200, 2), log_density=with_bad_row(-math.inf)[:, 1]), "log_density must be finite, "),
        (Draws(samples=torch.zeros(200, 2), chains=torch.zeros(2, 100, 3)), r"chains of ring8 must have shape \(n_c"),
        (Draws(samples=torch.zeros(200, 2), chains=with_bad_row(math.nan)[None]), "chains must be finite"),
    ],
)
def test_what_cannot_be_draws_of_the_target_is_refused(draws: Draws, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge_draws(draws, "ring8")


def test_unknown_names_are_refused() -> None:
    draws = Draws(samples=torch.zeros(200, 2))
    with pytest.raises(KeyError, match="unknown target 'ring'; did you mean 'ring"):
        judge_draws(draws, "ring")
    with pytest.raises(KeyError, match="did you mean 'mode_tv'"):
        judge_draws(draws, "ring8", metrics=["mode_tx"])


# --- words -------------------------------------------------------------------------------------------------------


def table_of(*rows: tuple[str, float, float, float, bool]) -> pd.DataFrame:
    """Rows of metric, ratio, z, p, at_floor; all floors are 1."""
    table = pd.DataFrame(
        [(metric, ratio, 1.0, ratio, z, p, at, 2_000, 0.001, "") for metric, ratio, z, p, at in rows], columns=COLUMNS
    )
    table.attrs.update(target="ring8", n_draws=2_000, left_out={}, ess=math.nan)
    return table


def test_the_verdict_in_words() -> None:
    good = ("sliced_w2", 1.0, 0.1, 0.5, True)
    assert verdict(table_of(good, good)) == (
        "At the floor in 2 of 2 metrics: nothing here tells these draws from exact draws of ring8."
    )
    bad = ("mode_tv", 4.1, 9.0, 0.001, False)
    assert verdict(table_of(good, bad)).startswith(
        "At the floor in 1 of 2 metrics; mode_tv 4.1 times the floor (p 0.001): these are not draws of ring8. "
        "Clearest is mode_tv, the total variation "
    )
    unlucky = ("mode_tv", 1.3, 1.9, 0.04, False)
    assert "no more than chance" in verdict(table_of(good, unlucky))
    below = ("ksd", -40.0, -70.0, 1.0, False)
    assert "ksd far below zero, 40 times the floor in size: these are not draws" in verdict(table_of(good, below))
    # ten floors of 200 values: p can be no smaller than 1 / 201, which is above .05 / 11
    coarse = table_of(*[good] * 10, ("w2", 9.0, 40.0, 1 / 201, False)).assign(smallest_p=1 / 201)
    assert "w2 9 times the floor (p 0.005): these are not draws of ring8" in verdict(coarse)
    gone = table_of(good, ("ksd", math.nan, math.nan, math.nan, False))
    gone.loc[1, ["floor", "note"]] = [math.nan, "ValueError: not finite"]
    assert verdict(gone).startswith("At the floor in 1 of 1 metrics; no value of ksd, see the notes; otherwise nothing")
    gone.loc[1, "note"] = "needs score"
    assert verdict(gone).startswith("At the floor in 1 of 1 metrics: nothing here tells")
    many = verdict(table_of(*[("mode_tv", 4.0 + k, 9.0, 0.001, False) for k in range(5)]))
    assert many.startswith("At the floor in 0 of 5 metrics; ")
    assert "; 2 more: these are not draws" in many


def test_json_has_the_keys_and_null_for_what_does_not_exist() -> None:
    rows = json.loads(to_json(judge_draws(Draws(samples=exact("ring8", 2_000)), "ring8", metrics=["energy_w1"])))
    assert [row["metric"] for row in rows] == ["energy_w1", "energy_tv"]
    assert all(row.keys() >= JSON_KEYS for row in rows)
    assert rows[0]["at_floor"] in (True, False)
    assert rows[0]["floor"] > 0
    assert [rows[1][key] for key in ("floor", "ratio", "z", "p", "at_floor")] == [None] * 5


# --- the place in a leaderboard ----------------------------------------------------------------------------------


def test_exact_draws_are_first_in_the_shipped_leaderboard_and_half_a_ring_is_not() -> None:
    rows = read_leaderboard(RESULTS / "quick", "ring8")
    x = exact("ring8", 2_000)
    place = place_of(Draws(samples=x), "ring8", rows)
    ratios = judge_draws(Draws(samples=x), "ring8", metrics=["sliced_w2", "mode_tv"])["ratio"]
    assert place.primary_ratio == ratios.max()
    order = rows.sort_values("primary_ratio")
    n_better = int((order["primary_ratio"] < place.primary_ratio).sum())
    assert place.rank == 1 + n_better
    assert [name for name, _ in place.better + place.worse] == list(order["sampler"])
    half = torch.cat([x[:, :1].abs(), x[:, 1:]], dim=1)
    late = place_of(Draws(samples=half), "ring8", rows)
    assert late.rank > place.rank
    assert str(late).startswith(f"place {late.rank} of {len(rows) + 1} by the worse primary ratio, ")
    assert f"better: {order['sampler'].iloc[0]} (" in str(late)


@pytest.fixture
def board(tmp_path: Path) -> Callable[..., Path]:
    """A leaderboard.csv with rows of a given primary ratio, as floors at n = 2,000 make it."""

    def write(*ratios: float, **columns: object) -> Path:
        floor = load_floor("donut", 1, "sliced_w2", 1, 2_000)
        assert floor is not None
        table = {
            "target": "donut",
            "sampler": [f"s{k}" for k in range(len(ratios))],
            "primary_ratio": ratios,
            "sliced_w2_floor": floor.value,
            **columns,
        }
        path = tmp_path / "leaderboard.csv"
        pd.DataFrame(table).to_csv(path, index=False, float_format="%.6g")
        return path

    return write


def test_rows_without_a_ratio_are_last_and_donut_needs_no_modes(board: Callable[..., Path]) -> None:
    rows = read_leaderboard(board(math.nan, 50.0, 0.01), "donut")
    place = place_of(Draws(samples=exact("donut", 2_000)), "donut", rows)
    assert place.better == [("s2", 0.01)]
    assert [name for name, _ in place.worse] == ["s1", "s0"]
    assert "worse: s1 (50), s0 (no ratio)" in str(place)
    equal = read_leaderboard(board(place.primary_ratio, 50.0), "donut").assign(primary_ratio=[place.primary_ratio, 50])
    assert place_of(Draws(samples=exact("donut", 2_000)), "donut", equal).rank == 1


def test_a_place_is_at_n_2000_whatever_larger_floors_there_are() -> None:
    rows = read_leaderboard(RESULTS / "quick", "funnel10")
    draws = Draws(samples=exact("funnel10", 10_000))
    at_2000 = judge_draws(draws, "funnel10", metrics=["sliced_w2"], sizes={"sliced_w2": 2_000})
    assert place_of(draws, "funnel10", rows).primary_ratio == at_2000["ratio"].item()


def test_what_does_not_compare_has_no_place(board: Callable[..., Path], plugin: Path) -> None:
    draws = Draws(samples=exact("donut", 2_000))
    few = Draws(samples=draws.samples[:1_999])
    with pytest.raises(ValueError, match="a place needs at least 2,000 draws, got 1,999"):
        place_of(few, "donut", read_leaderboard(board(1.0), "donut"))
    for floor, got in ((0.05, "got 0.05"), (math.nan, "got none")):
        with pytest.raises(ValueError, match=f"floor of sliced_w2 must be that of n = 2,000, .* {got}"):
            place_of(draws, "donut", read_leaderboard(board(1.0, sliced_w2_floor=floor), "donut"))
    targets.load_plugin(plugin)
    rows = read_leaderboard(board(1.0, target="plain_normal"), "plain_normal")
    with pytest.raises(
        ValueError, match="needs the ratio of sliced_w2 to its floor, which plain_normal lacks: no floor"
    ):
        place_of(Draws(samples=torch.zeros(2_000, 2)), "plain_normal", rows)


def test_where_nothing_is_known_of_the_truth_there_is_no_place() -> None:
    draws = Draws(samples=0.1 * torch.randn(2_000, 64, generator=torch.Generator().manual_seed(0)))
    table = pd.DataFrame({"target": ["ebm_digits"], "sampler": ["a"], "primary_ratio": [math.nan]})
    with pytest.raises(ValueError, match="a place needs truth draws or modes, ebm_digits has neither"):
        place_of(draws, "ebm_digits", table)


def test_what_is_no_leaderboard_is_named(board: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"leaderboard .*absent\.csv does not exist"):
        read_leaderboard(tmp_path / "absent.csv", "donut")
    path = board(1.0)
    with pytest.raises(ValueError, match="has rows of donut, none of ring8"):
        read_leaderboard(path, "ring8")
    path.write_text("target,sampler\nring8,mine\n")
    with pytest.raises(ValueError, match="must have columns target, sampler, primary_ratio, lacks primary_ratio"):
        read_leaderboard(path, "ring8")
    path.write_text("a,b\n1,2,3\n1,2,3,4\n")
    with pytest.raises(ValueError, match="cannot be read"):
        read_leaderboard(path, "ring8")


# --- calibration and power ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["banana", "bimodal50", "donut", "funnel10", "gmm40_fab", "many_well16", "ring8"])
def test_exact_draws_are_judged_as_such(name: str) -> None:
    """No p under .01 / cells, |ratio| under 3 for the centred metrics, 0.5 to 2 for distances of transport."""
    table = judge_draws(Draws(samples=exact(name, 2_000)), name)
    cells = table[table["floor"].notna()].set_index("metric")
    assert len(cells) >= 5
    assert cells["p"].min() >= 0.01 / len(cells)
    for metric, ratio in cells["ratio"].items():
        if metric in ("mmd2", "ksd", "ksd_paper"):
            assert abs(ratio) < 3
        if metric in ("sliced_w2", "w2"):
            assert 0.5 < ratio < 2


def test_a_slightly_wider_neck_is_seen_at_10000_draws() -> None:
    table = judge_draws(Draws(samples=exact("funnel10", 10_000, neck_sd=2.5)), "funnel10", metrics=["sliced_w2"])
    assert table["n_samples"].item() == 10_000
    assert table["p"].item() < 0.01
    assert "not draws of funnel10" in verdict(table)


def test_one_doubled_weight_of_forty_is_seen_at_10000_draws() -> None:
    weights = (2 / 41, *[1 / 41] * 39)
    table = judge_draws(
        Draws(samples=exact("gmm40_fab", 10_000, weights=weights)), "gmm40_fab", metrics=["sliced_w2", "mode_tv"]
    )
    assert set(table["n_samples"]) == {10_000}
    assert table["p"].min() < 0.005  # Bonferroni over the two


# --- the command -------------------------------------------------------------------------------------------------


def samplerbench(*arguments: object, at: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", "judge", "--no-floors", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=at)


def test_the_command_prints_what_was_read_the_table_the_verdict_and_the_place(tmp_path: Path) -> None:
    x = exact("ring8", 2_500).numpy()
    np.savetxt(tmp_path / "x.csv", np.abs(x), delimiter=",", header="a,b", comments="")
    options = ["--metrics", "mode_tv,sliced_w2", "--metrics", "modes_found"]
    done = samplerbench("x.csv", "--target", "ring8", *options, "--against", RESULTS / "quick", at=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "read 2,500 rows x 2 columns from x.csv (header a, b)"
    cells: dict[str, list[str]] = {words[0]: words for line in lines if (words := line.split())}
    assert cells["mode_tv"][1] == "2,000"
    assert cells["mode_tv"][-1] == "no"
    assert cells["modes_found"][1:3] == ["2,500", "3"]
    assert lines[-2].startswith("At the floor in 0 of 2 metrics; ")
    assert lines[-1].startswith("place ")


def test_the_command_prints_json_alone_with_the_words_on_stderr(plugin: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", exact("ring8", 300).numpy())
    done = samplerbench("x.npy", "--target", "plain_normal", "--json", "--plugin", plugin, at=tmp_path)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert {"sliced_w2", "mmd2"} <= {row["metric"] for row in rows}
    assert all(row.keys() >= JSON_KEYS for row in rows)
    assert "read 300 rows x 2 columns from x.npy" in done.stderr
    assert "No metric has a floor" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["x.csv", "--target", "ring8"],
            "draws of ring8 must have shape (n, 2), got (200, 3); read 200 rows x 3 columns",
        ),
        (
            ["x.csv", "--target", "ring8", "--variables", "a,b"],
            "NaN or infinities in 1 rows, first in row 3; read 200 r",
        ),
        (["x.csv", "--target", "ring9"], "unknown target 'ring9'; did you mean 'ring"),
        (["x.csv", "--target", "ring8", "--metrics", "w3"], "unknown metric 'w3'; did you mean 'w2'"),
        (["absent.csv", "--target", "ring8"], "draws file absent.csv does not exist"),
        (["x.csv", "--target", "ring8", "--against", "no.csv"], "leaderboard no.csv does not exist"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(np.ones((200, 3)), columns=["a", "b", "c"])
    frame.loc[2, "b"] = np.nan
    frame.to_csv(tmp_path / "x.csv", index=False)
    done = samplerbench(*arguments, at=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
