import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.benchmarks.truth import TruthSource, build_truth, moments_of
from samplerbench.metrics.base import Truth
from samplerbench.targets import Modes, Moments, derive_generator
from samplerbench.targets.base import normal


@dataclass(frozen=True)
class Bare:
    """A normal law that offers its density and nothing else."""

    dim: int = 2
    scale: float = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


class Exact(Bare):
    """A normal law with exact draws."""

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        return normal(n_samples, self.dim, generator)


class Square(Bare):
    """The uniform law on the unit square."""

    def sample(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.rand(n_samples, self.dim, generator=generator, dtype=torch.float64)


class Shipped(Bare):
    """A normal law with 1,000 reference draws."""

    def reference(self) -> Tensor:
        return normal(1_000, self.dim, derive_generator("reference"))


class Knowing(Exact):
    """A normal law that states all there is to know, some of it wrong on purpose."""

    def score(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 7.0)

    def view(self, x: Tensor) -> Tensor:
        return 3 * x

    @property
    def modes(self) -> Modes:
        return Modes(lambda x: torch.zeros(len(x), dtype=torch.int64), torch.ones(1))

    @property
    def moments(self) -> Moments:
        return Moments(torch.zeros(4), torch.ones(4))

    def log_odds(self, x: Tensor) -> Tensor:
        return x

    @property
    def held_out_labels(self) -> Tensor:
        return torch.tensor([0, 1])


def samples(truth: Truth) -> Tensor:
    assert truth.samples is not None
    return truth.samples


def test_draws_depend_on_the_seed_alone() -> None:
    source = TruthSource(Exact())
    first = samples(source.at(50, seed=0))
    assert first.shape == (50, 2)
    assert first.dtype == torch.float64
    torch.testing.assert_close(samples(build_truth(Exact(), 50, seed=0)), first, rtol=0, atol=0)
    assert not torch.isclose(samples(source.at(50, seed=1)), first).any()


def test_what_depends_on_no_seed_is_computed_once() -> None:
    source = TruthSource(Exact())
    first, second = source.at(50, seed=0), source.at(60, seed=1)
    assert first.moments is second.moments is source.fixed.moments
    assert dataclasses.replace(first, samples=None) == dataclasses.replace(second, samples=None)


def test_moments_of_a_million_draws_are_within_their_standard_error() -> None:
    moments = TruthSource(Exact()).fixed.moments
    assert moments is not None
    mean, variance = torch.tensor([0.0, 0, 1, 1]).double(), torch.tensor([1.0, 1, 2, 2]).double()
    fourth = torch.tensor([3.0, 3, 60, 60]).double()  # central fourth moments of v and of v^2
    assert ((moments.mean - mean).abs() < 5 * (variance / 1e6).sqrt()).all()
    assert ((moments.variance - variance).abs() < 5 * ((fourth - variance**2) / 1e6).sqrt()).all()


def test_bandwidth_is_the_median_distance() -> None:
    bandwidth = TruthSource(Exact()).fixed.bandwidth
    exact = math.sqrt(2) * math.sqrt(2 * math.log(2))  # |x - y| is sqrt 2 times a Rayleigh variable
    assert bandwidth is not None
    assert abs(bandwidth - exact) < 0.1  # five standard errors of the median of a U-statistic of 2,000 draws


def test_spacing_is_the_median_distance_to_the_nearest_neighbour() -> None:
    spacing = TruthSource(Square()).fixed.spacing
    exact = math.sqrt(math.log(2) / (math.pi * 999))  # exp(-999 pi r^2) = 1/2
    assert spacing is not None
    assert abs(spacing / exact - 1) < 0.2  # five times the error of the median; the border adds 2%


def test_density_and_score_are_evaluated_in_blocks() -> None:
    truth, x = TruthSource(Exact()).fixed, normal(4_500, 2, derive_generator("points"))
    assert truth.log_prob is not None
    assert truth.score is not None
    torch.testing.assert_close(truth.log_prob(x), -0.5 * x.square().sum(-1))
    torch.testing.assert_close(truth.score(x), -x)
    assert not truth.score(x).requires_grad


def test_the_knowledge_of_the_target_comes_first() -> None:
    target = Knowing()
    truth, x = TruthSource(target).at(10, seed=0), torch.ones(3, 2, dtype=torch.float64)
    assert truth.score is not None
    assert truth.view is not None
    assert truth.modes is not None
    assert truth.moments is not None
    assert truth.predictive is not None
    assert truth.bandwidth is not None
    assert (truth.score(x) == 7).all()
    assert (truth.view(x) == 3).all()
    assert len(truth.modes.masses) == 1
    assert (truth.moments.variance == 1).all()
    assert truth.predictive.labels.tolist() == [0, 1]
    plain = TruthSource(Exact()).fixed.bandwidth
    assert plain is not None
    assert math.isclose(truth.bandwidth, 3 * plain, rel_tol=1e-12)  # in the view


def test_what_the_target_does_not_know_is_absent() -> None:
    truth = build_truth(Bare(), 10, seed=0)
    absent = (truth.samples, truth.view, truth.modes, truth.moments, truth.bandwidth, truth.spacing, truth.predictive)
    assert absent == (None,) * 7
    with pytest.raises(ValueError, match="target must have exact or reference draws, Bare has none"):
        TruthSource(Bare()).independent_pair(10, Generator())


def test_reference_draws_are_taken_in_random_blocks_of_at_most_half() -> None:
    source, reference = TruthSource(Shipped()), Shipped().reference()
    block = samples(source.at(500, seed=0))
    matches = (block[:, None] == reference).all(-1)
    assert (matches.sum(1) == 1).all()  # every row is a reference draw
    assert (matches.sum(0) <= 1).all()  # and none is taken twice
    assert not torch.equal(block, samples(source.at(500, seed=1)))
    assert source.fixed.moments is not None
    torch.testing.assert_close(source.fixed.moments.mean, moments_of(reference).mean)
    with pytest.raises(ValueError, match="from 1 to half of the 1000 reference draws of Shipped, got 501"):
        source.at(501, seed=0)


def test_a_pair_of_reference_blocks_is_disjoint_and_judged_by_the_moments_of_the_others() -> None:
    draws, truth = TruthSource(Shipped()).independent_pair(400, derive_generator("pair"))
    assert draws.shape == samples(truth).shape == (400, 2)
    assert not (draws[:, None] == samples(truth)).all(-1).any()
    reference = Shipped().reference()
    others = reference[~(reference[:, None] == draws).all(-1).any(1)]
    assert len(others) == 600
    assert truth.moments is not None
    torch.testing.assert_close(truth.moments.mean, moments_of(others).mean)


def test_a_pair_of_exact_samples_is_fresh() -> None:
    source = TruthSource(Exact())
    draws, truth = source.independent_pair(400, derive_generator("pair"))
    assert not torch.isclose(draws, samples(truth)).all(-1).any()
    again, _ = source.independent_pair(400, derive_generator("other pair"))
    assert not torch.isclose(draws, again).all(-1).any()


def test_at_least_one_draw_is_asked_for() -> None:
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        build_truth(Exact(), 0, seed=0)
