"""The parts that one-pass samplers compose: noise, latents, target scores, a warm start, a stopping rule, ablations."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable
from torch.nn.utils import parameters_to_vector

from samplerbench import samplers, targets
from samplerbench.samplers import NotApplicableError
from samplerbench.samplers.dft import DFT, dft_loss
from samplerbench.samplers.fisher_ns import critic_value
from samplerbench.samplers.implicit.fitted import FittedImplicit
from samplerbench.samplers.implicit.networks import Latent, Network, SamplerNetwork
from samplerbench.samplers.implicit.noise import Level, Noise, of_points, with_noise
from samplerbench.samplers.implicit.objective import Adversarial, Denoised, Field, Objective
from samplerbench.samplers.implicit.stopping import WIDTHS, Stopping, Watch, stein_discrepancy
from samplerbench.samplers.implicit.target_score import TargetScore
from samplerbench.samplers.implicit.trainer import Trained, Training, _Players, train
from samplerbench.samplers.ksd_ns import ksd_loss
from samplerbench.targets import Budget, Counts, Meter, derive_generator

SHORT = {"n_steps": 8, "n_warm_up": 3, "batch_size": 16, "n_score_steps": 2}
BATCH = 16


@dataclass(frozen=True)
class Normal:
    """N(0, sd^2 I) in the plane: the posterior of a mean, given 24 rows on a circle."""

    sd: float = 0.5
    scale: float = 0.5
    dim: int = 2
    n_rows: int = 24

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x / self.sd).square().sum(-1)

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        angle = rows.to(x) * (2 * torch.pi / self.n_rows)
        return (torch.stack([angle.cos(), angle.sin()]).mean(-1) - x) / self.sd**2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=derive_generator(seed, "normal"), dtype=torch.float64)


def fit(name: str, meter: Meter, *, training: dict[str, Any] | None = None, **fields: Any) -> FittedImplicit:
    sampler = samplers.get(name, training={**SHORT, **(training or {})}, **fields)
    fitted = sampler.fit(meter, derive_generator(0, "fit"))
    assert isinstance(fitted, FittedImplicit)
    return fitted


def same_theta(one: Trained, other: Trained) -> bool:
    """Whether theta and its moving average are equal, bit by bit."""
    pairs = [(one.last, other.last), (one.average, other.average)]
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x.parameters(), y.parameters(), strict=True))


# Noise


def test_annealed_noise_falls_geometrically_and_stays() -> None:
    noise = Noise(schedule="annealed", level=0.02, highest=0.5, share=0.4)
    x0, generator = torch.zeros(3, 2), derive_generator()
    levels = [noise.levels(x0, progress, generator) for progress in (0.0, 0.1, 0.2, 0.3, 0.4, 0.7, 1.0)]
    assert [levels[0], *levels[4:]] == [0.5, 0.02, 0.02, 0.02]
    for before, after in pairwise(levels[:5]):
        assert after / before == pytest.approx((0.02 / 0.5) ** 0.25)
    assert not noise.varies


def test_levels_of_points_are_log_uniform() -> None:
    noise, n = Noise(schedule="levels", level=0.01, highest=0.8), 10_000
    levels = noise.levels(torch.zeros(n, 2, dtype=torch.float64), 0.3, derive_generator("levels"))
    assert isinstance(levels, Tensor)
    assert levels.shape == (n, 1)
    u = ((levels / 0.01).log() / math.log(80)).flatten().sort().values
    assert (u >= 0).all()
    assert (u <= 1).all()
    steps = torch.arange(n + 1, dtype=u.dtype) / n
    distance = torch.maximum(steps[1:] - u, u - steps[:-1]).max()
    assert distance * math.sqrt(n) < 2.0  # Kolmogorov's law: exceeded in 0.07% of cases
    x, eps = with_noise(torch.zeros(n, 2, dtype=torch.float64), levels, derive_generator("eps"))
    torch.testing.assert_close(x, of_points(levels, x) * eps, rtol=0, atol=0)


def test_one_score_network_learns_the_scores_of_all_levels() -> None:
    """x0 ~ N(0, I / 4): the score at level s is -y / (1/4 + s^2); that of the untrained network -y / (1 + s^2)."""
    seen: list[Any] = []

    def still(x0: Tensor, s_q: Field, s_phi: Field, generator: Generator, *, noise: Level) -> Tensor:
        seen.append(s_phi)
        return 0 * x0.sum()

    meter, generator = Meter(Normal()), derive_generator("train")
    noise = Noise(schedule="levels", level=0.2, highest=1.0)
    objective = Denoised(still, TargetScore().of(meter, generator), noise)
    training = Training(n_steps=1, n_warm_up=1_500, batch_size=256, score_step_size=2e-3)
    train(objective, meter, generator, network=Network(width=32, depth=2, start_scale=0.5), training=training)
    s_phi = seen[0].func
    for level in (0.2, 0.4, 1.0):
        variance = 0.25 + level**2
        y = math.sqrt(variance) * normal(1_000, 2).float()
        with torch.no_grad():
            error = s_phi(y, torch.full((1_000, 1), level)) + y / variance
        assert error.square().sum(-1).mean() < 0.05 * 2 / variance  # of E|score|^2; untrained .52, .42, .14


# Latents


def mixture(n_components: int = 8) -> SamplerNetwork:
    latent = Latent(n_components=n_components, spread=0.1)
    return SamplerNetwork(Network(width=8, depth=1, latent=latent), Meter(Normal()), derive_generator("net"))


def test_categories_are_uniform_and_normals_normal() -> None:
    z, component = mixture().latents(8_000, derive_generator("latents"))
    assert component is not None
    counts = torch.bincount(component, minlength=8)
    assert len(counts) == 8
    chi2 = ((counts - 1_000) ** 2 / 1_000).sum()
    assert chi2 < 7 + 5 * math.sqrt(2 * 7)  # mean and five standard deviations of chi^2_7
    assert abs(z.square().mean() - 1) < 5 * math.sqrt(2 / 16_000)


def test_an_untrained_mixture_is_spread_around_its_centres() -> None:
    network = mixture(4)
    centres = network.centres.detach().clone()
    z, component = network.latents(1_000, derive_generator("latents"))
    assert component is not None
    torch.testing.assert_close(network(z, component), centres[component] + 0.1 * z)


def test_only_chosen_centres_get_gradients_and_labels_stay() -> None:
    network = mixture(4)
    network(torch.ones(3, 2), torch.tensor([0, 2, 2])).sum().backward()
    assert network.centres.grad is not None
    torch.testing.assert_close(network.centres.grad, torch.tensor([[1.0, 1.0], [0, 0], [2.0, 2.0], [0, 0]]))
    assert "labels" not in dict(network.named_parameters())


@pytest.mark.parametrize("name", ["dft", "kl", "fisher", "ksd_ns", "fisher_ns"])
def test_mixtures_train(name: str) -> None:
    fitted = fit(name, Meter(Normal()), network={"width": 16, "latent": {"n_components": 8}})
    trained = fitted.trained
    for network in (trained.last, trained.average):
        assert network.centres.shape == (8, 2)
        moved = (network.centres - network.labels).abs().amax(-1)
        assert (moved > 0).any()
        assert (moved < 8 * 3e-3).all()  # steps of Adam, of 1e-3, are below sqrt(8) times that
    assert torch.equal(trained.last.labels, trained.average.labels)
    assert fitted.draw(100, derive_generator(0, "draw")).samples.isfinite().all()


# The score of the target


def test_a_tempered_path_leads_linearly_from_the_base_to_the_target() -> None:
    """Target N(0, 4 I), scale 2: in y = x / 2 its score is -y; base N(0, 9 I) there: -y / 9."""
    meter = Meter(Normal(sd=2.0, scale=2.0), dtype=torch.float64)
    guide = TargetScore(path=0.5, base_width=3.0).of(meter, derive_generator())
    y = normal(10, 2)
    for progress, lam in ((0.0, 0.0), (0.1, 0.2), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        torch.testing.assert_close(guide(y, progress), -y * (lam + (1 - lam) / 9))
    torch.testing.assert_close(TargetScore().of(meter, derive_generator())(y, 0.0), -y)


@pytest.mark.parametrize("n_rows", [569, 100])
def test_minibatch_scores_have_the_derivative_and_the_price_of_their_rows(n_rows: int) -> None:
    target: Any = targets.get("breast_cancer_full")
    meter = Meter(target, dtype=torch.float64)
    rows = torch.randperm(569, generator=derive_generator("rows"))[:n_rows]
    x, v = (0.1 * normal(3, 31)).requires_grad_(), normal(3, 31, seed=1)
    score = meter.minibatch_score(x, rows, create_graph=True)
    (product,) = torch.autograd.grad(score, x, v)
    (same,) = torch.autograd.grad(target.minibatch_score(x, rows), x, v)
    torch.testing.assert_close(product, same)
    share = 3 * n_rows / 569
    assert meter.counts["fit"] == Counts(log_prob=share, score=share, hvp=share)
    if n_rows == 569:
        torch.testing.assert_close(score, meter.score(x, create_graph=True))
        (whole,) = torch.autograd.grad(meter.score(x, create_graph=True), x, v)
        torch.testing.assert_close(product, whole)


def dft_value(x0: Tensor, s_q: Field, n_scores: int) -> Tensor:
    return dft_loss(x0, s_q, lambda x: -x, derive_generator("eps"), noise=0.1, n_scores=n_scores)


def ksd_value(x0: Tensor, s_q: Field, n_scores: int) -> Tensor:
    return ksd_loss(x0, s_q, n_scores=n_scores)


@pytest.mark.parametrize("batch_size", [4, 12])  # of 24 rows: an epoch of two batches shows whether they are disjoint
@pytest.mark.parametrize("loss", [dft_value, ksd_value])
def test_two_minibatches_make_squares_unbiased(loss: Callable[[Tensor, Field, int], Tensor], batch_size: int) -> None:
    meter, x0 = Meter(Normal(), dtype=torch.float64), normal(20, 2)
    guide = TargetScore(source="minibatch", batch_size=batch_size).of(meter, derive_generator("rows"))
    exact = TargetScore().of(meter, derive_generator())
    biases = {}
    for n_scores in (1, 2):
        whole = loss(x0, lambda y: exact(y, 0.0), n_scores)
        values = torch.stack([loss(x0, lambda y: guide(y, 0.0), n_scores) for _ in range(2_000)])
        biases[n_scores] = (values.mean() - whole) / (values.std() / math.sqrt(len(values)))
    assert abs(biases[2]) < 4
    assert biases[1] > 10


# The warm start


def test_the_first_share_of_training_is_kl_training() -> None:
    """After 4 of 8 steps theta is that of KL training, bit by bit; one step later it is not."""
    for n_steps, is_same in ((4, True), (5, False)):
        spent = n_steps * BATCH + (0 if is_same else 2 * BATCH)  # a DFT step has Hessian-vector products
        warm = fit("dft", Meter(Normal(), budget=Budget(fit=spent)), warm_start=0.5)
        kl = fit("kl", Meter(Normal(), budget=Budget(fit=n_steps * BATCH)))
        assert warm.trained.stopped == kl.trained.stopped == "budget"
        assert warm.diagnostics["n_steps"] == kl.diagnostics["n_steps"] == n_steps
        assert same_theta(warm.trained, kl.trained) is is_same


# The stopping rule


def test_stein_discrepancy_is_a_double_loop_over_pairs() -> None:
    y, s = normal(6, 2), normal(6, 2, seed=1)

    def kappa(i: int, j: int, width: float) -> float:
        x, z = y[i].clone().requires_grad_(), y[j].clone().requires_grad_()
        k = (1 + ((x - z) / width).square().sum()) ** -0.5
        grad_x, grad_z = torch.autograd.grad(k, (x, z), create_graph=True)
        trace = sum(torch.autograd.grad(grad_x[a], z, retain_graph=True)[0][a].item() for a in range(2))
        return (s[i] @ s[j] * k + s[i] @ grad_z + s[j] @ grad_x).item() + trace

    rows = [[sum(kappa(i, j, w) for w in WIDTHS) / len(WIDTHS) for j in range(6) if j != i] for i in range(6)]
    means = torch.tensor(rows, dtype=torch.float64).mean(1)
    value, error = stein_discrepancy(y, s)
    assert value == pytest.approx(means.mean().item(), rel=1e-10)
    assert error == pytest.approx(2 * means.std().item() / math.sqrt(6), rel=1e-10)


def test_standard_error_of_the_discrepancy() -> None:
    """Draws of N(0, 4 I) judged by the score of N(0, I): a U-statistic with a rank-one part, normal in the limit."""
    found = torch.tensor([stein_discrepancy(2 * x, -2 * x) for x in normal(200, 200, 2)], dtype=torch.float64)
    assert found[:, 1].mean().item() == pytest.approx(found[:, 0].std().item(), rel=0.25)  # 5 of its errors, 1/20


def test_a_look_asks_for_progress_by_a_standard_error() -> None:
    watch = Watch.under(Stopping(patience=2))
    far, near, shift = normal(100, 2), normal(100, 2), torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert watch.look(far + shift, -(far + shift))
    assert watch.look(near, -near)
    assert not watch.look(near, -near)
    assert not watch.is_over
    assert not watch.look(far + shift, -(far + shift))
    assert watch.is_over
    assert len(watch.trace) == 4


STOPPING = {"every": 5, "n_points": 100, "patience": 2}
LONG = {"n_steps": 100}


def test_training_ends_where_the_target_is_reached_and_keeps_the_best_state() -> None:
    """The untrained sampler has the target's law, so the first look, after 5 steps, is the best."""
    meter = Meter(Normal())
    trained = fit("kl", meter, training=LONG, stopping=STOPPING).trained
    assert trained.stopped is None
    assert len(trained.discrepancies) == 3
    assert trained.trace.shape == (2, 15)
    n_evaluations = 15 * BATCH + 3 * 100
    assert meter.counts["fit"] == Counts(log_prob=n_evaluations, score=n_evaluations)
    after_5 = fit("kl", Meter(Normal(), budget=Budget(fit=5 * BATCH)), training=LONG).trained
    assert after_5.trace.shape == (2, 5)
    assert same_theta(trained, after_5)


