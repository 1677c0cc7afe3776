"""The diffusion sampler: Heun's rule against the flow of a Gaussian, the loss, and what training gives."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from samplerbench.samplers import teacher
from samplerbench.samplers.implicit.networks import Network, NoisedScore
from samplerbench.samplers.implicit.teaching import Taught
from samplerbench.samplers.implicit.trainer import LOOK_EVERY
from samplerbench.samplers.teacher import FittedTeacher, Teacher, denoising_loss
from samplerbench.targets import Meter, derive_generator

TOO_LARGE = 4  # standard errors
TRAINED = 0.05  # error of moments that a short training may leave, in standard deviations
LOWEST, HIGHEST = 0.01, 10.0
NARROWING = math.sqrt((1 + LOWEST**2) / (1 + HIGHEST**2))  # of N(0, I) noised: y at s over y at the start


def normal(*shape: int, seed: object = 0) -> Tensor:
    return torch.randn(*shape, generator=derive_generator(seed, "normal"), dtype=torch.float64)


class As(nn.Module):
    """A function in the place of a network."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def exact(sd: float = 1.0) -> Any:
    """The score of N(0, (sd^2 + s^2) I), the noised law of N(0, sd^2 I)."""
    return As(lambda y, s: -y / (sd**2 + s.square()))


def fitted(n_levels: int, network: Any, mean: Tensor, sd: Tensor) -> FittedTeacher:
    config = Teacher(n_levels=n_levels, lowest=LOWEST, highest=HIGHEST)
    return FittedTeacher(config, network, mean, sd, {}, None, "")


def standard(n_levels: int, network: Any, dim: int = 3) -> FittedTeacher:
    zero = torch.zeros(dim, dtype=torch.float64)
    return fitted(n_levels, network, zero, zero + 1)


# The flow


def relative_error(n_levels: int, sd: float = 1.0) -> float:
    """Of the factor by which the rule narrows noise, from its draws at the exact score of N(0, sd^2 I)."""
    n = 50
    noise = torch.randn(n, 3, generator=derive_generator("draw"), dtype=torch.float64)
    x = standard(n_levels, exact(sd)).draw(n, derive_generator("draw")).samples
    factors = x / (HIGHEST * noise)
    torch.testing.assert_close(factors, factors[0, 0].expand_as(factors), rtol=1e-11, atol=0)  # the flow is linear
    closed = math.sqrt((sd**2 + LOWEST**2) / (sd**2 + HIGHEST**2))
    return factors[0, 0].item() / closed - 1


@pytest.mark.parametrize("sd", [1.0, 0.2])
def test_heun_s_rule_approaches_the_flow_of_a_gaussian_at_second_order(sd: float) -> None:
    """dy/ds = s y / (sd^2 + s^2): y scales by ((sd^2 + lowest^2) / (sd^2 + highest^2))^1/2."""
    errors = [relative_error(n_levels, sd) for n_levels in (100, 200, 400)]
    assert abs(errors[-1]) < 1e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 3.5 < coarse / fine < 4.5


def test_draws_at_the_exact_score_are_standard_normal_up_to_the_rule() -> None:
    """24 levels, as registered: the factor errs by less than 1%; sd .995 of the start for want of higher noise."""
    n, rule = 100_000, 1 + relative_error(24)
    assert abs(rule - 1) < 0.01
    x = standard(24, exact()).draw(n, derive_generator("other")).samples
    assert (x.mean(0).abs() < TOO_LARGE / math.sqrt(n)).all()
    sd = HIGHEST * NARROWING * rule
    assert abs(sd - 1) < 0.015
    assert ((x.std(0) / sd - 1).abs() < TOO_LARGE / math.sqrt(2 * n)).all()
    assert (torch.corrcoef(x.T).fill_diagonal_(0).abs() < TOO_LARGE / math.sqrt(n)).all()


def test_draws_have_the_points_mean_and_standard_deviations() -> None:
    mean, sd = torch.tensor([5.0, -2.0], dtype=torch.float64), torch.tensor([0.1, 30.0], dtype=torch.float64)
    x = fitted(24, exact(), mean, sd).draw(30, derive_generator("draw")).samples
    y = standard(24, exact(), dim=2).draw(30, derive_generator("draw")).samples
    torch.testing.assert_close(x, mean + sd * y, rtol=1e-12, atol=1e-12)


def test_draws_do_not_depend_on_how_many_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = standard(5, exact()).draw(50, derive_generator("draw")).samples
    monkeypatch.setattr(teacher, "BLOCK", 7)
    torch.testing.assert_close(standard(5, exact()).draw(50, derive_generator("draw")).samples, whole, rtol=0, atol=0)


def test_a_start_is_refused() -> None:
    with pytest.raises(ValueError, match=r"start must be None, got \(5, 3\)"):
        standard(5, exact()).draw(5, derive_generator("draw"), torch.zeros(5, 3))


