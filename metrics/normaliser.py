"""How good a sampler's own estimate of the target's log normaliser is."""

from ..targets.draws import Draws
from .base import Truth, Values, register_metric
from .points import as_points, known


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
