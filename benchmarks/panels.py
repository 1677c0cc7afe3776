"""Small multiples for the page: draws on targets in the plane, over the density, as paths of whole numbers."""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from contourpy import FillType, contour_generator

from ..metrics.weights import resampled
from ..targets.base import TARGETS, Target
from ..targets.meter import derive_generator
from .leaderboard import Results
from .store import Record, Store, StoreError
from .truth import TruthSource

Array = npt.NDArray[np.float64]
REGIONS = (0.99, 0.9, 0.5)  # highest-density regions drawn behind the draws, widest first
SIDE = 256  # units of a panel: enough for a picture of 150 pixels, and a point takes seven characters
N_DOTS = 400  # draws per panel, and fewer
MAX_DOTS = 110_000  # where this is their number on the page, some 700 kB
N_TRUTH = 4_000  # draws of the law that fix limits and regions
N_GRID = 140


@dataclass(frozen=True)
class Panel:
    """Draws of one row.

    Attributes:
        name: of the row.
        dots: path of SVG; empty if there are no draws.
        n_outside: of the draws, how many are beyond the panel.
        reason: why there are no draws.
    """

    name: str
    dots: str = ""
    n_outside: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Panels:
    """Panels of a target that share limits and law.

    Attributes:
        target: label.
        regions: paths of the highest-density regions, widest first.
        limits: of x1 and x2.
        panels: the truth first.
    """

    target: str
    regions: list[str]
    limits: list[tuple[float, float]]
    panels: list[Panel]


def panels_of(store: Path | str, results: Results) -> list[Panels]:
    """Panels of every target in the plane that has draws of its law, of the first seed."""
    directory, plan = Store(store), results.plan
    first_seed = min((run.seed for run in plan.runs), default=0)
    first_runs = {run.target_label: run for run in reversed(plan.runs)}
    targets = {label: TARGETS.get(run.target, **run.target_parameters) for label, run in first_runs.items()}
    n_panels = len({run.cell[:2] for run in plan.runs if targets[run.target_label].dim == 2})
    n_dots = min(N_DOTS, MAX_DOTS // max(1, n_panels))
    found = []
    for label in dict.fromkeys(run.target_label for run in plan.runs):
        target = targets[label]
        truth = _truth(target)
        if truth is None:
            continue
        cells = {
            run.sampler_label: first_draws(directory, record, problem, n_dots)
            for run, record, problem in results.stored
            if run.target_label == label and run.seed == first_seed
        }
        found.append(panels_over(label, target, truth, cells, n_dots))
    return found


def _truth(target: Target) -> torch.Tensor | None:
    """Draws of a law in the plane; None above, or where there are none."""
    return TruthSource(target).samples(N_TRUTH, seed=0) if target.dim == 2 else None


def panels_over(
    label: str, target: Target, truth: torch.Tensor, cells: dict[str, Array | str], n_dots: int = N_DOTS
) -> Panels:
    """Panels of one target in the plane.

    Args:
        label: of the target.
        target: its density is drawn as highest-density regions.
        truth: draws of its law, shape ``(n, 2)``.
        cells: per row its draws ``(n, 2)``, or the sentence that says why there are none.
        n_dots: draws of the law in the first panel.
    """
    bounds = limits(truth.numpy())
    shown: dict[str, Array | str] = {"exact draws": truth[:n_dots].numpy(), **cells}
    panels = [
        Panel(name, reason=draws) if isinstance(draws, str) else Panel(name, *_dots(draws, bounds))
        for name, draws in shown.items()
    ]
    return Panels(label, _regions(target, truth, bounds), bounds, panels)


def first_draws(store: Store, record: Record | None, problem: str, n: int) -> Array | str:
    """The first ``n`` draws of a run, shape ``(n, dim)``, of equal weight as the metrics see them; or why not."""
    if record is None:
        return problem or "not run yet"
    if record.draws_sha256 is None:
        return f"{record.status}: {record.reason}"
    try:
        draws = store.draws(record)
        if draws.log_weights is not None:
            draws = resampled(draws, derive_generator("resampling", record.spec.seed))
            order = torch.randperm(len(draws.samples), generator=derive_generator("figure"))
            draws = dataclasses.replace(draws, samples=draws.samples[order])
        samples = draws.samples[:n].double().numpy()
    except StoreError as error:
        return str(error)
    return samples if np.isfinite(samples).all() else f"{record.status}: {record.reason}"


def limits(samples: Array) -> list[tuple[float, float]]:
    """Ranges that hold 99.8% of the first two coordinates, with a margin."""
    low, high = np.quantile(samples[:, :2], [0.001, 0.999], axis=0)
    margin = 0.15 * (high - low)
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def region_levels(target: Target, samples: torch.Tensor) -> Array:
    """Values of log_prob on the borders of the highest-density regions, in the order of ``REGIONS``."""
    levels: Array = np.quantile(target.log_prob(samples).numpy(), [1 - region for region in REGIONS])
    return levels


def _units(points: Array, bounds: list[tuple[float, float]]) -> npt.NDArray[np.int64]:
    """Whole units of the panel, x to the right and y down."""
    low, high = np.transpose(bounds)
    x = (points - low) / (high - low) * SIDE
    x[:, 1] = SIDE - x[:, 1]
    units: npt.NDArray[np.int64] = np.rint(x).astype(np.int64)
    return units


def _dots(draws: Array, bounds: list[tuple[float, float]]) -> tuple[str, int]:
    """A path of points, sorted so that steps are short and equal ones are drawn once; and how many are outside."""
    low, high = np.transpose(bounds)
    inside = ((draws > low) & (draws < high)).all(-1)
    steps, last = [], (0, 0)
    for x, y in sorted(set(map(tuple, _units(draws[inside], bounds).tolist()))):
        steps.append(f"m{x - last[0]}{_signed(y - last[1])}h0")
        last = (x, y)
    return "".join(steps), int((~inside).sum())


def _signed(step: int) -> str:
    return str(step) if step < 0 else f" {step}"


def _regions(target: Target, truth: torch.Tensor, bounds: list[tuple[float, float]]) -> list[str]:
    """Paths of the highest-density regions; holes by the even-odd rule."""
    axes = [torch.linspace(low, high, N_GRID, dtype=torch.float64) for low, high in bounds]
    log_prob = target.log_prob(torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1)).numpy()
    finite = np.maximum(np.nan_to_num(log_prob, nan=-np.inf), -1e300)
    contours = contour_generator(axes[0].numpy(), axes[1].numpy(), finite, fill_type=FillType.OuterOffset)
    paths = []
    for level in region_levels(target, truth):
        # of the types that other fills have, this one is two lists: outlines, and where their rings end
        outlines, offsets = cast("tuple[Any, Any]", contours.filled(level, max(finite.max(), level) + 1.0))
        paths.append("".join(_outlines(points, cuts, bounds) for points, cuts in zip(outlines, offsets, strict=True)))
    return paths


def _outlines(points: Array, cuts: npt.NDArray[np.uint32], bounds: list[tuple[float, float]]) -> str:
    units = _units(points, bounds)
    parts = []
    for first, last in itertools.pairwise(cuts.tolist()):
        outline = units[first:last]
        outline = outline[np.append(True, (np.diff(outline, axis=0) != 0).any(-1))]
        steps = "".join(
            f"{x}{_signed(y)}" if x < 0 or k == 0 else f" {x}{_signed(y)}"
            for k, (x, y) in enumerate(np.diff(outline, axis=0).tolist())
        )
        parts.append(f"M{outline[0][0]} {outline[0][1]}l{steps}z" if steps else "")
    return "".join(parts)