def test_training_goes_on_while_it_gets_better() -> None:
    far = {"start_scale": 4.0, "width": 16}
    training = {"n_steps": 20, "sampler_step_size": 0.05}
    trained = fit("ksd_ns", Meter(Normal()), training=training, stopping=STOPPING, network=far).trained
    assert trained.trace.shape == (1, 20)
    assert len(trained.discrepancies) == 4
    assert trained.discrepancies[-1] < 0.7 * trained.discrepancies[0]


def test_a_budget_that_ends_in_a_look_keeps_the_best_state() -> None:
    budget = Budget(fit=10 * BATCH + 100 + 99)  # pays the first look and not the second
    trained = fit("kl", Meter(Normal(), budget=budget), training=LONG, stopping=STOPPING).trained
    assert trained.stopped == "budget"
    assert "after 10 of 100 steps" in trained.reason
    assert len(trained.discrepancies) == 1
    after_5 = fit("kl", Meter(Normal(), budget=Budget(fit=5 * BATCH)), training=LONG).trained
    assert same_theta(trained, after_5)  # the state of the best look, here the only one


def test_a_look_that_is_not_finite_is_never_the_best() -> None:
    watch, y = Watch.under(Stopping(patience=3)), normal(50, 2)
    assert not watch.look(y, torch.full_like(y, math.nan))
    assert watch.look(y, -y)
    assert not watch.look(y, torch.full_like(y, math.nan))
    assert math.isfinite(watch.best)
    assert not watch.is_over


