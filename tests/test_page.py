"""The page: everything on it, nothing loaded, nothing of a name or a message alive, the same bytes every time."""

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from samplerbench.benchmarks.fronts import front
from samplerbench.benchmarks.in_words import envelope, in_words, letters, names
from samplerbench.benchmarks.kpis import KPIS, kpis
from samplerbench.benchmarks.leaderboard import Results, collect
from samplerbench.benchmarks.number_text import number_text
from samplerbench.benchmarks.page import certificates_of, page
from samplerbench.benchmarks.page_overall import standings
from samplerbench.benchmarks.panels import MAX_DOTS, Panels, panels_of
from samplerbench.benchmarks.plan import Suite
from samplerbench.benchmarks.report import write_leaderboard

Run = Callable[[Suite, Path], None]
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</style></svg>{{ 7 * 7 }}\x02b\x03",
    "it's & so <b>",
)
VOID = {"meta", "link", "input", "br", "img"}


class Reader(HTMLParser):
    """Collects tags, and complains where one is closed that is not the one opened last."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if len(dict(attrs)) != len(attrs):
            self.wrong.append(f"{tag} has an attribute twice")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def whole(store: Path) -> tuple[Results, list[Panels], str]:
    results = collect(store)
    panels = panels_of(store, results)
    return results, panels, page(results, panels, certificates_of(results.plan), kpis(results))


@pytest.fixture
def store(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> Path:
    run_here(make_suite("not", "raise", "diverge", seeds=3), tmp_path / "store")
    return tmp_path / "store"


def test_the_page_is_well_formed_and_every_id_is_there_once(store: Path) -> None:
    reader = read(whole(store)[2])
    assert reader.wrong == []
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {str(a["href"])[1:] for tag, a in reader.tags if str(a.get("href", "")).startswith("#")}
    assert links <= set(ids)


def test_nothing_is_loaded_and_only_our_own_script_may_run(store: Path) -> None:
    html = whole(store)[2]
    for tag, attributes in read(html).tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name != "src"
            if name in {"href", "xlink:href"}:
                assert str(value).startswith(("#", "data:,")), value
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_names_and_messages_are_inert(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> None:
    suite = make_suite("not", "raise", "diverge")
    samplers = tuple(dataclasses.replace(item, label=label) for item, label in zip(suite.samplers, EVIL, strict=False))
    targets = tuple(dataclasses.replace(item, label=EVIL[1]) for item in suite.targets)
    run_here(dataclasses.replace(suite, samplers=samplers, targets=targets, description=EVIL[3]), tmp_path)
    results, panels, _ = whole(tmp_path)
    board = results.board.assign(reason=EVIL[0], device=EVIL[1], loss=EVIL[2])
    certificates = {
        name: dataclasses.replace(found, reason=EVIL[0], source=EVIL[1], verdict=EVIL[3])
        for name, found in certificates_of(results.plan).items()
    }
    figures = kpis(results).assign(text=EVIL[0])
    reader = read(page(dataclasses.replace(results, board=board), panels, certificates, figures))
    assert reader.wrong == []
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in reader.tags}
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    text = " ".join(reader.texts)
    assert EVIL[0] in text
    assert EVIL[1] in text
    assert "{{ 7 * 7 }}" in text


def test_the_same_store_gives_the_same_bytes(store: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_leaderboard(store, tmp_path / folder)
    first, second = ((tmp_path / folder / "leaderboard.html").read_bytes() for folder in ("a", "b"))
    assert first == second
    assert first.decode() == whole(store)[2]


def test_every_row_has_its_status_its_reason_and_its_draws(store: Path) -> None:
    reader = read(whole(store)[2])
    rows = [a for tag, a in reader.tags if tag == "tr" and "data-status" in a]
    assert [(a["data-name"], a["data-status"]) for a in rows] == [
        ("not", "ok"),
        ("raise", "failed"),
        ("diverge", "diverged"),
    ]
    text = " ".join(reader.texts)
    assert "RuntimeError: the method broke" in text
    assert "not yet" in text  # the verdict of a target that is not ours
    assert [a["data-name"] for tag, a in reader.tags if tag == "figure" and "data-name" in a] == ["not"]


def test_a_suite_without_the_metrics_that_rank_has_a_page(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite("not", "raise", metrics=["energy_w1"], seeds=5), tmp_path)
    results, _, html = whole(tmp_path)
    reader = read(html)
    text = " ".join(reader.texts)
    why = "No ranks: no row has a value and a floor in every seed."
    assert why in text
    assert "No mean ranks: no row has a value and a floor in every seed." in text
    write_leaderboard(tmp_path, tmp_path / "files")
    assert (tmp_path / "files" / "leaderboard.md").read_text().count(why) == 2
    for name in ("rank", "n_better", "primary_ratio", "bias_shows_at", "break_even_seconds"):
        assert results.board[name].dtype == float, name
    for name in ("development", "is_best"):
        assert results.board[name].dtype == bool, name
    assert (results.board[["tie_group", "loss"]] == "").all(axis=None)
    assert re.findall(r".{20}\bnan\b.{20}", text) == []
    assert not any("best" in str(a.get("class")).split() for tag, a in reader.tags if tag in {"tr", "td"})


def test_remarks_on_rows_that_are_ok_do_not_stand_among_those_that_are_not(store: Path) -> None:
    results, panels, _ = whole(store)
    board = results.board.assign(reason=["a remark", "it broke", "no luck"])
    html = page(dataclasses.replace(results, board=board), panels, certificates_of(results.plan), kpis(results))
    bad, _, fine = html.partition("Remarks on rows that are ok (1)")
    assert "Rows that are not ok, and why (2)" in bad
    assert re.search(r"<ul><li data-name=\"not\"><b>not</b> a remark</li></ul>", fine)


def test_mean_ranks_without_interval_have_no_whisker_and_partial_rows_sort_last(
    make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path
) -> None:
    run_here(make_suite("not", "raise"), tmp_path)
    results = collect(tmp_path)
    overall = pd.DataFrame(
        [("not", 2.0, np.nan, np.nan, 3, 0, 0), ("raise", 1.0, np.nan, np.nan, 1, 1, 0)],
        columns=["sampler", "mean_rank", "rank_low", "rank_high", "n_targets", "n_best", "n_losses"],
    )
    first, second = standings(dataclasses.replace(results, overall=overall), [])
    assert (first.mean_rank.sort, first.mean_rank.tip) == ("2", "No interval: the same rank on every target")
    assert (second.mean_rank.sort, second.mean_rank.text) == ("", "1.0")
    assert "Ranked on 1 of 3 targets" in second.mean_rank.tip
    assert first.interval == (110.0, 110.0, 110.0)


def test_key_figures_are_there_with_their_definitions(store: Path) -> None:
    results, _, html = whole(store)
    text = " ".join(read(html).texts)
    figures = kpis(results)
    assert len(figures) > 0
    for kpi in KPIS:
        used = (figures["kpi"] == kpi.name).any()
        assert (kpi.definition[1:] in text) == used, kpi.name
    for cell in figures["text"]:
        assert cell in text


def test_tables_have_headers_with_scope_and_one_sorted_column(store: Path) -> None:
    tags = read(whole(store)[2]).tags
    heads = [a for tag, a in tags if tag == "th"]
    assert {a["scope"] for a in heads} == {"col", "row"}
    assert [tag for tag, _ in tags].count("caption") == [tag for tag, _ in tags].count("table")


def test_a_large_suite_stays_below_five_megabytes(store: Path) -> None:
    """15 targets in the plane and 45 rows, with 16 metrics and every number there is."""
    results, panels, _ = whole(store)
    board = _many(results)
    plan = results.plan
    first = plan.runs[0]
    runs = [
        dataclasses.replace(first, target_label=str(target), sampler_label=str(sampler))
        for target, sampler in zip(board["target"], board["sampler"], strict=True)
    ]
    metrics = pd.DataFrame({"metric": [f"some_metric_{k}" for k in range(16)]})
    large = dataclasses.replace(results, plan=dataclasses.replace(plan, runs=runs), board=board, metrics=metrics)
    rng, n_dots = np.random.default_rng(0), MAX_DOTS // (15 * 45)
    dots = "".join(
        f"m{x}-{y}h0" for x, y in zip(rng.integers(0, 4, n_dots), rng.integers(10, 200, n_dots), strict=True)
    )
    drawn = [
        Panels(
            target=f"target_{k}",
            regions=panels[0].regions * 2,
            limits=panels[0].limits,
            panels=[dataclasses.replace(panels[0].panels[1], name=f"sampler {j}", dots=dots) for j in range(45)],
        )
        for k in range(15)
    ]
    cells = [
        (target, sampler, kpi.name, 0.123456789, "12,345 (exact draws 12,345) [4/5 runs]", kpi.unit)
        for target, sampler in zip(board["target"], board["sampler"], strict=True)
        for kpi in KPIS
    ]
    figures = pd.DataFrame(cells, columns=["target", "sampler", "kpi", "value", "text", "unit"])
    html = page(large, drawn, certificates_of(large.plan), figures)
    assert html.count("data-status=") == 15 * 45
    assert len(html.encode()) < 5_000_000


def _many(results: Results) -> pd.DataFrame:
    row = results.board.iloc[[0]].copy()
    numbers = [name for name in row if row[name].dtype == float]
    row[numbers] = row[numbers].fillna(0.123456789)
    board = pd.concat([row] * (15 * 45), ignore_index=True)
    parts = ("mean", "low", "high", "floor", "ratio", "z", "at_floor")
    extra = {f"some_metric_{j}_{part}": 0.123456789 for j in range(16) for part in parts}
    board = pd.concat([board, pd.DataFrame(extra, index=board.index)], axis=1)
    k = np.arange(len(board))
    return board.assign(
        target=[f"target_{i // 45}" for i in k],
        sampler=[f"sampler {i % 45}" for i in k],
        rank=1.0 + k % 45,
        n_better=k % 45,
        n_tied=3,
        n_worse=2,
        tie_group="abcd",
        is_best=True,
        break_even_equivalents_against="another sampler",
        break_even_seconds_against="another sampler",
    )


def test_the_cheapest_row_changes_where_totals_cross() -> None:
    assert envelope([0.0, 100.0, 150.0, 90.0], [10.0, 1.0, 0.0, 9.0]) == [(0, 1.0), (1, 100 / 9), (2, 50.0)]
    assert envelope([5.0, 0.0], [1.0, 1.0]) == [(1, 1.0)]
    assert envelope([0.0, 0.0], [0.0, 0.0]) == [(0, 1.0)]


def ranked(**columns: list[object]) -> pd.DataFrame:
    n = len(columns["sampler"])
    known: dict[str, list[object]] = {
        "rank": [1.0] * n, "loss": [""] * n, "n_seeds": [5] * n, "tie_group": ["a"] * n, "is_best": [True] * n,
        "n_ok": [5] * n, "status": ["ok"] * n,
        "sliced_w2_at_floor": [0.0] * n, "fit_gradient_equivalents": [0.0] * n,
        "gradient_equivalents_per_effective_draw": [1.0] * n, "microseconds_per_effective_draw": [2.0] * n,
        "primary_ratio": [2.0] * n,
    }  # fmt: skip
    return pd.DataFrame({**known, **columns})


def test_sentences_say_who_is_first_and_whether_noise_could_have_done_it() -> None:
    one = ranked(sampler=["A", "B"], is_best=[True, False], tie_group=["a", "b"], primary_ratio=[1.2, 3.0])
    assert in_words(one)[0] == "A (1.20) is first: beyond noise it is better than every other ranked row (1)."
    tied = ranked(sampler=["A", "B", "C"], is_best=[True, False, False], tie_group=["ab", "b", "c"])
    assert in_words(tied)[0] == "A (2) is first, but 5 seeds do not tell it apart from B."
    both = ranked(sampler=["A", "B"], primary_ratio=[1.1, 1.4], sliced_w2_at_floor=[1.0, 0.2])
    said = "A and B share first place: 5 seeds do not tell them apart (ratios 1.10 to 1.40, 1 of 2 at the floor)."
    assert in_words(both)[0] == said


def test_sentences_of_few_seeds_say_why_nothing_is_ranked_and_what_can_be_read() -> None:
    few = ranked(
        sampler=[*"ABC"], rank=[np.nan] * 3, n_seeds=[3] * 3, n_ok=[3] * 3, primary_ratio=[6.9, 1.1, np.nan],
        sliced_w2_at_floor=[0.0, 1.0, np.nan],
    )  # fmt: skip
    assert in_words(few) == [
        "No ranks: ranks need 5 seeds, there are 3. Ratios to the floor of exact draws: 1.10 (B) to 6.90 (A); "
        "at the floor: B."
    ]
    alone = ranked(sampler=["A"], rank=[np.nan], n_seeds=[1], n_ok=[1])
    assert in_words(alone) == [
        "No ranks: ranks need 5 seeds, there is 1. Ratios to the floor of exact draws: 2 (A); none is at the floor."
    ]
    gone = ranked(sampler=["A"], rank=[np.nan], n_ok=[0], status=["missing"], primary_ratio=[np.nan])
    assert in_words(gone) == ["No ranks: no run is ok: missing."]
    unknown = ranked(sampler=["A"], rank=[np.nan], primary_ratio=[np.nan])
    assert in_words(unknown) == ["No ranks: no row has a value and a floor in every seed."]


def test_sentences_say_what_draws_cost_and_when_training_pays() -> None:
    part = ranked(
        sampler=["chain", "net"],
        fit_gradient_equivalents=[0.0, 5_000.0],
        gradient_equivalents_per_effective_draw=[50.0, 0.0],
    )
    _, cost, pays = in_words(part, mark=lambda name: f"<{name}>")
    assert cost == (
        "Of the rows tied with the best, <net> is cheapest per draw: no evaluation of the density, 2 µs. "
        "Its ratio to the floor of exact draws is 2, not at the floor."
    )
    assert pays.startswith("Training or warm-up pays from 100 draws: then <net> (2) costs least in total")
    assert pays.endswith("for fewer draws <chain> (2) does.")


def test_sentences_on_cost_leave_out_chains_that_restart_as_break_even_does() -> None:
    part = ranked(
        sampler=["restart", "long", "net"],
        fit_gradient_equivalents=[0.0, 100.0, 5_000.0],
        gradient_equivalents_per_effective_draw=[1.0, 50.0, 2.0],
    )
    _, cost, pays = in_words(part, {"restart"})
    assert cost.startswith(
        "Of the rows tied with the best, net is cheapest per draw (chains that restart for every draw left aside): 2 "
    )
    assert "restart" not in pays
    _, cost = in_words(part.iloc[:1], {"restart"})
    assert cost == "A draw of it costs 1 gradient equivalents, 2 µs."
    assert len(in_words(part.iloc[:2], {"restart", "long"})) == 1  # nobody is left to compare


def test_sentences_on_cost_name_only_whole_rows_that_are_tied_with_the_best() -> None:
    part = ranked(
        sampler=["best", "apart", "lost"],
        primary_ratio=[1.0, 3.0, 4.0],
        tie_group=["a", "b", "a"],
        n_ok=[5, 5, 4],
        gradient_equivalents_per_effective_draw=[9.0, 2.0, 1.0],
    )
    assert in_words(part)[1].startswith("Of the rows tied with the best, best is cheapest per draw: 9 ")


def test_numbers_and_names_as_people_write_them() -> None:
    values = [0.0, 1.0, 1.3, 12.34, 1_234.0, 4_092_979.0, 0.00123, 1.2e-4, np.inf, np.nan]
    assert [number_text(value) for value in values] == [
        "0", "1", "1.30", "12.3", "1,230", "4.09e6", "0.00123", "1.20e-4", "∞", "–",
    ]  # fmt: skip
    rounded_up = [999.7, 9.996, 0.99996, 99_999.6, 999_999.0, 0.0009996, -999.7]
    assert [number_text(value) for value in rounded_up] == [
        "1,000", "10", "1.00", "100,000", "1.00e6", "0.00100", "-1,000",
    ]  # fmt: skip
    assert [number_text(value, 2) for value in (99.7, 4 * (1 + 1e-15), 0.2)] == ["100", "4", "0.20"]
    assert names(["A"]) == "A"
    assert names([*"ABCDEFGH"]) == "A, B, C, D, E and 3 more"
    assert letters("ab(53)") == {"a", "b", "(53)"}


def test_the_front_is_what_none_is_cheaper_and_better_than() -> None:
    part = ranked(sampler=[*"ABCD"], primary_ratio=[2.0, 1.5, 1.8, 1.0])
    found = front(part, pd.Series([0.0, 10.0, 100.0, 1_000.0]), "cost")
    assert found is not None
    assert [mark.name for mark in found.marks if mark.on_front] == ["A", "B", "D"]
    assert found.summary.endswith("A (2), B (1.50), D (1)")
    heights = {mark.name: mark.y for mark in found.marks}
    assert heights["A"] < heights["C"] < heights["B"] < heights["D"] == found.floor
    assert front(part, pd.Series([np.nan] * 4), "cost") is None
    twins = front(part.assign(primary_ratio=[2.0, 2.0, 1.0, 1.0]), pd.Series([1.0, 1.0, 9.0, 10.0]), "cost")
    assert twins is not None
    assert [mark.name for mark in twins.marks if mark.on_front] == [*"ABC"]  # of equal rows all, as in the figure
    assert len(set(twins.steps.split())) == len(twins.steps.split()) == 4


def test_dots_are_the_draws_within_a_unit(store: Path) -> None:
    _, (drawn,), html = whole(store)
    law, row = drawn.panels[0], drawn.panels[1]
    (low, high), _ = drawn.limits
    assert row.name == "not"
    steps = [(int(dx), int(dy)) for dx, dy in re.findall(r"m(-?\d+) ?(-?\d+)h0", row.dots)]
    points = np.cumsum(steps, axis=0)
    assert len(points) + row.n_outside <= 200
    assert points.min() >= 0
    assert points.max() <= 256
    x = low + points[:, 0] / 256 * (high - low)
    assert abs(x.mean()) < 5 / np.sqrt(200)
    assert law.name == "exact draws"
    assert row.dots in html
