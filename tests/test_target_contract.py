"""What every registered target must keep, whatever its law."""

import math

import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench.benchmarks.agreement import stein_error
from samplerbench.targets.base import (
    TARGETS,
    HasLogZ,
    HasModes,
    HasMoments,
    HasPredictive,
    HasReference,
    HasSample,
    HasScore,
    HasView,
    Target,
    one_digit,
)

N_DRAWS = 100_000
LEVEL = 1e-5

DRAWN: dict[str, tuple[Target, Tensor]] = {}


@pytest.fixture(params=TARGETS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(name: str) -> Target:
    return _drawn(name)[0]


@pytest.fixture
def draws(name: str) -> Tensor:
    """100,000 exact draws, or all reference draws; made once per target."""
    return _drawn(name)[1]


def _drawn(name: str) -> tuple[Target, Tensor]:
    if name not in DRAWN:
        target = TARGETS.get(name)
        known = target.sample(N_DRAWS, seeded(0)) if isinstance(target, HasSample) else None
        if known is None:
            assert isinstance(target, HasReference), f"{name} has neither exact nor reference draws"
            known = target.reference()
        DRAWN[name] = target, known
    return DRAWN[name]


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def score_by_autograd(target: Target, x: Tensor, *, create_graph: bool = False) -> Tensor:
    inputs = x if x.requires_grad else x.detach().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(inputs).sum(), inputs, create_graph=create_graph)
    return score


def test_docstring_and_dimension(name: str, target: Target) -> None:
    assert TARGETS.entry(name).summary.endswith(".")
    assert target.dim >= 1
    assert target.scale > 0
    assert target.scale == one_digit(target.scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_prob_maps_any_batch_and_leaves_its_input(target: Target, draws: Tensor, dtype: torch.dtype) -> None:
    x = draws[:6].to(dtype)
    before = x.clone()
    flat = target.log_prob(x)
    assert flat.shape == (6,)
    assert flat.dtype == dtype
    assert flat.isfinite().all()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(target.log_prob(x.reshape(2, 3, -1)), flat.reshape(2, 3), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(target.log_prob(x[0]), flat[0], rtol=tolerance, atol=tolerance)
    assert torch.equal(x, before)


def test_float32_agrees_with_float64(target: Target, draws: Tensor) -> None:
    x = draws[:500].to(torch.float32)
    torch.testing.assert_close(target.log_prob(x).double(), target.log_prob(x.double()), rtol=1e-4, atol=2e-3)


def test_score_equals_finite_differences(target: Target, draws: Tensor) -> None:
    x, h = draws[:20], 1e-5
    shifts = h * torch.eye(target.dim, dtype=torch.float64)
    differences = target.log_prob(x[:, None] + shifts) - target.log_prob(x[:, None] - shifts)
    score = score_by_autograd(target, x)
    assert ((score - differences / (2 * h)).abs() <= 1e-5 * (1 + score.abs().max())).all()


def test_double_backward_equals_finite_differences_of_the_score(target: Target, draws: Tensor) -> None:
    x, h = draws[:20].clone().requires_grad_(), 1e-5
    direction = torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    score = score_by_autograd(target, x, create_graph=True)
    (hvp,) = torch.autograd.grad((score * direction).sum(), x)
    ahead, behind = (score_by_autograd(target, x.detach() + sign * h * direction) for sign in (1, -1))
    assert ((hvp - (ahead - behind) / (2 * h)).abs() <= 1e-5 * (1 + hvp.abs().max())).all()


def test_own_score_equals_autograd(target: Target, draws: Tensor) -> None:
    if not isinstance(target, HasScore):
        pytest.skip("autograd is its score")
    x = draws[:20].reshape(4, 5, -1)
    expected = score_by_autograd(target, x)
    assert ((target.score(x) - expected).abs() <= 1e-10 * expected.abs().max()).all()
    assert target.score(x.float()).dtype == torch.float32


def test_exact_draws_depend_on_the_seed_alone(target: Target) -> None:
    if not isinstance(target, HasSample):
        pytest.skip("no exact draws")
    state = torch.get_rng_state()
    first, again, other = (target.sample(50, seeded(seed)) for seed in (3, 3, 4))
    assert first.shape == (50, target.dim)
    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_scale_is_the_rounded_root_mean_square(target: Target, draws: Tensor) -> None:
    if isinstance(target, HasView):
        pytest.skip("tails too heavy for an average: checked against quadrature where the target is tested")
    assert target.scale == one_digit(draws.square().mean().sqrt().item())


def test_draws_and_density_are_one_law_by_stein_identity(target: Target, draws: Tensor) -> None:
    assert abs(stein_error(draws, target)) < 4.5


def test_moments_are_those_of_the_draws(target: Target, draws: Tensor) -> None:
    if not isinstance(target, HasMoments):
        pytest.skip("moments not stated")
    v = target.view(draws) if isinstance(target, HasView) else draws
    f = torch.cat([v, v.square()], dim=-1)
    moments = target.moments
    assert moments.mean.shape == moments.variance.shape == (2 * target.dim,)
    assert ((f.mean(0) - moments.mean).abs() < 5 * (moments.variance / len(f)).sqrt()).all()
    squares = (f - moments.mean).square()
    assert ((squares.mean(0) - moments.variance).abs() < 5.5 * squares.std(0) / math.sqrt(len(f))).all()


def test_view_is_increasing_in_each_coordinate(target: Target, draws: Tensor) -> None:
    if not isinstance(target, HasView):
        pytest.skip("distances are taken in x")
    x = draws[:1_000].sort(0).values
    assert target.view(x).shape == x.shape
    assert (target.view(x).diff(dim=0) >= 0).all()


def test_log_z_is_an_estimate(target: Target) -> None:
    if not isinstance(target, HasLogZ):
        pytest.skip("log_z unknown")
    assert math.isfinite(target.log_z.value)
    assert target.log_z.std_error >= 0


def test_mode_masses_are_those_of_the_assignment(target: Target, draws: Tensor) -> None:
    if not isinstance(target, HasModes):
        pytest.skip("modes not stated")
    modes = target.modes
    assert modes.masses.dtype == torch.float64
    mode = modes.assign(draws)
    assert torch.equal(modes.assign(draws[:100].float()), mode[:100])
    assert modes.assign(torch.full((1, target.dim), 1e6)).tolist() == [-1]
    n_modes = len(modes.masses)
    counts = torch.bincount(mode + 1, minlength=n_modes + 1)
    assert len(counts) == n_modes + 1
    shares = torch.cat([1 - modes.masses.sum(dim=0, keepdim=True), modes.masses])
    assert (shares > 0).all()
    assert stats.chisquare(counts.numpy(), (shares * len(draws)).numpy()).pvalue > LEVEL


def test_predictions_are_finite_log_odds(target: Target, draws: Tensor) -> None:
    if not isinstance(target, HasPredictive):
        pytest.skip("no held-out data")
    labels = target.held_out_labels
    log_odds = target.log_odds(draws[:7].float())
    assert log_odds.shape == (7, len(labels))
    assert log_odds.isfinite().all()
    assert set(labels.tolist()) == {0, 1}


def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*unknown parameter 'no_such_parameter'"):
        TARGETS.get(name, no_such_parameter=1)
