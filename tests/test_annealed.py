"""The path from a Gaussian to the target: its base, its laws, its temperatures and the resampling."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.samplers.annealed import Base, Tempered, log_ratio, next_beta, systematic
from samplerbench.samplers.base import State
from samplerbench.samplers.kernels import Diverged
from samplerbench.targets import Meter


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


BASE = Base(torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64))


def test_base_is_the_normal_law_that_it_draws_from() -> None:
    x = BASE.sample(20_000, generator())
    law = stats.multivariate_normal([1.0, -2.0], np.diag([0.25, 9.0]))
    np.testing.assert_allclose(BASE.log_prob(x).numpy(), law.logpdf(x.numpy()), rtol=1e-10)
    for i in range(2):
        assert stats.kstest(x[:, i].numpy(), stats.norm(BASE.mean[i].item(), BASE.sd[i].item()).cdf).pvalue > 1e-4
    inputs = x[:10].requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(BASE.log_prob(inputs).sum(), inputs)[0], BASE.score(x[:10]))


def test_base_has_the_width_of_the_starting_points() -> None:
    meter = Meter(targets.get("ring8"), dtype=torch.float64)
    base = Base.of(meter, generator(), width=2.0)
    error = 4 / math.sqrt(10_000)
    assert (base.mean.abs() < error * meter.scale).all()
    assert ((base.sd / (2 * meter.scale) - 1).abs() < error).all()


@pytest.mark.parametrize("per_row", [False, True])
def test_tempered_law_is_the_geometric_mean_of_both_ends(per_row: bool) -> None:
    target = targets.get("ring8")
    meter = Meter(target, dtype=torch.float64)
    x = BASE.sample(6, generator()).requires_grad_()
    beta: float | Tensor = torch.linspace(0.1, 1, 6, dtype=torch.float64)[:, None] if per_row else 0.3
    share = beta.squeeze(-1) if isinstance(beta, Tensor) else beta
    expected = (1 - share) * BASE.log_prob(x) + share * target.log_prob(x)
    (score,) = torch.autograd.grad(expected.sum(), x)
    state = State.at(x.detach(), meter)
    tempered = Tempered(BASE, beta)(state)
    torch.testing.assert_close((tempered.log_prob, tempered.score), (expected.detach(), score))
    assert tempered.x is state.x


def test_points_without_a_density_have_no_weight_and_none_is_a_divergence() -> None:
    x = torch.zeros(4, 2, dtype=torch.float64)
    log_prob = torch.tensor([math.nan, -math.inf, math.inf, -1.0], dtype=torch.float64)
    state = State(x, log_prob, x, torch.ones(4))
    ratio = log_ratio(state, BASE)
    assert ratio[:3].tolist() == 3 * [-math.inf]
    assert ratio[3] == -1 - BASE.log_prob(x[:1])
    with pytest.raises(Diverged, match="finite at none of 3 points"):
        log_ratio(State(x[:3], log_prob[:3], x[:3], torch.ones(3)), BASE)


def test_next_beta_has_the_conditional_effective_share_that_was_asked_for() -> None:
    weights, ratio = (
        torch.rand(1_000, generator=generator()).double(),
        20 * torch.randn(1_000, generator=generator(1)).double(),
    )
    beta = next_beta(0.2, weights.log(), ratio, 0.9)
    u = ((beta - 0.2) * ratio).exp()
    share = (weights * u).sum() ** 2 / (weights.sum() * (weights * u.square()).sum())
    assert math.isclose(share.item(), 0.9, rel_tol=1e-6)
    assert next_beta(0.2, weights.log(), 1e-3 * ratio, 0.9) == 1.0
    # for ratios N(0, s^2) and equal weights the share is exp(-s^2 delta^2)
    normal = 10 * torch.randn(200_000, generator=generator(2), dtype=torch.float64)
    delta = next_beta(0.0, torch.zeros_like(normal), normal, 0.9)
    assert math.isclose(delta, math.sqrt(-math.log(0.9)) / 10, rel_tol=0.02)


def test_systematic_resampling_keeps_every_expected_count_up_to_one() -> None:
    weights = torch.rand(3, 50, generator=generator(), dtype=torch.float64)
    expected = 40 * weights / weights.sum(-1, keepdim=True)
    total = torch.zeros_like(expected)
    for seed in range(400):
        rows = systematic(weights, 40, generator(seed))
        assert rows.shape == (3, 40)
        assert (rows.diff(dim=-1) >= 0).all()
        counts = torch.stack([torch.bincount(row, minlength=50) for row in rows]).double()
        assert ((counts - expected).abs() < 1).all()
        total += counts
    # each count is floor or ceiling of its expectation: a Bernoulli around it
    share = expected - expected.floor()
    error = (total / 400 - expected).abs() / (share * (1 - share) / 400).sqrt()
    assert error.max() < 5
