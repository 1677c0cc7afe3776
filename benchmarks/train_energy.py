"""Deep energies trained on images by persistent contrastive divergence with Hamiltonian chains."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from ..samplers.base import State as Chains
from ..samplers.kernels import HMCKernel
from ..targets.factor_analysers import FactorMixture
from ..targets.image_energy import log_prob_of, tilt
from ..targets.image_networks import Layers, layers_of, tensors_of
from ..targets.meter import Meter
from .train_loop import State, adam
from .train_mfa import MFASettings


@dataclass(frozen=True, kw_only=True)
class EnergySettings:
    """Settings of a training.

    Attributes:
        base: of the fit of the law that is tilted, by EM; its noise is that of the images in training too.
        widths: of the hidden layers.
        n_steps: of the optimiser.
        n_chains: persistent chains, all moved before every step; as many images are drawn for it.
        max_leapfrog: most leapfrog steps of a move, which is one transition of HMC.
        restart: probability that a chain begins anew, at a draw of the base, before a step.
        acceptance: that the leapfrog step is adapted to.
        learning_rate: of Adam; it falls to zero linearly over the second half.
        penalty: weight of the mean squared tilt.
        averaging: decay of the average of the weights, which is what is shipped.
    """

    base: MFASettings
    widths: tuple[int, ...]
    n_steps: int
    n_chains: int
    max_leapfrog: int = 8
    restart: float = 0.001
    acceptance: float = 0.8
    learning_rate: float = 1e-3
    penalty: float = 1e-3
    averaging: float = 0.995


@dataclass(frozen=True)
class Tilted:
    """The law in training: the base with its wall, tilted by a network (see ImageEnergy)."""

    base: FactorMixture
    layers: Layers
    bound: float

    scale = 1.0

    @property
    def dim(self) -> int:
        """Number of pixels."""
        return self.base.means.shape[-1]

    def log_prob(self, x: Tensor) -> Tensor:
        """Unnormalised log density, shape ``(..., dim)`` to ``(...)``."""
        return log_prob_of(self.base, self.layers, x, self.bound)


def draw_base(base: FactorMixture, n: int, generator: Generator) -> Tensor:
    """Exact draws, float32, shape ``(n, dim)``."""
    return base.sample(base.draw_components(n, generator), generator).to(torch.float32)


def begin_energy(base: FactorMixture, settings: EnergySettings, generator: Generator) -> State:
    """A network whose output is near zero, and chains at draws of the base."""
    sizes = (base.means.shape[-1], *settings.widths, 1)
    layers = []
    for n_in, n_out in pairwise(sizes):
        gain = 0.01 if n_out == 1 else 1.0
        weight = gain / math.sqrt(n_in) * torch.randn(n_out, n_in, generator=generator)
        layers.append((weight, torch.zeros(n_out)))
    weights = tensors_of(layers)
    return {
        **weights,
        **{f"average.{name}": value.clone() for name, value in weights.items()},
        "chains": draw_base(base, settings.n_chains, generator),
        "leapfrog_step": torch.tensor(settings.base.noise_sd / 2, dtype=torch.float64),
    }


def energy_step(
    state: State,
    i: int,
    generator: Generator,
    *,
    images: Tensor,
    base: FactorMixture,
    bound: float,
    settings: EnergySettings,
) -> tuple[State, str]:
    """Move the chains at the law as it stands, then one step down the gradient of the likelihood.

    Args:
        state: weights, their averages, Adam's averages, chains and leapfrog step.
        i: number of the step, from 0.
        generator: of this step.
        images: float32 in [-1, 1], shape ``(n, dim)``, without noise.
        base, bound, settings: of the law and its training.
    """
    names = [name for name in state if name.startswith(("weight", "bias")) and "." not in name]
    weights = {name: state[name].clone().requires_grad_() for name in names}
    layers = layers_of(weights)

    restarted = torch.rand(settings.n_chains, 1, generator=generator) < settings.restart
    start = torch.where(restarted, draw_base(base, settings.n_chains, generator), state["chains"])
    fixed = [(weight.detach(), bias.detach()) for weight, bias in layers]
    meter = Meter(Tilted(base, fixed, bound))
    chains = Chains.at(start, meter)
    step = state["leapfrog_step"].item()
    chains = HMCKernel(step, settings.max_leapfrog)(chains, meter, generator)
    acceptance = chains.acceptance.mean().item()

    rows = torch.randint(len(images), (settings.n_chains,), generator=generator)
    real = images[rows] + settings.base.noise_sd * torch.randn(settings.n_chains, images.shape[1], generator=generator)
    of_real, of_chains = tilt(layers, real, bound), tilt(layers, chains.x, bound)
    size = (of_real.square() + of_chains.square()).mean()
    loss = of_real.mean() - of_chains.mean() + settings.penalty * size
    gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))

    new = dict(state)
    rate = settings.learning_rate * min(1.0, 2 * (1 - i / settings.n_steps))
    adam(new, gradients, i, rate, betas=(0.5, 0.99))
    for name in names:
        new[f"average.{name}"].lerp_(new[name], 1 - settings.averaging)
    new["chains"] = chains.x
    new["leapfrog_step"] = torch.tensor(step * math.exp(0.02 * (acceptance - settings.acceptance)), dtype=torch.float64)
    gap = (of_real.mean() - of_chains.mean()).item()
    return new, f"gap {gap:.3f} size {size.sqrt().item():.3f} acceptance {acceptance:.2f} step {step:.4f}"


def averages(state: State) -> dict[str, Tensor]:
    """The averaged weights: what is shipped."""
    return {
        name.removeprefix("average."): value
        for name, value in state.items()
        if name.startswith("average.") and name.count(".") == 1
    }
