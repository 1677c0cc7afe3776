from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from samplerbench import targets
from samplerbench.benchmarks import build_leaderboard
from samplerbench.benchmarks.figures import draws_figure, quality_cost_figure, throughput_figure, write_figures
from samplerbench.benchmarks.plan import Suite, parse_suite

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
