import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samplerbench.benchmarks.bakeoff_report import COLUMNS as POWER_COLUMNS
from samplerbench.benchmarks.croissant import (
    COMMAND,
    DATASHEET,
    METADATA,
    croissant,
    header,
    main,
    tables,
    to_json,
    undescribed,
    with_columns,
)
from samplerbench.benchmarks.described import TABLES, column_of, pattern_of
from samplerbench.benchmarks.exact_draws import COLUMNS as EXACT_COLUMNS
from samplerbench.benchmarks.plan import Suite
from samplerbench.benchmarks.report import write_leaderboard
from samplerbench.metrics.base import METRICS
from samplerbench.targets.registry import UnknownNameError

RESULTS = Path(__file__).parents[1] / "results"
STALE = f"results/{{}} is not that of the files beside it; write it anew: {COMMAND}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder of results beside the project's licence and citation."""
    (tmp_path / "results" / "one").mkdir(parents=True)
    for name in ("LICENSE", "CITATION.cff"):
        shutil.copy(RESULTS.parent / name, tmp_path)
    (tmp_path / "results" / "one" / "overall.csv").write_text("sampler,mean_rank,n_best\nDFT,1.5,2\n")
    (tmp_path / "results" / "certificates.csv").write_text("target,check,value\nring8@1,score,0\n")
    return tmp_path / "results"


def test_shipped_metadata_is_fresh() -> None:
    assert (RESULTS / METADATA).read_text() == to_json(croissant(RESULTS)), STALE.format(METADATA)


def test_shipped_hashes_are_those_of_the_files() -> None:
    shipped = json.loads((RESULTS / METADATA).read_text())
    hashes = {file["@id"]: file["sha256"] for file in shipped["distribution"]}
    found = {
        path.relative_to(RESULTS).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in tables(RESULTS)
    }
    assert hashes == found, STALE.format(METADATA)


def test_the_datasheet_describes_every_shipped_column() -> None:
    text = (RESULTS / DATASHEET).read_text()
    assert text == with_columns(text), STALE.format(DATASHEET)
    assert undescribed(RESULTS) == []
    for path in tables(RESULTS):
        section = text.partition(f"\n### {path.stem}.csv\n")[2].partition("\n### ")[0]
        for column in header(path):
            assert f"| `{pattern_of(path.stem, column).name}` |" in section, f"{path}: {column}"


def test_the_datasheet_answers_the_sections_of_the_form() -> None:
    sections = re.findall(r"^## (.*)$", (RESULTS / DATASHEET).read_text(), re.MULTILINE)
    assert sections == [
        "Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance",
    ]  # fmt: skip


def test_every_folder_of_results_is_in_the_datasheet() -> None:
    text = (RESULTS / DATASHEET).read_text()
    for folder in {path.relative_to(RESULTS).parts[0] for path in tables(RESULTS)}:
        assert f"`{folder}/`" in text or f"`{folder}`" in text, folder


def test_columns_that_the_code_writes_are_described(
    make_suite: Callable[..., Suite], run_here: Callable[[Suite, Path], None], tmp_path: Path
) -> None:
    run_here(make_suite("not", "raise", seeds=2, throughput=True), tmp_path / "store")
    write_leaderboard(tmp_path / "store", tmp_path / "written")
    assert {path.stem for path in tables(tmp_path / "written")} >= {"leaderboard", "overall", "metrics"}
    assert undescribed(tmp_path / "written") == []
    assert [c.name for c in TABLES["metrics"].columns] == header(tmp_path / "written" / "metrics.csv")
    assert [c.name for c in TABLES["overall"].columns] == header(tmp_path / "written" / "overall.csv")
    written = [pattern_of("leaderboard", name).name for name in header(tmp_path / "written" / "leaderboard.csv")]
    assert list(dict.fromkeys(written)) == [c.name for c in TABLES["leaderboard"].columns]


def test_columns_of_other_tables_are_those_that_the_code_states() -> None:
    assert [c.name for c in TABLES["power"].columns] == list(POWER_COLUMNS)
    assert [c.name for c in TABLES["exact_draws"].columns] == EXACT_COLUMNS


