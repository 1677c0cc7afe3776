"""Distances between the laws of log_prob under the draws and under the truth."""

import torch
from torch import Tensor

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known

N_BINS = 50


def wasserstein_1d(u: Tensor, v: Tensor) -> float:
    """1-Wasserstein distance between two samples on the line: the integral of |F_u - F_v|.

    Args:
        u, v: shapes ``(n,)`` and ``(m,)``; not modified.
    Returns:
        Distance in the unit of ``u``.
    Raises:
        ValueError: if a sample is not one-dimensional, is empty or is not finite.
    """
    u, v = _on_the_line(u, "u"), _on_the_line(v, "v").to(u.device)
    pooled = torch.cat([u, v]).sort().values
    steps = pooled.diff()
    below_u, below_v = (torch.searchsorted(w, pooled[:-1], right=True).to(w) / len(w) for w in (u, v))
    return ((below_u - below_v).abs() * steps).sum().item()


def histogram_tv(u: Tensor, v: Tensor, *, n_bins: int = N_BINS) -> float:
    """Total variation between two histograms on the line; what falls outside the range of ``v`` is counted.

    Args:
        u, v: shapes ``(n,)`` and ``(m,)``; ``v`` is the truth, whose range is cut into equal bins.
        n_bins: bins inside that range; one below and one above are added.
    Returns:
        Number between 0 and 1.
    Raises:
        ValueError: as ``wasserstein_1d``, or if there is no bin.
    """
    u, v = _on_the_line(u, "u"), _on_the_line(v, "v").to(u.device)
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    edges = v[0] + (v[-1] - v[0]) * torch.linspace(0, 1, n_bins + 1, dtype=u.dtype, device=u.device)
    edges[-1] = torch.nextafter(v[-1], edges.new_tensor(torch.inf))  # the largest truth value is inside
    share_u, share_v = (
        torch.bincount(torch.bucketize(w, edges, right=True), minlength=n_bins + 2).to(w) / len(w) for w in (u, v)
    )
    return 0.5 * (share_u - share_v).abs().sum().item()


def _on_the_line(values: Tensor, name: str) -> Tensor:
    """Sorted float64 values."""
    if values.ndim != 1 or len(values) < 1:
        raise ValueError(f"{name} must have shape (n,) with n >= 1, got {tuple(values.shape)}")
    n_bad = int((~values.isfinite()).sum())
    if n_bad:
        raise ValueError(f"{name} must be finite, got NaN or infinite values in {n_bad} of {len(values)}")
    return values.detach().to(torch.float64).sort().values


@register_metric(
    "energy_w1",
    version=1,
    needs=("samples", "log_prob"),
    unit="nats",
    blind_to="where the mass is: modes of equal energy, moved weights between symmetric modes",
    outputs=("energy_w1", "energy_tv"),
)
def energy_w1(draws: Draws, truth: Truth, *, seed: int) -> Values:
    """1-Wasserstein distance between log_prob of the draws and of the truth; energy_tv compares their histograms."""
    log_prob = known(truth.log_prob, "log_prob")
    u = log_prob(as_points(draws.samples, "draws"))
    v = log_prob(as_points(known(truth.samples, "samples"), "truth")).to(u.device)
    return {"energy_w1": wasserstein_1d(u, v), "energy_tv": histogram_tv(u, v)}
