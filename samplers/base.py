"""The Sampler contract, the Kernel contract and the registry of samplers."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor

from ..targets.draws import Draws
from ..targets.meter import Meter
from ..targets.registry import Registry


class NotApplicableError(Exception):
    """Raised by ``fit``: the method needs something that this target does not offer; the message says what."""


class FittedSampler(Protocol):
    """A sampler after what is paid once has been paid."""

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Numbers, strings and lists of numbers about the fit: step size, loss trace, training curve."""
        ...

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws; the fitted sampler is not changed.

        Args:
            n_samples: number of rows returned.
            generator: the only source of randomness.
            start: starting points of the chains or particles, shape ``(n_samples, dim)``, instead of the meter's.
        Raises:
            ValueError: if ``start`` has another shape, or the method has no use for a start.
        """
        ...


@runtime_checkable
class HasLogDensity(Protocol):
    """A fitted sampler that knows the density of what it draws."""

    def log_density(self, x: Tensor) -> Tensor:
        """Normalised log density of its draws at any points ``(n, dim)``, shape ``(n,)``; -inf where it never draws."""
        ...


class Sampler(Protocol):
    """A frozen dataclass whose fields are the whole configuration of a method."""

    def fit(self, meter: Meter, generator: Generator) -> FittedSampler:
        """Pay what is paid once: training, adaptation, burn-in."""
        ...


class State(NamedTuple):
    """Points of a chain with their density and score, so that a transition evaluates only its proposal.

    Attributes:
        x: shape ``(n, dim)``.
        log_prob: shape ``(n,)``.
        score: shape ``(n, dim)``.
        acceptance: probability with which the last move was accepted, shape ``(n,)``; ones before the first.
        momentum: of kernels that keep one from move to move, shape ``(n, dim)``; None before the first.
    """

    x: Tensor
    log_prob: Tensor
    score: Tensor
    acceptance: Tensor
    momentum: Tensor | None = None

    @classmethod
    def at(cls, x: Tensor, meter: Meter) -> "State":
        """The state at ``x``; pays one score per point."""
        log_prob, score = meter.log_prob_and_score(x)
        return cls(x, log_prob, score, torch.ones_like(log_prob))

    @classmethod
    def join(cls, *states: "State") -> "State":
        """The rows of several states, one state after the other, without their momenta."""
        x, log_prob, score, acceptance = (
            torch.cat(parts) for parts in zip(*(state[:4] for state in states), strict=True)
        )
        return cls(x, log_prob, score, acceptance)

    def rows(self, rows: Tensor | slice) -> "State":
        """Some of the rows, without their momenta."""
        return State(self.x[rows], self.log_prob[rows], self.score[rows], self.acceptance[rows])

    def choose(self, accepted: Tensor, proposal: "State", acceptance: Tensor) -> "State":
        """The rows of ``proposal`` where ``accepted``, shape ``(n,)``, and this state's own elsewhere."""
        moved = accepted.unsqueeze(-1)
        return State(
            torch.where(moved, proposal.x, self.x),
            torch.where(accepted, proposal.log_prob, self.log_prob),
            torch.where(moved, proposal.score, self.score),
            acceptance,
        )


class Kernel(Protocol):
    """One transition that leaves the target invariant (or, for ULA, nearly so)."""

    def __call__(self, state: State, meter: Meter, generator: Generator) -> State:
        """Move every point once; ``state`` is not modified."""
        ...


def checked_start(start: Tensor | None, n_samples: int, meter: Meter, generator: Generator) -> Tensor:
    """``start`` if it is given and fits, else the meter's public starting points.

    Raises:
        ValueError: if ``start`` is not ``(n_samples, dim)`` or not finite.
    """
    if start is None:
        return meter.start(n_samples, generator)
    if start.shape != (n_samples, meter.dim):
        raise ValueError(f"start must have shape {(n_samples, meter.dim)}, got {tuple(start.shape)}")
    if not start.isfinite().all():
        raise ValueError("start must be finite, got NaN or infinite coordinates")
    return start.to(device=meter.device, dtype=meter.dtype)


class Law(Protocol):
    """A law whose density is known wherever the target's is: a kernel that is given one leaves it invariant instead."""

    def __call__(self, state: State) -> State:
        """``state`` of the target with the log density and the score of this law, known up to a constant."""
        ...


def refuse_start(start: Tensor | None, why: str) -> None:
    """Raise ValueError if there is a ``start``; ``why`` begins its message."""
    if start is not None:
        raise ValueError(f"{why}, start must be None, got {tuple(start.shape)}")


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    """Standard normal tensor of the shape, dtype and device of ``x``."""
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


SAMPLERS: Registry[Sampler] = Registry("sampler", "samplerbench.samplers")
names, get, entry = SAMPLERS.names, SAMPLERS.get, SAMPLERS.entry

Build = TypeVar("Build", bound=Callable[..., Any])


def register_sampler(name: str, *, version: int, **parameters: object) -> Callable[[Build], Build]:
    """Class decorator: register a sampler under ``name`` with preset ``parameters``; stackable."""

    def decorate(build: Build) -> Build:
        SAMPLERS.register(name, build, version=version, **parameters)
        return build

    return decorate
