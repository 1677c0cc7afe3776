"""Power laws by simulation, tables of dimensions from synthetic runs of the shipped suite, and a real store."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

from samplerbench import samplers, targets
from samplerbench.benchmarks.croissant import undescribed
from samplerbench.benchmarks.floor_finder import FloorFinder
from samplerbench.benchmarks.look import LOOK
from samplerbench.benchmarks.paper.dimensions import (
    FITTED,
    dimensions_figure,
    dimensions_table,
    exponents_figure,
    run_table,
    write_figures,
    write_tables,
)
from samplerbench.benchmarks.paper.scaling import exponents_table, fit_power_law
from samplerbench.benchmarks.plan import RunSpec, Suite, load_suite, make_plan, parse_suite
from samplerbench.benchmarks.report import write_leaderboard
from samplerbench.targets import Meter, derive_generator

DIMS = (2, 8, 32, 128, 512)


def simulated(rng: np.random.Generator, n: int, curvature: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """``n`` data sets of five seeds at each dimension: y = 3 dim^1.5, up to curvature and log-normal noise."""
    x = np.repeat(np.array(DIMS, dtype=float), 5)
    logs = math.log(3) + 1.5 * np.log(x) + curvature * np.log(x) ** 2 + rng.normal(0, 0.4, (n, len(x)))
    return x, np.exp(logs)


def test_exact_powers_are_found() -> None:
    law = fit_power_law(DIMS, [3 * dim**0.75 for dim in DIMS])
    assert law.exponent == pytest.approx(0.75)
    assert law.high - law.low < 1e-9
    assert law(16.0) == pytest.approx(3 * 8)
    assert abs(law.curvature) < 1e-9


def test_the_interval_covers_the_exponent_at_its_level_and_the_curvature_test_keeps_its_level() -> None:
    n = 2_000
    x, data = simulated(np.random.default_rng(0), n)
    laws = [fit_power_law(x, y, level=0.9) for y in data]
    covered = np.mean([law.low <= 1.5 <= law.high for law in laws])
    assert abs(covered - 0.9) < 4 * math.sqrt(0.9 * 0.1 / n)
    rejected = np.mean([law.curvature_p < 0.05 for law in laws])
    assert abs(rejected - 0.05) < 4 * math.sqrt(0.05 * 0.95 / n)


def test_curved_points_are_no_power_law() -> None:
    x, data = simulated(np.random.default_rng(1), 200, curvature=0.15)
    laws = [fit_power_law(x, y) for y in data]
    assert np.mean([law.curvature_p < 0.05 for law in laws]) > 0.95
    errors = np.array([law.curvature for law in laws]) - 0.15
    assert abs(errors.mean()) < 4 * errors.std() / math.sqrt(200)


def test_what_cannot_be_fitted_is_named_or_unknown() -> None:
    with pytest.raises(ValueError, match=r"two different x, got \[2\]"):
        fit_power_law([2, 2], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"positive and finite, got \[2, 3\] and \[1.0, 0.0\]"):
        fit_power_law([2, 3], [1.0, 0.0])
    law = fit_power_law([2, 4], [1.0, 2.0])
    assert law.exponent == pytest.approx(1.0)
    assert all(math.isnan(value) for value in (law.low, law.curvature, law.curvature_p))


def test_a_dimension_with_a_lost_run_is_left_out_and_named() -> None:
    rows = [("f", dim, "s", "ok", dim**2.0 * (1 + 0.01 * seed), 0.0) for dim in DIMS for seed in range(3)]
    runs = pd.DataFrame(rows, columns=["family", "dim", "sampler", "status", "y", "zero"])
    runs.loc[runs.index[-1], ["status", "y"]] = "failed", np.nan
    runs.loc[runs.index[-2], "y"] = 1.0  # a survivor at 512 that would bend the line
    row = exponents_table(runs, ["y", "zero"]).iloc[0]
    assert row["exponent"] == pytest.approx(2.0, abs=0.01)
    assert (row["n_runs"], row["n_lost"], row["dims"], row["lost_dims"]) == (12, 1, "2 8 32 128", "512")
    assert len(exponents_table(runs, ["y", "zero"])) == 1
    unknown = exponents_table(runs.assign(status="ok"), ["y"]).iloc[0]
    assert (unknown["dims"], unknown["lost_dims"], unknown["n_lost"]) == ("2 8 32 128", "", 0)  # no floor: no loss
    both = pd.concat([runs, runs.assign(sampler="gone", status="failed", y=np.nan, zero=np.nan)])
    gone = exponents_table(both, ["y", "zero"]).set_index(["sampler", "quantity"]).loc[("gone", "y")]
    assert (gone["dims"], gone["lost_dims"], gone["n_lost"]) == ("", "2 8 32 128 512", 15)
    assert math.isnan(gone["exponent"])


POWERS = {"DFT": 0.5, "Fisher": 0.7, "KL": 0.2, "DFT+": 0.1, "SMC": 0.3, "MALA long": 0.4, "HMC long": 0.25}


def synthetic(seeds: int = 5) -> tuple[list[RunSpec], pd.DataFrame, pd.DataFrame]:
    """The shipped suite with known powers of the ratio and 5% noise; one seed of Fisher is lost at 512."""
    rng = np.random.default_rng(seeds)
    plan = [run for run in make_plan(load_suite("paper-dimensions")) if run.seed < seeds]
    values, costs = [], []
    for run in plan:
        family, _, dim = run.target_label.partition(" d=")
        sampler = run.sampler_label.partition(" d=")[0]
        lost = sampler == "Fisher" and dim == "512" and run.seed == 0
        place = {"target": run.target_label, "sampler": run.sampler_label, "seed": run.seed}
        metrics = ["sliced_w2", "mode_tv" if family == "mixture" else "well_error", "modes_found"]
        for metric in metrics:
            ratio = 2 * int(dim) ** POWERS.get(sampler, 0.6) * math.exp(0.05 * rng.standard_normal())
            has_floor = metric != "modes_found"
            values.append(
                {
                    "run_id": run.run_id, **place, "status": "diverged" if lost else "ok", "metric": metric,
                    "n_samples": 2000, "value": math.nan if lost else ratio, "floor": 1.0 if has_floor else math.nan,
                    "ratio": ratio if has_floor and not lost else math.nan, "reason": "diverged" if lost else "",
                }
            )  # fmt: skip
        is_one_pass = sampler in ("DFT", "Fisher", "KL", "DFT+")
        noise = math.exp(0.05 * rng.standard_normal())
        per_draw = (1.0 if is_one_pass else 500.0) * int(dim) ** 0.3 * noise
        seconds = 3e-5 if sampler == "SMC" else 20.0 * noise * int(dim) ** 0.1
        costs.append(
            {
                **place, "fit_gradient_equivalents": 0.0 if sampler == "SMC" else 1.92e6, "fit_seconds": seconds,
                "draw_gradient_equivalents": 0.0, "draw_seconds": per_draw * 0.002,
                "gradient_equivalents_per_effective_draw": 0.0 if is_one_pass else 100.0,
                "microseconds_per_draw": per_draw, "microseconds_per_effective_draw": per_draw,
            }
        )  # fmt: skip
    return plan, pd.DataFrame(values), pd.DataFrame(costs)


def test_tables_of_the_suite_join_the_parts_of_a_row_and_find_the_powers(
    columns_are_described: Callable[[str, Iterable[str]], None],
) -> None:
    plan, metrics, costs = synthetic()
    runs = run_table(plan, metrics, costs)
    columns_are_described("dimensions", dimensions_table(runs, metrics))
    table = dimensions_table(runs, metrics).set_index(["family", "dim", "sampler"])
    assert len(table) == 2 * 5 * 8
    assert table.loc[("mixture", 8, "Fisher"), "n_seeds"] == 5
    assert table.loc[("mixture", 512, "Fisher"), "n_ok"] == 4
    assert table.loc[("many well", 2, "SMC"), "fit_seconds"] == 0
    primary = runs[(runs["target"] == "mixture d=32") & (runs["sampler"] == "KL")]["primary_ratio"]
    assert table.loc[("mixture", 32, "KL"), "primary_ratio"] == primary.median()
    assert table.loc[("mixture", 32, "KL"), "primary_ratio_max"] == primary.max()
    exponents = exponents_table(runs, [name for name in FITTED if name in runs])
    found = exponents[exponents["quantity"] == "sliced_w2_ratio"].set_index(["family", "sampler"])
    for sampler, power in POWERS.items():
        row = found.loc["mixture", sampler]
        assert row["low"] - 0.02 < power < row["high"] + 0.02
    assert found.loc[("mixture", "Fisher"), "lost_dims"] == "512"
    assert found.loc[("mixture", "KL"), "lost_dims"] == ""
    assert "SMC" not in set(exponents.loc[exponents["quantity"] == "fit_seconds", "sampler"])


def test_rivals_are_no_one_pass_samplers_and_not_significantly_worse() -> None:
    plan, metrics, costs = synthetic()
    table = dimensions_table(run_table(plan, metrics, costs), metrics).set_index(["family", "dim", "sampler"])
    assert set(table.loc[~table["is_one_pass"], "rival"]) == {""}
    # at 512 HMC long has the least exponent among the rivals and is still worse than KL
    assert table.loc[("mixture", 512, "KL"), "rival"] == ""
    row = table.loc[("mixture", 512, "DFT")]
    assert row["rival"] in {"SMC", "MALA long", "HMC long"}
    price = table.loc[("mixture", 512, row["rival"]), "microseconds_per_effective_draw"]
    assert row["times_cheaper"] == pytest.approx(price / row["microseconds_per_effective_draw"])


@pytest.mark.parametrize("seeds", [2, 5])
def test_figures_show_every_family_and_quantity(seeds: int) -> None:
    plan, metrics, costs = synthetic(seeds)
    runs = run_table(plan, metrics, costs)
    exponents = exponents_table(runs, [name for name in FITTED if name in runs])
    with matplotlib.rc_context(LOOK):
        figure = dimensions_figure(dimensions_table(runs, metrics), exponents)
        assert [axis.get_title() for axis in figure.axes] == ["mixture"] * 3 + ["many well"] * 4
        assert len(exponents_figure(exponents).axes) == 4


def test_a_store_gives_the_same_files_every_time(run_here: Callable[[Suite, Path], None], tmp_path: Path) -> None:
    short = {"training": {"n_steps": 2, "n_warm_up": 0, "batch_size": 16}}
    laws = [{"name": "many_well32", "label": f"many well d={dim}", "parameters": {"dim": dim}} for dim in (2, 8)]
    samplers = [
        {"name": "kl", "label": "KL d=2", "parameters": short, "targets": ["many well d=2"]},
        {"name": "kl", "label": "KL", "parameters": short, "targets": ["many well d=8"]},
        {"name": "mala", "label": "MALA long", "parameters": {"mode": "long", "burn_in": 20, "thinning": 1}},
    ]
    table = {
        "n_samples": 2000, "seeds": 2, "metrics": ["sliced_w2", "ess_bulk"], "targets": laws, "samplers": samplers,
    }  # fmt: skip
    run_here(parse_suite(table, "short"), tmp_path / "store")
    for folder in (tmp_path / "a", tmp_path / "b"):
        results = write_leaderboard(tmp_path / "store", folder)
        write_tables(tmp_path / "store", results, folder)
        write_figures(folder)
    names = ["dimensions.csv", "exponents.csv"]
    names += [f"figures/{name}{end}" for name in ("dimensions", "exponents") for end in (".png", ".svg")]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert undescribed(tmp_path / "a") == []
    written = pd.read_csv(tmp_path / "a" / "dimensions.csv")
    assert list(written["sampler"]) == ["KL", "MALA long"] * 2
    assert list(written["dim"]) == [2, 2, 8, 8]
    assert written["sliced_w2_ratio"].notna().all()  # floors of these parameters are shipped


def suite_laws() -> dict[str, RunSpec]:
    return {run.target_label: run for run in make_plan(load_suite("paper-dimensions"))}


@pytest.mark.parametrize("label", [f"mixture d={dim}" for dim in DIMS])
def test_mixtures_are_as_hard_in_every_dimension(label: str) -> None:
    run = suite_laws()[label]
    law = targets.get(run.target, **run.target_parameters)
    assert label == f"mixture d={law.dim}"
    means = torch.tensor(law.mixture.means, dtype=torch.float64)  # type: ignore[attr-defined]
    gaps = torch.pdist(means)
    assert gaps.min().item() == pytest.approx(8.0)
    assert gaps.max().item() < 12.3
    masses = law.modes.masses  # type: ignore[attr-defined]
    assert torch.allclose(masses, 0.999 * torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64), atol=2e-4)
    draws = law.sample(20_000, derive_generator("dimensions", label))  # type: ignore[attr-defined]
    error = (0.25 / 20_000) ** 0.5
    shares = torch.stack([(law.modes.assign(draws) == k).double().mean() for k in range(4)])  # type: ignore[attr-defined]
    assert (shares - masses).abs().max() < 4 * error
    assert 0.3 < draws.square().mean().sqrt().item() / law.scale < 3


def test_floors_of_all_targets_but_the_dearest_are_shipped(tmp_path: Path) -> None:
    suite = load_suite("paper-dimensions")
    finder = FloorFinder(suite.metrics, compute=False, folder=tmp_path)
    for label, run in suite_laws().items():
        if label == "many well d=512":
            continue
        unknown = [item.name for item in suite.metrics if item.name != "modes_found" and not finder.find(run, item)]
        assert unknown == (["well_error"] if "mixture" in label else ["mode_tv"]) + ["ess_bulk"]


@pytest.mark.parametrize("suite_name", ["paper-dimensions", "paper-robustness"])
def test_the_three_methods_pay_the_same_for_training(suite_name: str) -> None:
    per_step: Mapping[str, Callable[[int], int]] = {  # 256 points, or 128 latents
        "dft": lambda dim: 256 * 3,
        "kl": lambda dim: 256,
        "fisher": lambda dim: 128 * (1 + 2 * (dim + 1) if dim <= 10 else 5),
    }
    for run in make_plan(load_suite(suite_name)):
        if run.sampler in per_step and "length" not in run.sampler_label:
            dim = targets.get(run.target, **run.target_parameters).dim
            paid = run.configuration["training"]["n_steps"] * per_step[run.sampler](dim)
            assert abs(paid / 1.92e6 - 1) < 0.001


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_a_step_costs_what_the_suites_take_it_to_cost(dim: int) -> None:
    training = {"n_steps": 1, "n_warm_up": 0}
    for name, cost in (("dft", 768), ("kl", 256), ("fisher", 128 * (1 + 2 * (dim + 1) if dim <= 10 else 5))):
        meter = Meter(targets.get("many_well32", dim=dim))
        samplers.get(name, training=training).fit(meter, derive_generator(0, "fit"))
        assert sum(counts.gradient_equivalents for counts in meter.counts.values()) == cost
