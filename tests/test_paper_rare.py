"""Rare faults: tables by hand and on laws with known answers, figures, and a store from end to end."""

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import samplers, targets
from samplerbench.benchmarks.croissant import undescribed
from samplerbench.benchmarks.leaderboard import collect
from samplerbench.benchmarks.look import LOOK
from samplerbench.benchmarks.paper import audit, detector, rare_modes
from samplerbench.benchmarks.paper.detector import Bench, Detector, Rates, recall_error
from samplerbench.benchmarks.paper.rare_draws import FaultTarget, ModeDraws, Typical, exact_by_mode, fault_targets
from samplerbench.benchmarks.paper.rare_faults import CLASSIC, summary, with_cheapest, write_figures, write_tables
from samplerbench.benchmarks.paper.rare_figures import (
    detector_figure,
    first_hit_figure,
    recall_figure,
    weight_figure,
)
from samplerbench.benchmarks.paper.rare_modes import OUTSIDE, mode_rows, weight_text
from samplerbench.benchmarks.plan import RunSpec, Suite, load_suite, make_plan, parse_suite
from samplerbench.benchmarks.report import write_leaderboard
from samplerbench.metrics.rare import mean_first_hit
from samplerbench.targets import Meter, Modes, derive_generator

Run = Callable[[Suite, Path], None]

MASSES = (0.9, 0.08, 0.01)  # and 0.01 outside
CENTRES = (0.0, 10.0, 20.0)


def assign(x: Tensor) -> Tensor:
    """Normal laws around the centres; more than 4 away is outside."""
    distance = (x[:, :1] - torch.tensor(CENTRES)).abs()
    return torch.where(distance.amin(1) < 4, distance.argmin(1), -1)


def draw(n_samples: int, generator: Generator) -> Tensor:
    z = torch.randn(n_samples, 2, generator=generator, dtype=torch.float64).clamp(-3.9, 3.9)
    mode = torch.tensor([*MASSES, 0.01]).multinomial(n_samples, replacement=True, generator=generator)
    shift = torch.tensor([*CENTRES, 40.0], dtype=torch.float64)[mode]
    return z + torch.stack([shift, torch.zeros_like(shift)], dim=1)


@cache
def line() -> FaultTarget:
    """Three modes along the first of two coordinates."""
    modes = Modes(assign, torch.tensor(MASSES, dtype=torch.float64))

    def log_prob(x: Tensor) -> Tensor:
        return -0.5 * (x - torch.stack([x[:, 0] - (x[:, 0] + 5) % 10 + 5, 0 * x[:, 0]], 1)).square().sum(1)

    return FaultTarget("line", log_prob, modes, draw, n_each=2_000, n_heaviest=20_000)


@cache
def spec() -> RunSpec:
    table = {"n_samples": 2_000, "metrics": ["mode_tv"], "targets": [{"name": "mog2", "label": "line"}]}
    return make_plan(parse_suite({**table, "samplers": [{"name": "ula", "label": "S"}]}, "s"))[0]


def drawn(*x: float) -> ModeDraws:
    """Draws with these first coordinates."""
    points = torch.tensor([[first, 0.0] for first in x]) if x else torch.empty(0, 2)
    return ModeDraws.of(spec(), "ok" if x else "failed", points, line())


def test_exact_draws_of_every_mode_have_the_law_within_it() -> None:
    found = exact_by_mode(line(), [5, 1_000, 300])
    assert [x.shape for x in found] == [(5, 2), (1_000, 2), (300, 2)]
    for mode, x in enumerate(found):
        assert (assign(x) == mode).all()
    assert stats.kstest(found[1][:, 0] - 10, "norm").pvalue > 0.001
    assert torch.equal(exact_by_mode(line(), [5, 1_000, 300])[2], found[2])
    assert len(found[2].unique(dim=0)) == 300


def test_targets_without_modes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="a target of rare faults must have modes and exact draws, here has not"):
        FaultTarget.of("here", targets.get("funnel2"))


