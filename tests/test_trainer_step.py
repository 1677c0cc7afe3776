"""A whole sampler step of the trainer: what reaches theta is the gradient of the method's loss, clipped once."""

import copy

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from samplerbench import targets
from samplerbench.samplers.dft import dft_loss
from samplerbench.samplers.fisher import fisher_loss
from samplerbench.samplers.implicit.flat import flatten
from samplerbench.samplers.implicit.networks import Network, SamplerNetwork
from samplerbench.samplers.implicit.noise import Noise
from samplerbench.samplers.implicit.objective import Denoised, Loss
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.samplers.implicit.trainer import Training, _Players
from samplerbench.samplers.kl import kl_loss
from samplerbench.targets import Meter, derive_generator

NOISE = 0.1
LOSSES: dict[str, Loss] = {"dft": dft_loss, "fisher": lambda *args, noise: fisher_loss(*args), "kl": kl_loss}


@pytest.mark.parametrize("clip_rows", [1.0, 1e30])  # many rows are shortened, none is
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_theta_gets_the_gradient_of_the_loss_with_its_rows_clipped(loss: Loss, clip_rows: float) -> None:
    meter = Meter(targets.get("ring8"), dtype=torch.float64)
    generator = derive_generator(0, "step")
    training = Training(batch_size=64, clip_rows=clip_rows, clip_norm=1e30)
    s_q = TargetScore(max_score=1e30).of(meter, generator, differentiable=True)
    objective = Denoised(loss, s_q, Noise(level=NOISE))
    shape = Network(width=16, depth=1)
    players = _Players(objective, meter, generator, shape, training)
    with torch.no_grad():  # away from the start, where the network is zero
        for value in players.layers:
            value += 0.3 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    players.opponent_steps(20, 0.0)

    before, state = copy.deepcopy(players.sampler), generator.get_state()
    players._sampler_step(0.0)
    generator.set_state(state)
    z = torch.empty(32, 2, dtype=torch.float64).normal_(generator=generator)
    points = before(z).detach().requires_grad_()
    (rows,) = torch.autograd.grad(objective.sampler_loss(players.opponent, points, 0.0, generator), points)
    length = rows.norm(dim=-1, keepdim=True)
    rows = rows * (clip_rows * length.median() / length).clamp(max=1.0)
    expected = torch.autograd.grad(before(z), list(before.parameters()), rows)
    torch.testing.assert_close(players.theta_gradient, parameters_to_vector(expected), rtol=1e-8, atol=1e-10)


def test_one_vector_holds_the_parameters_and_their_gradients() -> None:
    meter, generator = Meter(targets.get("ring8")), derive_generator(0, "flat")
    network = SamplerNetwork(Network(width=8, depth=2), meter, generator)
    z = torch.randn(5, 2, generator=generator)
    before = network(z)
    expected = parameters_to_vector(torch.autograd.grad(before.square().sum(), list(network.parameters())))
    theta, gradient = flatten(network.parameters())
    assert torch.equal(network(z), before)
    torch.autograd.backward(network(z).square().sum())
    torch.testing.assert_close(gradient, expected)
    theta.add_(1.0)
    assert torch.equal(parameters_to_vector(network.parameters()), theta)
