"""Tables and figures of predictions: by hand, and what reference draws predict, from its definition."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import logsigmoid

from samplerbench import targets
from samplerbench.benchmarks.paper.regressions import (
    COLUMNS,
    predictive_figure,
    predictive_table,
    reference_values,
    write_figures,
)
from samplerbench.benchmarks.plan import load_suite, make_plan, parse_suite
from samplerbench.benchmarks.store import Plan

SUITE = {"n_samples": 100, "metrics": ["nll"], "samplers": ["laplace"]}


def values() -> pd.DataFrame:
    """Two samplers, two seeds; the second run of B has failed."""
    rows = [
        {"target": "t", "sampler": sampler, "seed": seed, "metric": metric, "value": value, "floor": floor}
        for sampler, found in {"A": (0.3, 0.5), "B": (0.7, np.nan)}.items()
        for seed, value in enumerate(found)
        for metric, floor in {"nll": np.nan, "moment_bias2": 0.1, "ksd": 1.0}.items()
    ]
    return pd.DataFrame(rows)


def references() -> pd.DataFrame:
    return pd.DataFrame({"target": ["t"], "metric": ["nll"], "value": [0.25]})


def test_rows_are_means_intervals_and_what_exceeds_the_reference() -> None:
    table = predictive_table(values(), references()).set_index(["sampler", "metric"])
    row = table.loc["A", "nll"]
    half = 12.7062 * 0.1  # the 97.5% point of t with one degree, times the standard error of .3 and .5
    assert row[["n_ok", "n_seeds", "mean", "reference", "excess"]].tolist() == pytest.approx([2, 2, 0.4, 0.25, 0.15])
    assert row[["low", "high"]].tolist() == pytest.approx([0.4 - half, 0.4 + half], rel=1e-4)
    assert table.loc["B", "nll"][["n_ok", "n_seeds", "mean"]].tolist() == pytest.approx([1, 2, 0.7])
    assert np.isnan(table.loc["B", "nll"]["low"])  # one run says nothing of noise
    assert table.loc["A", "moment_bias2"]["floor"] == pytest.approx(0.1)
    assert ("A", "ksd") not in table.index


def test_reference_values_average_probabilities_not_their_logarithms() -> None:
    name = "breast_cancer_train"
    plan = Plan("s", "", [], make_plan(parse_suite({**SUITE, "targets": [{"name": name, "label": "L"}]}, "s")))
    found = reference_values(plan).set_index(["target", "metric"])["value"]
    target = targets.get(name)
    log_odds = target.log_odds(target.reference().double())
    labels = torch.as_tensor(target.held_out_labels).double()
    expected = -torch.log(torch.sigmoid(log_odds * (2 * labels - 1)).mean(0)).mean().item()
    assert found["L", "nll"] == pytest.approx(expected, rel=1e-9)
    assert found["L", "nll"] < -logsigmoid(log_odds * (2 * labels - 1)).mean().item()  # Jensen
    assert found["L", "accuracy"] > 0.9


def test_a_target_without_reference_draws_is_named() -> None:
    plan = Plan("s", "", [], make_plan(parse_suite({**SUITE, "targets": ["donut"]}, "s")))
    with pytest.raises(ValueError, match="must have reference draws, donut has none"):
        reference_values(plan)


def test_figures_come_from_the_table_alone_and_are_the_same_bytes(tmp_path: Path) -> None:
    predictive_table(values(), references()).to_csv(tmp_path / "predictive.csv", index=False)
    first = {path.name: path.read_bytes() for path in write_figures(tmp_path)}
    assert set(first) == {"predictive_t.png", "predictive_t.svg"}
    assert {path.name: path.read_bytes() for path in write_figures(tmp_path)} == first


def test_a_row_without_values_says_so_in_every_panel() -> None:
    table = predictive_table(values(), references())
    nothing = table.assign(mean=table["mean"].where(table["sampler"] != "B"))[list(COLUMNS)]
    figure = predictive_figure("t", nothing)
    assert [text.get_text() for axis in figure.axes for text in axis.texts].count("no value") == 6  # B, and A in two
    partly = predictive_figure("t", table.assign(n_ok=table["n_seeds"] - 1))
    assert {text.get_text() for axis in partly.axes for text in axis.texts} == {"no value", "1 of 2 seeds"}


def test_training_budgets_of_the_suite_agree() -> None:
    per_step = {"DFT": 768, "Fisher": 640, "KL": 256}  # gradient equivalents at 256 points, above 10 dimensions
    steps = {
        item.label: item.parameters["training"]["n_steps"]  # type: ignore[index]
        for item in load_suite("paper-blr").samplers
        if item.label in per_step
    }
    assert {steps[label] * per_step[label] for label in per_step} == {1_536_000}
