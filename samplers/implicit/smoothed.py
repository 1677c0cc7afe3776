"""Points to draw from in one pass: a point, its neighbours' spread around it, and a network that corrects both.

    g(k, xi) = c_k + h d_k(xi) + sigma_k net(c_k, d_k / sigma_k),   d_k(xi) = sum_j xi_j (c_j - m_k) / J^1/2

over the J nearest neighbours c_j of point c_k, m_k their mean, sigma_k their standard deviations: given k, d_k has the
neighbours' covariance. The network is zero at the start; then g is a smoothed bootstrap of the points whose bandwidth
is local (P. Vincent and Y. Bengio, Manifold Parzen Windows, NIPS 2002).
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import Meter
from .networks import MLP, Network, OnePass

NARROW = 30.0  # below one over it, in standard deviations, a second input of networks is linear
MIN_WIDTH = 1e-6  # of a local spread, in units of the points' own
EXACTLY = "donot_use_mm_for_euclid_dist"  # products of matrices would round the distances of near points away
N_FIT_STEPS, FIT_BATCH, FIT_STEP_SIZE = 400, 512, 2e-3  # of the network that knows local widths
ROWS_PER_BLOCK = 1_024  # whose distances to all points, or neighbours, are held at once


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How the points are smoothed.

    Attributes:
        bandwidth: h, in units of the spread of the neighbours.
        n_neighbours: J.
    """

    bandwidth: float = 0.3
    n_neighbours: int = 16

    def __post_init__(self) -> None:
        require_positive(bandwidth=self.bandwidth)
        require_at_least(2, n_neighbours=self.n_neighbours)


class SmoothedPoints(OnePass):
    """g above, with latents (xi, k), k uniform.

    Args:
        points: shape ``(n, dim)``, n above n_neighbours, in units of the scale.
        smoothing: bandwidth and neighbours.
        shape: of the network.
        meter: dim, device and dtype.
        generator: of the weights.
    """

    def __init__(
        self, points: Tensor, smoothing: Smoothing, shape: Network, meter: Meter, generator: Generator
    ) -> None:
        super().__init__()
        self.dim, self.bandwidth, self.latent_dim = meter.dim, smoothing.bandwidth, smoothing.n_neighbours
        self.whiten = Whitening(points)
        self.net = MLP(3 * meter.dim, meter.dim, shape, meter, generator)
        z = self.whiten.linear(points)
        near = torch.cat([_nearest(block, z, smoothing.n_neighbours) for block in torch.split(z, ROWS_PER_BLOCK)])
        widths = torch.stack([points[rows].std(0, correction=0) for rows in near])
        self.points, self.near = nn.Buffer(points), nn.Buffer(near)
        self.widths = nn.Buffer(torch.maximum(widths, MIN_WIDTH * points.std(0)))

    def latents(self, n: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """xi ~ N(0, I), shape ``(n, n_neighbours)``, and k, shape ``(n,)``."""
        xi = self.points.new_empty(n, self.latent_dim).normal_(generator=generator)
        return xi, torch.randint(len(self.points), (n,), generator=generator, device=xi.device)

    def forward(self, z: Tensor, component: Tensor | None = None) -> Tensor:
        """Latents xi ``(n, n_neighbours)`` and k ``(n,)`` to y0 = x0 / scale, ``(n, dim)``."""
        if component is None:
            raise ValueError("component must be given: every draw belongs to a point, got None")
        blocks = zip(torch.split(z, ROWS_PER_BLOCK), torch.split(component, ROWS_PER_BLOCK), strict=True)
        return torch.cat([self._at(xi, k) for xi, k in blocks])

    def _at(self, xi: Tensor, k: Tensor) -> Tensor:
        neighbours = self.points[self.near[k]]
        towards = neighbours - neighbours.mean(1, keepdim=True)
        offset = torch.einsum("nj,njd->nd", xi, towards) / self.latent_dim**0.5
        centre, width = self.points[k], self.widths[k]
        inputs = torch.cat([self.whiten(centre), offset / width], dim=-1)
        y0: Tensor = centre + self.bandwidth * offset + width * self.net(inputs)
        return y0


class Whitening(nn.Module):
    """z = (y - mean) / sd of some points, and with it asinh(30 z), which tells narrow places from each other."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.mean, self.sd = nn.Buffer(points.mean(0)), nn.Buffer(points.std(0))

    def linear(self, y: Tensor) -> Tensor:
        """z, shape of ``y``."""
        return (y - self.mean) / self.sd

    def forward(self, y: Tensor) -> Tensor:
        """Both, shape ``(n, dim)`` to ``(n, 2 dim)``."""
        z = self.linear(y)
        return torch.cat([z, (NARROW * z).asinh()], dim=-1)


class LocalWidth(nn.Module):
    """The local width of points as a smooth positive field sigma(y), by least squares on its logarithm."""

    def __init__(self, sampler: SmoothedPoints, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.whiten = sampler.whiten
        self.net = MLP(2 * meter.dim, meter.dim, shape, meter, generator)
        log_widths = sampler.widths.log()
        self.mean = nn.Buffer(log_widths.mean(0))
        adam = torch.optim.Adam(self.net.parameters(), FIT_STEP_SIZE, fused=True)
        for _ in range(N_FIT_STEPS):
            k = torch.randint(len(log_widths), (FIT_BATCH,), generator=generator, device=log_widths.device)
            error = self.net(self.whiten(sampler.points[k])) + self.mean - log_widths[k]
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(error.square().mean())
            adam.step()
        self.requires_grad_(False)

    def forward(self, y: Tensor) -> Tensor:
        """sigma at points ``(n, dim)``, shape ``(n, dim)``."""
        width: Tensor = (self.net(self.whiten(y)) + self.mean).exp()
        return width


def _nearest(block: Tensor, points: Tensor, n: int) -> Tensor:
    """Indices of the ``n`` nearest points but one, the point itself or its like, shape ``(len(block), n)``."""
    return torch.cdist(block, points, compute_mode=EXACTLY).topk(n + 1, largest=False).indices[:, 1:]
