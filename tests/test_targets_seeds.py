import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from samplerbench import targets
from samplerbench.targets import seeds
from samplerbench.targets.seeds import SeedGermination

R = np.array([10, 23, 23, 26, 17, 5, 53, 55, 32, 46, 10, 8, 10, 8, 23, 0, 3, 22, 15, 32, 3])
N = np.array([39, 62, 81, 51, 39, 6, 74, 72, 51, 79, 13, 16, 30, 28, 45, 4, 12, 41, 30, 51, 7])
X1 = np.repeat([0, 1], [11, 10])
X2 = np.repeat([0, 1, 0, 1], [5, 6, 5, 5])


@pytest.fixture
def target() -> SeedGermination:
    return SeedGermination()


def log_joint(x: np.ndarray) -> np.ndarray:
    s, a, b = x[:, 0], x[:, 1:5], x[:, 5:]
    log_odds = a[:, :1] + a[:, 1:2] * X1 + a[:, 2:3] * X2 + a[:, 3:] * X1 * X2 + b
    prior = stats.gamma(0.01, scale=100).logpdf(np.exp(s)) + s + stats.norm(0, 10).logpdf(a).sum(-1)
    prior += stats.norm(0, np.exp(-0.5 * s)[:, None]).logpdf(b).sum(-1)
    return prior + stats.binom(N, special.expit(log_odds)).logpmf(R).sum(-1)


def test_log_prob_is_the_joint_density(target: SeedGermination) -> None:
    x = np.sin(np.arange(4 * 26.0)).reshape(4, 26) * np.array([[0.0], [0.3], [1.0], [4.0]])
    torch.testing.assert_close(target.log_prob(torch.from_numpy(x)), torch.from_numpy(log_joint(x)))


def test_log_prob_at_zero(target: SeedGermination) -> None:
    # binomial coefficients 2^-n each, 21 + 4 normals at 0, and Gamma(0.01, rate 0.01) at 1
    expected = seeds.LOG_BINOMIALS - 831 * math.log(2) - 12.5 * math.log(2 * math.pi) - 4 * math.log(10)
    expected += 0.01 * math.log(0.01) - math.lgamma(0.01) - 0.01
    value = target.log_prob(torch.zeros(26, dtype=torch.float64)).item()
    assert math.isclose(value, expected, rel_tol=1e-12)
    assert math.isclose(seeds.LOG_BINOMIALS, np.log(special.comb(N, R)).sum(), rel_tol=1e-12)


def test_tail_of_log_tau_is_that_of_its_docstring(target: SeedGermination) -> None:
    """With a = 0 the plates are independent given tau, so that b integrates out by 21 quadratures."""

    def log_marginal(s: float) -> float:
        b = np.linspace(-60, 60, 24_001) * math.exp(-min(0.0, s) / 2) / 6  # ten standard deviations
        total = target.log_prob(torch.tensor([[s] + [0.0] * 25], dtype=torch.float64)).item()
        at_zero = -0.5 * b**2 * math.exp(s)
        for r, n in zip(R, N, strict=True):
            log_ratio = at_zero + r * b - n * np.logaddexp(0, b) + n * math.log(2)
            total += special.logsumexp(log_ratio) + math.log(b[1] - b[0])
        return total

    slope = (log_marginal(-12.0) - log_marginal(-14.0)) / 2
    assert math.isclose(slope, 10.01, abs_tol=0.05)


def test_all_is_finite_where_draws_can_be(target: SeedGermination) -> None:
    noise = torch.randn(500, 26, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_tau = torch.linspace(-4.0, 8.0, 500, dtype=torch.float64)[:, None]
    for dtype in (torch.float64, torch.float32):
        x = torch.cat([log_tau, noise[:, 1:5], noise[:, 5:] * torch.exp(-0.5 * log_tau)], dim=-1).to(dtype)
        x.requires_grad_()
        (score,) = torch.autograd.grad(target.log_prob(x).sum(), x, create_graph=True)
        (hvp,) = torch.autograd.grad((score * noise.to(dtype)).sum(), x)
        assert score.isfinite().all()
        assert hvp.isfinite().all()


def test_score_of_the_precision(target: SeedGermination) -> None:
    """d log_prob / d log tau = 0.01 - 0.01 tau + 21 / 2 - tau |b|^2 / 2."""
    x = torch.linspace(-1, 1, 26, dtype=torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(x), x)
    tau = math.exp(-1)
    expected = 0.01 - 0.01 * tau + 10.5 - 0.5 * tau * x[5:].square().sum().item()
    assert math.isclose(score[0].item(), expected, rel_tol=1e-12)


def test_log_evidence_is_that_of_the_literature(target: SeedGermination) -> None:
    """Importance sampling of z = b sqrt(tau) and a, close to normal: log Z is -73.4 in arXiv 2406.07423.

    The normal is the Laplace approximation given log tau, on a grid of log tau that the trapezoid rule sums over.
    """
    generator = torch.Generator().manual_seed(0)
    grid = torch.linspace(-0.5, 6.5, 15, dtype=torch.float64)
    mode = torch.zeros(25, dtype=torch.float64)
    estimates, errors = [], []
    for s in grid:

        def log_density(u: torch.Tensor, s: torch.Tensor = s) -> torch.Tensor:
            x = torch.cat([s.expand(*u.shape[:-1], 1), u[..., :4], u[..., 4:] * torch.exp(-0.5 * s)], dim=-1)
            return target.log_prob(x) - 10.5 * s

        for _ in range(4):  # Newton steps, from the mode for the last log tau
            hessian = torch.autograd.functional.hessian(log_density, mode)
            mode = mode - torch.linalg.solve(hessian, torch.autograd.functional.jacobian(log_density, mode))
        factor = torch.linalg.cholesky(torch.linalg.inv(-hessian))
        z = torch.randn(4_000, 25, generator=generator, dtype=torch.float64)
        log_normal = -0.5 * (z.square().sum(-1) + 25 * math.log(2 * math.pi)) - factor.diag().log().sum()
        weights = torch.exp(log_density(mode + z @ factor.T) - log_normal + 73.4)
        estimates.append(0.5 * weights.mean())
        errors.append(0.5 * weights.std() / math.sqrt(len(z)))
    ratio, error = torch.stack(estimates).sum().item(), torch.stack(errors).norm().item()
    assert error < 0.02
    assert abs(math.log(ratio)) < 0.05 + 4 * error


def test_shipped_truth_and_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "shipped_log_z", lambda truth: f"log Z of {truth}")
    monkeypatch.setattr(seeds, "reference_draws", lambda truth: f"draws of {truth}")
    target = targets.get("seeds")
    assert isinstance(target, SeedGermination)
    assert (target.dim, target.scale) == (26, 0.7)
    assert target.log_z == "log Z of seeds"
    assert target.reference() == "draws of seeds"


def test_the_law_has_no_parameters() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'scale'"):
        targets.get("seeds", scale=1.0)
