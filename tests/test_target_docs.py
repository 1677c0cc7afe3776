"""The catalogue of targets: as computed, as shipped, as documented, and as the command line lists it."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from samplerbench.benchmarks import catalogue
from samplerbench.benchmarks.catalogue import Facts, describe, facts_of, log_z_text, shipped_targets, source_of
from samplerbench.benchmarks.target_docs import COMMAND, data_set_of, has_picture, main, page, picture
from samplerbench.targets import Estimate, load_plugin
from samplerbench.targets.base import TARGETS
from samplerbench.targets.datasets import DATASETS
from samplerbench.targets.registry import Entry

DOCS = Path(__file__).parent.parent / "docs"
HOW = f"run `{COMMAND}` at the root of the repository"
MANY_MODES = 6  # from here on masses take seconds; the shared contract test computes them anyway


def test_the_page_is_that_of_the_registry() -> None:
    expected = page([describe(name) for name in shipped_targets()])
    assert (DOCS / "targets.md").read_text() == expected, f"docs/targets.md is not up to date: {HOW}"


def test_the_shipped_facts_are_about_the_registered_versions() -> None:
    keys = [f"{name}@{TARGETS.entry(name).version}" for name in shipped_targets()]
    assert list(catalogue._json(catalogue.FACTS)) == keys, HOW


@pytest.mark.parametrize("name", shipped_targets())
def test_the_shipped_facts_are_those_of_the_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = describe(name).facts
    if (shipped.n_modes or 0) >= MANY_MODES:
        monkeypatch.setattr(catalogue, "_n_modes", lambda target: shipped.n_modes)
    computed = facts_of(TARGETS.get(name))
    if computed.log_z is not None and shipped.log_z is not None:  # round-off differs between machines
        assert math.isclose(computed.log_z, shipped.log_z, abs_tol=2e-6), HOW
        computed = dataclasses.replace(computed, log_z=shipped.log_z)
    assert computed == shipped, HOW


def test_every_target_in_the_plane_has_its_picture() -> None:
    pictures = {path.stem: path for path in (DOCS / "figures" / "targets").iterdir()}
    assert set(pictures) == {name for name in shipped_targets() if has_picture(describe(name))}, HOW
    for path in pictures.values():
        with Image.open(path) as image:
            assert image.size == (300, 300)
        assert path.stat().st_size < 25_000


def test_a_picture_shows_where_the_mass_is_and_depends_on_nothing_else() -> None:
    target = TARGETS.get("ring8")
    first = picture(target)
    assert picture(target) == first
    assert picture(TARGETS.get("donut")) != first


def test_every_data_set_has_its_targets() -> None:
    used = {data_set_of(name) for name in shipped_targets()}
    assert used >= set(DATASETS)
    assert data_set_of("lgcp_pines") == "pines"
    assert data_set_of("lgcp_simulated") is None


def test_the_command_writes_what_the_tests_compare(tmp_path: Path) -> None:
    main(["--docs", str(tmp_path), "--text"])
    assert (tmp_path / "targets.md").read_bytes() == (DOCS / "targets.md").read_bytes()
    with pytest.raises(SystemExit, match="is not a folder: run this at the root"):
        main(["--docs", str(tmp_path / "absent")])


class WithoutFiles:
    """A law whose files this installation lacks.

    Source: nobody,
    nowhere.
    """

    dim = 3
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return x.sum(-1)

    def reference(self) -> Tensor:
        raise FileNotFoundError

    @property
    def log_z(self) -> Estimate:
        raise FileNotFoundError

    @property
    def modes(self) -> Any:
        raise FileNotFoundError


def test_what_a_missing_file_would_say_is_unknown() -> None:
    assert facts_of(WithoutFiles()) == Facts(3, 1.0, log_z=None, log_z_std_error=None, n_modes=None, truth="none")


def test_targets_of_a_plug_in_are_described_from_themselves(plugin: Path) -> None:
    load_plugin(plugin)
    row = describe("plain_normal")
    assert row.facts == Facts(2, 1.0, log_z=None, log_z_std_error=None, n_modes=None, truth="exact")
    assert (row.key, row.verdict, row.source) == ("plain_normal@1", "not yet", "Standard normal with exact draws.")
    assert "plain_normal" not in shipped_targets()


@pytest.mark.parametrize(
    ("log_z", "std_error", "text"),
    [
        (None, None, ""),
        (0.0, 0.0, "0"),
        (1.66013, 0.0, "1.66013"),
        (-77.56829, 0.0083, "-77.5683 ± 0.0083"),
        (512.634, 0.12, "512.63 ± 0.12"),
        (512.634, 12.0, "513 ± 12"),
        (3.14159265, 3e-7, "3.14159"),
    ],
)
def test_log_z_is_shown_to_its_error(log_z: float | None, std_error: float | None, text: str) -> None:
    assert log_z_text(Facts(2, 1.0, log_z, std_error, n_modes=None, truth="none")) == text


def test_the_source_is_that_of_the_law() -> None:
    class Inherited(WithoutFiles):
        """Another law."""

    class Several:
        """Laws.

        Sources: one, two: A. Author (1999). three: B. Writer, arXiv 1;
        four to six: ``C`` alone.
        """

    def entry(name: str, build: Any) -> Entry[Any]:
        return Entry(name, 1, build, {})

    assert source_of(entry("any", WithoutFiles)) == "nobody, nowhere"
    assert source_of(entry("any", Inherited)) == "nobody, nowhere"
    assert source_of(entry("any", lambda: WithoutFiles())) == ""
    expected = {"one": "A. Author (1999)", "two": "A. Author (1999)", "three": "B. Writer, arXiv 1", "four": "C alone"}
    assert {name: source_of(entry(name, Several)) for name in expected} == expected
    assert source_of(entry("seven", Several)).startswith("one, two: A. Author")


def test_the_verdict_is_that_of_the_shipped_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = {"gaussian2@1": {"verdict": "certified"}, "donut@1": {"verdict": "failed", "reason": "it is a | pipe"}}
    (tmp_path / catalogue.VERDICTS).write_text(json.dumps(verdicts))
    monkeypatch.setattr(catalogue.resources, "files", lambda package: tmp_path)
    catalogue._json.cache_clear()
    try:
        assert describe("donut").facts == facts_of(TARGETS.get("donut"))  # without shipped facts
        assert (describe("gaussian2").verdict, describe("gaussian2").reason) == ("certified", "")
        assert describe("rings").verdict == "not yet"
        shown = page([describe("donut")])
        assert "| [donut@1](#concentricrings) | 2 | 2 | 1.66013 |  | exact | failed: it is a \\| pipe |  |" in shown
    finally:
        catalogue._json.cache_clear()


def test_list_shows_a_line_per_target(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", "list", "targets"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    title, header, *lines = shown.splitlines()
    assert title == f"targets ({len(lines)})"
    cells = {line.split()[0]: re.split(r"  +", line.strip()) for line in lines}
    assert header.split() == ["name", "dim", "scale", "log", "Z", "modes", "truth", "certified", "source"]
    assert set(cells) >= {f"{name}@{TARGETS.entry(name).version}" for name in shipped_targets()}
    verdict = describe("gmm40_fab").verdict
    assert cells["gmm40_fab@1"][:7] == ["gmm40_fab@1", "2", "20", "0", "31", "exact", verdict]
    assert cells["gmm40_fab@1"][7].startswith("L. Midgley")
    assert re.fullmatch(r"-77\.\d+ ± 0\.0\d+", cells["breast_cancer_full@1"][3])
    assert cells["funnel10@1"][4] == "-"


def test_lines_are_cut_at_the_width_of_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from samplerbench.benchmarks import terminal

    rows = [("a", "b" * 100), ("ccc", "d")]
    terminal.print_section("kind", rows)
    assert capsys.readouterr().out == f"kind (2)\n  a    {'b' * 100}\n  ccc  d\n"
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    terminal.print_section("kind", rows)
    assert capsys.readouterr().out == f"kind (2)\n  a    {'b' * 32}…\n  ccc  d\n"
    terminal.print_section("kind", [], header=("name", "line"))
    assert capsys.readouterr().out.startswith("kind (0)\n")
