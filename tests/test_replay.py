"""The buffer of points: what moves and weighted draws leave of its law."""

import math

import pytest
import torch
from torch import Tensor

from samplerbench.samplers.replay import Buffer, Replay
from samplerbench.targets import Meter, derive_generator

TOO_LARGE = 4  # standard errors


class Half:
    """The exponential law in one dimension, without a density below zero: NaN there."""

    dim, scale = 1, 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, -x, math.nan).squeeze(-1)


def buffer(n: int, *, first: float = 1.0) -> Buffer:
    x = torch.full((n, 1), first, dtype=torch.float64)
    return Buffer.at(x, 1.0, Replay(n_points=n), Meter(Half(), dtype=torch.float64))


def test_moves_bring_points_to_the_target_and_out_of_where_it_has_no_density() -> None:
    points = buffer(4_000, first=-0.2)
    assert len(points.points) == 0
    points.move(60, derive_generator("move"))
    x = points.points.squeeze(-1)
    assert len(x) == 4_000
    for power, mean, variance in ((1, 1.0, 1.0), (2, 2.0, 20.0)):
        assert abs(x.pow(power).mean().item() - mean) < TOO_LARGE * math.sqrt(variance / len(x))


def test_as_many_points_are_replaced_as_the_draws_are_worth_by_their_weights() -> None:
    points = buffer(1_000, first=7.0)
    x = torch.arange(1.0, 401.0, dtype=torch.float64)[:, None]
    log_weights = torch.full((400,), -math.inf, dtype=torch.float64)
    log_weights[:200] = math.log(3.0)
    log_weights[5], log_weights[300] = math.nan, math.inf
    points.replace(x, log_weights, derive_generator("replace"))
    fresh = points.points[points.points != 7.0]
    assert points.n_replaced == 199
    assert len(points.points) == 1_000
    assert sorted(fresh.tolist()) == [value for value in range(1, 201) if value not in (6, 7)]  # 7 is as it was
    torch.testing.assert_close(points.state.log_prob, -points.state.x.squeeze(-1))


def test_draws_without_weight_replace_nothing() -> None:
    points = buffer(10)
    points.replace(torch.zeros(4, 1, dtype=torch.float64), torch.full((4,), math.nan), derive_generator("none"))
    assert points.n_replaced == 0
    assert (points.points == 1.0).all()


def test_one_draw_that_has_all_the_weight_replaces_one_point() -> None:
    points = buffer(10)
    points.replace(torch.tensor([[3.0], [4.0]], dtype=torch.float64), torch.tensor([0.0, -900.0]), derive_generator(1))
    assert sorted(points.points.squeeze(-1).tolist()) == [1.0] * 9 + [3.0]


@pytest.mark.parametrize(("field", "value"), [("n_points", 0), ("n_first", -1), ("move_every", 0), ("n_fresh", 1)])
def test_configuration_out_of_range_names_field_and_value(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        Replay(**{field: value})  # type: ignore[arg-type]