def test_scores_at_a_look_are_clamped() -> None:
    """One draw where the density falls off a cliff would decide the discrepancy."""

    class Cliff(Normal):
        def log_prob(self, x: Tensor) -> Tensor:
            return super().log_prob(x) - 1e20 * (x[..., 0] - 1.0).clamp(min=0)

    rule = {"every": 5, "n_points": 100, "patience": 2, "max_score": 10.0}
    trained = fit("kl", Meter(Cliff()), training={"n_steps": 10}, stopping=rule).trained
    assert max(map(abs, trained.discrepancies)) < 1e4


# Ablations


def fields() -> tuple[Field, Field]:
    return (lambda x: torch.sin(x) - x), (lambda x: -0.5 * x + 0.1 * x**2)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8])
def test_alpha_weighs_the_square(alpha: float) -> None:
    """E[ 2 <u, s_q + eps / s> - 2 alpha |u|^2 ], value and gradient."""
    (s_q, s_phi), x0 = fields(), normal(20, 2).requires_grad_()
    loss = dft_loss(x0, s_q, s_phi, derive_generator("eps"), noise=0.3, alpha=alpha)
    x, eps = with_noise(x0, 0.3, derive_generator("eps"))
    u = s_q(x) - s_phi(x)
    same = (2 * u * (s_q(x) + eps / 0.3) - 2 * alpha * u**2).sum(-1).mean()
    torch.testing.assert_close(loss, same)
    torch.testing.assert_close(*(torch.autograd.grad(value, x0)[0] for value in (loss, same)))


