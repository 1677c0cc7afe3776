"""Modes of mixtures of isotropic components: which components are one mode, and the masses of the assignment."""

import math

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from .base import Modes
from .isotropic import IsotropicMixture

REGION = 0.999  # share of a component inside its region
MERGE_ABOVE = 0.05  # Bayes error, at equal weights, above which two components are one mode
N_NODES = 2**14  # quasi-random points per component behind the masses: errors below 1e-4


def modes_of(mixture: IsotropicMixture) -> Modes:
    """Modes: the likeliest component whose 99.9% region holds the point, components that overlap merged, else -1.

    Two components are merged when the Bayes error of telling them apart, were they equally likely, exceeds 5%. The
    masses are those of this assignment, by quadrature.
    """
    from scipy.sparse.csgraph import connected_components

    assigned, confused = _assignment_of_components(mixture)
    bayes_error = 0.5 * (confused + confused.T)
    n_modes, labels = connected_components((bayes_error > MERGE_ABOVE).numpy(), directed=False)
    label = torch.from_numpy(labels).to(torch.int64)
    masses = torch.zeros(n_modes, dtype=torch.float64).index_add(0, label, mixture.shares.value @ assigned)
    region = _region(mixture)

    def assign(x: Tensor) -> Tensor:
        radius2 = mixture.radius2(*mixture.span.split(x))
        component, inside = _likeliest(mixture.log_joint(radius2), radius2, region)
        return torch.where(inside, label.to(x.device)[component], -1)

    return Modes(assign, masses)


def _region(mixture: IsotropicMixture) -> float:
    """Squared radius, in widths, of the ball that holds 99.9% of a component."""
    return mixture.profile.radius2_quantile(torch.tensor(REGION, dtype=torch.float64)).item()


def _likeliest(log_joint: Tensor, radius2: Tensor, region: float) -> tuple[Tensor, Tensor]:
    """Likeliest of the components whose region holds the point, and whether there is one: both ``(...)``."""
    outside = radius2 > region
    return log_joint.masked_fill(outside, -math.inf).argmax(-1), ~outside.all(-1)


def _assignment_of_components(mixture: IsotropicMixture) -> tuple[Tensor, Tensor]:
    """Where the draws of each component (rows) go: both of shape ``(n_components, n_components)``.

    Returns:
        The probability that they are assigned to component k, inside its region; the probability that the density
        of component k exceeds that of their own.
    """
    along, off, shares = _component_nodes(mixture)
    region, log_weights = _region(mixture), mixture.shares.value.log()
    n_components = len(log_weights)
    assigned = torch.zeros(n_components, n_components, dtype=torch.float64)
    confused = torch.zeros_like(assigned)
    for j in range(n_components):  # one at a time: all at once would take n_components times the memory
        width = mixture.widths.value[j]
        radius2 = mixture.radius2(mixture.span.means.value[j] + width * along, width.square() * off)
        log_joint = mixture.log_joint(radius2)
        component, inside = _likeliest(log_joint, radius2, region)
        assigned[j].index_add_(0, component, shares * inside)
        log_density = log_joint - log_weights
        confused[j] = shares @ (log_density > log_density[:, j : j + 1]).to(torch.float64)
    return assigned, confused


def _component_nodes(mixture: IsotropicMixture) -> tuple[Tensor, Tensor, Tensor]:
    """Quasi-random nodes of a component of width 1: 99.9% inside its region exactly, the rest outside.

    A direction is that of a normal vector, of which only the part along the span of the means and the length of the
    rest matter: one node coordinate stands for all the others.

    Returns:
        Coordinates along the span ``(2 * N_NODES, rank)``, squared distances from it and probabilities, both
        ``(2 * N_NODES,)``.
    """
    from scipy.special import gammainc, gammaincinv

    span = mixture.span
    # Sobol points are multiples of 1 / N_NODES: half a step keeps them inside (0, 1) and centred.
    engine = SobolEngine(span.rank if span.is_whole else span.rank + 1)  # type: ignore[no-untyped-call]
    uniform = engine.draw(N_NODES, dtype=torch.float64) + 0.5 / N_NODES
    along, off = torch.special.ndtri(uniform[:, : span.rank]), torch.zeros(N_NODES, dtype=torch.float64)
    if not span.is_whole:  # a chi^2 of the other dimensions
        off = torch.from_numpy(2 * gammaincinv((span.dim - span.rank) / 2, uniform[:, -1].numpy()))
    radius2 = along.square().sum(-1) + off
    level = torch.from_numpy(gammainc(span.dim / 2, radius2.numpy() / 2))
    level = level.clamp(1e-6, 1 - 1e-6)  # off the edge of the region, and of infinity: both are reached by rounding
    levels = torch.cat([REGION * level, REGION + (1 - REGION) * level])  # the same directions, in and out
    growth = mixture.profile.radius2_quantile(levels) / radius2.repeat(2)
    shares = torch.tensor([REGION, 1 - REGION], dtype=torch.float64).repeat_interleave(N_NODES) / N_NODES
    return along.repeat(2, 1) * growth.sqrt()[:, None], off.repeat(2) * growth, shares
