"""The two networks of a one-pass sampler, both in coordinates y = x / scale."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Generator, Tensor, nn
from torch.nn import functional

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

    Weights are N(0, 1 / n_inputs) and biases zero, but the last layer is zero altogether.
    """

    def __init__(self, n_in: int, n_out: int, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        widths = [n_in, *[shape.width] * shape.depth, n_out]
        layers = [_linear(a, b, meter) for a, b in pairwise(widths)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(layers[-1].weight)
        self.layers = nn.ModuleList(layers)

    def forward(self, y: Tensor) -> Tensor:
        """Maps ``(..., n_in)`` to ``(..., n_out)``."""
        *hidden, last = self.layers
        for layer in hidden:
            y = functional.silu(layer(y))
        output: Tensor = last(y)
        return output


class SamplerNetwork(nn.Module):
    """g(z) = start_scale z + net(z) with z ~ N(0, I); a latent of another dimension is cut or padded with zeros."""

    def __init__(self, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.dim, self.start_scale = meter.dim, shape.start_scale
        self.latent_dim = shape.latent_dim or meter.dim
        self.net = MLP(self.latent_dim, self.dim, shape, meter, generator)

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``(n, latent_dim)`` to y0 = x0 / scale, ``(n, dim)``."""
        linear = functional.pad(z, (0, self.dim - self.latent_dim))
        output: Tensor = self.start_scale * linear + self.net(z)
        return output


def _linear(n_in: int, n_out: int, meter: Meter) -> nn.Linear:
    """A layer whose weights are not set: nn.Linear would draw them from the global generator."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, device=meter.device, dtype=meter.dtype)  # type: ignore[no-untyped-call]
    return layer
