"""The form of what a target states about its law: draws, log Z, modes, moments, marginals, symmetries, data.

Whether it is true is the certificate's question: ``samplerbench certify``.
"""

import math

import torch

from ..targets.base import (
    HasClasses,
    HasFeatures,
    HasLogZ,
    HasMarginals,
    HasMinibatch,
    HasModes,
    HasMoments,
    HasPredictive,
    HasReference,
    HasSample,
    HasSymmetry,
    HasView,
    HasWells,
)
from ..targets.draws import Estimate
from .agreement import score_of
from .contract import DoesNotApply, global_states, require, require_close, require_states, require_tensor
from .target_subject import TargetSubject, seeded


def sample(subject: TargetSubject) -> str:
    """Exact draws are float64, and depend on the generator alone."""
    target = subject.target
    if not isinstance(target, HasSample):
        raise DoesNotApply("no exact draws")
    before = global_states()
    first, again, other = (target.sample(50, seeded(seed)) for seed in (3, 3, 4))
    require_tensor("sample(50)", first, (50, target.dim), torch.float64)
    require(first.isfinite().all(), "draws", "be finite", "some that are not")
    require(torch.equal(first, again), "draws of the same seed", "be equal", "others")
    require(not torch.equal(first, other), "draws of another seed", "be others", "the same")
    return f"50 draws (50, {target.dim}) float64 depend on the seed alone; {require_states(before, 'sample')}"


def reference(subject: TargetSubject) -> str:
    """Reference draws are float64 and finite."""
    target = subject.target
    if not isinstance(target, HasReference):
        raise DoesNotApply("no reference draws")
    draws = target.reference()
    require_tensor("reference()", draws, (len(draws), target.dim), torch.float64)
    require(draws.isfinite().all(), "reference draws", "be finite", "some that are not")
    return f"{len(draws):,} finite draws in float64"


def log_normaliser(subject: TargetSubject) -> str:
    """log Z is an Estimate."""
    target = subject.target
    if not isinstance(target, HasLogZ):
        raise DoesNotApply("no log_z")
    log_z = target.log_z
    require(isinstance(log_z, Estimate), "log_z", "be an Estimate", repr(log_z))
    known = math.isfinite(log_z.value) and 0 <= log_z.std_error < math.inf
    require(known, "log_z", "be finite, with a standard error from 0 on", log_z)
    return f"{log_z.value:.6g} +- {log_z.std_error:.2g}"


def modes(subject: TargetSubject) -> str:
    """Every point is assigned to a mode or to none, alike in both dtypes; masses are probabilities."""
    target = subject.target
    if not isinstance(target, HasModes):
        raise DoesNotApply("no modes")
    stated, x = target.modes, subject.x[:100]
    masses = stated.masses
    require_tensor("modes.masses", masses, (len(masses),), torch.float64)
    total = masses.sum().item()
    require((masses > 0).all() and total <= 1 + 1e-9, "modes.masses", "be positive with a sum of at most 1", total)
    mode = stated.assign(x)
    require_tensor(f"modes.assign of {tuple(x.shape)}", mode, (len(x),), torch.int64)
    in_range = mode.min() >= -1 and mode.max() < len(masses)
    require(in_range, "modes.assign", f"be -1 or the index of one of {len(masses)} modes", mode.tolist())
    rounded = stated.assign(x.float())
    require(torch.equal(rounded, mode), "modes of float32 points", "be those of float64", rounded.tolist())
    return f"{len(masses)} modes with masses that sum to {total:.6g}; {len(x)} points assigned alike in both dtypes"


def wells(subject: TargetSubject) -> str:
    """Every point is in one of two wells of each such coordinate; masses are probabilities."""
    target = subject.target
    if not isinstance(target, HasWells):
        raise DoesNotApply("no wells")
    masses, x = target.wells.masses, subject.x[:100]
    require_tensor("wells.masses", masses, (len(masses),), torch.float64)
    require(((masses > 0) & (masses < 1)).all(), "wells.masses", "be between 0 and 1", masses.tolist())
    right = target.wells.right(x)
    require_tensor(f"wells.right of {tuple(x.shape)}", right, (len(x), len(masses)), torch.bool)
    rounded = target.wells.right(x.float())
    require(torch.equal(rounded, right), "wells of float32 points", "be those of float64", rounded.tolist())
    return f"{len(masses)} coordinates with two wells; {len(x)} points assigned alike in both dtypes"


def moments(subject: TargetSubject) -> str:
    """Mean and variance of the view's coordinates and of their squares."""
    target = subject.target
    if not isinstance(target, HasMoments):
        raise DoesNotApply("no moments")
    for part in ("mean", "variance"):
        require_tensor(f"moments.{part}", getattr(target.moments, part), (2 * target.dim,), torch.float64)
    least = target.moments.variance.min().item()
    require(least > 0, "moments.variance", "be positive", least)
    return f"mean and variance, both ({2 * target.dim},) float64"


