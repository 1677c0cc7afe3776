"""The two networks of a one-pass sampler, both in coordinates y = x / scale."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import Meter


@dataclass(frozen=True, kw_only=True)
class Network:
    """Shape of the sampler network and of the score network.

    Attributes:
        width: units per hidden layer.
        depth: hidden layers.
        latent_dim: coordinates of the latent z; None is the dimension of the target.
        start_scale: standard deviation of the untrained sampler, in units of the target's scale. Wide, since a
            sampler that starts inside one mode seldom finds another.
    """

    width: int = 128
    depth: int = 3
    latent_dim: int | None = None
    start_scale: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, width=self.width, depth=self.depth)
        if self.latent_dim is not None:
            require_at_least(1, latent_dim=self.latent_dim)
        require_positive(start_scale=self.start_scale)


class MLP(nn.Module):
    """Fully connected network of SiLU units (smooth: losses differentiate it twice in its input), zero at the start.

    Hidden weights are N(0, 1 / n_inputs), all others zero.
    """

    def __init__(self, n_in: int, n_out: int, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([n_in, *[shape.width] * shape.depth]):
            layer = _zero_linear(a, b, meter)
            nn.init.normal_(layer.weight, std=a**-0.5, generator=generator)
            layers += [layer, nn.SiLU()]
        self.layers = nn.Sequential(*layers, _zero_linear(shape.width, n_out, meter))

    def forward(self, y: Tensor) -> Tensor:
        """Maps ``(..., n_in)`` to ``(..., n_out)``."""
        output: Tensor = self.layers(y)
        return output


class SamplerNetwork(nn.Module):
    """g(z) = A z + b + net(z) with z ~ N(0, I); A and b are trained too, from start_scale times the identity and 0.

    Where the dimensions of z and g differ, the identity is cut or padded with zeros. Near-Gaussian laws of unequal
    widths are much easier to reach for A than for the network, which would first have to learn to be linear.
    """

    def __init__(self, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.latent_dim, self.dim = shape.latent_dim or meter.dim, meter.dim
        self.net = MLP(self.latent_dim, self.dim, shape, meter, generator)
        self.linear = _zero_linear(self.latent_dim, self.dim, meter)
        with torch.no_grad():
            self.linear.weight.fill_diagonal_(shape.start_scale)

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``(n, latent_dim)`` to y0 = x0 / scale, ``(n, dim)``."""
        output: Tensor = self.linear(z) + self.net(z)
        return output


def _zero_linear(n_in: int, n_out: int, meter: Meter) -> nn.Linear:
    # skip_init, since nn.Linear draws its weights from the global generator
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, device=meter.device, dtype=meter.dtype)  # type: ignore[no-untyped-call]
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
