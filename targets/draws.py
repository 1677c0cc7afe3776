"""What a sampler returns (Draws) and how an uncertain number is written down (Estimate)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

Stopped: TypeAlias = Literal["budget", "diverged"]


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error; an exact number has ``std_error`` 0."""

    value: float
    std_error: float


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Samples of one call of ``draw``, with whatever the method knows beside them.

    Attributes:
        samples: shape ``(n, dim)``.
        log_weights: unnormalised log importance weights, shape ``(n,)``.
        log_density: normalised log density of the sampler at its samples, shape ``(n,)``.
        forward_log_ratio: log_prob less the sampler's log density, at exact draws of the target, shape ``(m,)``; added
            by the run, where the sampler knows its density everywhere.
        log_z: estimate of the target's log normaliser, in nats.
        chains: what a chain method kept, shape ``(n_chains, n_kept, dim)``, at most 64 x 1,000, thinned.
        stopped: why the method ended early, None if it did not.
        reason: one sentence about ``stopped``.
        diagnostics: numbers, strings and lists of numbers.
    """

    samples: Tensor
    log_weights: Tensor | None = None
    log_density: Tensor | None = None
    forward_log_ratio: Tensor | None = None
    log_z: Estimate | None = None
    chains: Tensor | None = None
    stopped: Stopped | None = None
    reason: str = ""
    diagnostics: Mapping[str, object] = field(default_factory=dict)
