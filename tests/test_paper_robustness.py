"""Sweeps of the shipped suite, sensitivity by simulation, tables of synthetic runs, and a real store."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.croissant import undescribed
from samplerbench.benchmarks.look import LOOK
from samplerbench.benchmarks.paper.robustness import (
    sensitivity_figure,
    settings_figure,
    training_figure,
    write_figures,
    write_tables,
)
from samplerbench.benchmarks.paper.sensitivity import sensitivity_table, worst_over_best
from samplerbench.benchmarks.paper.sweeps import GRID, LENGTH, SWEEPS, robustness_table, sweep_runs
from samplerbench.benchmarks.plan import RunSpec, Suite, load_suite, make_plan, parse_suite
from samplerbench.benchmarks.report import write_leaderboard

SUITE = "paper-robustness"
SHIPPED = Path(__file__).parents[1] / "results" / "paper"


def test_every_row_of_the_suite_is_a_setting_of_a_sweep_alike_for_all_methods() -> None:
    runs = [run for run in make_plan(load_suite(SUITE)) if run.seed == 0 and run.target_label == "ring8"]
    sweeps = sweep_runs(runs)
    assert set(sweeps["run_id"]) == {run.run_id for run in runs}
    assert Counter(sweeps.loc[sweeps["method"] == "DFT", "sweep"]) == {
        sweep.name: n for sweep, n in zip(SWEEPS, (9, 6, 5, 5, 5, 6), strict=True)
    }
    by_method = {method: part[["sweep", "setting"]].to_numpy().tolist() for method, part in sweeps.groupby("method")}
    assert by_method["DFT"] == by_method["Fisher"] == by_method["KL"]
    shown = {name: list(part["setting"]) for name, part in sweeps[sweeps["method"] == "KL"].groupby("sweep")}
    assert shown["step size"] == ["0.00025", "0.0005", "0.001", "0.002", "0.004"]
    assert shown["step size of the score / of the sampler"] == ["0.5", "1", "2", "4", "8"]
    assert shown["score steps per sampler step"] == ["1", "2", "5", "10", "20"]
    assert shown[LENGTH.name] == ["0.0625", "0.125", "0.25", "0.5", "1", "2"]
    assert shown["noise schedule / scale"] == [
        "0.005", "0.02", "0.08", "0.2 to 0.02", "1 to 0.02", "1 to 0.02 in 100%",
    ]  # fmt: skip
    assert shown[GRID.name][0] == "start 0.3, noise 0.005"


def test_lengths_are_alike_in_evaluations() -> None:
    per_step = {"dft": 768, "kl": 256, "fisher": 128 * 7}
    runs = {run.run_id: run for run in make_plan(load_suite(SUITE)) if run.seed == 0 and run.target_label == "ring8"}
    sweeps = sweep_runs(runs.values())
    paid: dict[str, list[float]] = {}
    for _, row in sweeps[sweeps["sweep"] == LENGTH.name].iterrows():
        run = runs[row["run_id"]]
        paid.setdefault(row["setting"], []).append(
            run.configuration["training"]["n_steps"] * per_step[run.sampler] / float(row["setting"])
        )
    assert all(len(values) == 3 for values in paid.values())
    assert max(abs(value / 1.92e6 - 1) for values in paid.values() for value in values) < 0.003


def test_small_keeps_two_settings_or_more_of_every_sweep_and_three_of_dft() -> None:
    sweeps = sweep_runs(make_plan(load_suite(SUITE, scale="small")))
    n_settings = sweeps.groupby(["method", "sweep"])["setting"].nunique()
    assert len(n_settings) == 3 * len(SWEEPS)
    assert n_settings.min() >= 2
    assert n_settings["DFT"].min() >= 3


def test_suites_of_other_samplers_or_without_a_centre_are_named() -> None:
    table = {"n_samples": 10, "metrics": ["sliced_w2"], "targets": ["ring8"]}
    with pytest.raises(ValueError, match="samplers must be dft, fisher, kl, ring8 / mala / seed 0 is mala"):
        sweep_runs(make_plan(parse_suite({**table, "samplers": ["mala"]}, "s")))
    with pytest.raises(ValueError, match="kl must have a row 'KL', the centre of its sweeps"):
        sweep_runs(make_plan(parse_suite({**table, "samplers": ["kl"]}, "s")))


def test_worst_over_best_by_hand_with_lost_runs_as_infinitely_bad() -> None:
    spread = worst_over_best([[2.0, 2.0, 4.0], [8.0, 9.0, 7.0], [3.0, 3.0, 3.0]])
    assert (spread.value, spread.best, spread.worst) == (4.0, 0, 1)
    assert spread.low < 4.0 < spread.high
    half_lost = worst_over_best([[2.0, 2.0, 4.0], [8.0, math.nan, 7.0]])
    assert (half_lost.value, half_lost.high) == (4.0, math.inf)
    lost = worst_over_best([[2.0, 2.0, 4.0], [8.0, math.nan, math.nan]])
    assert (lost.value, lost.worst, lost.low, lost.high) == (math.inf, 1, 1.0, math.inf)
    assert (lost.best_median, lost.worst_median) == (2.0, math.inf)
    gone = worst_over_best([[2.0, 2.0], [math.nan, math.nan], [3.0, 3.0]])
    assert (gone.value, gone.low, gone.high) == (math.inf, math.inf, math.inf)
    assert worst_over_best([[math.nan], [math.nan]]).value == math.inf
    below = worst_over_best([[0.1, 0.2, 0.3], [3.0, 4.0, 5.0]], least=1.0)
    assert (below.value, below.best_median) == (4.0, 1.0)
    assert worst_over_best([[1.0, 1e30], [1.0]]).high == math.inf
    alone = worst_over_best([[2.0], [3.0]])
    assert alone.value == 1.5
    assert math.isnan(alone.low)
    with pytest.raises(ValueError, match="at least 2 settings, got 1"):
        worst_over_best([[1.0]])


@pytest.mark.parametrize(
    "centres", [(0.0,) * 5, (0.0, 0.1, 0.2, 0.3, 1.0), (0.0, 0.0, 0.0, 1.0, 1.0), (-0.6, -0.6, -0.6, -0.6, 1.0)]
)
@pytest.mark.parametrize(
    ("seeds", "sds", "level"),
    [(5, (0.2,) * 5, 0.95), (2, (0.2,) * 5, 0.95), (5, (0.1, 0.1, 0.2, 0.2, 0.3), 0.92)],  # the last: unequal spreads
)
def test_the_interval_covers_the_range_of_the_centres_at_least_at_its_level(
    centres: tuple[float, ...], seeds: int, sds: tuple[float, ...], level: float
) -> None:
    rng, n = np.random.default_rng(seeds), 1_000
    truth = math.exp(max(centres) - max(0.0, min(centres)))  # below the floor counts as the floor
    values = np.exp(np.array(centres)[:, None] + np.array(sds)[:, None] * rng.standard_normal((n, 5, seeds)))
    spreads = [worst_over_best(list(one), least=1.0 if min(centres) < 0 else 0.0) for one in values]
    covered = np.mean([spread.low <= truth <= spread.high for spread in spreads])
    assert covered > level - 3 * math.sqrt(level * (1 - level) / n)


def synthetic(scale: str = "full", seeds: int = 5) -> tuple[list[RunSpec], pd.DataFrame, pd.DataFrame]:
    """The shipped suite with made-up ratios: DFT depends on its step size as its square root; two runs are lost."""
    rng = np.random.default_rng(seeds)
    plan = [run for run in make_plan(load_suite(SUITE, scale=scale)) if run.seed < seeds]  # type: ignore[arg-type]
    level = {"dft": 4.0, "fisher": 6.0, "kl": 2.0}
    values, costs = [], []
    for run in plan:
        training = run.configuration["training"]
        ratio = level[run.sampler] * (1 + 0.3 * abs(math.log(run.configuration["network"]["start_scale"])))
        ratio *= (2500 / training["n_steps"]) ** 0.3
        if run.sampler == "dft":
            ratio *= math.sqrt(training["sampler_step_size"] / 1e-3)
        lost = run.sampler_label == "Fisher K 1" and run.seed < 2
        place = {"target": run.target_label, "sampler": run.sampler_label, "seed": run.seed}
        for metric in ("sliced_w2", "mode_tv", "modes_found", "mmd2", "ksd", "ksd_paper"):
            if run.target_label == "squiggle" and metric.startswith("mode"):
                value, reason = math.nan, "needs modes"
            else:
                value, reason = ratio * math.exp(0.05 * rng.standard_normal()) - 4 * (metric == "mmd2"), ""
            value, reason = (math.nan, "diverged") if lost else (value, reason)
            floor = math.nan if metric == "modes_found" or math.isnan(value) else 1.0
            values.append(
                {
                    "run_id": run.run_id, **place, "status": "diverged" if lost else "ok", "metric": metric,
                    "n_samples": 2000, "value": value, "floor": floor, "ratio": value * floor, "reason": reason,
                }
            )  # fmt: skip
        per_step = {"dft": 768, "kl": 256, "fisher": 128 * 7}[run.sampler]
        costs.append({**place, "fit_gradient_equivalents": training["n_steps"] * per_step, "fit_seconds": 10.0})
    return plan, pd.DataFrame(values), pd.DataFrame(costs)


def test_tables_say_medians_ranges_and_losses_of_every_setting(
    columns_are_described: Callable[[str, Iterable[str]], None],
) -> None:
    plan, metrics, costs = synthetic()
    sweeps = sweep_runs(plan)
    table = robustness_table(metrics, costs, sweeps)
    columns_are_described("robustness", table)
    columns_are_described("sensitivity", sensitivity_table(metrics, sweeps))
    assert len(table) == 2 * 3 * (9 + 6 + 5 + 5 + 5 + 6)
    cell = table[(table["method"] == "DFT") & (table["target"] == "ring8") & (table["setting"] == "0.004")].iloc[0]
    own = metrics[(metrics["sampler"] == "DFT step 4e-3") & (metrics["target"] == "ring8")]
    ratios = own.loc[own["metric"] == "ksd", "ratio"]
    assert (cell["n_runs"], cell["share_finite"]) == (5, 1.0)
    assert (cell["ksd_ratio_median"], cell["ksd_ratio_min"]) == (ratios.median(), ratios.min())
    worse = own[own["metric"].isin(["sliced_w2", "mode_tv"])].groupby("seed")["ratio"].max()
    assert cell["primary_ratio_max"] == pytest.approx(worse.max())
    assert "modes_found_median" in table
    assert table.loc[table["target"] == "squiggle", "mode_tv_ratio_median"].isna().all()
    lost = table[(table["method"] == "Fisher") & (table["sweep"] == SWEEPS[4].name) & (table["setting"] == "1")]
    assert list(lost["share_finite"]) == [0.6, 0.6]
    sensitivity = sensitivity_table(metrics, sweeps).set_index(["target", "method", "sweep", "metric"])
    steps = sensitivity.loc[("ring8", "DFT", "step size", "sliced_w2")]
    assert (steps["best"], steps["worst"], steps["n_settings"]) == ("0.00025", "0.004", 5)
    assert steps["low"] < 4.0 < steps["high"]
    assert sensitivity.loc[("ring8", "KL", "step size", "sliced_w2"), "high"] < 1.3
    assert sensitivity.loc[("ring8", "Fisher", SWEEPS[4].name, "primary"), "n_lost"] == 2
    assert math.isinf(sensitivity.loc[("ring8", "Fisher", SWEEPS[4].name, "primary"), "high"])
    assert ("squiggle", "KL", "step size", "mode_tv") not in sensitivity.index
    assert steps["worst_ratio"] / steps["best_ratio"] == pytest.approx(steps["worst_over_best"])


def test_ratios_below_the_floor_missing_runs_and_settings_without_a_run_do_not_look_robust_or_sensitive() -> None:
    plan, metrics, _ = synthetic(seeds=2)
    sweeps = sweep_runs(plan)
    metrics.loc[metrics["sampler"] == "KL", ["value", "ratio"]] = 0.01  # the centre of all sweeps, better than exact
    metrics.loc[metrics["sampler"] == "DFT step 4e-3", ["status", "value", "ratio"]] = "failed", math.nan, math.nan
    metrics.loc[metrics["sampler"] == "Fisher step 4e-3", ["status", "value", "ratio"]] = "missing", math.nan, math.nan
    table = sensitivity_table(metrics, sweeps)
    table = table[(table["sweep"] == "step size") & (table["metric"] == "primary")].set_index(["target", "method"])
    assert table.loc[("ring8", "KL"), "best_ratio"] == 1.0
    gone = table.loc[("ring8", "DFT")]
    assert (gone["n_runs"], gone["n_lost"], gone["worst"]) == (10, 2, "0.004")
    assert (gone["worst_over_best"], gone["low"], gone["high"]) == (math.inf,) * 3
    kept = table.loc[("ring8", "Fisher")]
    assert (kept["n_settings"], kept["n_runs"], kept["n_lost"]) == (4, 8, 0)


@pytest.mark.parametrize(("scale", "seeds"), [("small", 2), ("full", 5)])
def test_figures_have_a_row_per_target(scale: str, seeds: int) -> None:
    plan, metrics, costs = synthetic(scale, seeds)
    sweeps = sweep_runs(plan)
    table = robustness_table(metrics, costs, sweeps)
    n_targets = table["target"].nunique()
    with matplotlib.rc_context(LOOK):
        assert len(settings_figure(table).axes) == 4 * n_targets
        titles = [axis.get_title() for axis in training_figure(table).axes]
        assert titles == ["ring8"] * 3 + ["squiggle"] * 2 * (n_targets - 1)
        assert len(sensitivity_figure(sensitivity_table(metrics, sweeps)).axes) == n_targets


def test_a_store_gives_the_same_files_every_time(run_here: Callable[[Suite, Path], None], tmp_path: Path) -> None:
    samplers = []
    for name, label in (("dft", "DFT"), ("kl", "KL")):
        for setting, n_steps, network, extra in (
            ("", 4, {}, {}), (" start 3", 4, {"start_scale": 3.0}, {}), (" K 2", 4, {}, {"n_score_steps": 2}),
            (" length 1/2", 2, {}, {}),
        ):  # fmt: skip
            training = {"n_steps": n_steps, "n_warm_up": 0, "batch_size": 16, **extra}
            parameters = {"training": training, "network": network}
            samplers.append({"name": name, "label": label + setting, "parameters": parameters})
    table = {
        "n_samples": 2000, "seeds": 2, "metrics": ["sliced_w2", "mode_tv"], "targets": ["ring8"], "samplers": samplers,
    }  # fmt: skip
    run_here(parse_suite(table, "short"), tmp_path / "store")
    for folder in (tmp_path / "a", tmp_path / "b"):
        results = write_leaderboard(tmp_path / "store", folder)
        write_tables(tmp_path / "store", results, folder)
        written = write_figures(folder)
    names = ["robustness.csv", "sensitivity.csv", "stability.csv", "blindness.csv", "mode_shares.csv"]
    names += [f"figures/{path.name}" for path in written]
    assert len(written) == 2 * 5
    assert undescribed(tmp_path / "a") == []
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    stability = pd.read_csv(tmp_path / "a" / "stability.csv")
    assert list(stability["n_runs"]) == [2] * 4  # of the grid alone: neither K nor length


def test_shipped_figures_are_those_of_the_shipped_tables(
    assert_same_drawing: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    for table in (SHIPPED / SUITE).glob("*.csv"):
        shutil.copy(table, tmp_path)
    drawn = [path for path in write_figures(tmp_path) if path.suffix == ".svg"]
    assert {path.name for path in drawn} == {path.name for path in (SHIPPED / SUITE / "figures").glob("*.svg")}
    for path in drawn:
        assert_same_drawing(path, SHIPPED / SUITE / "figures" / path.name)
