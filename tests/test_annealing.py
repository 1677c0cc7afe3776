"""Log normalisers by annealing, against closed forms."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import targets
from samplerbench.benchmarks import annealing
from samplerbench.benchmarks.annealing import (
    FactorMixture,
    Mixture,
    Product,
    bennett,
    fit_base,
    laplace_base,
    log_normaliser,
    plan_path,
)
from samplerbench.targets.base import HasSample, Target, normal


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@dataclass(frozen=True)
class Scaled:
    """N(0, sd^2 I) times exp(shift): its log normaliser is ``shift``."""

    dim: int
    sd: float
    shift: float

    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        log_det = self.dim * (math.log(self.sd) + 0.5 * math.log(2 * math.pi))
        return self.shift - 0.5 * (x / self.sd).square().sum(-1) - log_det


def standard(dim: int) -> Mixture:
    one = torch.ones(1, dtype=torch.float64)
    return Mixture(one, torch.zeros(1, dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)[None])


def test_bases_are_normalised_and_draw_what_they_say() -> None:
    factors = torch.tensor([[[1.0, 0.0], [0.5, 0.3]], [[0.4, 0.0], [-0.2, 2.0]]], dtype=torch.float64)
    means = torch.tensor([[1.0, 0.0], [-3.0, 2.0]], dtype=torch.float64)
    mixture = Mixture(torch.tensor([0.3, 0.7], dtype=torch.float64), means, factors)
    x = mixture.sample(20_000, seeded(0))
    parts = [
        math.log(w) + stats.multivariate_normal(m.numpy(), (f @ f.T).numpy()).logpdf(x.numpy())
        for w, m, f in zip((0.3, 0.7), means, factors, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_prob(x).numpy(), np.logaddexp(*parts), rtol=1e-10)
    loadings = torch.tensor([[[1.0], [0.5]], [[0.4], [-2.0]]], dtype=torch.float64)
    variances = torch.tensor([[0.3, 0.1], [2.0, 0.5]], dtype=torch.float64)
    covariances = loadings @ loadings.mT + torch.diag_embed(variances)
    factored = FactorMixture(mixture.weights, means, variances, loadings)
    dense = Mixture(mixture.weights, means, torch.linalg.cholesky(covariances))
    z = factored.sample(20_000, seeded(2))
    np.testing.assert_allclose(factored.log_prob(z).numpy(), dense.log_prob(z).numpy(), rtol=1e-10)
    parts = list(zip((0.3, 0.7), means[:, 0].tolist(), covariances[:, 0, 0].sqrt().tolist(), strict=True))
    assert (
        stats.kstest(z[:, 0].numpy(), lambda v: sum(w * stats.norm(m, sd).cdf(v) for w, m, sd in parts)).pvalue > 1e-4
    )
    product = Product(torch.tensor([[0.0, 5.0], [2.0, 6.0]]).double(), torch.tensor([[1.0, 0.5], [0.1, 2.0]]).double())
    y = product.sample(20_000, seeded(1)).numpy()
    expected = 0.0
    for i in range(2):
        normals = [stats.norm(product.means[k, i].item(), product.sds[k, i].item()) for k in range(2)]
        expected = expected + np.log(0.5 * sum(law.pdf(y[:, i]) for law in normals))
        assert stats.kstest(y[:, i], lambda v, laws=normals: 0.5 * sum(law.cdf(v) for law in laws)).pvalue > 1e-4
    np.testing.assert_allclose(product.log_prob(torch.from_numpy(y)).numpy(), expected, rtol=1e-10)


def test_both_directions_and_their_combination_are_right_within_their_errors() -> None:
    """20 seeds, base twice as wide as the target: each estimate's mean error, and the share within 2 errors."""
    target, errors = Scaled(dim=4, sd=0.5, shift=3.0), []
    for seed in range(20):
        generator = seeded(seed)
        draws = 0.5 * normal(200, 4, generator)
        path = plan_path(target, standard(4), draws, generator, n_particles=100)
        estimate = log_normaliser(path, draws, generator)
        errors.append([(e.value - 3.0) / e.std_error for e in (estimate.up, estimate.down, estimate.both)])
    table = np.array(errors)
    assert (np.abs(table.mean(0)) < 4 / math.sqrt(20)).all()
    assert ((np.abs(table) < 2).mean(0) >= 0.75).all()  # 95% expected; 15 of 20 fail by chance once in 10^4


def test_finer_temperatures_lower_the_error() -> None:
    target, draws = Scaled(dim=20, sd=0.3, shift=0.0), 0.3 * normal(500, 20, seeded(0))
    coarse, fine = (
        log_normaliser(plan_path(target, standard(20), draws, seeded(1), min_effective=share), draws, seeded(2))
        for share in (0.9, 0.998)
    )
    assert fine.n_temperatures > 3 * coarse.n_temperatures
    assert fine.both.std_error < 0.6 * coarse.both.std_error
    assert abs(fine.both.value) < 4 * fine.both.std_error


def test_bennett_solves_its_equation_where_the_works_are_normal() -> None:
    """Works up N(-s^2/2, s^2) and down N(s^2/2, s^2) satisfy the fluctuation theorem with log Z = 0."""
    up, down = (sign * 0.5 + normal(4_000, 1, seeded(seed))[:, 0] for seed, sign in ((0, -1), (1, 1)))
    estimate = bennett(up, down)
    assert abs(estimate.value) < 4 * estimate.std_error
    assert abs(bennett(up + 5, down + 5).value - estimate.value - 5) < 1e-9
    balance = (up - estimate.value).sigmoid().sum() - (estimate.value - down).sigmoid().sum()
    assert abs(balance.item()) < 1e-6


def test_draws_of_another_law_make_the_directions_disagree() -> None:
    target = Scaled(dim=4, sd=0.5, shift=0.0)
    draws = 0.4 * normal(2_000, 4, seeded(0))
    path = plan_path(target, standard(4), draws, seeded(1))
    assert abs(log_normaliser(path, draws, seeded(2)).gap) > 4


@pytest.mark.parametrize(("name", "kind"), [("funnel10", Mixture), ("many_well16", Product), ("gaussian_ill", Mixture)])
def test_the_base_is_the_family_that_fits(name: str, kind: type) -> None:
    target: Target = targets.get(name)
    assert isinstance(target, HasSample)
    base = fit_base(target, target.sample(8_000, seeded(0)))
    assert isinstance(base, kind)
    if name == "gaussian_ill":
        assert isinstance(base, Mixture)
        assert len(base.weights) == 1


def test_laplace_base_of_a_gaussian_is_the_gaussian() -> None:
    target = targets.get("gaussian_ill")
    base = laplace_base(target, torch.full((10,), 3.0, dtype=torch.float64))
    x = target.sample(50, seeded(0))
    torch.testing.assert_close(base.log_prob(x), target.log_prob(x), rtol=1e-7, atol=1e-7)


def test_a_base_out_of_reach_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annealing, "MAX_STEPS", 30)
    far = Mixture(
        torch.ones(1, dtype=torch.float64),
        torch.full((1, 2), 1e4, dtype=torch.float64),
        1e-3 * torch.eye(2, dtype=torch.float64)[None],
    )
    draws = normal(100, 2, seeded(0))
    with pytest.raises(ValueError, match="base must be nearer to the target: 30 temperatures reach only"):
        plan_path(Scaled(2, 1.0, 0.0), far, draws, seeded(1), n_particles=4)
