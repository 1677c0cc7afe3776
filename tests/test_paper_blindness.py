"""Divergences between mixtures of two modes: known numbers, identities, and the weights of stored runs."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator

from samplerbench.benchmarks.leaderboard import collect
from samplerbench.benchmarks.look import LOOK
from samplerbench.benchmarks.paper.blindness import (
    DIVERGENCES,
    SEPARATION,
    blindness_figure,
    blindness_table,
    divergences,
    mode_shares,
    two_modes,
    write_figures,
    write_tables,
)
from samplerbench.benchmarks.plan import Suite, parse_suite
from samplerbench.metrics.stein import squared_ksd

X = np.linspace(-18.0, 18.0, 1_801)


def test_known_numbers_of_weights_9_to_1_at_separation_8() -> None:
    row = blindness_table([0.9]).iloc[0]
    assert round(row["fisher"], 4) == 0.0007
    assert round(row["kl"], 2) == 0.37


def test_equal_weights_differ_in_nothing_and_exchanged_weights_as_much() -> None:
    table = blindness_table([0.5, 0.2, 0.8]).set_index("weight")
    assert (table.loc[0.5, list(DIVERGENCES)].abs() < 1e-12).all()
    assert np.allclose(table.loc[0.2, list(DIVERGENCES)], table.loc[0.8, list(DIVERGENCES)], rtol=1e-9)


@pytest.mark.parametrize("separation", [2.0, 5.0, 8.0])
def test_total_variation_and_ksd_have_their_closed_dependence_on_the_weight(separation: float) -> None:
    weights = np.array([0.1, 0.35, 0.6, 0.95])
    table = blindness_table(weights, separation)
    apart = math.erf(separation / 2 / math.sqrt(2))  # total variation of the two modes
    assert np.allclose(table["total_variation"], np.abs(weights - 0.5) * apart, rtol=1e-4)  # a kink
    # p s_q - p' is linear in the weight and zero at 1/2
    assert np.allclose(table["ksd2"] / (2 * weights - 1) ** 2, table["ksd2"].iloc[0] / 0.64, rtol=1e-6)
    assert (table["total_variation"] ** 2 <= table["kl"] / 2).all()  # Pinsker


def test_kl_of_separated_modes_is_that_of_their_weights() -> None:
    table = blindness_table([0.1, 0.7], separation=14.0)
    of_weights = [w * math.log(2 * w) + (1 - w) * math.log(2 - 2 * w) for w in (0.1, 0.7)]
    assert np.allclose(table["kl"], of_weights, rtol=1e-6)


def test_a_shifted_normal_has_the_closed_forms() -> None:
    normal, shifted = two_modes(0.5, X, separation=0.0), two_modes(0.5, X, separation=0.0, shift=0.7)
    found = divergences(shifted, normal, X)
    assert found["kl"] == pytest.approx(0.7**2 / 2)
    assert found["fisher"] == pytest.approx(0.7**2)
    assert found["total_variation"] == pytest.approx(math.erf(0.35 / math.sqrt(2)), rel=1e-4)


def test_ksd_is_the_mean_of_the_metric() -> None:
    equal, moved = two_modes(0.5, X, 2.0), two_modes(0.8, X, 2.0, shift=0.3)
    exact = divergences(moved, equal, X)["ksd2"]
    generator = Generator().manual_seed(0)
    values = []
    for _ in range(200):
        right = torch.rand(300, 1, generator=generator, dtype=torch.float64) > 0.8
        x = torch.randn(300, 1, generator=generator, dtype=torch.float64) + 0.3 - 1.0 + 2.0 * right
        score = torch.from_numpy(two_modes(0.5, x[:, 0].numpy(), 2.0)[1])[:, None]
        values.append(squared_ksd(x, score, c=1.0))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - exact) < 4 * error
    assert error < 0.05 * exact


def test_a_weight_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="weight must be between 0 and 1, got 1"):
        two_modes(1.0, X)


def test_the_figure_names_every_divergence_and_needs_no_runs() -> None:
    empty = pd.DataFrame(columns=["target", "method", "seed", "mode", "share", "mass"])
    with matplotlib.rc_context(LOOK):
        figure = blindness_figure(blindness_table([0.1, 0.5, 0.9]), empty)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == list(DIVERGENCES.values())
    assert len(figure.axes) == 1
    assert f"{SEPARATION:g} standard deviations" in figure.axes[0].get_title()


def test_shares_are_those_of_the_stored_draws_and_files_are_the_same_every_time(
    run_here: Callable[[Suite, Path], None],
    columns_are_described: Callable[[str, Iterable[str]], None],
    tmp_path: Path,
) -> None:
    short = {"training": {"n_steps": 2, "n_warm_up": 0, "batch_size": 16}}
    samplers = [
        {"name": "kl", "label": label, "parameters": {**short, "network": {"start_scale": start}}}
        for label, start in (("KL", 1.0), ("KL start 3", 3.0))
    ]
    table = {"n_samples": 500, "seeds": 2, "metrics": ["mode_tv"], "targets": ["ring8"], "samplers": samplers}
    run_here(parse_suite(table, "short"), tmp_path / "store")
    results = collect(tmp_path / "store")
    shares = mode_shares(tmp_path / "store", results)
    assert len(shares) == 2 * 8  # the centre alone
    columns_are_described("mode_shares", shares)
    tv = results.metrics[(results.metrics["metric"] == "mode_tv") & (results.metrics["sampler"] == "KL")]
    for seed, run in shares.groupby("seed"):
        outside = abs((1 - run["share"].sum()) - (1 - run["mass"].sum()))
        own = 0.5 * ((run["share"] - run["mass"]).abs().sum() + outside)
        assert own == pytest.approx(tv.set_index("seed").loc[seed, "value"], abs=1e-6)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        write_tables(tmp_path / "store", results, folder)
        write_figures(folder)
    for name in ("blindness.csv", "mode_shares.csv", "figures/blindness.png", "figures/blindness.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
