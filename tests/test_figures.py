import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from samplerbench import targets
from samplerbench.benchmarks import build_leaderboard
from samplerbench.benchmarks.critical_difference import critical_difference_figure, groups_within
from samplerbench.benchmarks.figures import draws_figure, throughput_figure, write_figures, write_leaderboard_figures
from samplerbench.benchmarks.friedman import Friedman
from samplerbench.benchmarks.fronts import pareto_front
from samplerbench.benchmarks.plan import Suite, parse_suite
from samplerbench.benchmarks.quality_cost import COSTS, quality_cost_figure
from samplerbench.benchmarks.report import write_leaderboard

Run = Callable[[Suite, Path], None]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def store(make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> Path:
    run_here(make_suite("not", "raise", "diverge"), tmp_path / "store")
    return tmp_path / "store"


def test_every_figure_is_written_as_png_and_svg_and_the_same_every_time(store: Path, tmp_path: Path) -> None:
    first, second = write_figures(store, tmp_path / "a"), write_figures(store, tmp_path / "b")
    names = {"draws_plain_normal.png", "draws_plain_normal.svg", "quality_cost.png", "quality_cost.svg", "panels.npz"}
    assert {path.name for path in first} == names
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        if one.suffix == ".png":
            assert one.read_bytes().startswith(PNG)


def test_panels_keep_the_draws_that_are_shown(store: Path, tmp_path: Path) -> None:
    write_figures(store, tmp_path)
    with np.load(tmp_path / "panels.npz", allow_pickle=False) as panels:
        assert list(panels) == ["plain_normal/not"]
        assert panels["plain_normal/not"].shape == (200, 2)
        assert panels["plain_normal/not"].dtype == np.float16


def test_a_run_without_draws_has_a_panel_that_says_why() -> None:
    figure = draws_figure("donut", targets.get("donut"), {"well": np.zeros((5, 2)), "bad": "failed: it broke"})
    assert [axis.get_title() for axis in figure.axes] == ["truth", "well", "bad"]
    assert _texts(figure) == ["failed: it broke"]


def test_draws_beyond_the_panel_are_counted() -> None:
    far = np.array([[0.0, 2.6], [1e3, 0.0], [0.0, -1e3]])
    assert _texts(draws_figure("donut", targets.get("donut"), {"far": far})) == ["2 outside"]


def test_targets_above_two_dimensions_show_the_first_two_coordinates_of_the_view() -> None:
    figure = draws_figure("funnel10", targets.get("funnel10"), {"far": np.zeros((5, 10))})
    assert figure.get_suptitle().startswith("funnel10: first two coordinates of the view")


def test_quality_cost_has_a_column_per_target_and_a_mark_per_ranked_row(store: Path) -> None:
    board = build_leaderboard(store)
    board["primary_ratio"] = [1.5, np.nan, np.nan]
    figure = quality_cost_figure(board)
    assert len(figure.axes) == 2
    assert [label.get_text() for label in figure.legends[0].get_texts()] == ["not"]


def _texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_weighted_draws_are_shown_with_equal_weight(run_here: Run, tmp_path: Path) -> None:
    """Few temperatures: the paths end outside the law, and their weights bring them in."""
    table = {
        "n_samples": 2_000,
        "metrics": ["sliced_w2"],
        "targets": ["gaussian2"],
        "samplers": [{"name": "ais", "parameters": {"betas": [0, 1], "n_moves": 1, "moves": {"min_step": 1e-6}}}],
    }
    run_here(parse_suite(table, "weights"), tmp_path / "store")
    write_figures(tmp_path / "store", tmp_path / "figures")
    with np.load(tmp_path / "figures" / "panels.npz", allow_pickle=False) as panels:
        x = panels["gaussian2/ais"].astype(float)
    assert len(x) == 1_000
    assert abs(x.std() - 0.5) < 0.1  # that of the law


def test_throughput_has_a_panel_per_target_and_a_line_per_sampler() -> None:
    rows = [(t, s, 0, "cpu", n, 100 / n) for t in ("ring8", "donut") for s in ("MALA", "DFT") for n in (1, 4)]
    columns = ["target", "sampler", "seed", "device", "batch", "microseconds_per_draw"]
    figure = throughput_figure(pd.DataFrame(rows, columns=columns))
    assert [axis.get_title() for axis in figure.axes] == ["ring8", "donut"]
    assert all(len(axis.get_lines()) == 2 for axis in figure.axes)
    assert list(figure.axes[0].get_lines()[0].get_ydata()) == [100, 25]


def test_the_front_is_every_row_that_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    cost, loss = rng.integers(0, 12, 60).astype(float), rng.integers(0, 12, 60).astype(float)
    cost[3] = loss[7] = np.nan
    no_worse = (cost <= cost[:, None]) & (loss <= loss[:, None])
    beaten = (no_worse & ((cost < cost[:, None]) | (loss < loss[:, None]))).any(1)
    front = pareto_front(cost, loss)
    assert set(front) == set(np.flatnonzero(~beaten & np.isfinite(cost + loss)))
    assert list(cost[front]) == sorted(cost[front])
    assert pareto_front([np.nan], [1.0]) == []


def test_of_many_rows_only_the_front_is_named_beside_its_panel() -> None:
    n = 45
    board = pd.DataFrame({"target": "t", "sampler": [f"s{k}" for k in range(n)], "primary_ratio": 1.0 + np.arange(n)})
    for cost in COSTS:
        board[cost] = 10.0
    board.loc[7, list(COSTS)] = 0.0  # free, and worse than s0
    figure = quality_cost_figure(board)
    assert figure.legends == []
    for axis in figure.axes:
        legend = axis.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["s7", "s0"]


def test_few_rows_all_keep_their_names() -> None:
    board = pd.DataFrame({"target": ["t", "t", "u"], "sampler": ["a", "b", "a"], "primary_ratio": [1.0, 2.0, 3.0]})
    board = board.assign(**{cost: [1.0, 2.0, 0.0] for cost in COSTS})
    figure = quality_cost_figure(board)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert len(figure.axes) == 4


def test_groups_are_the_largest_runs_within_the_critical_difference() -> None:
    ranks = np.array([1.0, 1.5, 2.5, 4.0, 4.2])
    assert groups_within(ranks, 1.5) == [(0, 2), (2, 3), (3, 4)]
    assert groups_within(ranks, 0.1) == []
    assert groups_within(ranks, 10.0) == [(0, 4)]
    random = np.sort(np.random.default_rng(1).uniform(1, 20, 30))
    groups = groups_within(random, 2.0)
    for i in range(30):
        for j in range(i + 1, 30):
            joined = any(first <= i and j <= end for first, end in groups)
            assert joined == (random[j] - random[i] <= 2.0)
    assert all(b[0] > a[0] and b[1] > a[1] for a, b in itertools.pairwise(groups))


@pytest.mark.parametrize("n", [5, 45])
def test_critical_difference_names_every_row_and_says_the_test(n: int) -> None:
    names = [f"s{k}" for k in range(n)]
    figure = critical_difference_figure(Friedman(names, np.linspace(1.2, n - 0.2, n), 7, 2e-5, 1.25))
    (axis,) = figure.axes
    shown = " ".join([text.get_text() for text in axis.texts] + [text.get_text() for text in axis.get_yticklabels()])
    assert set(names) <= set(shown.split())
    title = " ".join(figure.get_suptitle().split())
    assert "7 targets: Friedman's test p < 0.001, critical difference 1.25" in title


def test_ranks_over_two_targets_of_three_rows_have_a_figure_the_same_every_time(
    run_here: Run, assert_same_drawing: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    samplers = [{"name": "ula", "label": str(n), "parameters": {"n_steps": n}} for n in (1, 20, 60)]
    table = {"n_samples": 2_000, "seeds": 5, "metrics": ["sliced_w2"], "targets": ["gmm40_seed1", "gmm40_seed2"]}
    run_here(parse_suite({**table, "samplers": samplers}, "ranks"), tmp_path / "store")
    first, second = (write_figures(tmp_path / "store", tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]

    write_leaderboard(tmp_path / "store", tmp_path / "tables")
    of_tables = write_leaderboard_figures(tmp_path / "tables", tmp_path / "c")  # of six digits
    names = ["quality_cost.png", "quality_cost.svg", "critical_difference.png", "critical_difference.svg"]
    assert [path.name for path in of_tables] == names
    for path in of_tables[1::2]:
        assert_same_drawing(path, tmp_path / "a" / path.name)


def test_tables_without_rows_or_ranks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "leaderboard.csv").write_text("target,sampler\nring8,mala\n")
    with pytest.raises(ValueError, match=r"leaderboard.csv must have columns target, sampler, development, .* lacks"):
        write_leaderboard_figures(tmp_path, tmp_path / "figures")
    (tmp_path / "leaderboard.csv").write_text("target,sampler,development,primary_ratio,rank," + ",".join(COSTS) + "\n")
    with pytest.raises(ValueError, match=r"leaderboard.csv has no rows"):
        write_leaderboard_figures(tmp_path, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_target_without_ratios_says_so() -> None:
    board = pd.DataFrame(
        {"target": ["ring8"], "sampler": ["mala"], "primary_ratio": [np.nan], **{cost: [1.0] for cost in COSTS}}
    )
    assert _texts(quality_cost_figure(board)).count("no row has a primary ratio") == 2
