import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import Generator, Tensor

from samplerbench.benchmarks import bakeoff
from samplerbench.benchmarks.bakeoff import (
    BIMODAL,
    SIZES,
    TARGET_NAMES,
    Part,
    Repeats,
    build_target,
    main,
    metric_names,
    n_used,
)
from samplerbench.benchmarks.bakeoff_report import p_values, power_figure, power_table, standard_error
from samplerbench.benchmarks.corruptions import CORRUPTIONS
from samplerbench.benchmarks.truth import TruthSource
from samplerbench.metrics.base import METRICS
from samplerbench.targets import Draws, derive_generator
from samplerbench.targets.base import normal

CHEAP = ("mode_tv", "energy_w1", "moment_bias2")
RESULTS = Path(__file__).parent.parent / "results" / "bakeoff"


@dataclass
class Normal:
    """N(0, I_2) with exact draws; ``before_sample`` is called with the number of the call."""

    before_sample: Callable[[int], None] = field(default=lambda call: None, repr=False)
    n_calls: int = field(default=0, init=False, repr=False)
    dim, scale = 2, 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        self.n_calls += 1
        self.before_sample(self.n_calls)
        return normal(n_samples, self.dim, generator)


def quiet(text: str) -> None:
    """Says nothing."""


def few(metric: str, n_samples: int) -> Repeats:
    return Repeats(19, 5) if metric == "energy_w1" else Repeats(9, 3)


def test_p_values_are_ranks_in_the_bad_direction() -> None:
    null, values = np.arange(1, 20, dtype=np.float32), np.array([0, 10, 20], np.float32)
    np.testing.assert_allclose(p_values(null, values, "lower"), [1, 11 / 20, 1 / 20])
    np.testing.assert_allclose(p_values(null, values, "higher"), [1 / 20, 11 / 20, 1])
    np.testing.assert_allclose(p_values(null, values, None), [2 / 20, 1, 2 / 20])
    np.testing.assert_allclose(p_values(np.ones(19, np.float32), np.ones(1, np.float32), None), [1])


def test_standard_error_of_a_share() -> None:
    assert math.isclose(standard_error(49, 98), math.sqrt(0.25 / 98))
    assert math.isclose(standard_error(98, 98), math.sqrt(0.99 * 0.01 / 98))


def test_metrics_of_the_bake_off_judge_draws_alone() -> None:
    names = set(metric_names())
    assert {name for name in METRICS.names() if METRICS.get(name).null is not None} <= names
    assert names.isdisjoint(
        {"rhat", "ess_bulk", "ess_tail", "elbo", "ess_reverse", "log_z_error", "nll", "accuracy", "ece"}
    )


def test_an_interrupted_computation_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bakeoff, "SECONDS_PER_WRITE", -1.0)
    n_before = 2 + 2 + 100 + 1  # bandwidth and spacing, the pair that shows what is known, moments, anatomy

    def interrupt(call: int) -> None:
        if call == n_before + 2 * (19 + 7) + 1:  # in repeat 3 of the second case, between its two sets
            raise KeyboardInterrupt

    def part(name: str, target: Normal) -> Part:
        (tmp_path / name).mkdir(exist_ok=True)
        return Part("normal", target, 50, ("energy_w1", "w1"), few, tmp_path / name)

    whole, broken, resumed = Normal(), Normal(interrupt), Normal()
    part("whole", whole).compute(quiet)
    with pytest.raises(KeyboardInterrupt):
        part("broken", broken).compute(quiet)
    part("broken", resumed).compute(quiet)
    first, second = part("whole", whole), part("broken", resumed)
    assert first.values == second.values
    pd.testing.assert_frame_equal(power_table([first]), power_table([second]))
    assert len(power_table([first])) == 2 * 5  # the corruptions that need no modes
    assert whole.n_calls == n_before + 2 * (19 + 5 * 5)
    assert resumed.n_calls == whole.n_calls - 2 * (19 + 7)
    again = Normal()
    part("broken", again).compute(quiet)
    assert again.n_calls == n_before  # nothing is computed twice


def test_values_are_those_of_corrupted_draws_judged_by_a_fresh_truth(tmp_path: Path) -> None:
    target = Normal()
    part = Part("normal", target, 40, ("energy_w1",), few, tmp_path)
    part.compute(quiet)
    generator = derive_generator("bakeoff", "normal", 40, "duplicate", 3)
    draws, truth = TruthSource(target).independent_pair(40, generator)
    twice = Draws(samples=draws[:20].repeat(2, 1))  # the metric does not depend on the order
    value = METRICS.get("energy_w1")(twice, truth, seed=0)["energy_w1"]
    assert math.isclose(part.of(CORRUPTIONS["duplicate"], "energy_w1")[3], value, rel_tol=1e-5)


def test_slow_metrics_are_given_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [n_used(name, 10_000) for name in ("w1", "w2", "c2st", "mmd2")] == [2_000, 2_000, 2_000, 10_000]
    monkeypatch.setattr(bakeoff, "MAX_ROWS", {"energy_w1": 15})
    part = Part("normal", Normal(), 40, ("energy_w1",), few, tmp_path)
    part.compute(quiet)
    draws, truth = TruthSource(Normal()).independent_pair(40, derive_generator("bakeoff", "normal", 40, "null", 2))
    log_prob = Normal().log_prob(draws[:15]).sort().values
    assert truth.samples is not None
    exact = (log_prob - Normal().log_prob(truth.samples[:15]).sort().values).abs().mean().item()
    assert math.isclose(part.of(None, "energy_w1")[2], exact, rel_tol=1e-5)
    assert set(power_table([part])["n_used"]) == {15}


