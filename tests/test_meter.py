"""The Meter: exact counts, gradients that the counting leaves alone, and budgets that hold."""

import math

import pytest
import torch
from torch import Generator, Tensor

from samplerbench.targets import Budget, BudgetReached, Counts, Meter, TargetError, derive_generator


class Quartic:
    """log p = -sum x^4 / 4, with score -x^3 and Hessian -3 x^2."""

    dim = 3
    scale = 2.0

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.25 * x.pow(4).sum(-1)


class OwnScore(Quartic):
    """Has its own formula for the score; remembers how often it was used."""

    n_calls = 0

    def score(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return -x.pow(3)


class OwnStart(Quartic):
    def start(self, n_samples: int, generator: Generator) -> Tensor:
        return torch.full((n_samples, self.dim), 7.0, dtype=torch.float64)


class Keepdim(Quartic):
    def log_prob(self, x: Tensor) -> Tensor:
        return -0.25 * x.pow(4).sum(-1, keepdim=True)


class Half(Quartic):
    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x).half()


class Rows(Quartic):
    """log p = -sum over rows of |x - row|^2 / 2, with the rows -1, 0 and 4 in every coordinate."""

    rows = torch.tensor([-1.0, 0.0, 4.0], dtype=torch.float64)
    n_rows = 3

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x[..., None] - self.rows).square().sum((-2, -1))

    def minibatch_score(self, x: Tensor, rows: Tensor) -> Tensor:
        return 3 * (self.rows[rows].mean() - x)


class NaNAbove(Quartic):
    """NaN where the first coordinate is positive."""

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 0] > 0, math.nan, super().log_prob(x))


def points(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(0), dtype=torch.float64)


def meter_of(target: Quartic, fit: float | None = None, draw: float | None = None) -> Meter:
    return Meter(target, dtype=torch.float64, budget=Budget(fit=fit, draw=draw))


def counts(meter: Meter) -> tuple[float, float, float]:
    fit = meter.counts["fit"]
    return fit.log_prob, fit.score, fit.hvp


def test_gradient_equivalents_are_a_half_one_and_two() -> None:
    assert Counts(log_prob=10).gradient_equivalents == 5
    assert Counts(log_prob=10, score=10).gradient_equivalents == 10
    assert Counts(hvp=10).gradient_equivalents == 20


def test_public_facts_of_the_target() -> None:
    meter = Meter(Quartic())
    assert (meter.dim, meter.scale, meter.dtype, meter.device.type) == (3, 2.0, torch.float32, "cpu")
    assert meter.remaining() == math.inf


def test_log_prob_alone_counts_its_points() -> None:
    meter = meter_of(Quartic())
    x = points(4, 5, 3)
    torch.testing.assert_close(meter.log_prob(x), -0.25 * x.pow(4).sum(-1))
    assert counts(meter) == (20, 0, 0)


@pytest.mark.parametrize("target", [Quartic(), OwnScore()])
def test_a_score_counts_its_value_too_and_carries_no_graph(target: Quartic) -> None:
    meter = meter_of(target)
    x = points(4, 5, 3).requires_grad_()
    log_prob, score = meter.log_prob_and_score(x)
    torch.testing.assert_close(log_prob, -0.25 * x.detach().pow(4).sum(-1))
    torch.testing.assert_close(score, -x.detach().pow(3))
    torch.testing.assert_close(meter.score(x), score)
    assert not log_prob.requires_grad
    assert not score.requires_grad
    assert counts(meter) == (40, 40, 0)
    with torch.no_grad():
        torch.testing.assert_close(meter.score(x), score)
    assert isinstance(target, OwnScore) == (getattr(target, "n_calls", 0) > 0)


@pytest.mark.parametrize("target", [Quartic(), OwnScore()])
def test_a_double_backward_step_counts_one_of_each_and_has_the_gradient_of_a_plain_one(target: Quartic) -> None:
    """The loss of denoising Fisher training needs log p, its score, and one Hessian-vector product per point."""
    meter = meter_of(target)
    shift = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    direction = points(6, 3) + 2

    def loss(score_of: object) -> Tensor:
        x = points(6, 3) + shift
        score = meter.score(x, create_graph=True) if score_of is meter else -x.pow(3)
        return (score * direction).sum() + score.square().sum()

    loss(meter).backward()  # type: ignore[no-untyped-call]
    counted, shift.grad = shift.grad, None
    assert counts(meter) == (6, 6, 6)
    loss(None).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(counted, shift.grad)