def test_the_typical_range_holds_99_percent_of_fresh_exact_draws() -> None:
    x = torch.randn(20_000, 2, generator=Generator().manual_seed(0), dtype=torch.float64) * 2 + 5
    known = Typical.of(x, -x[:, 0])
    fresh = torch.randn(20_000, 2, generator=Generator().manual_seed(1), dtype=torch.float64) * 2 + 5
    error = math.sqrt(2 * 0.01 * 0.99 / 20_000)
    assert abs(known.holds(-fresh[:, 0]).double().mean() - 0.99) < 5 * error
    assert known.distance == pytest.approx(stats.chi(2).ppf(0.995), rel=0.03)
    assert known.distances(torch.tensor([[5.0, 11.0]]))[0] == pytest.approx(3.0, rel=0.03)


def test_rows_of_modes_are_counts_ratios_and_first_hits() -> None:
    table = pd.DataFrame(mode_rows(drawn(0, 50, 10, *[0] * 90, *[10] * 7), line()), columns=rare_modes.COLUMNS)
    table = table.set_index("mode")
    assert list(table.index) == [0, 1, 2, OUTSIDE]
    assert list(table["hits"]) == [91, 8, 0, 1]
    assert list(table["found"]) == [1, 1, 0, 0]
    assert list(table["weight_ratio"]) == pytest.approx([0.91 / 0.9, 1.0, 0.0, 1.0])
    assert list(table["first_hit"]) == [1, 3, 100, 2]
    assert list(table["censored"]) == [0, 0, 1, 0]
    assert table.loc[2, "first_hit_exact"] == mean_first_hit(0.01, 100)
    assert math.isnan(table.loc[2, "share_typical"])
    none = pd.DataFrame(mode_rows(drawn(), line()), columns=rare_modes.COLUMNS)
    assert list(none["n_draws"]) == [0] * 4
    assert none["hits"].isna().all()
    assert set(none["status"]) == {"failed"}


def test_draws_that_are_not_finite_count_as_none() -> None:
    assert len(drawn(0.0, math.nan).x) == 0


def test_exact_draws_are_typical_and_points_of_no_spread_are_not() -> None:
    x, _ = line().sample(20_000, "test")
    exact = pd.DataFrame(mode_rows(ModeDraws.of(spec(), "ok", x, line()), line()))
    for hits, share in zip(exact["hits"][:3], exact["share_typical"][:3], strict=True):
        assert abs(share - 0.99) < 5 * math.sqrt(0.99 * 0.01 * (1 / hits + 1 / 2_000))
    assert mode_rows(drawn(*[10.0] * 50), line())[1]["share_typical"] == 0  # all at the peak


def test_weights_are_written_to_one_digit() -> None:
    assert [weight_text(weight) for weight in (0.888, 0.0999, 9.99e-5, 1e-12)] == ["9e-1", "1e-1", "1e-4", "1e-12"]


def test_rates_follow_from_the_confusion_at_the_true_prevalence() -> None:
    confusion = np.array([[0.98, 0.02, 0.0], [0.1, 0.9, 0.0], [0.5, 0.3, 0.2]])
    rates = Rates(confusion, np.array([0.9, 0.08, 0.02]), nominal=0)
    said = 0.9 * 0.02 + 0.08 * 0.9 + 0.02 * 0.3
    assert rates.of_mode(1) == pytest.approx(
        {"recall": 0.9, "alarm_rate": 0.9, "precision": 0.072 / said, "false_alarm_rate": (said - 0.072) / 0.92}
    )
    assert rates.of_mode(2)["alarm_rate"] == 0.5
    alarms = 0.9 * 0.02 + 0.08 * 0.9 + 0.02 * 0.5
    assert rates.of_all == pytest.approx(
        {"recall": (0.072 + 0.004) / 0.1, "precision": (0.072 + 0.004) / alarms, "false_alarm_rate": 0.02}
    )


def test_the_error_of_a_recall_covers_the_truth_and_is_never_zero() -> None:
    assert 0 < recall_error(1.0, 2_000) < 0.001
    rng, n, p = np.random.default_rng(0), 2_000, 0.9
    found = rng.binomial(n, p, size=4_000) / n
    within = np.mean([abs(value - p) < 1.96 * recall_error(value, n) for value in found])
    assert abs(within - 0.95) < 0.02  # the normal interval of a count is within 0.5 / sd = 4% of the normal law's


