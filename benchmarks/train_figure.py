"""Long chains of a trained energy, judged by a classifier and shown beside real images."""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ..samplers.base import State as Chains
from ..samplers.kernels import HMCKernel
from ..targets.base import Target
from ..targets.image_classifier import ImageClassifier
from ..targets.meter import Meter
from .train_loop import State, train

N_KEPT = 10  # times at which the positions of the chains are kept, in the second half of the run
GAIN = 0.05  # of the step's adaptation: log step moves by this times (acceptance - wanted acceptance)
N_GREYS = 16
ADAPTED = 0.2  # share of the transitions that adapt the step


@dataclasses.dataclass(frozen=True, kw_only=True)
class LongRunSettings:
    """Settings of the long chains: HMC, half of the chains from noise N(0, scale^2 I), half from draws of the base.

    Attributes:
        n_chains: from each start.
        n_transitions: of every chain; the first fifth adapts the step.
        max_leapfrog: most steps of a transition.
        acceptance: that the step is adapted to.
    """

    n_chains: int = 100
    n_transitions: int = 10_000
    max_leapfrog: int = 8
    acceptance: float = 0.8


STARTS = ("noise", "base")  # the order of the chains


def long_run(
    law: Target, base_draws: Tensor, settings: LongRunSettings, *, key: tuple[object, ...], checkpoint: Path
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Chains at temperature 1 of the law itself, float32.

    Args:
        law: the energy.
        base_draws: starts of the second half of the chains, shape ``(n_chains, dim)``.
        settings: of the chains.
        key, checkpoint: as of ``train``; the run may be interrupted.
    Returns:
        For each start the positions kept, shape ``(N_KEPT, n_chains, dim)``, the last being the end of the run; and
        the step and the mean acceptance after its adaptation.
    """
    meter = Meter(law)

    def begin(generator: Generator) -> State:
        x = torch.cat([meter.start(settings.n_chains, generator), base_draws.to(torch.float32)])
        return {
            "x": x,
            "kept": torch.zeros(N_KEPT, *x.shape),
            "step": torch.tensor(0.1, dtype=torch.float64),
            "accepted": torch.zeros((), dtype=torch.float64),
        }

    state = train(begin, partial(_move, meter, settings), settings.n_transitions, key=key, checkpoint=checkpoint)
    n_fixed = settings.n_transitions - round(ADAPTED * settings.n_transitions)
    kept: dict[str, Tensor] = dict(zip(STARTS, torch.split(state["kept"], settings.n_chains, dim=1), strict=True))
    return kept, {"step": state["step"].item(), "acceptance": state["accepted"].item() / n_fixed}


def _move(meter: Meter, settings: LongRunSettings, state: State, i: int, generator: Generator) -> tuple[State, str]:
    step = state["step"].item()
    chains = HMCKernel(step, settings.max_leapfrog)(Chains.at(state["x"], meter), meter, generator)
    acceptance = chains.acceptance.to(torch.float64).mean()
    new = {**state, "x": chains.x}
    if i < round(ADAPTED * settings.n_transitions):
        new["step"] = state["step"] * math.exp(GAIN * (acceptance.item() - settings.acceptance))
    else:
        new["accepted"] = state["accepted"] + acceptance
    every = settings.n_transitions // (2 * N_KEPT)
    from_end, rest = divmod(settings.n_transitions - 1 - i, every)
    if rest == 0 and from_end < N_KEPT:
        new["kept"] = state["kept"].clone()
        new["kept"][N_KEPT - 1 - from_end] = chains.x
    return new, f"acceptance {acceptance.item():.2f} step {step:.4f}"


def judge(x: Tensor, real: Tensor, classifier: ImageClassifier) -> dict[str, Any]:
    """What the classifier says of images: shares of the ten classes, mean confidence, Frechet distance of features.

    Args:
        x, real: images with noise, both of shape ``(n, dim)``.
        classifier: of these images.
    """
    probabilities = classifier.class_probabilities(x)
    classes = torch.bincount(probabilities.argmax(-1), minlength=10)
    return {
        "class_shares": (classes.to(torch.float64) / len(x)).tolist(),
        "mean_confidence": probabilities.max(-1).values.mean().item(),
        "frechet_distance": frechet_distance(classifier.features(x), classifier.features(real)),
    }


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Frechet distance of the normal laws fitted to two samples, shape ``(n, dim)``, in their squared unit.

    |mean - mean'|^2 + tr(C + C' - 2 (C C')^1/2), M. Heusel et al., arXiv 1706.08500.
    """
    x, y = x.to(torch.float64), y.to(torch.float64)
    C, C_other = x.T.cov(), y.T.cov()
    root = torch.linalg.eigvals(C @ C_other).real.clamp_min(0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + C.trace() + C_other.trace() - 2 * root)


def draw_figure(panels: Mapping[str, tuple[Tensor, Tensor]], title: str, path: Path) -> None:
    """Panels of 100 images each, the counts of their classes below.

    Args:
        panels: heading to 100 images ``(100, dim)`` in [-1, 1] and their classes ``(100,)``.
        title: above all.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(panels), 3.85), dpi=100)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (heading, (images, classes)) in zip(all_axes, panels.items(), strict=True):
        axes.imshow(tiled(images).numpy(), cmap="gray", vmin=0, vmax=N_GREYS - 1, interpolation="nearest")
        axes.set_title(heading, fontsize=9)
        counts = torch.bincount(classes, minlength=10).tolist()
        axes.set_xlabel("classes 0-9: " + " ".join(map(str, counts)), fontsize=8)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9)
    figure.subplots_adjust(left=0.01, right=0.99, top=0.84, bottom=0.07, wspace=0.04)
    figure.savefig(path, metadata={"Software": None}, pil_kwargs={"optimize": True})


def tiled(images: Tensor) -> Tensor:
    """100 images in [-1, 1], in ten rows with a line between them, in few grey levels: a file of noise is large."""
    side = math.isqrt(images.shape[-1])
    greys = (0.5 * (images.clamp(-1, 1) + 1) * (N_GREYS - 1)).round()
    framed = torch.nn.functional.pad(greys.reshape(10, 10, side, side), (0, 1, 0, 1), value=0.4 * N_GREYS)
    return framed.permute(0, 2, 1, 3).reshape(10 * (side + 1), 10 * (side + 1))[:-1, :-1]