def test_path_only_is_the_square_alone() -> None:
    (s_q, s_phi), x0 = fields(), normal(20, 2).requires_grad_()
    loss = dft_loss(x0, s_q, s_phi, derive_generator("eps"), noise=0.3, terms="path")
    x, _ = with_noise(x0, 0.3, derive_generator("eps"))
    same = (s_q(x) - s_phi(x)).square().sum(-1).mean()
    torch.testing.assert_close(loss, same)
    torch.testing.assert_close(*(torch.autograd.grad(value, x0)[0] for value in (loss, same)))


def test_plain_noise_is_one_vector_per_latent() -> None:
    x0 = normal(20, 2)
    x, eps = with_noise(x0, 0.3, derive_generator("eps"), antithetic=False)
    torch.testing.assert_close(x, x0 + 0.3 * eps)
    s_q, s_phi = fields()
    loss = dft_loss(x0, s_q, s_phi, derive_generator("eps"), noise=0.3, antithetic=False)
    u = s_q(x) - s_phi(x)
    torch.testing.assert_close(loss, (u**2 + 2 * u * (s_phi(x) + eps / 0.3)).sum(-1).mean())


def test_ablations_differ_from_dft_in_what_they_are_named_after_and_cost_the_same() -> None:
    dft = samplers.get("dft")
    assert isinstance(dft, DFT)
    ablations = {
        "dft_path_only": replace(dft, terms="path"),
        "dft_alpha0": replace(dft, alpha=0.0),
        "dft_plain_noise": replace(dft, noise=replace(dft.noise, antithetic=False)),
    }
    theta: list[Trained] = [fit("dft", Meter(Normal())).trained]
    for name, config in ablations.items():
        assert samplers.get(name) == config
        meter = Meter(Normal())
        theta.append(fit(name, meter).trained)
        n = 8 * BATCH
        assert meter.counts["fit"] == Counts(log_prob=n, score=n, hvp=n)
    assert not any(same_theta(one, other) for i, one in enumerate(theta) for other in theta[:i])


