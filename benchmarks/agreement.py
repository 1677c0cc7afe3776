"""Whether draws are those of a target, and whether two sets of draws have one law: what certificates are made of."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..metrics.chains import smallest_ess, worst_rhat
from ..metrics.energy import wasserstein_1d
from ..targets.base import HasSymmetry, Target

MIN_ESS_SHARE = 0.9
MAX_RHAT = 1.01
MAX_STANDARD_ERRORS = 4.0
MIN_P_VALUE = 1e-4
FAMILY_LEVEL = 1e-3  # of the largest of many errors
MAX_COORDINATES, N_AVERAGES = 100, 32  # above so many coordinates, averages of so many blocks of them are judged


@dataclass(frozen=True)
class Check:
    """One checked value with its rule."""

    name: str
    value: float
    rule: str
    passed: bool


def statistics_of_draws(x: Tensor, target: Target) -> Tensor:
    """What draws ``(..., dim)`` are judged by, ``(..., n_statistics)``; the last one is log_prob.

    Where the law has a symmetry, chains are scrambled by it and their coordinates say nothing: invariants stand in
    their place. Above 100 coordinates, averages of 32 blocks of neighbours do: of 1,600 estimated ESS, the smallest is
    far below 90% of the count even for independent draws.
    """
    if isinstance(target, HasSymmetry):
        values = target.invariants(x)
    elif target.dim > MAX_COORDINATES:
        averages = torch.nn.functional.adaptive_avg_pool1d(x.flatten(0, -2), N_AVERAGES)
        values = averages.reshape(*x.shape[:-1], N_AVERAGES)
    else:
        values = x
    return torch.cat([values, target.log_prob(x)[..., None]], dim=-1)


def check_chains(kept: Tensor, target: Target, name: str) -> list[Check]:
    """Convergence of one run by itself: R-hat, ESS and the Stein identity E[(x - c) . score] = -dim, c = mean.

    Args:
        kept: shape ``(n_chains, n_kept, dim)``.
        target: what the chains should have as their law.
        name: of the run, for the names of its checks.
    """
    chains = statistics_of_draws(kept, target)
    rhat, ess_share = worst_rhat(chains), smallest_ess(chains) / chains[..., 0].numel()
    stein = abs(stein_error(kept.flatten(0, 1), target))
    return [
        Check(f"{name}: largest rank-normalised split R-hat", rhat, f"< {MAX_RHAT}", rhat < MAX_RHAT),
        Check(f"{name}: smallest ESS / count", ess_share, f">= {MIN_ESS_SHARE}", ess_share >= MIN_ESS_SHARE),
        _within_errors(f"{name}: Stein identity", stein),
    ]


def check_agreement(x: Tensor, y: Tensor, target: Target) -> list[Check]:
    """Whether two sets of draws, both ``(n, dim)``, have one law: moments, law of log_prob, and a classifier."""
    from scipy.stats import ks_2samp

    f, g = statistics_of_draws(x, target), statistics_of_draws(y, target)
    max_error = two_sided_quantile(FAMILY_LEVEL / (2 * f.shape[-1]))
    log_prob_x, log_prob_y = f[:, -1], g[:, -1]
    energy = wasserstein_1d(log_prob_x, log_prob_y) / log_prob_x.std().item()
    max_energy = 5 * math.sqrt(2 / len(x))
    p_value = float(ks_2samp(log_prob_x.numpy(), log_prob_y.numpy()).pvalue)
    return [
        _within_errors("moments of both runs", moment_error(f, g), max_error),
        Check("energy_w1 / sd(log_prob)", energy, f"< {max_energy:.4f}", energy < max_energy),
        Check("KS p-value of log_prob", p_value, f"> {MIN_P_VALUE}", p_value > MIN_P_VALUE),
        _within_errors("C2ST above 1/2", classifier_error(f, g)),
    ]


def _within_errors(name: str, value: float, limit: float = MAX_STANDARD_ERRORS) -> Check:
    return Check(f"{name}, in standard errors", value, f"< {limit:.3g}", value < limit)


def two_sided_quantile(level: float) -> float:
    """What the absolute value of a standard normal exceeds with probability ``level``."""
    return math.sqrt(2) * torch.erfinv(torch.tensor(1 - level, dtype=torch.float64)).item()


def stein_error(x: Tensor, target: Target) -> float:
    """Error of E[(x - c) . score] = -dim on draws ``(n, dim)``, c = mean, in standard errors; 1,000 points at once."""
    centre = x.mean(0)
    products = torch.cat([((part - centre) * score_of(target, part)).sum(-1) for part in torch.split(x, 1_000)])
    return ((products.mean() + target.dim) / (products.std() / math.sqrt(len(x)))).item()


def score_of(target: Target, x: Tensor) -> Tensor:
    """Score at points ``(n, dim)`` by autograd, whatever score the target states."""
    inputs = x.detach().requires_grad_()
    (score,) = torch.autograd.grad(target.log_prob(inputs).sum(), inputs)
    return score


def moment_error(x: Tensor, y: Tensor) -> float:
    """Largest difference of the means of x_i and (x_i - c_i)^2 between two sets ``(n, dim)``, in standard errors."""
    centre = torch.cat([x, y]).mean(0)
    f, g = (torch.cat([z, (z - centre).square()], dim=-1) for z in (x, y))
    return ((f.mean(0) - g.mean(0)).abs() / (f.var(0) / len(f) + g.var(0) / len(g)).sqrt()).max().item()


def classifier_error(x: Tensor, y: Tensor) -> float:
    """How far a boosted classifier tells two sets ``(n, dim)`` apart better than by chance, in standard errors."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    both = torch.cat([x, y])
    both = (both - both.mean(0)) / both.std(0)
    variances, axes = torch.linalg.eigh(both.T.cov())
    kept = variances > 1e-9 * variances.max()  # some invariants add up to log_prob
    white = both @ axes[:, kept] / variances[kept].sqrt()  # trees cut along axes: show them the narrow directions too
    labels = np.repeat([0, 1], [len(x), len(y)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(HistGradientBoostingClassifier(random_state=0), white.numpy(), labels, cv=folds)
    return float((scores.mean() - 0.5) / (0.5 / math.sqrt(len(labels))))
