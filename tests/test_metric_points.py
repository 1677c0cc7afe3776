import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics import points
from samplerbench.metrics.base import Truth
from samplerbench.metrics.points import (
    as_points,
    as_two_samples,
    both_in_view,
    known,
    squared_distances,
    tiles,
    upper_tiles,
)
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (7, 3), (2_000, 900), (3, 10 * points.BLOCK)])
def test_tiles_cover_every_entry_once_and_hold_a_block(n_rows: int, n_columns: int) -> None:
    n_covered = 0
    for rows, columns in tiles(n_rows, n_columns):
        assert 0 <= rows.start < rows.stop <= n_rows
        assert 0 <= columns.start < columns.stop <= n_columns
        size = (rows.stop - rows.start) * (columns.stop - columns.start)
        assert size <= points.BLOCK
        n_covered += size
    assert n_covered == n_rows * n_columns
    corners = [(rows.start, columns.start) for rows, columns in tiles(n_rows, n_columns)]
    assert len(set(corners)) == len(corners)


def test_upper_tiles_are_the_diagonal_s_and_one_of_every_pair() -> None:
    found = list(upper_tiles(1_000))
    assert {(rows.start, columns.start) for rows, columns in found} | {
        (columns.start, rows.start) for rows, columns in found
    } == {(rows.start, columns.start) for rows, columns in tiles(1_000, 1_000)}
    assert sum(rows == columns for rows, columns in found) == 3


def test_squared_distances_are_those_of_the_differences() -> None:
    x, y = normal(20, 5), normal(30, 5, seed=1)
    exact = (x[:, None] - y).square().sum(-1)
    torch.testing.assert_close(squared_distances(x, y), exact, rtol=1e-12, atol=1e-12)
    assert (squared_distances(x, x) >= 0).all()


@pytest.mark.parametrize("shape", [(1, 2), (5,), (5, 0), (2, 2, 2)])
def test_points_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"draws must have shape \(n, dim\) with n >= 2 and dim >= 1, got \("):
        as_points(torch.zeros(shape), "draws")


def test_points_that_are_not_finite_are_counted() -> None:
    x = torch.zeros(4, 2)
    x[0, 0], x[2, 1] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="x must be finite, got NaN or infinite coordinates in 2 of 4 rows"):
        as_points(x, "x")


def test_two_samples_must_match() -> None:
    with pytest.raises(ValueError, match="same dim, got 2 and 3"):
        as_two_samples(torch.zeros(4, 2), torch.zeros(4, 3), same_size=True)
    with pytest.raises(ValueError, match="same size, got 4 and 5 rows"):
        as_two_samples(torch.zeros(4, 2), torch.zeros(5, 2), same_size=True)
    x, y = as_two_samples(torch.zeros(4, 2), torch.zeros(5, 2), same_size=False)
    assert x.dtype == y.dtype == torch.float64


def test_both_samples_are_taken_to_the_view_in_float64() -> None:
    draws = Draws(samples=normal(3, 2).float())
    truth = Truth(samples=normal(4, 2, seed=1), view=torch.asinh)
    x, y = both_in_view(draws, truth)
    torch.testing.assert_close(x, draws.samples.double().asinh())
    torch.testing.assert_close(y, normal(4, 2, seed=1).asinh())


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="bandwidth must be known for this metric, got None"):
        known(None, "bandwidth")
    assert known(0.0, "bandwidth") == 0.0
