"""The contract of a target, rule by rule: shapes, dtypes, derivatives and starting points.

``check_knowledge`` has the checks of what it states about its law.
"""

import math
from typing import Any

import numpy as np
import torch

from ..targets.base import TARGETS, HasScore, HasStart, normal, one_digit
from ..targets.meter import Meter
from .agreement import score_of
from .check_knowledge import (
    classes,
    features,
    log_normaliser,
    marginals,
    minibatches,
    modes,
    moments,
    predictions,
    reference,
    sample,
    symmetry,
    view,
    wells,
)
from .contract import (
    BrokenRule,
    Check,
    DoesNotApply,
    global_states,
    require,
    require_close,
    require_states,
    require_tensor,
)
from .other_process import in_another_process
from .target_subject import TargetSubject, seeded

DTYPES = (torch.float32, torch.float64)
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}  # of the same value by another route


def description(subject: TargetSubject) -> str:
    """A first line for tables, a dimension and a scale to one digit; unknown parameters are refused."""
    summary, target = TARGETS.entry(subject.name).summary, subject.target
    require(summary.endswith("."), "the docstring's first line", "be a sentence", repr(summary))
    require(isinstance(target.dim, int) and target.dim >= 1, "dim", "be an integer from 1 on", target.dim)
    require(target.scale > 0 and math.isfinite(target.scale), "scale", "be positive and finite", target.scale)
    digit = one_digit(target.scale)
    require(target.scale == digit, "scale", f"be rounded to one digit, {digit:g}: it is public", target.scale)
    try:
        TARGETS.get(subject.name, no_such_parameter=1)
    except ValueError as error:
        require("no_such_parameter" in str(error), "the error of an unknown parameter", "name it", f"{error}")
    else:
        raise BrokenRule("an unknown parameter must be refused with a ValueError, got a target")
    return f"dim {target.dim}, scale {target.scale:g}; {summary}"


def shapes_and_dtypes(subject: TargetSubject) -> str:
    """Any batch in, its leading shape out, in the dtype of the points, which stay as they are."""
    target = subject.target
    for dtype in DTYPES:
        x = subject.x[:6].to(dtype)
        before = x.clone()
        flat = target.log_prob(x)
        require(torch.equal(x, before), "the points", "be left as they are", "other values after log_prob")
        require_tensor(f"log_prob of {tuple(x.shape)} {dtype}", flat, (6,), dtype)
        require(flat.isfinite().all(), "log_prob at its own draws or starts", "be finite", flat.tolist())
        batch, one = target.log_prob(x.reshape(2, 3, -1)), target.log_prob(x[0])
        require_tensor(f"log_prob of (2, 3, {target.dim}) {dtype}", batch, (2, 3), dtype)
        require_tensor(f"log_prob of ({target.dim},) {dtype}", one, (), dtype)
        tolerance = TOLERANCES[dtype]
        for value, expected in ((batch, flat.reshape(2, 3)), (one, flat[0])):
            require_close("log_prob in another shape", value, expected, relative=tolerance, absolute=tolerance)
    return f"(6, {target.dim}), (2, 3, {target.dim}) and ({target.dim},) in float32 and float64, points left alone"


def rows_alone(subject: TargetSubject) -> str:
    """The value of a point does not depend on the other points of its batch."""
    x, largest = subject.x[:17], 0.0
    together = subject.target.log_prob(x)
    for row, value in zip(x, together, strict=True):
        alone = subject.target.log_prob(row[None])
        require_tensor("log_prob of one row", alone, (1,), x.dtype)
        what = "log_prob of a point alone and among others"
        largest = max(largest, require_close(what, alone[0], value, relative=1e-10, absolute=1e-10))
    return f"{len(x)} points alone and together differ by at most {largest:.1e} (rule: 1e-10 + 1e-10 of the value)"


def devices(subject: TargetSubject) -> str:
    """On a CUDA device the law is the same, and so is where the result lies."""
    if not torch.cuda.is_available():
        subject.target.log_prob(subject.x[:1])
        return "points on the cpu; this machine offers no CUDA device, so that was not tried"
    x = subject.x[:100]
    there = subject.target.log_prob(x.cuda())
    require(there.device.type == "cuda", "log_prob of points on CUDA", "be there", there.device)
    expected = subject.target.log_prob(x)
    largest = require_close("log_prob on CUDA and on the cpu", there.cpu(), expected, relative=1e-9, absolute=1e-9)
    return f"{len(x)} points on the cpu and on CUDA differ by at most {largest:.1e} (rule: 1e-9 + 1e-9 of the value)"


