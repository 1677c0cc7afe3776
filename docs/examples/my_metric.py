"""A metric of one's own: give this file as ``--plugin docs/examples/my_metric.py``."""

from torch import Tensor

from samplerbench.metrics import Truth, register_metric
from samplerbench.metrics.points import both_in_view
from samplerbench.targets import Draws


def relative_covariance_error(x: Tensor, y: Tensor) -> float:
    """Frobenius norm of Cov x - Cov y over that of Cov y; ``x`` and ``y`` of shapes ``(n, dim)`` and ``(m, dim)``."""
    expected = y.T.cov()
    return ((x.T.cov() - expected).norm() / expected.norm()).item()


@register_metric(
    "covariance_error",
    version=1,
    needs=("samples",),
    unit="1",
    blind_to="means, and everything that second moments do not show",
)
def covariance_error(draws: Draws, truth: Truth, *, seed: int) -> dict[str, float]:
    """Relative error of the covariance in the view, against the truth draws."""
    x, y = both_in_view(draws, truth)
    return {"covariance_error": relative_covariance_error(x, y)}
