"""What evaluations cost, the count of them, and the budget that no evaluation may overdraw.

One unit of cost is a gradient equivalent: ``log_prob`` alone costs 0.5, a score (its value included) 1, a
Hessian-vector product 2. The raw counts are points: a score counts one ``log_prob`` (its forward pass) and one
``score`` (its backward pass), so equivalents are 0.5 log_prob + 0.5 score + 2 hvp. A minibatch of m of the n data rows
of a posterior pays m / n of a point.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

Phase: TypeAlias = Literal["fit", "draw"]
Evaluation: TypeAlias = Literal["log_prob", "score", "hvp"]
GRADIENT_EQUIVALENTS: dict[Evaluation, float] = {"log_prob": 0.5, "score": 0.5, "hvp": 2.0}


class BudgetReached(Exception):
    """Raised before an evaluation that the remaining budget cannot pay."""


@dataclass(frozen=True)
class Counts:
    """Points evaluated in one phase; integers unless minibatches were paid."""

    log_prob: float = 0
    score: float = 0
    hvp: float = 0

    @property
    def gradient_equivalents(self) -> float:
        """Cost in units of one score with its value."""
        return _cost(asdict(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Budget:
    """Limits in gradient equivalents, of each phase and of both together (``total``); None is no limit."""

    fit: float | None = None
    draw: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for name, limit in asdict(self).items():
            if limit is not None and limit <= 0:
                raise ValueError(f"budget {name} must be positive, got {limit}")


class Ledger:
    """Adds up data rows, not points: all rows for a whole evaluation, so that sums are of integers and do not drift.

    Args:
        budget: limits.
        n_rows: data rows of the target; 1 for one that has no minibatches.

    Attributes:
        phase: which is charged now.
        counting: False leaves evaluations out of counts and budget.
    """

    def __init__(self, budget: Budget, n_rows: int) -> None:
        self.phase: Phase = "fit"
        self.counting = True
        self._budget = budget
        self._n_rows = n_rows
        self._paid = {phase: dict.fromkeys(GRADIENT_EQUIVALENTS, 0) for phase in get_args(Phase)}

    @property
    def counts(self) -> dict[Phase, Counts]:
        """Points evaluated so far in each phase."""
        return {
            phase: Counts(**{kind: self._points(n_paid) for kind, n_paid in kinds.items()})
            for phase, kinds in self._paid.items()
        }

    def restart(self, phase: Phase) -> None:
        """Set the counts of a phase to zero."""
        self._paid[phase] = dict.fromkeys(GRADIENT_EQUIVALENTS, 0)

    def remaining(self) -> float:
        """Gradient equivalents left in the current phase; infinite without a budget."""
        return self._rows_left() / self._n_rows

    def _rows_left(self) -> float:
        """The same in data rows, where costs are exact: halves of integers."""
        if self._budget.total is None:
            return self._rows_left_of_phase()
        spent = sum(_cost(paid) for paid in self._paid.values())
        return min(self._rows_left_of_phase(), self._budget.total * self._n_rows - spent)

    def _rows_left_of_phase(self) -> float:
        limit = getattr(self._budget, self.phase)
        return math.inf if limit is None else limit * self._n_rows - _cost(self._paid[self.phase])

    def afford(self, n_points: int, *kinds: Evaluation, n_rows: int | None = None) -> None:
        """Ask whether evaluations at ``n_points`` points, of all data rows or of ``n_rows``, can be paid.

        Raises:
            BudgetReached: if they cannot.
        """
        cost = n_points * (n_rows or self._n_rows) * sum(GRADIENT_EQUIVALENTS[kind] for kind in kinds)
        if self.counting and cost > self._rows_left():
            share = "" if n_rows is None else f" on {n_rows} of {self._n_rows} rows"
            where = f"in phase {self.phase}" if self._rows_left_of_phase() == self._rows_left() else "in total"
            raise BudgetReached(
                f"{n_points} points of {'+'.join(kinds)}{share} cost {cost / self._n_rows:g} gradient equivalents, "
                f"{self.remaining():g} are left {where}"
            )

    def charge(self, n_points: int, *kinds: Evaluation, n_rows: int | None = None) -> None:
        """Pay for evaluations, unless BudgetReached as in ``afford``."""
        self.afford(n_points, *kinds, n_rows=n_rows)
        if self.counting:
            for kind in kinds:
                self._paid[self.phase][kind] += n_points * (n_rows or self._n_rows)

    def _points(self, n_paid: int) -> float:
        """Rows as points: one correctly rounded division, an integer where it is one."""
        return n_paid / self._n_rows if n_paid % self._n_rows else n_paid // self._n_rows


def _cost(counts: Mapping[Evaluation, float]) -> float:
    return sum(GRADIENT_EQUIVALENTS[kind] * n for kind, n in counts.items())
