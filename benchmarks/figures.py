"""Figures of a store: draws over the exact density, and quality against cost. One look everywhere, PNG and SVG."""

import dataclasses
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from ..metrics.weights import resampled
from ..targets.base import TARGETS, HasView, Target
from ..targets.meter import derive_generator
from .leaderboard import collect, throughput
from .store import Record, Store, StoreError
from .truth import TruthSource

Array = npt.NDArray[np.float64]
# Okabe and Ito's palette (colour-blind safe); a marker of its own beside each colour
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LOOK: dict[Any, Any] = {  # matplotlib types its keys as an open-ended literal
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "samplerbench",
    "svg.fonttype": "path",
}
N_SHOWN = 1_000  # draws per panel
N_GRID = 300
REGIONS = (0.99, 0.9, 0.5)  # highest-density regions drawn as contours
N_TRUTH = 4_000  # draws of the law behind a panel: its limits, its regions
LAW_COLOURS = ("#F8EBD3", "#F3DCB0", "#EAC37B")
PER_ROW = 5


def write_figures(store: Path | str, to: Path, *, device: str = "cpu") -> list[Path]:
    """Draw every figure of a store.

    Args:
        store: directory of a store.
        to: directory of the files; made if absent.
        device: where metrics that are not in the store yet are computed.
    Returns:
        Paths written: for each target draws_TARGET (.png, .svg), then quality_cost (.png, .svg), throughput (.png,
        .svg) where it was measured, and panels.npz, the draws of the panels (float16, at most 1,000 each).
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
                run.sampler_label: _samples(directory, record, problem)
                for run, record, problem in stored
                if run.target_label == label and run.seed == first_seed
            }
            run = next(run for run in plan.runs if run.target_label == label)
            target = TARGETS.get(run.target, **run.target_parameters)
            written += _save(draws_figure(label, target, cells), to / f"draws_{_file_name(label)}")
            panels.update(
                {f"{label}/{name}": x.astype(np.float16) for name, x in cells.items() if not isinstance(x, str)}
            )
        written += _save(quality_cost_figure(results.board), to / "quality_cost")
        curves = throughput(stored)
        if len(curves):
            written += _save(throughput_figure(curves), to / "throughput")
    np.savez_compressed(to / "panels.npz", **panels)
    return [*written, to / "panels.npz"]


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
    for axis in axes[n_panels:]:
        axis.set_visible(False)
    coordinates = "first two coordinates" + (" of the view" if view else "") if target.dim > 2 else "x1, x2"
    figure.suptitle(f"{label}: {coordinates}, at most {N_SHOWN} draws")
    return figure


def quality_cost_figure(board: pd.DataFrame) -> Figure:
    """Primary ratio (1 is the floor of exact draws) against cost per draw, a column per target.

    Upper row: gradient equivalents per effective draw (0 for one-pass samplers); lower row: microseconds per draw.
    """
    targets = list(dict.fromkeys(board["target"]))
    samplers = list(dict.fromkeys(board["sampler"]))
    figure, n_columns = _beside_legend(samplers, len(targets), height=5.6)
    axes = figure.subplots(2, len(targets), sharey="col", squeeze=False)
    costs = {
        "gradient_equivalents_per_effective_draw": "grad. eq. per effective draw",
        "microseconds_per_draw": "microseconds per draw",
    }
    for column, target in enumerate(targets):
        part = board[board["target"] == target].set_index("sampler")
        for axis, (cost, title) in zip(axes[:, column], costs.items(), strict=True):
            for index, name in enumerate(samplers):
                if name in part.index and math.isfinite(part.loc[name, "primary_ratio"]):
                    axis.plot(
                        part.loc[name, cost], part.loc[name, "primary_ratio"], MARKERS[(index + index // 8) % 8],
                        color=COLOURS[index % 8], ms=7, label=name, clip_on=False, mec="white", mew=0.5,
                    )  # fmt: skip
            axis.axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
            axis.set_xscale("symlog", linthresh=0.1)
            axis.set_xlim(left=0)
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(title)
        axes[0, column].set_title(target)
    for row in axes:
        row[0].set_ylabel("primary ratio (1 = exact draws)")
    handles: dict[str, Any] = {}
    for axis in axes.ravel():
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False, ncols=n_columns)
    _title(
        figure, "Quality against cost of a draw, in gradient equivalents and in time (training and burn-in excluded)"
    )
    return figure


def throughput_figure(curves: pd.DataFrame) -> Figure:
    """Microseconds per draw over the number of draws in a batch, a panel per target, the median of the seeds.

    Args:
        curves: as ``leaderboard.throughput`` returns them.
    """
    targets, samplers = list(dict.fromkeys(curves["target"])), list(dict.fromkeys(curves["sampler"]))
    figure, n_columns = _beside_legend(samplers, len(targets), height=3.2)
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for axis, target in zip(axes, targets, strict=True):
        for index, name in enumerate(samplers):
            part = curves[(curves["target"] == target) & (curves["sampler"] == name)]
            median = part.groupby("batch")["microseconds_per_draw"].median()
            marker = MARKERS[(index + index // 8) % 8]
            axis.plot(
                median.index, median, marker, ls="-", lw=1, color=COLOURS[index % 8], ms=5, label=name, mec="white"
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("draws per batch")
        axis.set_title(target)
    axes[0].set_ylabel("microseconds per draw")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, ncols=n_columns)
    _title(figure, f"Time of a draw over batch size ({'; '.join(sorted(set(curves['device'])))})")
    return figure


def _beside_legend(names: list[str], n_panels: int, height: float) -> tuple[Figure, int]:
    """A figure with room for panels in a row and a legend beside them, and the columns of that legend."""
    n_columns = math.ceil(len(names) / (4 * height))
    width = 2.6 * n_panels + n_columns * (0.6 + 0.075 * max(map(len, names)))
    return Figure(figsize=(width, height), layout="constrained"), n_columns


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(textwrap.fill(text, int(11 * figure.get_figwidth())))


def _samples(store: Store, record: Record | None, problem: str) -> Array | str:
    """The first draws of a run, or why there are none."""
    if record is None:
        return problem
    if record.draws_sha256 is None:
        return f"{record.status}: {record.reason}"
    try:
        draws = store.draws(record)
        if draws.log_weights is not None:  # of equal weight, as the metrics see them; in random order
            draws = resampled(draws, derive_generator("resampling", record.spec.seed))
            order = torch.randperm(len(draws.samples), generator=derive_generator("figure"))
            draws = dataclasses.replace(draws, samples=draws.samples[order])
        samples = draws.samples[:N_SHOWN].double().numpy()
    except StoreError as error:
        return str(error)
    return samples if np.isfinite(samples).all() else f"{record.status}: {record.reason}"


def _background(target: Target) -> tuple[Callable[[Axes], None], Array | str]:
    """How to draw the law behind a panel, and draws of it (or why there are none)."""
    source = TruthSource(target)
    samples = source.at(N_TRUTH, seed=0).samples
    if samples is None:
        return (lambda axis: None), "neither exact nor reference draws"
    if target.dim == 2:
        return _contours(target, samples), samples[:N_SHOWN].numpy()
    shown = _shown(samples[N_SHOWN:].numpy(), source.fixed.view)
    limits = _limits(shown)

    def draw(axis: Axes) -> None:
        axis.plot(shown[:, 0], shown[:, 1], ".", ms=3.5, color=LAW_COLOURS[1], mew=0, rasterized=True, zorder=0)
        axis.set(xlim=limits[0], ylim=limits[1])

    return draw, samples[:N_SHOWN].numpy()


def _contours(target: Target, samples: torch.Tensor) -> Callable[[Axes], None]:
    levels = np.quantile(target.log_prob(samples).numpy(), [1 - region for region in REGIONS])
    limits = _limits(samples.numpy())
    axis_1, axis_2 = (torch.linspace(low, high, N_GRID, dtype=torch.float64) for low, high in limits)
    grid = torch.stack(torch.meshgrid(axis_1, axis_2, indexing="xy"), dim=-1)
    log_prob = target.log_prob(grid).numpy()

    def draw(axis: Axes) -> None:
        bands = [*levels, math.inf] if levels[-1] < log_prob.max() else [*levels]
        axis.contourf(axis_1, axis_2, log_prob, levels=bands, colors=LAW_COLOURS, zorder=0).set_rasterized(True)
        axis.set(xlim=limits[0], ylim=limits[1])

    return draw


def _limits(samples: Array) -> list[tuple[float, float]]:
    """Ranges that hold 99.8% of each coordinate, with a margin."""
    low, high = np.quantile(samples[:, :2], [0.001, 0.999], axis=0)
    margin = 0.15 * (high - low)
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _shown(samples: Array, view: Callable[[torch.Tensor], torch.Tensor] | None) -> Array:
    mapped = samples if view is None else view(torch.from_numpy(samples)).numpy()
    return mapped[:, :2]


def _inside(points: Array, axis: Axes) -> npt.NDArray[np.bool_]:
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    return (points[:, 0] > left) & (points[:, 0] < right) & (points[:, 1] > bottom) & (points[:, 1] < top)


def _save(figure: Figure, path: Path) -> list[Path]:
    files = [path.with_name(path.name + ending) for ending in (".png", ".svg")]
    figure.savefig(files[0])
    figure.savefig(files[1], metadata={"Date": None})
    return files


def _file_name(label: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in label)