@pytest.mark.parametrize(
    ("field", "value"), [("n_steps", 0), ("n_levels", 0), ("step_size", 0.0), ("lowest", -1.0), ("highest", 0.005)]
)
def test_configuration_out_of_range_names_field_and_value(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must be .*, got {value}"):
        Teacher(**{field: value})  # type: ignore[arg-type]


# The loss


class Plain:
    """N(0, I) in three dimensions."""

    dim = 3
    scale = 1.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * x.square().sum(-1)


def with_network(f: Callable[[Tensor], Tensor]) -> NoisedScore:
    """A score whose F is known; F has the input ``(y / (1 + s^2)^.5, log(s) / 4)``."""
    meter = Meter(Plain(), dtype=torch.float64)
    score = NoisedScore(Network(width=4, depth=1), meter, derive_generator("net"))
    score.net = As(f)  # type: ignore[assignment]
    return score


def levels_and_noise(y0: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """As the loss draws them: log s ~ N(-1.2, 1.2^2), then eps."""
    z = torch.randn(len(y0), 1, generator=generator, dtype=torch.float64)
    return (-1.2 + 1.2 * z).exp(), torch.randn(y0.shape, generator=generator, dtype=torch.float64)


def test_denoising_loss_is_the_squared_error_of_the_network() -> None:
    """s^2 (1 + s^2) |score + eps / s|^2 = |F - (s y0 - eps) / (1 + s^2)^.5|^2."""
    w, y0 = normal(4, 3, seed="w"), 1.5 * normal(200, 3) + 0.3

    def f(inputs: Tensor) -> Tensor:
        return (inputs @ w).sin()

    score = with_network(f)
    loss = denoising_loss(score, y0, derive_generator("loss"))
    s, eps = levels_and_noise(y0, derive_generator("loss"))
    y, variance = y0 + s * eps, 1 + s.square()
    aim = (s * y0 - eps) / variance.sqrt()
    of_network = (f(torch.cat([y / variance.sqrt(), s.log() / 4], dim=-1)) - aim).square().sum(-1).mean()
    of_score = (s.square() * variance * (score(y, s) + eps / s).square()).sum(-1).mean()
    torch.testing.assert_close(loss, of_network, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss, of_score, rtol=1e-12, atol=0)


def test_the_exact_score_is_best_and_leaves_the_variance_of_what_is_not_known() -> None:
    """Of N(0, I): F = 0 errs by |s y0 - eps|^2 / (1 + s^2), 3 on average at every level, and any other F by more."""
    n = 100_000
    zero, other = with_network(lambda inputs: 0 * inputs[:, :3]), with_network(lambda inputs: 0.1 * inputs[:, :3])
    y0 = normal(n, 3, seed="y0")
    least, more = (denoising_loss(score, y0, derive_generator("loss")).item() for score in (zero, other))
    error = math.sqrt(2 * 3 / n)
    assert abs(least - 3) < TOO_LARGE * error
    assert abs(more - 3 * (1 + 0.1**2)) < TOO_LARGE * 1.01 * error  # the input of F has unit variance
    assert more - least > 0.01


# Training


class PlainPlane(Plain):
    dim = 2


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_training_on_gaussian_points_gives_their_moments(correlation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Correlated points need F: with F = 0, where it starts, draws have the correlation 0.

    After 500 steps moments err by up to .03, in units of the standard deviations.
    """
    factor = torch.tensor([[2.0, 0.0], [0.1 * correlation, 0.1 * math.sqrt(1 - correlation**2)]], dtype=torch.float64)
    points = torch.tensor([3.0, -1.0], dtype=torch.float64) + normal(4_000, 2, seed="points") @ factor.T
    monkeypatch.setattr(teacher, "teach", lambda *_: Taught(points))
    meter = Meter(PlainPlane(), dtype=torch.float64)
    config = Teacher(network=Network(width=32, depth=2), n_steps=500, batch_size=256, step_size=5e-3)
    draws = config.fit(meter, derive_generator("fit")).draw(20_000, derive_generator("draw"))
    x, mean, sd = draws.samples, points.mean(0), points.std(0)
    assert draws.stopped is None
    error = TOO_LARGE / math.sqrt(len(x))
    assert ((x.mean(0) - mean) / sd).abs().max() < TRAINED + error
    assert (x.std(0) / sd - 1).abs().max() < TRAINED + error / math.sqrt(2)
    assert (torch.corrcoef(x.T) - torch.corrcoef(points.T)).abs().max() < TRAINED + error


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "teach", lambda *_: Taught(normal(100, 2)))
    meter, bad_step = Meter(PlainPlane(), dtype=torch.float64), LOOK_EVERY + 7

    def draws_when_broken_at(step: int) -> tuple[FittedTeacher, Tensor]:
        calls = itertools.count(1)

        def breaks(network: NoisedScore, y0: Tensor, generator: Generator) -> Tensor:
            return denoising_loss(network, y0, generator) * (math.nan if next(calls) == step else 1.0)

        monkeypatch.setattr(teacher, "denoising_loss", breaks)
        taught = Teacher(network=Network(width=8, depth=1), n_steps=2 * LOOK_EVERY).fit(meter, derive_generator("fit"))
        assert isinstance(taught, FittedTeacher)
        return taught, taught.draw(20, derive_generator("draw")).samples

    broken, samples = draws_when_broken_at(bad_step)
    assert broken.stopped == "diverged"
    assert f"step {bad_step}; the state after step {LOOK_EVERY} is kept" in broken.reason
    assert broken.diagnostics["n_steps"] == LOOK_EVERY
    losses = broken.diagnostics["denoising_loss"]
    assert isinstance(losses, list)
    assert len(losses) == bad_step - 1  # all that were finite
    assert samples.isfinite().all()
    assert torch.equal(draws_when_broken_at(bad_step + 5)[1], samples)
    assert not torch.equal(draws_when_broken_at(0)[1], samples)


def test_points_without_spread_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Taught(torch.ones(10, 2, dtype=torch.float64), stopped="diverged", reason="no spread")
    monkeypatch.setattr(teacher, "teach", lambda *_: nowhere)
    draws = (
        Teacher(n_steps=5)
        .fit(Meter(PlainPlane(), dtype=torch.float64), derive_generator("fit"))
        .draw(3, derive_generator("draw"))
    )
    assert (draws.stopped, draws.reason) == ("diverged", "no spread")


def test_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"network\.start_scale must be 1\.0: a diffusion starts from noise"):
        Teacher(network=Network(start_scale=2.0))