def test_a_detector_trained_on_exact_draws_has_the_recall_of_the_best_rule() -> None:
    """Modes 10 apart: a threshold half way errs with probability 3e-7."""
    x, mode = line().sample(20_000, "training")
    rates = Rates.of(Detector.trained(x, mode, 0), line())
    assert (rates.confusion.diagonal() > 0.999).all()


def test_an_absent_mode_has_recall_0_and_may_raise_another_alarm() -> None:
    bench = Bench({"line": line()})
    faults, whole = bench.rows(drawn(*np.linspace(-2, 2, 1_800), *np.linspace(8, 12, 199), 50))
    first, second = faults
    assert (first["n_train"], second["n_train"]) == (199, 0)
    assert first["recall"] > 0.99  # type: ignore[operator]
    assert (second["recall"], second["alarm_rate"], second["exact_recall"]) == (0, 1, 1)
    assert math.isnan(second["precision"])  # type: ignore[arg-type]
    assert (whole["n_train"], whole["n_outside"]) == (1_999, 1)
    assert whole["recall"] == pytest.approx(0.08 / 0.09, abs=0.01)
    assert whole["false_alarm_rate"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("x", [(0.0,) * 10, (50.0,) * 10])
def test_draws_of_one_mode_or_none_teach_that_all_is_well(x: tuple[float, ...]) -> None:
    faults, whole = Bench({"line": line()}).rows(drawn(*x))
    assert [row["recall"] for row in faults] == [0, 0]
    assert whole["false_alarm_rate"] == 0
    assert math.isnan(whole["precision"])  # type: ignore[arg-type]


def test_a_run_without_draws_has_no_recall() -> None:
    faults, whole = Bench({"line": line()}).rows(drawn())
    assert all("recall" not in row and row["exact_recall"] == 1 for row in faults)
    assert whole["status"] == "failed"
    costs = pd.DataFrame(columns=["target", "sampler", "seed", *detector.COSTS])
    table = detector.with_costs(faults, detector.COLUMNS, costs)
    assert table[["recall", "seconds"]].isna().all(axis=None)


def test_the_audit_tells_true_faults_from_artefacts() -> None:
    draws = drawn(0, 10.5, *[20.7] * 8, 13.95, 14.1, 39.0, 5.5)
    table = pd.DataFrame(audit.audit_rows(draws, line()), columns=audit.COLUMNS)
    assert list(table["kind"]) == ["fault"] * 7 + ["outside"] * 3
    assert list(table["mode"]) == [2] * 5 + [1] * 2 + [2, 1, 1]  # the rarest first; outside, the nearest
    assert list(table["x1"]) == pytest.approx([20.7] * 5 + [10.5, 13.95] + [39.0, 5.5, 14.1])  # the farthest first
    assert list(table["typical"]) == [1] * 6 + [0] * 4  # 13.95 is in the mode and 4 standard deviations off
    assert table["distance"].iloc[7] == pytest.approx(19.0, rel=0.05)
    assert table["distance_high"].iloc[0] == pytest.approx(stats.chi(2).ppf(0.995), rel=0.05)
    assert table["x3"].isna().all()


def test_the_audit_sheet_says_how_many_draws_are_where() -> None:
    draws = drawn(0, 10.5, *[20.7] * 8, 14.5, 39.0)
    table = pd.DataFrame(audit.audit_rows(draws, line()), columns=audit.COLUMNS)
    modes = pd.DataFrame(mode_rows(draws, line()), columns=rare_modes.COLUMNS)
    text = audit.audit_markdown(table, modes)
    assert "12 draws, 2 outside every mode (16.67%; the law has 1.00% there)." in text
    assert "| 1e-2 | 8 | 66.7 | 100.0% |" in text
    assert "| fault | 1e-2 | 20.70 | 0.00 |" in text
    assert "x3" not in text
    nothing = pd.DataFrame(mode_rows(drawn(), line()), columns=rare_modes.COLUMNS)
    assert "No draws: failed." in audit.audit_markdown(table[:0], nothing)


def frames(n_seeds: int, names: tuple[str, ...] = ("A", "B", "broken")) -> tuple[pd.DataFrame, pd.DataFrame]:
    """rare_modes.csv and detector.csv: A draws exactly, B has nothing of 1e-2 in seed 0, broken has no draws."""
    modes, faults = [], []
    for sampler in names:
        for seed in range(n_seeds):
            start = {"target": "t", "sampler": sampler, "seed": seed, "status": "ok"}
            for mode, weight in [*enumerate(MASSES), (OUTSIDE, 0.01)]:
                row = {**start, "mode": mode, "weight": weight, "n_draws": 2_000, "hits": 2_000 * weight}
                row |= {"found": 1, "weight_ratio": 1.0, "share_typical": 0.99, "first_hit": round(1 / weight)}
                row |= {"censored": 0, "first_hit_exact": mean_first_hit(weight, 2_000)}
                if sampler == "B" and mode == 2 and seed == 0:
                    row |= {"hits": 0, "found": 0, "weight_ratio": 0.0, "first_hit": 2_000, "censored": 1}
                if sampler == "broken":
                    row = {**start, "status": "failed", "mode": mode, "weight": weight, "n_draws": 0}
                modes.append(row)
                if mode in (1, 2):
                    known = {"n_train": row.get("hits"), "recall": row.get("found"), "gradient_equivalents": 1e6}
                    cost = {"exact_recall": 1.0} if sampler == "broken" else {**known, "exact_recall": 1.0}
                    faults.append({**start, "mode": mode, "weight": weight, "status": row["status"], **cost})
    columns = [name for name in detector.COLUMNS if name != "seconds"]
    return pd.DataFrame(modes, columns=rare_modes.COLUMNS), pd.DataFrame(faults, columns=columns)


def test_the_summary_is_one_row_per_sampler(columns_are_described: Callable[[str, Iterable[str]], None]) -> None:
    modes, faults = frames(2)
    runs = pd.DataFrame(
        [
            {"target": "t", "sampler": sampler, "false_alarm_rate": 0.1 * seed, "seconds": 3.0, **cost}
            for sampler, cost in (
                ("A", {"gradient_equivalents": 4e6}),
                ("B", {"gradient_equivalents": 1e6}),
                ("broken", {}),
            )
            for seed in range(2)
        ]
    )
    place = {"target": "t", "metric": "rare_weight_error", "status": "ok"}
    metrics = pd.DataFrame(
        [
            {**place, "sampler": sampler, "seed": seed, "value": value, "ratio": 2 * value}
            for sampler, found in (("A", (0.4, 0.6)), ("B", (1.0, 2.0)), ("broken", (np.nan, np.nan)))
            for seed, value in enumerate(found)
        ]
    )
    columns_are_described("rare_faults", summary(modes, faults, runs, metrics, {"A"}))
    table = summary(modes, faults, runs, metrics, {"A"}).set_index("sampler")
    assert list(table["n_ok"]) == [2, 2, 0]
    assert list(table["rarest_found"])[:2] == [0.01, 0.08]
    assert math.isnan(table.loc["broken", "rarest_found"])
    assert list(table["first_hit_8e-2"])[:2] == [12, 12]
    assert list(table["first_hit_1e-2"])[:2] == [100, 1_050]
    assert list(table["never_1e-2"][:2]) == [0, 1]
    assert table["never_1e-2"].isna()["broken"]
    assert list(table["detector_recall_1e-2"])[:2] == [1.0, 0.5]
    assert list(table["outside_share"])[:2] == [0.01, 0.01]
    assert list(table["weight_error"])[:2] == [0.5, 1.5]
    assert list(table["weight_error_ratio"])[:2] == [1.0, 3.0]
    assert list(table["cheapest_as_good"]) == ["", "", ""]  # two seeds cannot tell
    assert table.loc["A", "false_alarm_rate"] == pytest.approx(0.05)


def test_the_cheapest_rival_is_whole_and_no_worse_beyond_noise() -> None:
    rows = [
        ("new", 0.5, 1e6), ("new wide", 0.5, 1e6), ("dear", 0.4, 9e6), ("worse", 0.8, 1e5), ("partly", 0.1, 1e4),
        ("fit", 0.501, 5e6), ("fit wide", 0.501, 1e5),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["sampler", "weight_error", "gradient_equivalents"]).assign(target="t")
    rng, place = np.random.default_rng(0), {"target": "t", "status": "ok"}
    errors = pd.DataFrame(
        [
            {**place, "sampler": name, "seed": seed, "value": error + 0.02 * rng.standard_normal()}
            for name, error, _ in rows
            for seed in range(5)
        ]
    )
    errors.loc[(errors["sampler"] == "partly") & (errors["seed"] == 0), "status"] = "budget"
    classic = {"dear", "worse", "partly", "fit", "fit wide"}
    found = with_cheapest(table, errors, classic).set_index("sampler")
    assert found.loc["new", "cheapest_as_good"] == "fit"  # larger on average, but within noise
    assert found.loc["new", "cost_ratio"] == pytest.approx(0.2)
    assert found.loc["new wide", "cheapest_as_good"] == "fit wide"  # both are told where to look
    assert found.loc["partly", "cheapest_as_good"] == ""
    assert found.loc["worse", "cheapest_as_good"] == "fit"
    assert set(with_cheapest(table, errors[errors["seed"] < 4], classic)["cheapest_as_good"]) == {""}


@pytest.mark.parametrize("n_seeds", [1, 2, 5])
def test_figures_mark_what_was_not_found_and_what_has_no_draws(n_seeds: int) -> None:
    modes, faults = frames(n_seeds)
    with matplotlib.rc_context(LOOK):
        hits, weights = first_hit_figure("t", modes), weight_figure("t", modes)
        recall, known = recall_figure(modes), detector_figure("t", faults)
    for figure in (hits, weights):
        assert [axis.get_title() for axis in figure.axes] == ["weight 8e-2", "weight 1e-2"]
        assert [text.get_text() for text in figure.axes[1].texts] == ["no draws: failed"]
    censored = [line for line in hits.axes[1].lines if line.get_marker() == ">"]
    assert [list(line.get_xdata()) for line in censored] == [[2_000]]  # type: ignore[arg-type]
    absent = [line for line in weights.axes[1].lines if line.get_marker() == "<"]
    assert [len(line.get_xdata()) for line in absent] == [1]  # type: ignore[arg-type]
    texts = [text.get_text() for text in recall.axes[0].texts]
    all_of, but_one = f"{n_seeds}/{n_seeds}", f"{n_seeds - 1}/{n_seeds}"
    assert texts == [all_of, all_of, all_of, but_one, "no draws: failed"]
    assert [axis.get_title() for axis in known.axes] == ["cost", "weight 8e-2", "weight 1e-2"]


def test_a_store_gives_tables_and_figures_the_same_every_time(
    run_here: Callable[[Suite, Path], None], tmp_path: Path
) -> None:
    short = {"training": {"n_steps": 2, "n_warm_up": 0, "batch_size": 16}}
    rows = [
        {"name": "kl", "label": "KL", "parameters": short},
        {"name": "mala_long", "label": "MALA long", "parameters": {"burn_in": 20, "thinning": 2}},
        {"name": "ais", "label": "AIS", "parameters": {"min_ess": 0.5, "n_moves": 1, "n_pilot": 50}},
        {"name": "misbehaving", "label": "diverges", "parameters": {"how": "diverge"}},
        {"name": "misbehaving", "label": "raises", "parameters": {"how": "raise"}},
    ]
    names = ["rare_recall", "rare_weight_error", "first_hit"]
    table = {"n_samples": 400, "seeds": 2, "metrics": names, "targets": ["ring8"], "samplers": rows}
    run_here(parse_suite(table, "tiny"), tmp_path / "store")
    results = collect(tmp_path / "store")
    for to in ("a", "b"):
        write_leaderboard(tmp_path / "store", tmp_path / to)
        write_tables(tmp_path / "store", results, tmp_path / to)
        figures = write_figures(tmp_path / to)
    assert len(figures) == 8
    files = [path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert undescribed(tmp_path / "a") == []
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    modes, faults, board = (
        pd.read_csv(tmp_path / "a" / f"{name}.csv") for name in ("rare_modes", "detector", "rare_faults")
    )
    assert list(modes.columns) == rare_modes.COLUMNS
    assert len(modes) == 5 * 2 * 9
    hits = modes[modes["n_draws"] > 0].groupby(["sampler", "seed"])["hits"].sum()
    assert list(hits) == [400] * 6
    assert list(faults.columns) == detector.COLUMNS
    assert len(faults) == 5 * 2 * 7
    assert faults.loc[faults["sampler"] == "raises", "recall"].isna().all()
    recall = results.metrics.query("metric == 'rare_recall' and sampler == 'MALA long'")["value"]
    found = modes.query("sampler == 'MALA long' and mode >= 0").groupby("seed")["found"].mean()
    assert list(recall) == pytest.approx(list(found))
    assert list(board["sampler"]) == ["KL", "MALA long", "AIS", "diverges", "raises"]
    assert list(board["n_ok"]) == [2, 2, 2, 0, 0]
    totals = results.costs.query("sampler == 'AIS'")[["fit_gradient_equivalents", "draw_gradient_equivalents"]].sum(
        axis=1
    )
    assert board.loc[2, "gradient_equivalents"] == pytest.approx(totals.mean())
    assert set(pd.read_csv(tmp_path / "a" / "audit.csv")["seed"]) == {0}
    assert "## ring8: diverges\n\nNo draws: diverged." in (tmp_path / "a" / "audit.md").read_text()


def test_fault_targets_are_those_of_the_plan(run_here: Run, tmp_path: Path) -> None:
    table = {"n_samples": 50, "metrics": ["mode_tv"], "samplers": [{"name": "ula", "parameters": {"n_steps": 1}}]}
    run_here(parse_suite({**table, "targets": [{"name": "ring8", "label": "ring"}, "mog2"]}, "two"), tmp_path)
    found = fault_targets(collect(tmp_path))
    assert list(found) == ["ring", "mog2"]
    assert len(found["ring"].modes.masses) == 8


def step_cost(name: str, target: str) -> float:
    """Gradient equivalents of a training step; a step costs the same at every width of the start."""
    meter = Meter(targets.get(target))
    with meter.phase("fit"):
        samplers.get(name, training={"n_steps": 2, "n_warm_up": 0}).fit(meter, derive_generator(0, "fit"))
    return meter.counts["fit"].gradient_equivalents / 2


def test_the_suite_pays_the_same_for_training_and_asks_for_enough_draws() -> None:
    suite = load_suite("paper-rare")
    assert suite.n_samples == 200_000
    runs = [run for run in make_plan(suite) if run.seed == 0]
    for target in ("rare_modes2", "rare_modes8", "rare_modes32"):
        of_target = {run.sampler_label: run for run in runs if run.target == target}
        costs = {name: step_cost(name, target) for name in ("dft", "fisher", "kl")}
        for label in ("DFT", "Fisher", "KL", "DFT wide", "Fisher wide", "KL wide"):
            run = of_target[label]
            paid = costs[run.sampler] * run.configuration["training"]["n_steps"]
            assert paid == pytest.approx(1.92e6, rel=0.01)
    classic = {run.sampler_label for run in runs if run.sampler in CLASSIC}
    assert {"SMC", "SMC 10x wide", "AIS", "MALA restart", "HMC long", "Tempering long wide"} < classic
    assert classic.isdisjoint({"SMC mixture", "Teacher", "DFT+", "KL"})


def test_small_keeps_two_seeds_of_two_targets() -> None:
    runs = make_plan(load_suite("paper-rare", scale="small"))
    assert {run.seed for run in runs} == {0, 1}
    assert {run.target for run in runs} == {"rare_modes2", "rare_modes8"}
    assert {"DFT wide", "Fisher wide", "KL wide", "DFT+ wide", "SMC wide"} < {run.sampler_label for run in runs}
