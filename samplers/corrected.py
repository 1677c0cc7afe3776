"""A few moves of an invariant kernel on the draws of another sampler."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from ..targets.checks import require_at_least
from ..targets.draws import Draws, Stopped
from ..targets.meter import Meter
from ..targets.registry import UnknownNameError
from .adaptation import warm_up
from .base import SAMPLERS, FittedSampler, Kernel, Sampler, register_sampler
from .chains import Walk, worse_stop
from .moves import FIRST_STEP, MIN_SPREAD, Moves


@dataclass(frozen=True, kw_only=True)
class Correction:
    """Moves that leave the target invariant, from the draws of a sampler.

    Scales of the coordinates and the step are adapted in fit, along chains from the sampler's own draws, and are frozen
    before any draw is returned.

    Attributes:
        n_steps: moves of every draw; with MALA a draw costs 1 + n_steps scores beside the sampler's own price.
        n_pilot: chains of the adaptation.
        n_adapt: their moves; with MALA the adaptation costs n_pilot * (1 + n_adapt) scores.
        moves: which. By default one score each, as cheap as a move can be.
    """

    n_steps: int = 10
    n_pilot: int = 256
    n_adapt: int = 60
    moves: Moves = field(default_factory=partial(Moves, method="mala", acceptance=0.574, min_step=0.1))

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps)
        require_at_least(2, n_pilot=self.n_pilot)
        require_at_least(0, n_adapt=self.n_adapt)

    def of(self, base: FittedSampler, meter: Meter, generator: Generator) -> FittedSampler:
        """The fitted sampler ``base``, corrected; pays the draws of the pilot and the adaptation along its chains."""
        x = base.draw(self.n_pilot, generator).samples
        spread, smallest = x.std(0), MIN_SPREAD * meter.scale
        walk = Walk(x, meter, generator)
        scales, adaptation = warm_up(
            walk,
            self.moves.kernel,
            self.n_adapt,
            scales=torch.where(spread.isfinite() & (spread > smallest), spread, meter.scale),
            step=FIRST_STEP,
            acceptance=self.moves.acceptance,
        )
        step = adaptation.frozen()
        diagnostics = {
            **base.diagnostics,
            "correction_step_size": step,
            "correction_acceptance_rate": adaptation.acceptance_rate,
        }
        kernel = self.moves.kernel(step, scales)
        return FittedCorrected(base, self.n_steps, kernel, meter, diagnostics, walk.stopped, walk.reason)


@register_sampler("dft_corrected", version=1, base="dft")
@register_sampler("corrected", version=1)
@dataclass(frozen=True, kw_only=True)
class Corrected:
    """Another sampler whose draws make some moves that leave the target invariant: one pass, then a little MCMC.

    No move takes the law away from the target, so that errors of the base at short range disappear in a few of them
    and weights of separated modes stay as they are. A base that makes chains is as good as any other: its draws are
    moved on, each for itself, and its chains are no longer what was drawn.

    Attributes:
        base: name of the sampler.
        parameters: its configuration; completed with its defaults.
        base_version: its name@version, and the hash of the plug-in file that has it; filled in. A configuration of
            another version is refused, and runs of two versions have different identities.
        correction: the moves.
    """

    base: str = "kl"
    parameters: Mapping[str, object] = field(default_factory=dict)
    base_version: str | None = None
    correction: Correction = field(default_factory=Correction)

    def __post_init__(self) -> None:
        sampler: Any = self._sampler()
        entry = SAMPLERS.entry(self.base)
        version = SAMPLERS.versioned(self.base) + (f"+{entry.plugin_hash}" if entry.plugin_hash else "")
        if self.base_version not in (None, version):
            raise ValueError(f"base_version must be that of the registered base, {version}, got {self.base_version!r}")
        object.__setattr__(self, "base_version", version)
        object.__setattr__(self, "parameters", dataclasses.asdict(sampler))

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Fit the base, then adapt the moves on draws of it.

        Raises:
            NotApplicableError: if the base is not applicable.
        """
        return self.correction.of(self._sampler().fit(meter, generator), meter, generator)

    def _sampler(self) -> Sampler:
        try:
            return SAMPLERS.get(self.base, **self.parameters)
        except UnknownNameError as error:
            raise ValueError(f"base: {error}") from error
        except ValueError as error:
            raise ValueError(f"parameters: {error}") from error


@dataclass(frozen=True)
class FittedCorrected:
    """Draws of ``base``, moved ``n_steps`` times by a kernel that does not change any more."""

    base: FittedSampler
    n_steps: int
    kernel: Kernel
    meter: Meter
    diagnostics: Mapping[str, object]
    fit_stopped: Stopped | None = None
    fit_reason: str = ""

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws; where the budget ends on the way, the states before the move that failed.

        Draws with importance weights keep them, since moves that leave the target invariant keep weighted draws
        properly weighted, and log Z; the densities and chains of the base are not passed on. Draws of a base that
        diverged, or that stopped early with weights (perhaps for another law), are handed on as they are.

        Args:
            n_samples: number of rows returned.
            generator: the only source of randomness.
            start: given to the base.
        Raises:
            ValueError: if the base refuses the start, or ``n_samples`` is below 1.
        """
        draws = self.base.draw(n_samples, generator, start)
        if draws.stopped == "diverged" or (draws.stopped and draws.log_weights is not None):
            return dataclasses.replace(draws, reason=f"base: {draws.reason}")
        walk = Walk(draws.samples, self.meter, generator)
        walk.go(self.kernel, self.n_steps)
        stopped, reason = worse_stop(*walk.end, self.fit_stopped, self.fit_reason)
        if draws.stopped and stopped != "diverged":
            stopped, reason = draws.stopped, f"base: {draws.reason}"
        return Draws(
            samples=walk.x.clone(),
            log_weights=draws.log_weights,
            log_z=None if stopped else draws.log_z,
            stopped=stopped,
            reason=reason,
            diagnostics={**draws.diagnostics, **walk.diagnostics},
        )
