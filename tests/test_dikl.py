"""DiKL: scores of the noised target from draws of x0, the gradient of the loss, counts, convergence, refusals."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samplerbench import samplers, targets
from samplerbench.samplers.dikl import dikl_loss
from samplerbench.samplers.implicit.networks import Network
from samplerbench.samplers.implicit.noise import Noise, of_points, with_noise
from samplerbench.samplers.implicit.objective import Denoised, Field
from samplerbench.samplers.implicit.posterior import N_OCTAVES, Posterior, PosteriorScore
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.samplers.implicit.trainer import Training, train
from samplerbench.targets import Counts, Meter, derive_generator

CAREFUL = Posterior(n_particles=24, betas=(0.0, 0.03, 0.1, 0.3, 0.6, 1.0), n_moves=8)  # bias below standard errors
SMALL: dict[str, Any] = {"n_steps": 3, "n_warm_up": 2, "batch_size": 20}


@dataclass(frozen=True)
class Mixture:
    """Mixture of N(mean_k, sd^2 I); of one component a Gaussian."""

    means: tuple[tuple[float, ...], ...] = ((0.0, 0.0),)
    weights: tuple[float, ...] = (1.0,)
    sd: float = 0.5
    scale: float = 1.0

    @property
    def dim(self) -> int:
        return len(self.means[0])

    def log_prob(self, x: Tensor) -> Tensor:
        return self._log_joint(x, 0.0).logsumexp(-1)

    def sample(self, n: int) -> Tensor:
        generator = derive_generator("mixture")
        k = torch.multinomial(torch.tensor(self.weights), n, replacement=True, generator=generator)
        means = torch.tensor(self.means, dtype=torch.float64)[k]
        return means + self.sd * torch.randn(means.shape, generator=generator, dtype=torch.float64)

    def noised_score(self, x: Tensor, s: float) -> Tensor:
        """Of the law of x0 + s eps: the mean of (mean_k - x) / (sd^2 + s^2) over the responsibilities."""
        gaps = torch.tensor(self.means).to(x) - x[:, None]
        return (self._log_joint(x, s).softmax(-1)[..., None] * gaps).sum(1) / (self.sd**2 + s**2)

    def _log_joint(self, x: Tensor, s: float) -> Tensor:
        gaps = torch.tensor(self.means).to(x) - x[..., None, :]
        return torch.tensor(self.weights).to(x).log() - 0.5 * gaps.square().sum(-1) / (self.sd**2 + s**2)


GAUSSIAN = Mixture(sd=0.7)
CASES = {
    "Gaussian, 1-D": Mixture(means=((0.3,),), sd=0.7),
    "Gaussian, 2-D": GAUSSIAN,
    "mixture, 1-D": Mixture(means=((-0.9,), (1.0,)), weights=(0.7, 0.3), sd=0.3),
    "mixture, 2-D": Mixture(means=((-1.0, 0.2), (0.8, -0.5)), weights=(0.4, 0.6), sd=0.25),
}


def posterior_score(target: Any, config: Posterior = CAREFUL) -> PosteriorScore:
    return config.of(Meter(target, dtype=torch.float64), derive_generator("posterior"))


def noised_points(target: Mixture, s: float, n_points: int, n_repeats: int) -> Tensor:
    """``n_points`` draws of the noised target, each ``n_repeats`` times."""
    x0 = target.sample(n_points)
    x = x0 + s * torch.randn(x0.shape, generator=derive_generator("noise"), dtype=torch.float64)
    return x.repeat_interleave(n_repeats, 0)


# The score of the noised target


@pytest.mark.parametrize("s", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("target", CASES.values(), ids=CASES.keys())
def test_both_identities_and_their_combination_give_the_closed_form(target: Mixture, s: float) -> None:
    n_points, n_repeats = 5, 300
    x = noised_points(target, s, n_points, n_repeats)
    estimate = posterior_score(target)
    for _ in range(20):
        estimate(x[::10], s)  # adapts the step
    x0, score = estimate.draws(x, torch.full((len(x), 1), s, dtype=torch.float64))
    estimates = {
        "denoising": ((x0 - x[:, None]) / s**2).mean(1),
        "target score": score.mean(1),
        "combination": estimate(x, s),
    }
    exact = target.noised_score(x[::n_repeats], s)
    for name, values in estimates.items():
        per_point = values.view(n_points, n_repeats, -1)
        error = per_point.std(1) / math.sqrt(n_repeats)
        unseen = 1e-3 * exact.square().mean().sqrt()  # of modes too light to be met in n_repeats * n_particles draws
        assert ((per_point.mean(1) - exact).abs() < 4 * error + unseen).all(), name


@pytest.mark.parametrize("s", [0.05, 0.4, 1.0])
def test_for_a_gaussian_the_combination_has_no_variance(s: float) -> None:
    x = noised_points(GAUSSIAN, s, 50, 1)
    estimate = posterior_score(GAUSSIAN, Posterior())
    torch.testing.assert_close(estimate(x, s), -x / (0.7**2 + s**2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("s", [0.08, 0.25, 0.9])
def test_the_combination_varies_less_than_either_identity_and_fixed_weights(s: float) -> None:
    target = CASES["mixture, 2-D"]
    x = noised_points(target, s, 200, 1)
    estimate = posterior_score(target)
    x0, score = estimate.draws(x, torch.full((len(x), 1), s, dtype=torch.float64))
    d, t = (x0 - x[:, None]) / s**2, score
    share = estimate._share(d, t, estimate._octave(torch.full((len(x), 1), s)))
    assert share.min() == share.max()

    def variance(a: float) -> float:
        return (a * d + (1 - a) * t).var(1).mean().item()

    best = share[0].item()
    for a in (0.0, 1.0, s**2 / (1 + s**2), best - 0.05, best + 0.05):
        assert variance(best) < variance(a)


def test_points_of_all_levels_in_one_call_have_steps_of_their_own() -> None:
    target = CASES["mixture, 2-D"]
    estimate = posterior_score(target, Posterior())
    s = torch.tensor([0.03, 0.3, 0.9], dtype=torch.float64).repeat(100)[:, None]
    x = noised_points(target, 0.3, 300, 1)
    rates: list[Tensor] = []
    adapt = estimate._adapt

    def watched(acceptance: Tensor, octave: Tensor) -> None:
        rates.append(torch.stack([acceptance[octave == k].mean() for k in (0, 1, 5)]))
        adapt(acceptance, octave)

    estimate._adapt = watched  # type: ignore[method-assign]
    for _ in range(60):
        estimate(x, s)
    assert (torch.stack(rates[-80:]).mean(0) - 0.6).abs().max() < 0.03
    steps = estimate.steps
    assert steps[5] > steps[1] > steps[0]  # in units of s: the wider the law of x0 given x
    untouched = [k for k in range(N_OCTAVES) if k not in (0, 1, 5)]
    assert (steps[untouched] == 0.5).all()


def test_particles_without_a_density_have_no_weight() -> None:
    class Half(Mixture):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) + torch.where(x[..., 0] > 0, 0.0, math.nan)

    x = torch.tensor([[0.1, 0.0], [0.3, -0.5]], dtype=torch.float64).repeat(50, 1)
    estimate = posterior_score(Half())
    x0, score = estimate.draws(x, torch.full((len(x), 1), 0.3, dtype=torch.float64))
    assert (x0[..., 0] > 0).all()
    assert score.isfinite().all()


# The loss


class LinearGaussian:
    """x0 = A z + b against N(m, v I), both noised at several levels."""

    levels = (0.2, 0.5, 1.0)
    m = (-0.5, 0.6)
    sd = 0.7

    def __init__(self) -> None:
        self.a = torch.tensor([[1.2, -0.3], [-0.4, 0.9]], dtype=torch.float64).requires_grad_()
        self.b = torch.tensor([0.8, 0.2], dtype=torch.float64).requires_grad_()

    def covariance(self, s: float) -> Tensor:
        return self.a @ self.a.T + s**2 * torch.eye(2, dtype=torch.float64)

    def kl(self, s: float) -> Tensor:
        """[ tr(S) / w - dim - log det(S / w) + |b - m|^2 / w ] / 2 with w = v + s^2, S the covariance of x."""
        w, covariance = self.sd**2 + s**2, self.covariance(s)
        shift = (self.b - torch.tensor(self.m)).square().sum() / w
        return 0.5 * (torch.trace(covariance) / w - 2 - torch.logdet(covariance / w) + shift)

    def weighted_kl(self) -> Tensor:
        return torch.stack([s**2 * self.kl(s) for s in self.levels]).mean()

    def s_phi(self, s: Tensor, x: Tensor) -> Tensor:
        values = torch.empty_like(x)
        for level in self.levels:
            rows = (s == level).squeeze(-1)
            values[rows] = torch.linalg.solve(self.covariance(level), (self.b - x[rows]).T).T
        return values.detach()


@pytest.mark.parametrize("source", ["closed form", "posterior"])
def test_gradient_is_that_of_the_weighted_kl(source: str) -> None:
    case, generator = LinearGaussian(), derive_generator("gradient")
    target = Mixture(means=(case.m,), sd=case.sd)
    estimate = posterior_score(target, Posterior(n_particles=4))
    levels = torch.tensor(case.levels, dtype=torch.float64).repeat(200)[:, None]
    n_blocks = 100

    def s_q(x: Tensor) -> Tensor:
        s = of_points(levels, x)
        assert isinstance(s, Tensor)
        if source == "posterior":
            return estimate(x.detach(), s)
        return (torch.tensor(case.m) - x) / (case.sd**2 + s.square())

    gradients = []
    for _ in range(n_blocks):
        x0 = torch.randn(len(levels), 2, generator=generator, dtype=torch.float64) @ case.a.T + case.b
        s_phi = partial(case.s_phi, levels.repeat(2, 1))
        loss = dikl_loss(x0, s_q, s_phi, generator, noise=levels)
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, (case.a, case.b))]))
    found = torch.stack(gradients)
    error = found.std(0) / math.sqrt(n_blocks)
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(case.weighted_kl(), (case.a, case.b))])
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    plain = torch.stack([case.kl(s) for s in case.levels]).mean()
    wrong = torch.cat([part.flatten() for part in torch.autograd.grad(plain, (case.a, case.b))])
    assert ((found.mean(0) - wrong).abs() > 4 * error).any()


def test_score_network_is_frozen_in_a_sampler_step() -> None:
    networks: list[nn.Module] = []
    before: list[dict[str, Tensor]] = []

    def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: torch.Generator, *, noise: Tensor) -> Tensor:
        assert isinstance(s_phi, partial)
        assert isinstance(s_phi.func, nn.Module)
        networks.append(s_phi.func)
        assert not any(value.requires_grad for value in networks[0].parameters())
        before.append({name: value.clone() for name, value in networks[0].state_dict().items()})
        return dikl_loss(x0, s_q, s_phi, generator, noise=noise)

    meter, generator = Meter(GAUSSIAN), derive_generator("frozen")
    s_q = TargetScore(source="posterior").of(meter, generator)
    objective = Denoised(loss, s_q, Noise(schedule="levels"))  # type: ignore[arg-type]
    train(objective, meter, generator, network=Network(width=8, depth=1), training=Training(**SMALL))
    after = networks[0].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before[-1].items())
    assert any(not torch.equal(after[name], value) for name, value in before[0].items())


# The sampler


def test_counts() -> None:
    """Per point: the start, a move at each inner beta and those after the resampling, for every particle."""
    meter = Meter(GAUSSIAN)
    posterior = {"n_particles": 3, "betas": [0.0, 0.2, 1.0], "n_moves": 5}
    fitted = samplers.get("dikl", training=SMALL, target_score={"posterior": posterior}).fit(meter, derive_generator())
    n_points = 3 * 20 * 3 * (1 + 1 + 5)
    assert meter.counts["fit"] == Counts(log_prob=n_points, score=n_points)
    with meter.phase("draw"):
        fitted.draw(10, derive_generator())
    assert meter.counts["draw"] == Counts()


def test_a_gaussian_is_reached() -> None:
    target = targets.get("gaussian2")
    assert isinstance(target, targets.HasMoments)
    fitted = samplers.get(
        "dikl",
        training={"n_steps": 250, "n_warm_up": 50, "batch_size": 64},
        network={"width": 32, "depth": 2},
        target_score={"posterior": {"n_particles": 2, "n_moves": 1}},
    ).fit(Meter(target), derive_generator(0, "fit"))
    x = fitted.draw(4_000, derive_generator(0, "draw")).samples.double()
    mean, square = target.moments.mean[:2], target.moments.mean[2:]
    sd = (square - mean.square()).sqrt()
    # 4 standard errors, and a bias of 0.05 sd and 10% of a short training
    assert (((x.mean(0) - mean) / sd).abs() < 4 / math.sqrt(4_000) + 0.05).all()
    assert ((x.square().mean(0) / square - 1).abs() < 4 * math.sqrt(2 / 4_000) + 0.1).all()


def test_kl_may_noise_the_target_too() -> None:
    meter = Meter(GAUSSIAN)
    score = {"source": "posterior", "posterior": {"n_particles": 2, "n_moves": 1}}
    samplers.get("kl", training=SMALL, target_score=score, returns="x0").fit(meter, derive_generator())
    assert meter.counts["fit"] == Counts(log_prob=3 * 20 * 2 * 4, score=3 * 20 * 2 * 4)
    with pytest.raises(ValueError, match=r"returns must be 'x0' with source 'posterior': .* got 'x'"):
        samplers.get("kl", target_score=score)


@pytest.mark.parametrize("name", ["dft", "fisher", "afis", "ksd_ns", "fisher_ns"])
def test_methods_that_differentiate_the_score_refuse_its_estimate(name: str) -> None:
    message = (
        "source must be 'exact' or 'minibatch': an estimate by posterior sampling has no usable derivative in x, "
        f"which the loss of {name} needs, got 'posterior'"
    )
    with pytest.raises(ValueError, match=message):
        samplers.get(name, target_score={"source": "posterior", "path": 0.0})
    with pytest.raises(ValueError, match="which the loss of this method needs"):
        TargetScore(source="posterior").of(Meter(GAUSSIAN), derive_generator(), differentiable=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "exact"}, "source must be 'posterior': .* got 'exact'"),
        ({"path": 0.5}, "path must be 0: .* got 0.5"),
        ({"posterior": {"n_particles": 1}}, "n_particles must be at least 2, got 1"),
        ({"posterior": {"n_moves": 0}}, "n_moves must be at least 1, got 0"),
        ({"posterior": {"betas": [0.1, 1.0]}}, "betas must increase strictly from 0 to 1"),
    ],
    ids=str,
)
def test_bad_configurations_name_field_rule_and_value(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.get("dikl", target_score=fields)


def test_noise_of_the_points_reaches_the_target_s_score() -> None:
    seen: list[Any] = []

    def s_q(y: Tensor, progress: float, noise: Any = 0.0) -> Tensor:
        seen.append((y, noise))
        return -y

    def loss(x0: Tensor, s_q: Field, s_phi: Field, generator: torch.Generator, *, noise: Tensor) -> Tensor:
        x, _ = with_noise(x0, noise, generator)
        assert seen == []
        s_q(x)
        torch.testing.assert_close(seen[0][1], noise.repeat(2, 1))
        return x.sum()

    objective = Denoised(loss, s_q, Noise(schedule="levels"))  # type: ignore[arg-type]
    training = Training(n_steps=1, n_warm_up=0, batch_size=8)
    train(objective, Meter(GAUSSIAN), derive_generator(), network=Network(width=8), training=training)


def test_particles_that_all_coincide_leave_the_score_finite() -> None:
    estimate, ones = posterior_score(targets.get("ring8")), torch.ones(3, 4, 2, dtype=torch.float64)
    share = estimate._share(ones, 2 * ones, torch.zeros(3, dtype=torch.int64))
    assert torch.equal(share, torch.zeros(3, 1, dtype=torch.float64))


def test_few_particles_that_hardly_move_do_not_end_the_training() -> None:
    """In an octave with few points all particles may be copies of one: its regression is 0 / 0."""
    config = {
        "training": {"n_steps": 120, "n_warm_up": 0, "batch_size": 32, "n_score_steps": 1},
        "noise": {"level": 0.0624},
        "target_score": {"posterior": {"n_particles": 2, "n_moves": 1}},
    }
    fitted = samplers.get("dikl", **config).fit(Meter(targets.get("ring8")), derive_generator(0, "fit"))
    assert fitted.draw(10, derive_generator(0, "draw")).stopped is None