def test_keys_are_columns() -> None:
    for table in TABLES.values():
        names = [column.name for column in table.columns]
        assert set(table.key) <= set(names)
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("column", "pattern"),
    [
        ("sliced_w2_at_floor", "<metric>_at_floor"),
        ("sliced_w2_floor", "<metric>_floor"),
        ("moment_bias2_mean_mean", "<metric>_mean"),
        ("moment_bias2_mean", "<metric>_mean"),
        ("primary_ratio", "primary_ratio"),
        ("break_even_seconds_low", "break_even_seconds_low"),
    ],
)
def test_the_ending_of_a_name_tells_a_statistic_of_a_metric(column: str, pattern: str) -> None:
    assert pattern_of("leaderboard", column).name == pattern


def test_a_column_of_a_metric_says_what_it_measures_in_which_unit() -> None:
    column = column_of("leaderboard", "energy_w1_mean")
    assert METRICS.entry("energy_w1").summary.rstrip(".") in column.meaning
    assert column.unit == METRICS.get("energy_w1").unit == "nats"
    assert column_of("leaderboard", "mode_tv_mean").unit == ""
    assert column_of("leaderboard", "energy_w1_ratio").unit == ""
    assert column_of("leaderboard", "of_a_plugin_mean").meaning.startswith("of_a_plugin, mean")


def test_what_nobody_described_is_an_error(folder: Path) -> None:
    (folder / "one" / "overall.csv").write_text("sampler,surprise\n")
    assert undescribed(folder) == ["one/overall.csv: surprise"]
    with pytest.raises(UnknownNameError, match=r"unknown column of overall\.csv 'surprise'.*mean_rank"):
        croissant(folder)
    (folder / "one" / "overall.csv").rename(folder / "one" / "new.csv")
    with pytest.raises(UnknownNameError, match=r"unknown kind of CSV 'new'.*leaderboard"):
        croissant(folder)


def test_metadata_have_what_the_specification_requires(folder: Path) -> None:
    metadata = croissant(folder)
    required = ["@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished"]
    assert all(metadata[key] for key in required)
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert metadata["license"] == "https://spdx.org/licenses/MIT.html"
    assert [file["@id"] for file in metadata["distribution"]] == ["certificates.csv", "one/overall.csv"]
    for file in metadata["distribution"]:
        content = (folder / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
        assert file["encodingFormat"] == "text/csv"
    fields = {field["@id"]: field for records in metadata["recordSet"] for field in records["field"]}
    assert fields["one/overall/mean_rank"]["dataType"] == "sc:Float"
    assert fields["one/overall/n_best"]["dataType"] == "sc:Integer"
    source = fields["one/overall/sampler"]["source"]
    assert source == {"fileObject": {"@id": "one/overall.csv"}, "extract": {"column": "sampler"}}
    for records in metadata["recordSet"]:
        assert all(key["@id"] in fields for key in records["key"])
        assert all(field["description"] for field in records["field"])
    everything = [part["@id"] for kind in ("distribution", "recordSet") for part in metadata[kind]]
    assert len({*everything, *fields}) == len(everything) + len(fields)


def test_a_day_of_release_and_a_home_come_from_the_citation(folder: Path) -> None:
    assert croissant(folder)["datePublished"] == "2026"  # the year of the licence
    with (folder.parent / "CITATION.cff").open("a") as file:
        file.write('date-released: 2027-01-31\nrepository-code: "https://example.org/samplerbench"\n')
    metadata = croissant(folder)
    assert metadata["datePublished"] == "2027-01-31"
    assert metadata["url"] == "https://example.org/samplerbench"
    assert "year = {2027}" in metadata["citeAs"]


def test_the_command_writes_the_same_bytes_every_time(folder: Path) -> None:
    shutil.copy(RESULTS / DATASHEET, folder)
    main([str(folder)])
    first = [(folder / name).read_bytes() for name in (METADATA, DATASHEET)]
    main([str(folder)])
    assert [(folder / name).read_bytes() for name in (METADATA, DATASHEET)] == first
    assert json.loads(first[0]) == croissant(folder)
    with pytest.raises(ValueError, match="a datasheet must have the lines"):
        with_columns("# nothing")


def test_mlcroissant_reads_it(folder: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    main([str(folder)])
    dataset = mlcroissant.Dataset(str(folder / METADATA))
    assert not dataset.metadata.ctx.issues.errors
    assert [row["one/overall/n_best"] for row in dataset.records("one/overall")] == [2]
