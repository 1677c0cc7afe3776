"""What a sampler converges to: moments and marginal laws on two easy targets, and log Z if it states one.

The default configuration, without a budget. A sampler may be biased by design (unadjusted chains, particles,
networks), and none says by how much: each rule allows 4 standard errors of the draws plus a stated bias, so that it
catches a wrong law and not a small error. Quality is what the benchmark measures.
"""

import math

import torch

from ..samplers.base import HasLogDensity
from ..targets.base import TARGETS, HasLogZ, HasMarginals, HasMoments
from .contract import DoesNotApply, require
from .sampler_subject import N_FULL, SamplerSubject, unweighted
from .truth import in_blocks

MAX_STANDARD_ERRORS = 4.0
MEAN_BIAS = 0.1  # of a mean, in standard deviations
SQUARE_BIAS = 0.25  # of a mean square, relative
DISTANCE_BIAS = 0.1  # of a distribution function
ROUNDING = 1e-3  # of log Z and of log densities, in nats: they are float32
N_NODES = 801  # per side of the grid on which a density is integrated
INTEGRAL_ERROR = 0.02  # of a density on that grid


def moments_of_gaussian2(subject: SamplerSubject) -> str:
    """A Gaussian in the plane."""
    return _law(subject, "gaussian2")


def moments_of_mog2(subject: SamplerSubject) -> str:
    """A mixture of two Gaussians in the plane, 2.8 standard deviations apart."""
    if getattr(subject.sampler, "one_normal", False):
        raise DoesNotApply("it states that its draws follow one normal law, which mog2 is not")
    return _law(subject, "mog2")


def _law(subject: SamplerSubject, name: str) -> str:
    target = TARGETS.get(name)
    if not isinstance(target, HasMoments) or not isinstance(target, HasMarginals):
        raise TypeError(f"target {name!r} must state moments and marginals")
    draws = subject.full(name).draws
    require(draws.stopped is None, f"{N_FULL:,} draws of {name} without a budget", "not stop early", draws.reason)
    x, n_effective = unweighted(draws)
    require(x.isfinite().all(), f"draws of {name}", "be finite", "some that are not")
    require(n_effective >= 10, f"draws of {name}", "be worth at least 10 independent ones", f"{n_effective:.3g}")
    truth, dim, error = target.moments, target.dim, MAX_STANDARD_ERRORS / math.sqrt(n_effective)
    sds = truth.variance.sqrt()
    mean = (x.mean(0) - truth.mean[:dim]).abs() / sds[:dim]
    mean_limit = MEAN_BIAS + error
    square = (x.square().mean(0) / truth.mean[dim:] - 1).abs()
    square_limit = SQUARE_BIAS + error * sds[dim:] / truth.mean[dim:]
    distances = []
    for marginal in target.marginals:
        p = marginal.cdf(marginal.statistic(x).sort().values)
        steps = torch.arange(len(p) + 1, dtype=torch.float64) / len(p)
        distances.append(max((p - steps[:-1]).max().item(), (steps[1:] - p).max().item()))
    distance_limit = DISTANCE_BIAS + error / 2  # an empirical distribution function has a standard error of at most 1/2
    rule = f"({MAX_STANDARD_ERRORS:g} standard errors of {n_effective:,.0f} draws + {{}})"
    require(
        (mean <= mean_limit).all(),
        f"means of {name}",
        f"be within {mean_limit:.3f} sd {rule.format(f'{MEAN_BIAS:g} sd')}",
        f"{mean.max():.3f} sd",
    )
    require(
        (square <= square_limit).all(),
        f"mean squares of {name}",
        f"be within {square_limit.min():.0%} {rule.format(f'{SQUARE_BIAS:.0%}')}",
        f"{square.max():.0%} off",
    )
    require(
        max(distances) <= distance_limit,
        f"marginals of {name}",
        f"be within {distance_limit:.3f} of their distribution functions {rule.format(f'{DISTANCE_BIAS:g}')}",
        f"{max(distances):.3f}",
    )
    return (
        f"means off by {mean.max():.3f} sd (limit {mean_limit:.3f}), mean squares by {square.max():.1%} "
        f"({square_limit.min():.0%}), marginals by {max(distances):.3f} ({distance_limit:.3f}); "
        f"limits are {MAX_STANDARD_ERRORS:g} standard errors of {n_effective:,.0f} draws "
        f"+ {MEAN_BIAS:g} sd, {SQUARE_BIAS:.0%}, {DISTANCE_BIAS:g}"
    )


def log_normaliser(subject: SamplerSubject) -> str:
    """An estimate of log Z is honest about its error."""
    seen = []
    for name in ("gaussian2", "mog2"):
        target, estimate = TARGETS.get(name), subject.full(name).draws.log_z
        if estimate is None:
            raise DoesNotApply("its draws state no log_z")
        if not isinstance(target, HasLogZ):
            raise TypeError(f"target {name!r} must state log_z")
        known = 0 <= estimate.std_error < math.inf and math.isfinite(estimate.value)
        require(known, f"log_z of {name}", "be finite, with a standard error from 0 on", estimate)
        gap, limit = abs(estimate.value - target.log_z.value), MAX_STANDARD_ERRORS * estimate.std_error + ROUNDING
        rule = f"be within {limit:.3g} of {target.log_z.value:g} (4 standard errors + {ROUNDING:g} for rounding)"
        require(gap <= limit, f"log_z of {name}", rule, estimate)
        seen.append(f"{name}: {estimate.value:.4f} +- {estimate.std_error:.4f}, truth {target.log_z.value:g}")
    return f"{'; '.join(seen)} (rule: 4 standard errors + {ROUNDING:g} for rounding)"


def density(subject: SamplerSubject) -> str:
    """A density that can be asked for anywhere is that of the draws, and integrates to one."""
    run = subject.full("mog2")
    fitted, x = run.fitted, run.draws.samples
    if not isinstance(fitted, HasLogDensity):
        raise DoesNotApply("the fitted sampler has no log_density")
    log_density = fitted.log_density(x)
    require(log_density.shape == (len(x),), "log_density", f"be ({len(x)},)", tuple(log_density.shape))
    if run.draws.log_density is not None:
        error = (log_density - run.draws.log_density).abs().max().item()
        require(
            error <= ROUNDING, "log_density at the draws", f"be theirs within {ROUNDING:g} nats", f"{error:.3g} off"
        )
    low, high = x.min(0).values, x.max(0).values
    sides = [
        torch.linspace(1.5 * a - 0.5 * b, 1.5 * b - 0.5 * a, N_NODES).to(x) for a, b in zip(low, high, strict=True)
    ]
    nodes = torch.cartesian_prod(*sides)
    area = math.prod((side[1] - side[0]).item() for side in sides)
    integral = in_blocks(fitted.log_density)(nodes).double().exp().sum().item() * area
    close = abs(integral - 1) <= INTEGRAL_ERROR
    require(close, "the density of draws of mog2", f"integrate to 1 within {INTEGRAL_ERROR:g}", f"{integral:.4g}")
    return f"as at the draws, and {integral:.4f} on a grid of {N_NODES} x {N_NODES} around them"
