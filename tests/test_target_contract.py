"""What every registered target must keep, whatever its law."""

import math
from importlib import resources

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.benchmarks.agreement import score_of
from samplerbench.targets.base import (
    TARGETS,
    HasMarginals,
    HasMinibatch,
    HasModes,
    HasMoments,
    HasPredictive,
    HasReference,
    HasSample,
    HasScore,
    HasStart,
    HasSymmetry,
    HasView,
    Target,
    one_digit,
)
from samplerbench.targets.datasets import DataFileError
from samplerbench.targets.meter import Meter

DRAWN: dict[str, tuple[Target, Tensor]] = {}


def having(*parts: str) -> pytest.MarkDecorator:
    """Targets that know one of ``parts``; asked of the class, because some parts are costly to compute."""
    names = [name for name in TARGETS.names() if any(hasattr(type(TARGETS.get(name)), part) for part in parts)]
    return pytest.mark.parametrize("name", names)


def averaged(name: str) -> bool:
    """Whether there are draws, with tails light enough for an average; a view says that they are not."""
    law = type(TARGETS.get(name))
    shipped = (resources.files("samplerbench.targets.data") / f"{name}.npz").is_file()
    return (hasattr(law, "sample") or shipped) and not hasattr(law, "view")


AVERAGED = [name for name in TARGETS.names() if averaged(name)]


@pytest.fixture(params=TARGETS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(name: str) -> Target:
    return _drawn(name)[0]


@pytest.fixture
def draws(name: str) -> Tensor:
    """10,000 exact draws, or reference draws, or public starting points; made once per target."""
    return _drawn(name)[1]


def _drawn(name: str) -> tuple[Target, Tensor]:
    if name not in DRAWN:
        target = TARGETS.get(name)
        try:
            DRAWN[name] = target, _points(target)
        except DataFileError as error:
            pytest.skip(f"needs a data file: {error}")
    return DRAWN[name]


def _points(target: Target) -> Tensor:
    target.log_prob(torch.zeros(1, target.dim, dtype=torch.float64))  # reads its data
    if isinstance(target, HasSample):
        return target.sample(10_000, seeded(0))
    if isinstance(target, HasReference):
        try:
            return target.reference()
        except FileNotFoundError:  # not made yet: the catalogue says so
            pass
    return Meter(target, dtype=torch.float64).start(1_000, seeded(0))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def directions(x: Tensor) -> Tensor:
    """Unit vectors, one per point: derivatives are compared along them."""
    direction = torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    return direction / direction.norm(dim=-1, keepdim=True)


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


def test_double_backward_is_finite(target: Target, draws: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        x = draws[:20].to(dtype).requires_grad_()
        (score,) = torch.autograd.grad(target.log_prob(x).sum(), x, create_graph=True)
        (hvp,) = torch.autograd.grad((score * directions(x).to(dtype)).sum(), x)
        assert hvp.isfinite().all()


@having("score")
def test_own_score_equals_autograd(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasScore)
    x = draws[:20].reshape(4, 5, -1)
    expected = score_of(target, x)
    assert ((target.score(x) - expected).abs() <= 1e-10 * expected.abs().max()).all()
    assert target.score(x.float()).dtype == torch.float32


@having("sample")
def test_exact_draws_depend_on_the_seed_alone(target: Target) -> None:
    assert isinstance(target, HasSample)
    state = torch.get_rng_state()
    first, again, other = (target.sample(50, seeded(seed)) for seed in (3, 3, 4))
    assert first.shape == (50, target.dim)
    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", AVERAGED)
def test_scale_is_the_rounded_root_mean_square(target: Target, draws: Tensor) -> None:
    squares = draws.square().mean(-1)
    low, high = (squares.mean() + sign * 5 * squares.std() / math.sqrt(len(squares)) for sign in (-1, 1))
    assert one_digit(low.sqrt().item()) <= target.scale <= one_digit(high.sqrt().item())


def test_parts_have_their_shapes(target: Target, draws: Tensor) -> None:
    """What they state is checked by the certificates."""
    if isinstance(target, HasMoments):
        assert target.moments.mean.shape == target.moments.variance.shape == (2 * target.dim,)
    if isinstance(target, HasMarginals):
        for marginal in target.marginals:
            values = marginal.statistic(draws[:100])
            p = marginal.cdf(values.sort().values)
            assert values.shape == (100,)
            assert p.dtype == torch.float64
            assert ((p >= 0) & (p <= 1)).all()
            assert (p.diff() >= -1e-12).all()


@having("scramble")
def test_symmetries_leave_density_and_invariants_unchanged(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasSymmetry)
    x = draws[:50]
    scrambled = target.scramble(x, seeded(0))
    assert not torch.equal(scrambled, x)
    torch.testing.assert_close(target.log_prob(scrambled), target.log_prob(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(target.invariants(scrambled), target.invariants(x), rtol=1e-9, atol=1e-9)


@having("start")
def test_own_starts_depend_on_the_seed_alone_and_have_a_density(target: Target) -> None:
    assert isinstance(target, HasStart)
    first, again, other = (target.start(20, seeded(seed)) for seed in (3, 3, 4))
    assert first.shape == (20, target.dim)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert target.log_prob(first.double()).isfinite().all()


@having("minibatch_score")
def test_minibatch_scores_of_all_rows_add_up_to_the_score(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasMinibatch)
    x, parts = draws[:5], torch.arange(target.n_rows).tensor_split(3)
    score = score_of(target, x)
    torch.testing.assert_close(target.minibatch_score(x, torch.arange(target.n_rows)), score)
    estimates = sum(len(rows) * target.minibatch_score(x, rows) for rows in parts)
    torch.testing.assert_close(estimates / target.n_rows, score)


@having("view")
def test_view_is_increasing_in_each_coordinate(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasView)
    x = draws[:1_000].sort(0).values
    assert target.view(x).shape == x.shape
    assert (target.view(x).diff(dim=0) >= 0).all()


@having("log_z")
def test_log_z_is_an_estimate(target: Target) -> None:
    try:
        log_z = target.log_z  # type: ignore[attr-defined]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert math.isfinite(log_z.value)
    assert log_z.std_error >= 0


@having("modes")
def test_modes_are_assigned_alike_in_both_dtypes_and_nothing_far_away(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasModes)
    modes = target.modes
    assert modes.masses.dtype == torch.float64
    assert (modes.masses > 0).all()
    assert 0 < 1 - modes.masses.sum() < 0.01
    mode = modes.assign(draws[:100])
    assert ((mode >= -1) & (mode < len(modes.masses))).all()
    assert torch.equal(modes.assign(draws[:100].float()), mode)
    assert modes.assign(torch.full((1, target.dim), 1e6)).tolist() == [-1]


@having("log_odds")
def test_predictions_are_finite_log_odds(target: Target, draws: Tensor) -> None:
    assert isinstance(target, HasPredictive)
    labels = target.held_out_labels
    log_odds = target.log_odds(draws[:7].float())
    assert log_odds.shape == (7, len(labels))
    assert log_odds.isfinite().all()
    assert set(labels.tolist()) == {0, 1}


def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*unknown parameter 'no_such_parameter'"):
        TARGETS.get(name, no_such_parameter=1)