def test_values_of_another_law_are_not_taken_over(tmp_path: Path) -> None:
    Part(BIMODAL, build_target(BIMODAL), 30, ("mode_tv",), few, tmp_path).compute(quiet)
    assert Part(BIMODAL, build_target(BIMODAL), 30, ("mode_tv",), few, tmp_path).values
    assert not Part(BIMODAL, Normal(), 30, ("mode_tv",), few, tmp_path).values


def test_a_law_without_exact_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target must have exact draws, phi has none"):
        Part("phi", object(), 30, ("mode_tv",), few, tmp_path)  # type: ignore[arg-type]


def test_draws_without_corruption_are_rejected_in_five_percent_of_the_repeats(tmp_path: Path) -> None:
    n_null, n_repeats = 399, 400
    names, control = ("energy_w1", "moment_bias2", "ksd", "mmd2"), {"nothing": CORRUPTIONS["nothing"]}
    plan = Repeats(n_null, n_repeats)
    part = Part(BIMODAL, build_target(BIMODAL), 60, names, lambda name, n: plan, tmp_path, control)
    part.compute(quiet)
    table = power_table([part])
    assert list(table["metric"]) == ["mmd2", "energy_w1", "ksd", "moment_bias2"]
    error = math.sqrt(0.05 * 0.95 * (1 / n_null + 1 / n_repeats))  # the threshold is uncertain, too
    assert ((table["power"] - 0.05).abs() < 4.5 * error).all()


def test_moved_weights_are_seen_by_mode_tv_and_not_by_ksd_or_energy(tmp_path: Path) -> None:
    names, moved = ("mode_tv", "sliced_w2", "ksd", "energy_w1"), {"move_weights": CORRUPTIONS["move_weights"]}
    plan = Repeats(99, 60)
    part = Part(BIMODAL, build_target(BIMODAL), 200, names, lambda name, n: plan, tmp_path, moved)
    part.compute(quiet)
    power = power_table([part]).set_index("metric")["power"]
    assert power["mode_tv"] == 1
    assert power["sliced_w2"] == 1
    blind = 0.05 + 4.5 * math.sqrt(0.05 * 0.95 * (1 / 99 + 1 / 60))  # a test that sees nothing
    assert power["ksd"] < blind
    assert power["energy_w1"] < blind


def test_command_line_writes_the_results_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bakeoff, "planned_repeats", few)
    arguments = ["--n", "30", "40", "--metrics", *CHEAP, "rare_recall", "--store", str(tmp_path / "store")]
    for folder in ("a", "b"):  # the second time from the stored values
        main([BIMODAL, *arguments, "--out", str(tmp_path / folder)])
    first, second = (sorted((tmp_path / folder).iterdir()) for folder in ("a", "b"))
    assert [path.name for path in first] == ["power.csv", "power.png", "power.svg", "provenance.json"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert str(tmp_path).encode() not in one.read_bytes()
    table = pd.read_csv(first[0])
    assert len(table) == 2 * len(CORRUPTIONS) * 4
    of_recall = table[table["metric"] == "rare_recall"].set_index("n")["power"]
    assert of_recall[30].isna().all()  # it asks for 20 / .4995 draws
    assert json.loads(first[3].read_text())["targets"] == {BIMODAL: repr(build_target(BIMODAL))}


def test_heat_map_has_a_panel_per_target_and_size_and_the_numbers_in_its_cells() -> None:
    keys = [(t, n, c) for t in ("a", "b") for n in (10, 20) for c in ("one", "two")]
    rows = [
        {"target": t, "n": n, "strength": c, "metric": m, "power": p}
        for t, n, c in keys
        for m, p in (("mode_tv", 0.25), ("sliced_w2", 1.0), ("emc", math.nan))
    ]
    figure = power_figure(pd.DataFrame(rows))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"{t}, n = {n}" for t in "ab" for n in (10, 20)]
    for axis in figure.axes:
        assert [text.get_text() for text in axis.texts] == ["1", ".25"] * 2
    corner = figure.axes[2]
    assert [label.get_text() for label in corner.get_xticklabels()] == ["sliced_w2", "mode_tv"]
    assert [label.get_text() for label in corner.get_yticklabels()] == ["one", "two"]


@pytest.mark.skipif(not (RESULTS / "power.csv").exists(), reason="results are not part of an installed package")
def test_shipped_table_shows_who_sees_moved_weights() -> None:
    table = pd.read_csv(RESULTS / "power.csv")
    assert set(zip(table["target"], table["n"], strict=True)) == set(itertools.product(TARGET_NAMES, SIZES))
    moved = table[(table["target"] == BIMODAL) & (table["corruption"] == "move_weights")]
    power = moved.set_index(["metric", "n"])["power"].unstack()
    assert (power.loc[["ksd", "energy_w1"]] <= 0.3).all(axis=None)
    assert (power.loc[["mode_tv", "sliced_w2"]] == 1).all(axis=None)
