"""KL training: linearity in the target's score and counts. Its gradient is tested in test_implicit_gradients.py."""

import torch
from torch import Tensor

from samplerbench import samplers
from samplerbench.samplers.kl import kl_loss
from samplerbench.targets import Counts, Meter, derive_generator


class Normal:
    """N(0, I / 4) in the plane."""

    dim = 2
    scale = 0.5

    def log_prob(self, x: Tensor) -> Tensor:
        return -2 * x.square().sum(-1)


def gradient(s_q: float) -> Tensor:
    """Of the loss in x0, where the target's score is s_q * sin(x)."""
    x0 = torch.linspace(-1, 1, 10, dtype=torch.float64).reshape(5, 2).requires_grad_()
    loss = kl_loss(x0, lambda x: s_q * x.sin(), lambda x: -x.square(), derive_generator("noise"), noise=0.3)
    return torch.autograd.grad(loss, x0)[0]


def test_gradient_is_linear_in_the_score_so_minibatches_leave_it_unbiased() -> None:
    mean_of_gradients = 0.25 * gradient(3.0) + 0.75 * gradient(-1.0)
    torch.testing.assert_close(mean_of_gradients, gradient(0.25 * 3.0 - 0.75 * 1.0))


def test_gradient_is_the_difference_of_the_scores_averaged_over_the_pair() -> None:
    x0 = torch.zeros(4, 2, dtype=torch.float64).requires_grad_()
    loss = kl_loss(x0, lambda x: 3 * x + 1, lambda x: x - 1, derive_generator(), noise=0.3)
    (found,) = torch.autograd.grad(loss, x0)
    torch.testing.assert_close(found, torch.full_like(found, -2 / 4))  # linear scores: the noise cancels


def test_a_step_costs_one_log_prob_and_one_score_per_point() -> None:
    meter = Meter(Normal())
    sampler = samplers.get("kl", training={"n_steps": 3, "n_warm_up": 2, "batch_size": 20})
    sampler.fit(meter, derive_generator())
    assert meter.counts["fit"] == Counts(log_prob=60, score=60)
    assert meter.counts["draw"] == Counts()
