from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from samplerbench import targets
from samplerbench.benchmarks import build_leaderboard
from samplerbench.benchmarks.figures import draws_figure, quality_cost_figure, write_figures
from samplerbench.benchmarks.plan import Suite

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
