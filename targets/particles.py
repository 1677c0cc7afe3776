"""Particles that attract and repel each other in pairs, seen from their centre of mass."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar

import torch
from torch import Generator, Tensor

from .base import PerDevice

BLOCK = 2**22  # numbers in a block of differences: bounds the memory for many points without slowing a few down


def helmert(n: int) -> Tensor:
    """Helmert's orthonormal basis of the vectors of length ``n`` with sum 0, as rows: shape ``(n - 1, n)``.

    Row k = 1, ..., n - 1 is (1, ..., 1, -k, 0, ..., 0) / sqrt(k (k + 1)), with k ones.
    """
    k = torch.arange(1, n, dtype=torch.float64)[:, None]
    column = torch.arange(n, dtype=torch.float64)
    rows = (column < k).to(torch.float64) - k * (column == k)
    return rows / (k * (k + 1)).sqrt()


class Particles(ABC):
    """Law of ``n_particles`` in ``space_dim`` dimensions with log_prob = -sum of ``pair_energy`` over the pairs.

    Such a density does not change when all particles move together, so it is improper in their positions. It is a
    density of x, the coordinates of the centred positions in an orthonormal basis of the mean-free space: position p
    minus the mean = sum_k h[k, p] x[k], h the rows of ``helmert`` and x[k] the k-th run of space_dim coordinates.
    Distances and squared norms are those of the positions.
    """

    n_particles: ClassVar[int]
    space_dim: ClassVar[int]

    @abstractmethod
    def pair_energy(self, distance2: Tensor) -> Tensor:
        """Energy of each pair at its squared distance, any shape."""

    @abstractmethod
    def pair_slope(self, distance2: Tensor) -> Tensor:
        """Derivative of ``pair_energy`` in the squared distance, any shape."""

    @property
    def dim(self) -> int:
        """Coordinates of the mean-free space."""
        return (self.n_particles - 1) * self.space_dim

    @cached_property
    def _basis(self) -> PerDevice:
        return PerDevice(helmert(self.n_particles))

    @cached_property
    def _differences_of_basis(self) -> PerDevice:
        """What maps x to the differences of the two positions of each pair, shape ``(n_particles - 1, n_pairs)``."""
        first, second = torch.triu_indices(self.n_particles, self.n_particles, offset=1)
        return PerDevice(self._basis.value[:, first] - self._basis.value[:, second])

    def to_particles(self, x: Tensor) -> Tensor:
        """Positions with mean 0: shape ``(..., dim)`` to ``(..., n_particles, space_dim)``."""
        return self._basis.like(x).T @ self._rows(x)

    def from_particles(self, positions: Tensor) -> Tensor:
        """Coordinates of positions, their mean dropped: ``(..., n_particles, space_dim)`` to ``(..., dim)``."""
        return (self._basis.like(positions) @ positions).flatten(-2)

    def distances2(self, x: Tensor) -> Tensor:
        """Squared distances of the pairs: ``(..., dim)`` to ``(..., n_pairs)``, pairs in order of triu_indices."""
        return self._differences(x).square().sum(-2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, unnormalised, shape ``(..., dim)`` to ``(...)``."""
        return self._in_blocks(lambda block: -self.pair_energy(self.distances2(block)).sum(-1), x)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of ``log_prob``, shape of ``x``."""
        return self._in_blocks(self._score, x)

    def scramble(self, x: Tensor, generator: Generator) -> Tensor:
        """A random rotation or reflection and a random permutation of every point's particles: shape ``(n, dim)``."""
        shape = (len(x), self.space_dim, self.space_dim)
        z = torch.randn(shape, generator=generator, device=generator.device, dtype=torch.float64)
        q, r = torch.linalg.qr(z)
        rotation = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]  # without the signs it is not uniform on O(d)
        keys = torch.rand(len(x), self.n_particles, generator=generator, device=generator.device)
        order = keys.argsort(-1).to(x.device)[..., None].expand(-1, -1, self.space_dim)
        return self.from_particles((self.to_particles(x) @ rotation.to(x)).gather(1, order))

    def _rows(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.n_particles - 1, self.space_dim)

    def _differences(self, x: Tensor) -> Tensor:
        """Differences of positions of the pairs: ``(..., dim)`` to ``(..., space_dim, n_pairs)``."""
        # One product with a constant matrix: its backward pass is another, where gathering would scatter.
        return self._rows(x).mT @ self._differences_of_basis.like(x)

    def _score(self, x: Tensor) -> Tensor:
        differences = self._differences(x)
        slope = self.pair_slope(differences.square().sum(-2))
        return -2 * ((differences * slope[..., None, :]) @ self._differences_of_basis.like(x).T).mT.flatten(-2)

    def _in_blocks(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``f`` of points ``(..., dim)``, in blocks whose differences fill at most BLOCK numbers."""
        n_points = max(1, BLOCK // (self.space_dim * math.comb(self.n_particles, 2)))
        if x.shape[:-1].numel() <= n_points:
            return f(x)
        values = torch.cat([f(block) for block in torch.split(x.reshape(-1, self.dim), n_points)])
        return values.reshape(x.shape[:-1] + values.shape[1:])
