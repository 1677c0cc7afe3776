import dataclasses
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from samplerbench.benchmarks import evaluate_store
from samplerbench.benchmarks.latex import latex, measured
from samplerbench.benchmarks.latex_text import escape
from samplerbench.benchmarks.leaderboard import Results, collect
from samplerbench.benchmarks.plan import Suite
from samplerbench.targets.registry import UnknownNameError

HOSTILE = r"50%_#1 & {a} ~ ^ \n$ [*] <é|µ†> -- 中 σ² ☃"
Run = Callable[[Suite, Path], None]


@pytest.fixture
def results(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> Results:
    """Two targets by three samplers, one of which fails and one of which diverges, with floors."""
    store = tmp_path / "store"
    run_here(make_suite("not", "raise", "diverge", targets=("plain_normal", "ring8"), seeds=5), store)
    values = evaluate_store(store)
    known = values["metric"].isin(["sliced_w2", "mode_tv"]) & values["value"].notna()
    values.loc[known, ["floor", "ratio", "z"]] = [0.5, 2.0, 1.0]
    values["at_floor"] = values["target"].eq("ring8").where(known, None)
    return collect(store, metrics=values)


def renamed(results: Results, column: str, names: dict[str, str]) -> Results:
    return dataclasses.replace(results, board=results.board.replace({column: names}))


def tabulars(text: str) -> list[tuple[int, list[int]]]:
    """Columns that each tabular declares, and the columns of its rows."""
    found = []
    for spec, body in re.findall(r"\\begin{tabular}{@{}([lcr]+)@{}}\n(.*?)\\end{tabular}", text, re.DOTALL):
        rows = [line for line in body.split("\n") if line.endswith(r"\\")]
        spans = [[int(n) for n in re.findall(r"\\multicolumn{(\d+)}", row)] for row in rows]
        counts = [len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows]
        found.append((len(spec), [n + sum(span) - len(span) for n, span in zip(counts, spans, strict=True)]))
    return found


def check(text: str) -> None:
    """What LaTeX asks of a text without running it: plain characters, paired braces and signs, whole rows."""
    assert text.isascii()
    bare = re.sub(r"\\[\\{}$%&#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert bare.count(r"\begin") == bare.count(r"\end")
    assert all("%" not in line for line in bare.split("\n")[1:])  # the first line is a comment
    assert "#" not in bare
    found = tabulars(text)
    assert found
    for n_columns, rows in found:
        assert set(rows) == {n_columns}


def test_metrics_of_every_target_side_by_side(results: Results) -> None:
    text = latex(results)
    check(text)
    assert text.count(r"\begin{table}") == 1
    head = next(line for line in text.split("\n") if "multicolumn" in line)
    assert head == r"sampler & \multicolumn{2}{c}{plain\_normal} & \multicolumn{3}{c}{ring8$^\dag$} \\"
    assert r" & place & sliced\_w2 & place & sliced\_w2 & mode\_tv \\" in text


def test_a_cell_is_mean_half_width_and_ratio_bold_at_the_floor(results: Results) -> None:
    board = results.board.set_index(["target", "sampler"])
    text = latex(results, metrics=["sliced_w2"])
    for target, cell in (("plain_normal", "${}\\;(2.0)$"), ("ring8", "{{\\boldmath${}\\;(2.0)$}}")):
        row = board.loc[(target, "not")]
        mean, high = float(row["sliced_w2_mean"]), float(row["sliced_w2_high"])
        assert cell.format(measured(mean, high - mean)) in text


def test_rows_that_are_not_ok_show_their_status_across_their_metrics(results: Results) -> None:
    text = latex(results, metrics=["sliced_w2", "energy_w1"], costs=["fit_seconds"], max_values=6)
    check(text)
    assert text.count(r"\multicolumn{2}{c}{failed (0/5)}") == 2
    assert text.count(r"\multicolumn{2}{c}{diverged (0/5)}") == 2


def test_a_slice_keeps_the_order_asked_for_and_the_places_of_the_whole(results: Results) -> None:
    whole, part = latex(results), latex(results, targets=["ring8"], samplers=["diverge", "not"], metrics=["energy_w1"])
    check(part)
    assert "plain" not in part
    assert part.index("\ndiverge & ") < part.index("\nnot & ")
    assert "\nraise" not in part
    assert "all of the leaderboard's rows counted" in part
    place = re.search(r"\nnot & [^&]+ & [^&]+ & ([^&]+) &", whole)
    assert place
    assert f"\nnot & {place[1]} &" in part


def test_targets_beyond_the_width_go_to_further_tables(results: Results) -> None:
    text = latex(results, max_values=2)
    check(text)
    assert text.count(r"\begin{table}") == 2
    assert text.count("Holm") == 1
    labels = re.findall(r"\\label{(.*?)}", text)
    assert labels == ["tab:misbehaving-plain-normal", "tab:misbehaving-ring8"]
    assert re.findall(r"\\ref{(.*?)}", text) == labels[:1]


def test_one_seed_has_no_half_width(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    run_here(make_suite(), tmp_path)
    text = latex(collect(tmp_path), metrics=["energy_w1"])
    check(text)
    assert r"\pm" not in text
    assert "One seed: no intervals." in text


def test_a_break_even_that_never_comes_says_so(results: Results) -> None:
    board = results.board.assign(break_even_seconds=math.inf)
    text = latex(dataclasses.replace(results, board=board), costs=["break_even_seconds"])
    check(text)
    assert "never" in text


@pytest.mark.parametrize("what", ["targets", "samplers", "metrics", "costs"])
def test_an_unknown_name_is_told_the_known_ones(results: Results, what: str) -> None:
    known = {"targets": "ring8", "samplers": "diverge", "metrics": "mode_tv", "costs": "fit_seconds"}
    with pytest.raises(UnknownNameError, match=f"unknown {what[:-1]} 'nonsense'.*{known[what]}"):
        latex(results, **{what: ["nonsense"]})


def test_names_cannot_break_the_table(results: Results) -> None:
    board = results.board.replace({"sampler": {"not": HOSTILE}, "target": {"ring8": HOSTILE[::-1]}})
    text = latex(dataclasses.replace(results, board=board))
    check(text)
    assert escape(HOSTILE) in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode_tv", r"mode\_tv"),
        ("5% & #1", r"5\% \& \#1"),
        (r"\~^{}$", r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}\$"),
        ("draw µs", r"draw $\mu$s"),
        ("ring8 †", r"ring8 \dag{}"),
        ("[a]*", "{[}a{]}{*}"),
        ("a--b", "a{-}{-}b"),
        ("Gödel Čech Šidák", r"G\"{o}del \v{C}ech \v{S}id\'{a}k"),
        ("σ²/Λ₀", r"$\sigma$$^{2}$/$\Lambda$$_{0}$"),
        ("Α\N{COMBINING TILDE}ͱϟ", r"\texttt{U+0391}\texttt{U+0303}\texttt{U+0371}\texttt{U+03DF}"),
        ("中☃", r"\texttt{U+4E2D}\texttt{U+2603}"),
        ("a\nb\tc", "a b c"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_every_character_of_the_basic_plane_becomes_ascii_with_paired_braces() -> None:
    for number in range(0x10000):
        text = escape(chr(number))
        assert text.isascii()
        bare = text.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (0.152136, 0.075063, r"0.152 \pm 0.075"),
        (8.0, 0.0, r"8 \pm 0"),
        (8.0, 0.31, r"8.00 \pm 0.31"),
        (8.85783e-05, 2.72e-4, r"(0.9 \pm 2.7) \times 10^{-4}"),
        (-0.0004, 0.03, r"0.000 \pm 0.030"),
        (0.0, 0.3, r"0.00 \pm 0.30"),
        (1234.5, 56.7, r"1{,}234 \pm 57"),
        (4092979.0, math.nan, r"4.09 \times 10^{6}"),
        (17.56, math.nan, "17.6"),
        (0.0, math.nan, "0"),
        (0.5, 1e-12, r"0.5000 \pm 0.0000"),
    ],
)
def test_numbers_have_two_digits_of_their_half_width(mean: float, half: float, expected: str) -> None:
    assert measured(mean, half) == expected


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_pdflatex_takes_it(results: Results, tmp_path: Path) -> None:
    board = results.board.replace({"sampler": {"not": HOSTILE}})
    tables = latex(dataclasses.replace(results, board=board), costs=["fit_seconds"])
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{tables}\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2_000:]
