"""Columns of the paper's tables: those that the code states are described, in its order; names with placeholders."""

import csv
import shutil
from pathlib import Path

import pandas as pd
import pytest

from samplerbench.benchmarks.column import METRIC, WEIGHT
from samplerbench.benchmarks.croissant import columns_section, croissant, undescribed
from samplerbench.benchmarks.described import TABLES, column_of, pattern_of
from samplerbench.benchmarks.paper import audit, detector, ledger, rare_modes, regressions
from samplerbench.benchmarks.paper.blindness import blindness_table
from samplerbench.benchmarks.paper.ledger import Ledger, Tables
from samplerbench.benchmarks.paper.scaling import exponents_table
from samplerbench.targets.registry import UnknownNameError

ROOT = Path(__file__).parents[1]
EXAMPLES = {METRIC: "mmd2", WEIGHT: "1e-4"}
STATED = {
    "predictive": regressions.COLUMNS,
    "blindness": list(blindness_table([0.3])),
    "exponents": list(exponents_table(pd.DataFrame(columns=["family", "sampler"]), [])),
    "rare_modes": rare_modes.COLUMNS,
    "detector": detector.COLUMNS,
    "detector_runs": detector.RUN_COLUMNS,
    "audit": audit.COLUMNS,
    "claims": ledger.COLUMNS,
    "claims_evidence": list(Ledger((), Tables(ROOT)).details()),
}


@pytest.mark.parametrize("kind", STATED)
def test_fixed_columns_are_described_in_their_order(kind: str) -> None:
    assert [column.name for column in TABLES[kind].columns] == STATED[kind]


@pytest.mark.parametrize(
    ("kind", "column", "pattern"),
    [
        ("robustness", "sliced_w2_ratio_median", "<metric>_ratio_median"),
        ("robustness", "modes_found_median", "<metric>_median"),
        ("robustness", "primary_ratio_median", "primary_ratio_median"),
        ("dimensions", "well_error_ratio", "<metric>_ratio"),
        ("dimensions", "well_error_ratio_max", "<metric>_ratio_max"),
        ("dimensions", "modes_asked", "<metric>"),
        ("dimensions", "fit_seconds_min", "fit_seconds_min"),
        ("rare_faults", "first_hit_1e-1", "first_hit_<weight>"),
        ("rare_faults", "detector_recall_1e-12", "detector_recall_<weight>"),
    ],
)
def test_a_placeholder_stands_anywhere_and_the_longest_text_around_it_wins(
    kind: str, column: str, pattern: str
) -> None:
    assert pattern_of(kind, column).name == pattern


@pytest.mark.parametrize(
    ("kind", "column"),
    [("dimensions", "surprise"), ("dimensions", "_ratio"), ("rare_faults", "never_seen"), ("rare_faults", "never_")],
)
def test_what_cannot_stand_for_a_placeholder_is_unknown(kind: str, column: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"unknown column of {kind}\.csv '{column}'"):
        pattern_of(kind, column)


def test_columns_of_a_weight_and_of_a_metric_without_ending_say_of_which() -> None:
    column = column_of("rare_faults", "never_1e-3")
    assert (column.name, column.kind) == ("never_1e-3", "integer")
    assert column.meaning.startswith("weight 1e-3: seeds with draws but no hit")
    assert column_of("dimensions", "modes_found").unit == "modes"
    assert column_of("dimensions", "modes_found").meaning.startswith("modes_found, median over runs")
    assert "Sliced 2-Wasserstein" in column_of("dimensions", "sliced_w2_ratio").meaning
    assert "Sliced 2-Wasserstein" not in column_of("dimensions", "sliced_w2_ratio_min").meaning


def test_the_page_of_columns_is_a_table_with_all_of_its_text() -> None:
    rows = [line for line in columns_section().splitlines() if line.startswith("| `")]
    assert {line.count("|") for line in rows} == {5}
    assert not any("<" in line.rpartition("`")[2] for line in rows)  # a browser takes it for markup


def named(kind: str) -> list[str]:
    """Columns of a file of a kind, with examples in the place of placeholders."""
    names = [column.name for column in TABLES[kind].columns]
    for placeholder, example in EXAMPLES.items():
        names = [name.replace(placeholder, example) for name in names]
    return names


def test_every_kind_of_table_has_metadata_in_the_folder_of_its_suite(tmp_path: Path) -> None:
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    results = tmp_path / "results"
    for suite in ("paper-a", "paper-b"):
        (results / "paper" / suite).mkdir(parents=True)
        for kind in TABLES:
            with (results / "paper" / suite / f"{kind}.csv").open("w", newline="") as file:
                csv.writer(file).writerow(named(kind))
    assert undescribed(results) == []
    metadata = croissant(results)
    fields = [field["@id"] for records in metadata["recordSet"] for field in records["field"]]
    assert len(fields) == len(set(fields))
    assert "paper/paper-b/rare_faults/first_hit_1e-4" in fields
    assert len(metadata["recordSet"]) == 2 * len(TABLES)
    for records in metadata["recordSet"]:
        assert {key["@id"] for key in records.get("key", [])} <= set(fields)
        assert ("key" in records) == (not records["name"].endswith("/audit"))