def marginals(subject: TargetSubject) -> str:
    """Distribution functions rise from 0 to 1."""
    target = subject.target
    if not isinstance(target, HasMarginals):
        raise DoesNotApply("no marginals")
    x = subject.x[:100]
    for marginal in target.marginals:
        what = f"marginal {marginal.name!r}"
        values = marginal.statistic(x)
        require_tensor(f"{what}: statistic", values, (len(x),), values.dtype)
        p = marginal.cdf(values.sort().values)
        require_tensor(f"{what}: cdf", p, (len(x),), torch.float64)
        rises = p.min() >= 0 and p.max() <= 1 and (p.diff() >= -1e-12).all()
        require(rises, f"{what}: cdf", "rise from 0 to 1", p.tolist())
    return f"{len(target.marginals)}: {', '.join(marginal.name for marginal in target.marginals)}"


def view(subject: TargetSubject) -> str:
    """A map of points to points, whatever their batch."""
    target = subject.target
    if not isinstance(target, HasView):
        raise DoesNotApply("no view: distances are taken in x")
    x = subject.x[:6]
    flat = target.view(x)
    require_tensor(f"view of {tuple(x.shape)}", flat, tuple(x.shape), x.dtype)
    require(flat.isfinite().all(), "view", "be finite", flat.tolist())
    batch = target.view(x.reshape(2, 3, -1))
    require_tensor(f"view of (2, 3, {target.dim})", batch, (2, 3, target.dim), x.dtype)
    require_close("view in another shape", batch.reshape(6, -1), flat, relative=1e-12, absolute=1e-12)
    return f"(6, {target.dim}) and (2, 3, {target.dim}) to the same"


def symmetry(subject: TargetSubject) -> str:
    """The group leaves density and invariants unchanged, and moves the points."""
    target = subject.target
    if not isinstance(target, HasSymmetry):
        raise DoesNotApply("no symmetry stated")
    x = subject.x[:50]
    scrambled = target.scramble(x, seeded(0))
    require(not torch.equal(scrambled, x), "scramble", "move the points", "the same points")
    largest = 0.0
    for what, function in (("log_prob", target.log_prob), ("invariants", target.invariants)):
        value, expected = function(scrambled), function(x)
        gap = require_close(f"{what} of scrambled points", value, expected, relative=1e-9, absolute=1e-9)
        largest = max(largest, gap)
    return f"log_prob and invariants of {len(x)} scrambled points change by at most {largest:.1e} (rule: 1e-9)"


def minibatches(subject: TargetSubject) -> str:
    """Minibatch scores of all rows add up to the score."""
    target = subject.target
    if not isinstance(target, HasMinibatch):
        raise DoesNotApply("no minibatches")
    x, rows = subject.x[:5], torch.arange(target.n_rows)
    score = score_of(target, x)
    parts = rows.tensor_split(3)
    mean = sum((len(part) * target.minibatch_score(x, part) for part in parts), torch.zeros_like(x)) / target.n_rows
    largest = 0.0
    for what, value in (("minibatch_score of all rows", target.minibatch_score(x, rows)), ("mean of 3 parts", mean)):
        largest = max(largest, require_close(what, value, score, relative=1e-7, absolute=1e-7))
    return f"{target.n_rows:,} rows, whole and in 3 parts, give the score within {largest:.1e} (rule: 1e-7)"


def predictions(subject: TargetSubject) -> str:
    """Log odds of held-out rows are finite, labels are 0 and 1."""
    target = subject.target
    if not isinstance(target, HasPredictive):
        raise DoesNotApply("no held-out data")
    labels = target.held_out_labels
    log_odds = target.log_odds(subject.x[:7].float())
    shape = (7, len(labels))
    require(tuple(log_odds.shape) == shape, "log_odds of 7 points", f"be {shape}", tuple(log_odds.shape))
    require(log_odds.isfinite().all(), "log_odds", "be finite", "some that are not")
    require(set(labels.tolist()) == {0, 1}, "held_out_labels", "be 0 and 1", sorted(set(labels.tolist())))
    return f"finite log odds of {len(labels):,} held-out rows"


def features(subject: TargetSubject) -> str:
    """Features of the classifier, whatever the batch."""
    target = subject.target
    if not isinstance(target, HasFeatures):
        raise DoesNotApply("no features")
    x = subject.x[:6]
    flat = target.features(x)
    n_features = flat.shape[-1]
    require_tensor(f"features of {tuple(x.shape)}", flat, (6, n_features), x.dtype)
    require(flat.isfinite().all(), "features", "be finite", "some that are not")
    batch = target.features(x.reshape(2, 3, -1))
    require_tensor(f"features of (2, 3, {target.dim})", batch, (2, 3, n_features), x.dtype)
    require_close("features in another shape", batch.reshape(6, -1), flat, relative=1e-12, absolute=1e-12)
    return f"{n_features} features"


def classes(subject: TargetSubject) -> str:
    """Class probabilities of the classifier, whatever the batch."""
    target = subject.target
    if not isinstance(target, HasClasses):
        raise DoesNotApply("no classes")
    x = subject.x[:6]
    flat = target.class_probabilities(x)
    n_classes = flat.shape[-1]
    require_tensor(f"class_probabilities of {tuple(x.shape)}", flat, (6, n_classes), x.dtype)
    require((flat >= 0).all(), "class_probabilities", "be at least 0", float(flat.min()))
    require_close("sums of class_probabilities", flat.sum(-1), torch.ones_like(flat[:, 0]), relative=0, absolute=1e-6)
    batch = target.class_probabilities(x.reshape(2, 3, -1))
    require_close("classes in another shape", batch.reshape(6, -1), flat, relative=1e-12, absolute=1e-12)
    return f"{n_classes} classes"
