"""Figures of a store: draws over the exact density, quality against cost, ranks, time of a draw. PNG and SVG.

Of a folder as ``samplerbench leaderboard`` writes it, what its table suffices for: quality against cost, and ranks.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..targets.base import TARGETS, HasView, Target
from .board_file import read_board
from .critical_difference import critical_difference_figure
from .friedman import friedman
from .leaderboard import collect, throughput
from .look import COLOURS, LOOK, beside_legend, save, set_title, style
from .panels import N_TRUTH, first_draws, limits, region_levels
from .quality_cost import COSTS, quality_cost_figure
from .store import Store
from .truth import TruthSource

Array = npt.NDArray[np.float64]
N_SHOWN = 1_000  # draws per panel
N_GRID = 300
LAW_COLOURS = ("#F8EBD3", "#F3DCB0", "#EAC37B")
PER_ROW = 5


def write_figures(store: Path | str, to: Path, *, device: str = "cpu") -> list[Path]:
    """Draw every figure of a store.

    Args:
        store: directory of a store.
        to: directory of the files; made if absent.
        device: where metrics that are not in the store yet are computed.
    Returns:
        Paths written: for each target draws_TARGET (.png, .svg), then quality_cost, critical_difference where ranks
        over targets allow Friedman's test, throughput where it was measured (.png, .svg each), and panels.npz, the
        draws of the panels (float16, at most 1,000 each).
    Raises:
        StoreError: if the directory is not a store.
    """
    directory = Store(store)
    results = collect(store, device=device)
    plan, stored = results.plan, results.stored
    to.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    panels: dict[str, Any] = {}
    first_seed = min(run.seed for run in plan.runs)
    with matplotlib.rc_context(LOOK):
        for label in dict.fromkeys(run.target_label for run in plan.runs):
            cells = {
                run.sampler_label: first_draws(directory, record, problem, N_SHOWN)
                for run, record, problem in stored
                if run.target_label == label and run.seed == first_seed
            }
            run = next(run for run in plan.runs if run.target_label == label)
            target = TARGETS.get(run.target, **run.target_parameters)
            written += save(draws_figure(label, target, cells), to / f"draws_{_file_name(label)}")
            panels.update(
                {f"{label}/{name}": x.astype(np.float16) for name, x in cells.items() if not isinstance(x, str)}
            )
        written += _save_rows(results.board, to)
        curves = throughput(stored)
        if len(curves):
            written += save(throughput_figure(curves), to / "throughput")
    np.savez_compressed(to / "panels.npz", **panels)
    return [*written, to / "panels.npz"]


def write_leaderboard_figures(folder: Path, to: Path) -> list[Path]:
    """Draw what the leaderboard.csv of a folder suffices for: no draws are shown, and no times over batch size.

    Args:
        folder: as ``samplerbench leaderboard`` writes it.
        to: directory of the files; made if absent.
    Returns:
        Paths written: quality_cost and critical_difference, as of ``write_figures``.
    Raises:
        FileNotFoundError, ValueError: naming the file and what is wrong with it.
    """
    board = read_board(folder, ("target", "sampler", "development", "primary_ratio", "rank", *COSTS))
    to.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(LOOK):
        return _save_rows(board, to)


def _save_rows(board: pd.DataFrame, to: Path) -> list[Path]:
    written = save(quality_cost_figure(board), to / "quality_cost")
    result = friedman(board)
    if result is not None:
        written += save(critical_difference_figure(result), to / "critical_difference")
    return written


def draws_figure(label: str, target: Target, cells: dict[str, Array | str]) -> Figure:
    """Panels of one target: the exact law, then each sampler's draws over it.

    Args:
        label: title.
        target: in two dimensions its density is drawn as contours of the 50, 90 and 99% highest-density regions;
            above, exact draws stand in for it and the first two coordinates of the view are shown.
        cells: per sampler its draws ``(n, dim)``, or the sentence that says why there are none.
    """
    n_panels = len(cells) + 1
    n_columns = min(PER_ROW, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    figure = Figure(figsize=(2.3 * n_columns, 2.45 * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    draw_panels(axes, target, cells)
    for axis in axes[n_panels:]:
        axis.set_visible(False)
    of_view = " of the view" if isinstance(target, HasView) else ""
    coordinates = f"first two coordinates{of_view}" if target.dim > 2 else "x1, x2"
    figure.suptitle(f"{label}: {coordinates}, at most {N_SHOWN} draws")
    return figure


def draw_panels(axes: Iterable[Axes], target: Target, cells: Mapping[str, Array | str]) -> None:
    """Draw the exact law into the first of some axes, and each sampler's draws over it into the next ones.

    Args:
        axes: as many as there are cells, and one more.
        target, cells: as of ``draws_figure``.
    """
    background, truth = _background(target)
    view = target.view if isinstance(target, HasView) and target.dim > 2 else None
    for axis, (name, draws) in zip(axes, {"truth": truth, **cells}.items(), strict=False):
        background(axis)
        axis.set_title(name)
        axis.set_box_aspect(1)
        if isinstance(draws, str):
            text = axis.text(
                0.5, 0.5, textwrap.fill(draws, 28), transform=axis.transAxes, ha="center", va="center", fontsize=8
            )
            text.set_in_layout(False)
            continue
        shown = _shown(draws, view)
        colour = "#444444" if name == "truth" else COLOURS[0]
        axis.plot(shown[:, 0], shown[:, 1], ".", ms=2.2, alpha=0.7, color=colour, mew=0, rasterized=True)
        lost = int((~_inside(shown, axis)).sum())
        if lost:
            axis.text(0.98, 0.02, f"{lost} outside", transform=axis.transAxes, ha="right", va="bottom", fontsize=7)


def throughput_figure(curves: pd.DataFrame) -> Figure:
    """Microseconds per draw over the number of draws in a batch, a panel per target, the median of the seeds.

    Args:
        curves: as ``leaderboard.throughput`` returns them.
    """
    targets, samplers = list(dict.fromkeys(curves["target"])), list(dict.fromkeys(curves["sampler"]))
    figure, n_columns = beside_legend(samplers, len(targets), height=3.2)
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for axis, target in zip(axes, targets, strict=True):
        for index, name in enumerate(samplers):
            part = curves[(curves["target"] == target) & (curves["sampler"] == name)]
            median = part.groupby("batch")["microseconds_per_draw"].median()
            axis.plot(median.index, median, ls="-", lw=1, ms=5, label=name, **style(index))
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("draws per batch")
        axis.set_title(target)
    axes[0].set_ylabel("microseconds per draw")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, ncols=n_columns)
    set_title(figure, f"Time of a draw over batch size ({'; '.join(sorted(set(curves['device'])))})")
    return figure


def _background(target: Target) -> tuple[Callable[[Axes], None], Array | str]:
    """How to draw the law behind a panel, and draws of it (or why there are none)."""
    source = TruthSource(target)
    samples = source.samples(N_TRUTH, seed=0)  # not the whole truth, which can take seconds
    if samples is None:
        return (lambda axis: None), "neither exact nor reference draws"
    if target.dim == 2:
        return _contours(target, samples), samples[:N_SHOWN].numpy()
    shown = _shown(samples[N_SHOWN:].numpy(), target.view if isinstance(target, HasView) else None)
    bounds = limits(shown)

    def draw(axis: Axes) -> None:
        axis.plot(shown[:, 0], shown[:, 1], ".", ms=3.5, color=LAW_COLOURS[1], mew=0, rasterized=True, zorder=0)
        axis.set(xlim=bounds[0], ylim=bounds[1])

    return draw, samples[:N_SHOWN].numpy()


def _contours(target: Target, samples: torch.Tensor) -> Callable[[Axes], None]:
    levels = region_levels(target, samples)
    bounds = limits(samples.numpy())
    axis_1, axis_2 = (torch.linspace(low, high, N_GRID, dtype=torch.float64) for low, high in bounds)
    grid = torch.stack(torch.meshgrid(axis_1, axis_2, indexing="xy"), dim=-1)
    log_prob = target.log_prob(grid).numpy()

    def draw(axis: Axes) -> None:
        bands = [*levels, math.inf] if levels[-1] < log_prob.max() else [*levels]
        axis.contourf(axis_1, axis_2, log_prob, levels=bands, colors=LAW_COLOURS, zorder=0).set_rasterized(True)
        axis.set(xlim=bounds[0], ylim=bounds[1])

    return draw


def _shown(samples: Array, view: Callable[[torch.Tensor], torch.Tensor] | None) -> Array:
    mapped = samples if view is None else view(torch.from_numpy(samples)).numpy()
    return mapped[:, :2]


def _inside(points: Array, axis: Axes) -> npt.NDArray[np.bool_]:
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    return (points[:, 0] > left) & (points[:, 0] < right) & (points[:, 1] > bottom) & (points[:, 1] < top)


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in label)