# Who moves when


@pytest.mark.parametrize("kind", ["denoised", "adversarial"])
def test_each_player_rests_while_the_other_moves(kind: str) -> None:
    meter, generator = Meter(Normal()), derive_generator("players")
    s_q = TargetScore().of(meter, generator, differentiable=True)
    objective: Objective = Denoised(dft_loss, s_q, Noise()) if kind == "denoised" else Adversarial(critic_value, s_q)
    players = _Players(objective, meter, generator, Network(width=16, depth=2), Training(batch_size=16))

    def copies() -> tuple[Tensor, Tensor]:
        theta, phi = (parameters_to_vector(player.parameters()) for player in (players.sampler, players.opponent))
        return theta.detach().clone(), phi.detach().clone()

    theta, phi = copies()
    players.opponent_steps(3, 0.0)
    after_theta, after_phi = copies()
    assert not torch.equal(phi, after_phi)
    assert torch.equal(theta, after_theta)
    gradient = players.phi_gradient.clone()
    players._sampler_step(0.0)
    last_theta, last_phi = copies()
    assert not torch.equal(after_theta, last_theta)
    assert torch.equal(after_phi, last_phi)
    assert torch.equal(players.phi_gradient, gradient)


# A target without second derivatives


class _HalfSquare(torch.autograd.Function):
    """-|x|^2 / 2, whose derivative can be taken once, as from a program outside torch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return -0.5 * x.square().sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -gradients[0].unsqueeze(-1) * x


class OnceDifferentiable:
    """N(0, I) in the plane."""

    dim = 2
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        log_prob: Tensor = _HalfSquare.apply(x)  # type: ignore[no-untyped-call]
        return log_prob


@pytest.mark.parametrize("name", ["dft", "fisher", "ksd_ns", "fisher_ns"])
def test_second_derivatives_are_asked_for_by_name(name: str) -> None:
    with pytest.raises(NotApplicableError, match="needs second derivatives of log_prob, target has none"):
        fit(name, Meter(OnceDifferentiable()))


def test_kl_training_needs_none() -> None:
    assert fit("kl", Meter(OnceDifferentiable())).trained.stopped is None
