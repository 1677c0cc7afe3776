"""The target's log normaliser as a sampler sees it: its own estimate, its bounds, and the spread of its weights.

Reverse quantities average over the sampler's draws and cannot see what it never draws; forward ones average over exact
draws of the target: Blessing et al., Beyond ELBOs, arXiv 2406.07423 (2024).
"""

import math

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known

MIN_DRAWS = 10_000  # fewer say little of heavy weights


def effective_share(log_weights: Tensor) -> float:
    """Effective sample size of weights over their number: (sum w)^2 / (n sum w^2).

    Args:
        log_weights: unnormalised, shape ``(n,)``; -inf is weight 0.
    Returns:
        Number from 1 / n to 1, without unit.
    Raises:
        ValueError: if a weight is NaN or infinite, or all are zero.
    Reference: Kong, A note on importance sampling using standardized weights, tech. report 348, Chicago (1992).
    """
    log_weights = log_weights.detach().to(torch.float64)
    largest = log_weights.max()
    if not largest.isfinite() or log_weights.isnan().any():
        raise ValueError(f"log_weights must have a finite maximum and no NaN, got maximum {largest.item()}")
    weights = (log_weights - largest).exp()
    return (weights.mean().square() / weights.square().mean()).item()


@register_metric(
    "log_z_error",
    version=1,
    needs=("log_z", "normaliser"),
    unit="nats",
    blind_to="everything but the normaliser",
    null=None,
    outputs=("log_z_error", "log_z_bias", "log_z_std_error"),
)
def log_z_error(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Absolute error of the sampler's own estimate of log Z; also with its sign, and the standard error it stated."""
    as_points(draws.samples, "samples")  # an estimate without draws is none
    estimate, exact = known(draws.log_z, "log_z"), known(truth.normaliser, "normaliser")
    bias = estimate.value - exact.value
    return {"log_z_error": abs(bias), "log_z_bias": bias, "log_z_std_error": estimate.std_error}


@register_metric(
    "elbo",
    version=1,
    needs=("log_density", "log_prob"),
    unit="nats",
    blind_to="lost modes",
    direction="higher",
    null=None,
    min_draws=MIN_DRAWS,
)
def elbo(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Evidence lower bound: mean over the draws of log_prob less the sampler's log density; log Z at the truth."""
    return {"elbo": _log_ratio(draws, truth).mean().item()}


@register_metric(
    "ess_reverse",
    version=1,
    needs=("log_weights or log_density", "log_prob"),
    unit="1",
    blind_to="lost modes",
    direction="higher",
    null=None,
    min_draws=MIN_DRAWS,
)
def ess_reverse(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Effective share of the draws by their weights; by log_prob less log density where the sampler states none."""
    as_points(draws.samples, "draws")
    weights = draws.log_weights
    return {"ess_reverse": effective_share(_log_ratio(draws, truth) if weights is None else weights)}


@register_metric(
    "eubo",
    version=1,
    needs=("forward_log_ratio",),
    unit="nats",
    blind_to="draws where the target has no mass",
    null=None,
    min_draws=MIN_DRAWS,
)
def eubo(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Evidence upper bound: mean over exact draws of log_prob less the sampler's log density; log Z at the truth.

    It is infinite where the sampler's density vanishes at an exact draw.
    """
    return {"eubo": _forward_log_ratio(draws).mean().item()}


@register_metric(
    "ess_forward",
    version=1,
    needs=("forward_log_ratio",),
    unit="1",
    blind_to="draws where the target has no mass",
    direction="higher",
    null=None,
    min_draws=MIN_DRAWS,
)
def ess_forward(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """Effective share of the draws that importance weights w = exp(log_prob) / density would leave, by exact draws.

    1 / (E w E 1/w) over the target: E 1/w is 1/Z, and E w / Z is E w^2 / Z^2 over the draws. A lost mode has a huge w.
    """
    log_ratio = _forward_log_ratio(draws)
    log_n = math.log(len(log_ratio))
    log_mean, log_mean_inverse = log_ratio.logsumexp(0) - log_n, (-log_ratio).logsumexp(0) - log_n
    return {"ess_forward": (-log_mean - log_mean_inverse).exp().item() if log_mean.isfinite() else 0.0}


def _forward_log_ratio(draws: Draws) -> Tensor:
    as_points(draws.samples, "draws")
    log_ratio = known(draws.forward_log_ratio, "forward_log_ratio").detach().to(torch.float64)
    if log_ratio.ndim != 1 or len(log_ratio) < MIN_DRAWS:
        raise ValueError(
            f"forward_log_ratio must have shape (m,), m at least {MIN_DRAWS}, got {tuple(log_ratio.shape)}"
        )
    if log_ratio.isnan().any() or (log_ratio == -math.inf).any():
        raise ValueError("forward_log_ratio must be above -inf and not NaN at every exact draw")
    return log_ratio


def _log_ratio(draws: Draws, truth: Truth) -> Tensor:
    """log_prob less the log density of the sampler, at its draws, shape ``(n,)``, float64."""
    log_prob = known(truth.log_prob, "log_prob")(as_points(draws.samples, "draws"))
    return log_prob - known(draws.log_density, "log_density").to(log_prob)
