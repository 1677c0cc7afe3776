import math

import pytest
import torch
from torch import Generator

from samplerbench import targets
from samplerbench.targets.rare_modes import RareModes

WEIGHTS = (0.8889, 0.1, 0.01, 0.001, 0.0001)


@pytest.mark.parametrize("dim", [2, 3, 8, 32, 200])
def test_modes_are_apart_and_on_no_common_line(dim: int) -> None:
    means = torch.tensor(RareModes(dim).mixture.means, dtype=torch.float64)
    torch.testing.assert_close(means.norm(dim=-1), torch.tensor([0, 8, 12, 16, 20], dtype=torch.float64))
    assert torch.pdist(means).min() > 7.99
    directions = means[1:] / means[1:].norm(dim=-1, keepdim=True)
    cosines = (directions @ directions.T).fill_diagonal_(0)
    assert cosines.abs().max() < 0.97


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_rare_masses(dim: int) -> None:
    """Each is 99.9% of its weight to a few percent, far better than the 100 draws of the rarest mode tell."""
    target = targets.get(f"rare_modes{dim}")
    assert target.dim == dim
    masses = target.modes.masses
    torch.testing.assert_close(masses, 0.999 * torch.tensor(WEIGHTS, dtype=torch.float64), rtol=2e-2, atol=0)
    counts = torch.bincount(target.modes.assign(target.sample(200_000, Generator().manual_seed(0))) + 1)[1:]
    assert ((counts - 200_000 * masses).abs() < 5 * (200_000 * masses).sqrt()).all()


@pytest.mark.parametrize("dim", [2, 8, 32])
def test_density_at_the_modes_by_hand(dim: int) -> None:
    target = targets.get(f"rare_modes{dim}")
    means = torch.tensor(target.mixture.means, dtype=torch.float64)
    expected = torch.tensor(WEIGHTS, dtype=torch.float64).log() - 0.5 * dim * math.log(2 * math.pi)
    torch.testing.assert_close(target.log_prob(means), expected, rtol=0, atol=1e-6)


def test_bad_dimension_is_named() -> None:
    with pytest.raises(ValueError, match="dim must be at least 2, got 1"):
        targets.get("rare_modes2", dim=1)