def test_gradients_are_unchanged_where_autograd_does_the_work() -> None:
    """A library that differentiates log_prob by itself is counted, backward pass by backward pass."""
    meter = meter_of(Quartic())
    x = points(5, 3).requires_grad_()
    log_prob = meter.log_prob(x)
    assert counts(meter) == (5, 0, 0)
    (score,) = torch.autograd.grad(log_prob.sum(), x, create_graph=True)
    torch.testing.assert_close(score, -x.pow(3))
    assert counts(meter) == (5, 5, 0)
    v = points(5, 3) + 1
    (first,) = torch.autograd.grad((score * v).sum(), x, retain_graph=True)
    torch.testing.assert_close(first, -3 * x.square() * v)
    assert counts(meter) == (5, 5, 5)
    (second,) = torch.autograd.grad((score * v.square()).sum(), x)
    torch.testing.assert_close(second, -3 * x.square() * v.square())
    assert counts(meter) == (5, 5, 10)


def test_phases_are_counted_apart() -> None:
    meter = meter_of(Quartic(), fit=10.0, draw=4.0)
    meter.score(points(2, 3))
    with meter.phase("draw"):
        assert meter.remaining() == 4.0
        meter.log_prob(points(4, 3))
        assert meter.remaining() == 2.0
    assert meter.remaining() == 8.0
    assert meter.counts["draw"] == Counts(log_prob=4)
    assert meter.counts["fit"] == Counts(log_prob=2, score=2)


def test_budget_is_raised_before_the_evaluation_and_leaves_the_counts() -> None:
    meter = meter_of(Quartic(), fit=10.0)
    meter.score(points(7, 3))
    with pytest.raises(BudgetReached, match=r"4 points of log_prob\+score cost 4 gradient equivalents, 3 are left"):
        meter.score(points(4, 3))
    with pytest.raises(BudgetReached):
        meter.score(points(4, 3), create_graph=True)
    with pytest.raises(BudgetReached):
        meter.log_prob(points(7, 3))
    assert counts(meter) == (7, 7, 0)
    meter.log_prob(points(6, 3))  # what is left pays exactly this
    assert meter.remaining() == 0


def test_budget_is_raised_inside_a_backward_pass() -> None:
    meter = meter_of(Quartic(), fit=5.0)
    x = points(6, 3).requires_grad_()
    log_prob = meter.log_prob(x).sum()  # 3 of 5
    with pytest.raises(BudgetReached, match=r"6 points of score cost 3 gradient equivalents, 2 are left in phase fit"):
        log_prob.backward()  # type: ignore[no-untyped-call]
    assert counts(meter) == (6, 0, 0)
    assert x.grad is None

    meter = meter_of(Quartic(), fit=11.0)
    x = points(6, 3).requires_grad_()
    loss = meter.score(x, create_graph=True).square().sum()  # 6 of 11; the product would cost 12
    with pytest.raises(BudgetReached, match="6 points of hvp"):
        loss.backward()  # type: ignore[no-untyped-call]
    assert counts(meter) == (6, 6, 0)


def test_a_total_budget_is_shared_by_both_phases() -> None:
    meter = Meter(Quartic(), dtype=torch.float64, budget=Budget(draw=5.0, total=8.0))
    meter.score(points(4, 3))
    with meter.phase("draw"):
        assert meter.remaining() == 4.0  # of the total; the phase alone would have 5
        meter.score(points(3, 3))
        assert meter.remaining() == 1.0
        with pytest.raises(BudgetReached, match="1 are left in total"):
            meter.score(points(2, 3))
    assert meter.remaining() == 1.0
    meter.restart("draw")
    assert meter.remaining() == 4.0


def test_uncounted_evaluations_are_free() -> None:
    meter = meter_of(Quartic(), fit=1.0)
    with meter.uncounted():
        meter.score(points(50, 3))
        x = points(5, 3).requires_grad_()
        meter.score(x, create_graph=True).sum().backward()  # type: ignore[no-untyped-call]
    assert counts(meter) == (0, 0, 0)
    with pytest.raises(BudgetReached):
        meter.score(points(2, 3))


def test_minibatch_pays_its_share_of_the_rows_and_sums_do_not_drift() -> None:
    meter = meter_of(Rows())
    assert meter.n_rows == 3
    x = points(5, 3).requires_grad_()
    scores = [meter.minibatch_score(x, torch.tensor([row])) for row in range(3)]
    torch.testing.assert_close(sum(scores) / 3, meter_of(Rows()).score(x))
    assert not any(score.requires_grad for score in scores)
    assert counts(meter) == (5, 5, 0)
    for _ in range(1_000):  # a thousand sums of 0.333... are not 333.333...
        meter.minibatch_score(points(1, 3), torch.tensor([0]))
    assert counts(meter) == (5 + 1_000 / 3, 5 + 1_000 / 3, 0)
    for _ in range(2):
        meter.minibatch_score(points(1, 3), torch.tensor([0]))
    meter.score(points(2, 3))
    assert counts(meter) == (341, 341, 0)
    assert isinstance(meter.counts["fit"].score, int)


