"""Builds the Truth that metrics judge by, from what a target knows about itself."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Generator, Tensor

from ..metrics.base import Predictive, Truth
from ..targets.base import (
    HasClasses,
    HasFeatures,
    HasLogZ,
    HasModes,
    HasMoments,
    HasPredictive,
    HasReference,
    HasSample,
    HasScore,
    HasView,
    HasWells,
    Moments,
    Target,
)
from ..targets.meter import derive_generator

ROWS_PER_BLOCK = 2_000  # points at which log_prob and score are evaluated at once
MOMENT_BLOCKS, MOMENT_ROWS = 100, 10_000  # 1,000,000 exact draws where a target does not state its moments
BANDWIDTH_DRAWS = 2_000
SPACING_DRAWS = 1_000


class TruthSource:
    """Truths of one target: the parts that depend on no seed are computed once, when they are first needed.

    Args:
        target: as built from the registry.
    """

    def __init__(self, target: Target) -> None:
        self.target = target

    def at(self, n_samples: int, seed: int) -> Truth:
        """The truth with ``n_samples`` draws that depend on ``seed`` alone; without any if the target offers none.

        Raises:
            ValueError: if ``n_samples`` is less than 1, or more than half of the reference draws.
        """
        if not self.has_draws:
            return self.fixed
        return dataclasses.replace(self.fixed, samples=self.samples(n_samples, seed))

    def samples(self, n_samples: int, seed: int) -> Tensor | None:
        """The draws of ``at`` alone, shape ``(n_samples, dim)``: the rest of a truth can take seconds."""
        return self._draws(n_samples, derive_generator("truth", seed)) if self.has_draws else None

    @property
    def has_draws(self) -> bool:
        """Whether exact draws are possible or reference draws are shipped."""
        return isinstance(self.target, HasSample) or self._reference is not None

    @cached_property
    def fixed(self) -> Truth:
        """All that depends on no seed: everything but ``samples``."""
        target = self.target
        return Truth(
            log_prob=in_blocks(target.log_prob),
            score=in_blocks(target.score if isinstance(target, HasScore) else self._score_by_autograd),
            view=target.view if isinstance(target, HasView) else None,
            modes=target.modes if isinstance(target, HasModes) else None,
            wells=target.wells if isinstance(target, HasWells) else None,
            moments=self._moments(),
            bandwidth=self._bandwidth() if self.has_draws else None,
            spacing=self._spacing() if self.has_draws else None,
            predictive=self._predictive(),
            normaliser=target.log_z if isinstance(target, HasLogZ) else None,
            features=in_blocks(target.features) if isinstance(target, HasFeatures) else None,
            class_probabilities=in_blocks(target.class_probabilities) if isinstance(target, HasClasses) else None,
        )

    def independent_pair(self, n_samples: int, generator: Generator) -> tuple[Tensor, Truth]:
        """Draws and a truth that knows nothing of them: what a perfect sampler is judged by.

        With exact draws both are fresh. With reference draws they are disjoint random blocks, and moments that the
        target does not state are those of all reference draws outside the first block.

        Args:
            n_samples: size of both.
            generator: the only source of randomness.
        Returns:
            Draws ``(n_samples, dim)`` in float64, and the truth.
        Raises:
            ValueError: if the target offers no draws, n_samples is less than 1, or more than half of the reference.
        """
        if not self.has_draws:
            raise ValueError(f"target must have exact or reference draws, {type(self.target).__name__} has none")
        if self._reference is None:
            draws, samples = self._draws(n_samples, generator), self._draws(n_samples, generator)
            return draws, dataclasses.replace(self.fixed, samples=samples)
        shuffled = self._shuffled_reference(n_samples, generator)
        draws, others = shuffled[:n_samples], shuffled[n_samples:]
        moments = self.fixed.moments if isinstance(self.target, HasMoments) else moments_of(self._in_view(others))
        return draws, dataclasses.replace(self.fixed, samples=others[:n_samples], moments=moments)

    @cached_property
    def _reference(self) -> Tensor | None:
        """Reference draws, only where exact ones are impossible."""
        if isinstance(self.target, HasReference) and not isinstance(self.target, HasSample):
            return self.target.reference().to(torch.float64)
        return None

    def _draws(self, n_samples: int, generator: Generator) -> Tensor:
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        if isinstance(self.target, HasSample):
            return self.target.sample(n_samples, generator)
        return self._shuffled_reference(n_samples, generator)[:n_samples]

    def _shuffled_reference(self, n_samples: int, generator: Generator) -> Tensor:
        reference = self._reference
        if reference is None or not 1 <= n_samples <= len(reference) // 2:
            n_reference = 0 if reference is None else len(reference)
            raise ValueError(
                f"n_samples must be from 1 to half of the {n_reference} reference draws of "
                f"{type(self.target).__name__}, got {n_samples}"
            )
        return reference[torch.randperm(len(reference), generator=generator)]

    def _some_draws(self, n_samples: int, purpose: str) -> Tensor:
        """Draws that are the same for every seed; at most half of the reference."""
        if self._reference is not None:
            n_samples = min(n_samples, len(self._reference) // 2)
        return self._draws(n_samples, derive_generator("truth", purpose))

    def _in_view(self, x: Tensor) -> Tensor:
        return self.target.view(x) if isinstance(self.target, HasView) else x

    def _score_by_autograd(self, x: Tensor) -> Tensor:
        inputs = x.detach().requires_grad_()
        with torch.enable_grad():
            (score,) = torch.autograd.grad(self.target.log_prob(inputs).sum(), inputs)
        return score

    def _moments(self) -> Moments | None:
        """The target's own, else of 1,000,000 exact draws, else of all reference draws."""
        if isinstance(self.target, HasMoments):
            return self.target.moments
        if self._reference is not None:
            return moments_of(self._in_view(self._reference))
        if not self.has_draws:
            return None
        generator = derive_generator("truth", "moments")
        blocks = [moments_of(self._in_view(self._draws(MOMENT_ROWS, generator))) for _ in range(MOMENT_BLOCKS)]
        means = torch.stack([block.mean for block in blocks])
        variances = torch.stack([block.variance for block in blocks])
        return Moments(means.mean(0), variances.mean(0) + means.var(0, unbiased=False))  # total variance, equal blocks

    def _bandwidth(self) -> float:
        """Median distance between 2,000 draws in the view."""
        return torch.pdist(self._in_view(self._some_draws(BANDWIDTH_DRAWS, "bandwidth"))).median().item()

    def _spacing(self) -> float:
        """Median distance of 1,000 draws to their nearest neighbour, in x."""
        draws = self._some_draws(SPACING_DRAWS, "spacing")
        distances = torch.cdist(draws, draws, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
        return distances.min(1).values.median().item()

    def _predictive(self) -> Predictive | None:
        if not isinstance(self.target, HasPredictive):
            return None
        return Predictive(self.target.log_odds, self.target.held_out_labels)


def build_truth(target: Target, n_samples: int, seed: int) -> Truth:
    """The truth of a target with ``n_samples`` draws of its law; use a TruthSource for more than one.

    Args:
        target: as built from the registry.
        n_samples: number of exact draws, or of reference draws where exact ones are impossible.
        seed: of the draws; everything else depends on the target alone.
    Raises:
        ValueError: as ``TruthSource.at``.
    """
    return TruthSource(target).at(n_samples, seed)


def moments_of(v: Tensor) -> Moments:
    """Mean and variance of f = (v, v^2) over a sample ``(n, dim)`` in the view."""
    f = torch.cat([v, v.square()], dim=-1)
    return Moments(f.mean(0), f.var(0, unbiased=False))


def in_blocks(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``function`` of points ``(n, dim)``, without gradient, evaluated at 2,000 of them at a time."""

    def blocked(x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([function(part) for part in torch.split(x, ROWS_PER_BLOCK)])

    return blocked
