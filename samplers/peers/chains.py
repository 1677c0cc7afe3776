"""Chains of outside libraries: warmed up in ``fit``, gone on with in ``draw``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from torch import Generator, Tensor

from ...targets.checks import require_at_least
from ...targets.draws import Draws, Stopped
from ...targets.meter import BudgetReached
from ..base import refuse_start
from ..chains import Thinning, keep_thinned, worse_stop
from ..isolation import isolated_rng
from ..kernels import Diverged, stopped_by
from .boundary import silenced


class Chains(Protocol):
    """Chains of a library under way."""

    @property
    def diagnostics(self) -> Mapping[str, object]:
        """Numbers about the moves so far."""
        ...

    def move(self) -> Tensor:
        """Move every chain once and return where they are, shape ``(n_chains, dim)``.

        Raises:
            BudgetReached, Diverged: if they cannot be moved any more; earlier moves stand.
        """
        ...


Begin: TypeAlias = Callable[[Tensor, int], Chains]  # where the chains are and a seed


class End:
    """How chains ended: moves while they can be moved, and remembers why they cannot."""

    def __init__(self) -> None:
        self.stopped: Stopped | None = None
        self.reason = ""
        self.n_moves = 0

    def move(self, chains: Chains) -> Tensor | None:
        """Where the chains are after a move; None if they are stopped."""
        try:
            x = chains.move()
        except (BudgetReached, Diverged) as error:
            self.note(error)
            return None
        self.n_moves += 1
        return x

    def note(self, error: BudgetReached | Diverged) -> None:
        """Remember what stopped the chains."""
        self.stopped = stopped_by(error)
        self.reason = f"{error}; stopped after {self.n_moves} moves"


@dataclass(frozen=True)
class FittedChains:
    """Draws are thinned states of chains that go on from where the warm-up left them.

    Attributes:
        schedule: how many chains and how they are thinned.
        x: where they are, shape ``(n_chains, dim)``.
        begin: starts the library's own loop there.
        diagnostics: of the warm-up.
        fit_stopped, fit_reason: why the warm-up ended early.
    """

    schedule: Thinning
    x: Tensor
    begin: Begin
    diagnostics: Mapping[str, object] = field(default_factory=dict)
    fit_stopped: Stopped | None = None
    fit_reason: str = ""

    def draw(self, n_samples: int, generator: Generator, start: Tensor | None = None) -> Draws:
        """Exactly ``n_samples`` draws, see ``chains.keep_thinned``; after a fit that diverged, its last states.

        Raises:
            ValueError: if ``start`` is given (the chains go on from their warm-up), or ``n_samples`` is below 1.
        """
        require_at_least(1, n_samples=n_samples)
        refuse_start(start, "the chains go on from their warm-up")
        end = End()
        diagnostics: dict[str, object] = {}
        with silenced(), isolated_rng(generator) as seed:
            chains: list[Chains] = []

            def move() -> Tensor | None:
                if self.fit_stopped == "diverged":
                    return None
                if not chains:
                    try:
                        chains.append(self.begin(self.x, seed))
                    except (BudgetReached, Diverged) as error:
                        end.note(error)
                        return None
                return end.move(chains[0])

            samples, kept = keep_thinned(self.x, move, self.schedule, n_samples)
            if chains:
                diagnostics.update(chains[0].diagnostics)
        stopped, reason = worse_stop(end.stopped, end.reason, self.fit_stopped, self.fit_reason)
        diagnostics["n_moves"] = end.n_moves
        return Draws(samples=samples.clone(), chains=kept, stopped=stopped, reason=reason, diagnostics=diagnostics)
