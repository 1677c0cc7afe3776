import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.metrics.weights import resampled, rows_of, systematic_indices
from samplerbench.targets import Draws


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_every_row_is_taken_floor_or_ceil_of_its_expectation() -> None:
    log_weights = 2 * normal(500) + 1_000  # large: weights must be normalised in logs
    expected = 500 * log_weights.softmax(0)
    taken = torch.bincount(systematic_indices(log_weights, Generator().manual_seed(1)), minlength=500)
    assert (taken >= (expected - 1e-9).floor()).all()
    assert (taken <= (expected + 1e-9).ceil()).all()
    assert taken.sum() == 500


def test_expected_number_of_copies_is_proportional_to_the_weight() -> None:
    weights, generator, n_repeats = torch.tensor([0.05, 0.15, 0.3, 0.5]), Generator().manual_seed(0), 4_000
    taken = sum(
        torch.bincount(systematic_indices(weights.log(), generator), minlength=4).double() for _ in range(n_repeats)
    )
    assert isinstance(taken, Tensor)
    error = 0.5 / math.sqrt(n_repeats)  # a count that takes two neighbouring values has a sd of at most 1/2
    assert ((taken / n_repeats - 4 * weights).abs() < 5 * error).all()


def test_importance_weights_turn_one_gaussian_into_another() -> None:
    x = 2 * normal(20_000, 1)
    log_weights = (-0.5 * (x - 1).square() + 0.5 * (x / 2).square())[:, 0]  # N(1, 1) from N(0, 4)
    draws = resampled(Draws(samples=x, log_weights=log_weights), Generator().manual_seed(1))
    ess = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp().item()
    assert draws.log_weights is None
    assert draws.samples.shape == x.shape
    assert abs(draws.samples.mean().item() - 1) < 5 / math.sqrt(ess)


def test_equal_weights_keep_every_row_and_what_belongs_to_it() -> None:
    x = normal(50, 2)
    draws = resampled(Draws(samples=x, log_weights=torch.full((50,), -3.0), log_density=x[:, 0]), Generator())
    torch.testing.assert_close(draws.samples, x)
    assert draws.log_density is not None
    torch.testing.assert_close(draws.log_density, x[:, 0])


def test_draws_without_weights_are_returned_as_they_are() -> None:
    draws = Draws(samples=normal(5, 2))
    assert resampled(draws, Generator()) is draws


def test_rows_of_weight_zero_are_never_taken() -> None:
    log_weights = torch.tensor([-math.inf, 0.0, -math.inf, 1.0, -math.inf])
    for seed in range(20):
        assert set(systematic_indices(log_weights, Generator().manual_seed(seed)).tolist()) <= {1, 3}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights_without_a_meaning_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="log_weights must have a finite maximum and no NaN, got maximum"):
        systematic_indices(torch.full((3,), bad), Generator())


def test_rows_keep_what_belongs_to_them() -> None:
    x = normal(6, 2)
    draws = Draws(samples=x, log_weights=x[:, 0], log_density=x[:, 1], chains=x.reshape(2, 3, 2))
    taken = rows_of(draws, torch.tensor([4, 1]))
    assert torch.equal(taken.samples, x[[4, 1]])
    assert taken.log_weights is not None
    assert taken.log_density is not None
    assert torch.equal(taken.log_weights, x[[4, 1], 0])
    assert torch.equal(taken.log_density, x[[4, 1], 1])
    assert taken.chains is draws.chains
    bare = rows_of(Draws(samples=x), slice(3))
    assert torch.equal(bare.samples, x[:3])
    assert bare.log_weights is bare.log_density is None
