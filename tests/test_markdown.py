"""The leaderboard as Markdown: names and messages are text, and it says why nothing is ranked."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from samplerbench.benchmarks.kpis import kpis
from samplerbench.benchmarks.leaderboard import collect
from samplerbench.benchmarks.markdown import markdown
from samplerbench.benchmarks.markdown_text import escape
from samplerbench.benchmarks.plan import Suite, make_plan
from samplerbench.benchmarks.store import Plan, Store
from samplerbench.benchmarks.unranked import why_no_mean_ranks, why_unranked

Run = Callable[[Suite, Path], None]
EVIL = "a|b\n# <i>&amp; `c` *d* _e_ [f](g) h_i\\"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gmm40_fab", "gmm40_fab"),
        ("0.3 (of 0.02) [4/5 runs]", "0.3 (of 0.02) [4/5 runs]"),
        ("_a_ __b__", r"\_a\_ \_\_b\_\_"),
        ("a*b ~c~ `d`", r"a\*b \~c\~ \`d\`"),
        ("a|b\\", r"a\|b\\"),
        ("x < y & z", "x &lt; y &amp; z"),
        ("[a](b) [c][d]", r"[a\](b) [c\][d]"),
        ("two\n\nlines\r\n\there", "two lines here"),
    ],
)
def test_text_is_no_markup(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_names_and_messages_stay_in_their_cells(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    suite = make_suite("not", "raise")
    samplers = tuple(dataclasses.replace(item, label=f"{item.label} {EVIL}") for item in suite.samplers)
    targets = tuple(dataclasses.replace(item, label=EVIL) for item in suite.targets)
    run_here(dataclasses.replace(suite, samplers=samplers, targets=targets, description=EVIL), tmp_path)
    results = collect(tmp_path)
    board = results.board.assign(reason=EVIL, device=EVIL)
    text = markdown(dataclasses.replace(results, board=board), kpis(results))
    assert "<i>" not in text
    assert text.count(escape(EVIL)) > 8
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert len(set(columns)) <= 2  # the table of metrics and that of key figures
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Leaderboard: misbehaving"]


def test_it_says_why_nothing_is_ranked(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    run_here(make_suite("not", seeds=3), tmp_path / "few")
    results = collect(tmp_path / "few")
    assert markdown(results, kpis(results)).count("No ranks: ranks need 5 seeds, there are 3.") == 2
    suite = make_suite("not", "raise", seeds=5)
    gone = Store(tmp_path / "gone")
    with gone.locked():
        plugin = Path(__file__).parent / "plugins" / "misbehaving.py"
        gone.write_plan(Plan("gone", "", list(suite.metrics), make_plan(suite, plugins=[plugin])), set())
    results = collect(gone.path)
    assert markdown(results, kpis(results)).count("No ranks: no run is ok: missing.") == 2


def board(**columns: list[object]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    known: dict[str, list[object]] = {
        "target": [f"t{k}" for k in range(n)], "rank": [float("nan")] * n, "n_ok": [5] * n, "n_seeds": [5] * n,
        "status": ["ok"] * n, "development": [False] * n,
    }  # fmt: skip
    return pd.DataFrame({**known, **columns})


def test_reasons_of_targets_and_of_all_of_them() -> None:
    assert why_unranked(board(rank=[1.0])) == ""
    assert why_unranked(board(n_ok=[0, 0], status=["missing", "failed"])) == "no run is ok: failed, missing"
    assert why_no_mean_ranks(board(rank=[1.0, 2.0], development=[True, True])) == "every target is a development target"
    assert why_no_mean_ranks(board(n_seeds=[3, 3], development=[True, True])) == "ranks need 5 seeds, there are 3"
    mixed = board(rank=[1.0, float("nan")], development=[True, False], n_ok=[5, 0], status=["ok", "missing"])
    assert why_no_mean_ranks(mixed) == "no run is ok: missing"
    assert why_no_mean_ranks(board(rank=[1.0, float("nan")])) == ""
