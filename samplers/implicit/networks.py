"""The two networks of a one-pass sampler, both in coordinates y = x / scale."""

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from ...targets.checks import require_at_least, require_positive
from ...targets.meter import Meter
from ..base import NotApplicableError


@dataclass(frozen=True, kw_only=True)
class Latent:
    """The latent of the sampler network: Gaussian, or a mixture, where a category k comes with a Gaussian z.

    Attributes:
        dim: coordinates of z; None is the dimension of the target.
        n_components: categories, all of the same probability; 1 is a Gaussian latent. With more, every category has a
            centre of its own, so that no bridges need to run between modes.
        spread: standard deviation around a centre of the untrained sampler, in units of start_scale.
    """

    dim: int | None = None
    n_components: int = 1
    spread: float = 0.3

    def __post_init__(self) -> None:
        require_at_least(1, n_components=self.n_components)
        if self.dim is not None:
            require_at_least(1, dim=self.dim)
        require_positive(spread=self.spread)


def require_density(latent: Latent, meter: Meter) -> None:
    """Accept latents of enough dimensions for x0 to have a density.

    Raises:
        NotApplicableError: if they have fewer than the target.
    """
    if latent.dim is not None and latent.dim < meter.dim:
        raise NotApplicableError(
            f"latent dim must be at least the target's dim {meter.dim} for x0 to have a density, got {latent.dim}"
        )


@dataclass(frozen=True, kw_only=True)
class Network:
    """Shape of the sampler network and of the score network.

    Attributes:
        width: units per hidden layer.
        depth: hidden layers.
        latent: of the sampler network.
        start_scale: standard deviation of the untrained sampler, or of its centres, in units of the target's scale.
            Wide, since a sampler that starts inside one mode seldom finds another.
    """

    width: int = 128
    depth: int = 3
    latent: Latent = field(default_factory=Latent)
    start_scale: float = 1.0

    def __post_init__(self) -> None:
        require_at_least(1, width=self.width, depth=self.depth)
        require_positive(start_scale=self.start_scale)


def require_hidden_only(network: Network, why: str) -> None:
    """Refuse a latent and a start scale where nothing reads them.

    Raises:
        ValueError: naming the field, the rule with its reason ``why``, and the value.
    """
    for name in ("latent", "start_scale"):
        value, default = getattr(network, name), getattr(Network(), name)
        if value != default:
            raise ValueError(f"network.{name} must be {default}: {why}, got {value}")


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


class OnePass(nn.Module):
    """Maps latents to points: what the trainer moves and what draws pass through.

    Attributes:
        dim: of the points.
    """

    dim: int

    def latents(self, n: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Draws of the latent: a vector each, and a category where there are some."""
        raise NotImplementedError

    def forward(self, z: Tensor, component: Tensor | None = None) -> Tensor:
        """Latents to y0 = x0 / scale, ``(n, dim)``."""
        raise NotImplementedError


class SamplerNetwork(OnePass):
    """g(z) = A z + b + net(z) with z ~ N(0, I); of a mixture g(k, z) = A z + b + c_k + net(z, c_k at the start).

    A, b and the centres c are trained too. A starts at start_scale times the identity, cut or padded with zeros where
    the dimensions of z and g differ, b at 0; in a mixture the centres start at draws of N(0, start_scale^2 I) and A at
    ``spread`` times that. Near-Gaussian laws of unequal widths are much easier to reach for A than for the network,
    which would first have to learn to be linear.

    Args:
        shape: widths, latent and start.
        meter: dim, device and dtype.
        generator: of the weights and centres.
    """

    labels: Tensor  # where the centres of a mixture started

    def __init__(self, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        latent = shape.latent
        self.latent_dim, self.dim, self.n_components = latent.dim or meter.dim, meter.dim, latent.n_components
        is_mixture = self.n_components > 1
        self.net = MLP(self.latent_dim + is_mixture * self.dim, self.dim, shape, meter, generator)
        self.linear = _zero_linear(self.latent_dim, self.dim, meter)
        with torch.no_grad():
            self.linear.weight.fill_diagonal_(shape.start_scale * (latent.spread if is_mixture else 1.0))
        if is_mixture:
            z = torch.empty(self.n_components, self.dim, device=meter.device, dtype=meter.dtype)
            centres = shape.start_scale * z.normal_(generator=generator)
            self.centres = nn.Parameter(centres)
            self.register_buffer("labels", centres.clone())

    def latents(self, n: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """z ~ N(0, I), shape ``(n, latent_dim)``, and of a mixture the categories, shape ``(n,)``."""
        z = self.linear.weight.new_empty(n, self.latent_dim).normal_(generator=generator)
        if self.n_components == 1:
            return z, None
        return z, torch.randint(self.n_components, (n,), generator=generator, device=z.device)

    def forward(self, z: Tensor, component: Tensor | None = None) -> Tensor:
        """Latents ``(n, latent_dim)`` and categories ``(n,)`` to y0 = x0 / scale, ``(n, dim)``."""
        y0: Tensor = self.linear(z)
        if component is None:
            y0 = y0 + self.net(z)
        else:
            y0 = y0 + self.centres[component] + self.net(torch.cat([z, self.labels[component]], dim=-1))
        return y0


class NoisedScore(nn.Module):
    """Scores of the laws of y + s eps for any level s, from a network F that is told it: -y / (1 + s^2) at the start.

    score(y, s) = -y / (1 + s^2) + F(y / (1 + s^2)^.5, log(s) / 4) / (s (1 + s^2)^.5), so that inputs and outputs of F
    have unit size at every level where the law without noise has (Karras et al., arXiv 2206.00364, section 5).
    """

    def __init__(self, shape: Network, meter: Meter, generator: Generator) -> None:
        super().__init__()
        self.net = MLP(meter.dim + 1, meter.dim, shape, meter, generator)

    def forward(self, y: Tensor, s: Tensor) -> Tensor:
        """Points ``(n, dim)`` and their levels ``(n, 1)`` to scores ``(n, dim)``."""
        variance = 1 + s.square()
        outputs: Tensor = self.net(torch.cat([y * variance.rsqrt(), 0.25 * s.log()], dim=-1))
        return outputs / (s * variance.sqrt()) - y / variance


def _zero_linear(n_in: int, n_out: int, meter: Meter) -> nn.Linear:
    # skip_init, since nn.Linear draws its weights from the global generator
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, device=meter.device, dtype=meter.dtype)  # type: ignore[no-untyped-call]
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