def another_process(subject: TargetSubject) -> str:
    """Another process has the same law: no part of it hangs on this one's hashes or random states."""
    x = subject.x[:100]
    there = torch.from_numpy(in_another_process(subject.plugins, densities, subject.name, x.numpy()))
    n_other = int((subject.target.log_prob(x) != there).sum())
    require(not n_other, "log_prob in another process", "be equal bit by bit", f"{n_other} of {len(x)} others")
    return f"{len(x)} log densities equal bit by bit"


def densities(name: str, x: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Log densities of a registered target at points ``(n, dim)``; for another process."""
    values: np.ndarray[Any, np.dtype[np.float64]] = TARGETS.get(name).log_prob(torch.from_numpy(x)).numpy()
    return values


def float32_agrees(subject: TargetSubject) -> str:
    """Float32 is float64 rounded, not another law."""
    x = subject.x[:500].to(torch.float32)
    rounded, value = subject.target.log_prob(x).double(), subject.target.log_prob(x.double())
    largest = require_close("log_prob in float32 and in float64", rounded, value, relative=1e-4, absolute=2e-3)
    return f"{len(x)} points differ by at most {largest:.1e} (rule: 2e-3 + 1e-4 of the value)"


def double_backward(subject: TargetSubject) -> str:
    """The density can be differentiated twice, with finite derivatives at its own points."""
    for dtype in DTYPES:
        x = subject.x[:20].to(dtype).requires_grad_()
        value = subject.target.log_prob(x)
        require(value.requires_grad, "log_prob", "be differentiable by torch", "a value without a graph")
        (score,) = torch.autograd.grad(value.sum(), x, create_graph=True)
        require(score.isfinite().all(), f"the gradient in {dtype}", "be finite", "entries that are not")
        if not score.requires_grad:  # as it should be where log_prob is linear
            require((score == score[0]).all(), "the gradient", "be differentiable again", "a value without a graph")
            continue
        direction = normal(len(x), subject.target.dim, seeded(1)).to(dtype)
        (hvp,) = torch.autograd.grad((score * direction).sum(), x)
        require(hvp.isfinite().all(), f"Hessian-vector products in {dtype}", "be finite", "entries that are not")
    return f"{len(subject.x[:20])} scores and Hessian-vector products are finite in float32 and float64"


def score_is_gradient(subject: TargetSubject) -> str:
    """A score of its own is what autograd computes."""
    target = subject.target
    if not isinstance(target, HasScore):
        raise DoesNotApply("no score of its own: autograd's is used")
    x = subject.x[:20]
    x = x[: len(x) - len(x) % 5].reshape(-1, 5, target.dim)
    expected, value = score_of(target, x), target.score(x)
    require_tensor(f"score of {tuple(x.shape)}", value, tuple(x.shape), x.dtype)
    scale = expected.abs().max().item()
    error = require_close("score and gradient", value, expected, relative=0, absolute=1e-10 * scale)
    require_tensor("score of float32 points", target.score(x.float()), tuple(x.shape), torch.float32)
    return f"differs from autograd's by at most {error:.1e}, the largest entry is {scale:.3g} (rule: 1e-10 of it)"


def starting_points(subject: TargetSubject) -> str:
    """Where samplers begin, the density and its score are no NaN; starts of its own depend on the generator alone."""
    target = subject.target
    x = Meter(target, dtype=torch.float64).start(64, seeded(0))
    require(tuple(x.shape) == (64, target.dim), "64 starting points", f"be (64, {target.dim})", tuple(x.shape))
    value, score = target.log_prob(x), score_of(target, x)
    n_nan = int((value.isnan() | score.isnan().any(-1)).sum())
    require(not n_nan, "log_prob and its gradient at 64 starting points", "be no NaN", f"{n_nan} that are")
    if not isinstance(target, HasStart):
        return "no NaN at 64 points of N(0, scale^2 I)"
    before = global_states()
    first, again, other = (target.start(20, seeded(seed)) for seed in (3, 3, 4))
    require(tuple(first.shape) == (20, target.dim), "start(20)", f"be (20, {target.dim})", tuple(first.shape))
    require(torch.equal(first, again), "starts of the same seed", "be equal", "others")
    require(not torch.equal(first, other), "starts of another seed", "be others", "the same")
    require(target.log_prob(first.double()).isfinite().all(), "log_prob at its starts", "be finite", "some that is not")
    return f"20 finite starts depend on the seed alone; {require_states(before, 'start')}"


CHECKS: tuple[Check[TargetSubject], ...] = (
    description,
    shapes_and_dtypes,
    rows_alone,
    devices,
    another_process,
    float32_agrees,
    double_backward,
    score_is_gradient,
    sample,
    starting_points,
    reference,
    log_normaliser,
    modes,
    wells,
    moments,
    marginals,
    view,
    symmetry,
    minibatches,
    predictions,
    features,
    classes,
)