def test_budget_is_raised_before_a_minibatch_and_pays_the_last_row() -> None:
    meter = meter_of(Rows(), fit=2.0)
    x, rows = points(5, 3), torch.tensor([0])
    meter.minibatch_score(x, rows)
    message = r"5 points of log_prob\+score on 1 of 3 rows cost 1.66667 gradient equivalents, 0.333333 are left"
    with pytest.raises(BudgetReached, match=message):
        meter.minibatch_score(x, rows)
    assert meter.counts["fit"].score == 5 / 3
    meter.minibatch_score(x[:1], rows)  # what is left pays exactly this
    assert meter.remaining() == 0
    with meter.uncounted():
        meter.minibatch_score(x, rows)
    assert meter.counts["fit"].score == 2


def test_minibatches_are_refused_where_there_are_none_and_above_the_data() -> None:
    meter = meter_of(Quartic())
    assert meter.n_rows is None
    with pytest.raises(TypeError, match="Quartic has no minibatch_score"):
        meter.minibatch_score(points(5, 3), torch.tensor([0]))
    for rows in (torch.arange(4), torch.arange(0), torch.zeros(1, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"rows must be 1 to 3 indices, got shape \((4,|0,|1, 1)\)"):
            meter_of(Rows()).minibatch_score(points(5, 3), rows)


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_budget_must_be_positive(limit: float) -> None:
    with pytest.raises(ValueError, match=f"budget draw must be positive, got {limit}"):
        Budget(draw=limit)


@pytest.mark.parametrize("x", [torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, 3)])
def test_wrong_points_are_refused_with_shape_and_dtype(x: Tensor) -> None:
    meter = meter_of(Quartic())
    for ask in (meter.log_prob, meter.score):
        with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 3\), torch.float64 on cpu, got \(4, "):
            ask(x)
    assert counts(meter) == (0, 0, 0)


@pytest.mark.parametrize(("target", "got"), [(Keepdim(), r"\(4, 1\)"), (Half(), "torch.float16")])
def test_a_target_with_another_shape_or_dtype_is_named(target: Quartic, got: str) -> None:
    name = type(target).__name__
    with pytest.raises(TargetError, match=rf"{name}.log_prob must map \(4, 3\) .* got .*{got}"):
        meter_of(target).log_prob(points(4, 3))


def test_nan_is_counted_at_finite_points_only() -> None:
    meter = meter_of(NaNAbove())
    x = -points(5, 3).abs()
    x[:3, 0] *= -1
    meter.log_prob(x)
    assert meter.n_nan == 3
    meter.score(x)
    assert meter.n_nan == 6
    meter.log_prob(torch.full((2, 3), math.nan, dtype=torch.float64))
    assert meter.n_nan == 6


def test_start_is_the_target_s_own_or_as_wide_as_its_scale() -> None:
    own = Meter(OwnStart()).start(4, Generator().manual_seed(0))
    assert own.dtype == torch.float32
    assert (own == 7).all()
    wide = meter_of(Quartic()).start(10_000, Generator().manual_seed(0))
    assert wide.shape == (10_000, 3)
    # the variance 4 of 30,000 numbers, in 4 standard errors
    assert abs(float(wide.square().mean()) - 4.0) < 4 * 4.0 * math.sqrt(2 / 30_000)


def test_derived_generators_are_reproducible_and_independent() -> None:
    def numbers(*key: object) -> Tensor:
        return torch.randn(20_000, generator=derive_generator(*key), dtype=torch.float64)

    assert torch.equal(numbers(0, "fit"), numbers(0, "fit"))
    keys = [(0, "fit"), (0, "draw"), (1, "fit"), (1, "draw")]
    streams = torch.stack([numbers(*key) for key in keys])
    correlations = torch.corrcoef(streams)[*torch.triu_indices(4, 4, 1)]
    assert (correlations.abs() < 4.5 / math.sqrt(20_000)).all()  # six of them: 4.3 at 1 in 10,000
    assert derive_generator(1, "2").initial_seed() != derive_generator(12, "").initial_seed()
