"""Gradient descent on the parameters of a model of the target, whatever its loss is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..targets.checks import require_at_least, require_positive
from ..targets.draws import Stopped
from ..targets.meter import BudgetReached
from .implicit.fitted import mean_losses
from .implicit.flat import flatten
from .implicit.trainer import LOOK_EVERY, LastLook
from .kernels import Diverged, stopped_by


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How a model is trained.

    Attributes:
        n_steps: steps of Adam.
        batch_size: points per step.
        step_size: of Adam; falls to zero along a cosine.
        clip_norm: the gradient in the parameters is shortened to this length.
    """

    n_steps: int = 3_000
    batch_size: int = 256
    step_size: float = 1e-3
    clip_norm: float = 10.0

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps)
        require_at_least(2, batch_size=self.batch_size)
        require_positive(step_size=self.step_size, clip_norm=self.clip_norm)


@dataclass(frozen=True)
class Descended:
    """How a training went.

    Attributes:
        n_steps: behind the parameters.
        trace: losses, shape ``(1, n)``; where one or a gradient was not finite, of all steps before it.
        stopped, reason: as in Draws.
    """

    n_steps: int
    trace: Tensor
    stopped: Stopped | None = None
    reason: str = ""

    def losses(self, name: str) -> dict[str, object]:
        """Diagnostics: the steps, and the losses as means over consecutive blocks of steps."""
        return {"n_steps": self.n_steps, **mean_losses(self.trace, name)}


def descend(parameters: Sequence[Tensor], backward: Callable[[int], Tensor], descent: Descent) -> Descended:
    """Adam until the steps or the budget are used up, or something is not finite.

    A step that raises BudgetReached or Diverged leaves the parameters as they were; what is not finite takes them back
    to the last look.

    Args:
        parameters: moved in place.
        backward: called with the number of steps done; adds the gradient of the loss to the ``grad`` of the
            parameters, which is zero before, and returns the loss.
        descent: steps and their size; the batch is the caller's.
    """
    theta, gradient = flatten(parameters)
    adam = torch.optim.Adam([theta], fused=True)
    trace = theta.new_zeros(2, descent.n_steps)  # losses, and lengths of gradients
    last, n_steps = LastLook(theta), 0
    stopped: Stopped | None = None
    reason = ""
    while n_steps < descent.n_steps and stopped is None:
        adam.param_groups[0]["lr"] = 0.5 * descent.step_size * (1 + math.cos(math.pi * n_steps / descent.n_steps))
        gradient.zero_()
        try:
            loss = backward(n_steps)
            trace[:, n_steps] = torch.stack([loss, nn.utils.clip_grad_norm_(theta, descent.clip_norm)])
            adam.step()
            n_steps += 1
        except (BudgetReached, Diverged) as error:
            stopped, reason = stopped_by(error), f"after {n_steps} of {descent.n_steps} steps: {error}"
        if n_steps % LOOK_EVERY == 0 or n_steps == descent.n_steps or stopped is not None:
            not_kept = last.look(trace[:, :n_steps])
            if not_kept:
                stopped, reason = "diverged", not_kept
    return Descended(last.n_steps, trace[:1, : last.n_finite], stopped, reason)
