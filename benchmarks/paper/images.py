"""Experiment ``paper-ebm``: laws of images, one pass of a network against steps of Langevin, quality against time."""

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...metrics.classes import class_shares
from ...metrics.frechet import frechet_distance
from ...targets.base import TARGETS, HasSample
from ...targets.datasets import DataFileError
from ...targets.image_classifier import load_classifier
from ...targets.meter import derive_generator
from ..leaderboard import Results
from ..look import LOOK, RATIO, save, set_title
from ..panels import first_draws
from ..store import Store, write_csvs
from ..train_images import NOISE_SD, noisy_splits
from ..truth import TruthSource
from .equal_steps import equal_steps_table, outcome_table
from .quality import PRIMARY_RATIO, Rows, qualities, step_curves
from .rivals import against_rivals
from .shipped import Cells, draws_to_ship, read_panels, write_panels
from .step_figures import steps_figure, time_figure

Array = npt.NDArray[np.float64]
METRICS = ("primary", "sliced_w2", "frechet", "class_tv")  # of which less is better; of laws with exact draws
REAL = "frechet_real"
OUTCOME_BY = (PRIMARY_RATIO, REAL)  # of laws with exact draws, and of others
ONE_PASS = ("dft", "fisher", "kl", "dft_plus")
LEVELS = ("DFT", "Fisher", "KL", "DFT+")
LONG = ("MALA long", "ULA long", "SMC short")
SHOWN = (*LEVELS, "MALA 10 steps", "MALA 50 steps", "MALA 200 steps", "MALA 1000 steps", "MALA long")
N_IMAGES, N_COLUMNS = 24, 6  # of a panel
PER_ROW = 6
HELD_OUT, EXACT = "real images", "exact draws"


def write_tables(store: Path, results: Results, to: Path) -> None:
    """Write images.csv, step_curves.csv, equal_steps.csv, outcome.csv, rivals.csv and panels.npz into ``to``."""
    rows, runs = Rows.of(results.plan.runs), results.plan.runs
    one_pass = list(dict.fromkeys(run.sampler_label for run in runs if run.sampler in ONE_PASS))
    images = real_images_table(store, results)
    quality = pd.concat([qualities(results.metrics, METRICS), _against_real(images, results)], ignore_index=True)
    equal_steps = equal_steps_table(quality, results.costs, rows, one_pass)
    tables = {
        "images": images,
        "step_curves": step_curves(quality, results.costs, rows),
        "equal_steps": equal_steps,
        "outcome": outcome_table(equal_steps, OUTCOME_BY),
        "rivals": against_rivals(results.metrics, results.costs, rows, one_pass),
    }
    write_csvs(to, tables)
    shipped = draws_to_ship(store, results, SHOWN, N_IMAGES)
    write_panels(to, {target: {**_references(target, results), **cells} for target, cells in shipped.items()})


def real_images_table(store: Path, results: Results) -> pd.DataFrame:
    """What the classifier says of every run's draws beside real images, which a law need not resemble.

    Args:
        store: directory of the store.
        results: of it.
    Returns:
        One row per run: target, sampler, seed, status, frechet_real (Frechet distance of features to the images that
        all laws and classifiers were trained on, with their noise), class_tv_real (total variation between class
        shares), mean_confidence (mean probability of the likeliest class), reason (why there is no value).
        Then, per target, the same of the real images that were held out, as sampler "real images" without a seed.
    """
    table = []
    names = {run.target_label: _images_of(run.target, run.target_parameters) for run in results.plan.runs}
    for run, record, problem in results.stored:
        row = {"target": run.target_label, "sampler": run.sampler_label, "seed": run.seed}
        draws = first_draws(Store(store), record, problem, run.n_samples)
        values = _judged(draws, names[run.target_label])
        table.append({**row, "status": record.status if record else "missing", **values})
    for target, name in names.items():
        real = _real(name)
        held_out = real if isinstance(real, str) else real["held_out"].numpy()
        row = {"target": target, "sampler": HELD_OUT, "seed": math.nan, "status": "ok"}
        table.append({**row, **_judged(held_out, name)})
    frame = pd.DataFrame(table)
    return frame[[name for name in frame if name != "reason"] + ["reason"]].astype({"seed": "Int64"})


def _judged(draws: Array | str, name: str) -> dict[str, object]:
    real = _real(name)
    reason = draws if isinstance(draws, str) else real if isinstance(real, str) else ""
    if isinstance(draws, str) or isinstance(real, str):
        return {"frechet_real": math.nan, "class_tv_real": math.nan, "mean_confidence": math.nan, "reason": reason}
    x, classifier, (features, shares) = torch.from_numpy(draws), load_classifier(name), _seen(name)
    probabilities = classifier.class_probabilities(x)
    gap = class_shares(probabilities) - shares
    return {
        "frechet_real": frechet_distance(classifier.features(x), features),
        "class_tv_real": 0.5 * gap.abs().sum().item(),
        "mean_confidence": probabilities.max(-1).values.mean().item(),
        "reason": "",
    }


def _images_of(target: str, parameters: Mapping[str, object]) -> str:
    images = getattr(TARGETS.get(target, **parameters), "images", None)
    if not isinstance(images, str):
        raise ValueError(f"targets must be laws of images, got {target}")
    return images


@cache
def _real(name: str) -> dict[str, Tensor] | str:
    """Images with noise, ``train`` and ``held_out``, or why they are not there."""
    try:
        return noisy_splits(name, NOISE_SD[name], 0)
    except DataFileError as error:
        return str(error)


@cache
def _seen(name: str) -> tuple[Tensor, Tensor]:
    """What the classifier makes of the real images that laws were fitted to, if they are there: features, shares."""
    real, classifier = _real(name), load_classifier(name)
    if isinstance(real, str):
        raise ValueError(f"real images of {name!r} must be there, {real}")
    return classifier.features(real["train"]), class_shares(classifier.class_probabilities(real["train"]))


def _against_real(images: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The distance to real images as a quality, where the law has no exact draws."""
    unknown = {
        run.target_label
        for run in results.plan.runs
        if not isinstance(TARGETS.get(run.target, **run.target_parameters), HasSample)
    }
    own = images[images["target"].isin(unknown) & (images["sampler"] != HELD_OUT)]
    quality = np.log(own["frechet_real"].where(own["status"] == "ok").astype(float))
    keys = own[["target", "sampler", "seed"]].astype({"seed": int})
    return keys.assign(metric=REAL, quality=quality, at_floor=None)


def _references(target: str, results: Results) -> Cells:
    """Real images that were held out, and exact draws of a law that has them."""
    run = next(run for run in results.plan.runs if run.target_label == target)
    law = TARGETS.get(run.target, **run.target_parameters)
    real = _real(_images_of(run.target, run.target_parameters))
    order = torch.randperm(10**6, generator=derive_generator("shown", run.target))
    shown = real if isinstance(real, str) else _some(real["held_out"], order)
    samples = TruthSource(law).samples(N_IMAGES, 0)
    return {HELD_OUT: shown, **({} if samples is None else {EXACT: samples.numpy()})}


def _some(images: Tensor, order: Tensor) -> Array:
    rows = order[order < len(images)][:N_IMAGES]
    some: Array = images[rows].numpy()
    return some


def write_figures(folder: Path) -> list[Path]:
    """Draw steps_NAME, time_NAME (NAME: primary, frechet) and images_TARGET (.png, .svg) from the files of ``folder``.

    Frechet distances are to exact draws, over the floor, where the law has them, else to real images.
    """
    to = folder / "figures"
    to.mkdir(parents=True, exist_ok=True)
    curves = pd.read_csv(folder / "step_curves.csv")
    curves["chain"] = curves["chain"].fillna("")
    frechet = curves[curves["metric"].isin(["frechet", REAL])]
    labels = {
        str(target): "distance to real images" if REAL in set(part["metric"]) else "distance to exact draws / floor"
        for target, part in frechet.groupby("target")
    }
    shown: dict[str, tuple[str, str | dict[str, str]]] = {
        "primary": ("Primary ratio (worse of sliced W2 and mode TV, over the floor)", RATIO),
        "frechet": ("Frechet distance of classifier features", labels),
    }
    parts = {"primary": curves[curves["metric"] == "primary"], "frechet": frechet}
    note = "geometric means and 95% intervals over seeds; dashed: the floor of exact draws"
    written: list[Path] = []
    with matplotlib.rc_context(LOOK):
        for name, (what, y_label) in shown.items():
            title = f"{what} after k steps of Langevin from the start, and after one pass: {note}"
            written += save(steps_figure(parts[name], LEVELS, y_label=y_label, title=title), to / f"steps_{name}")
            title = f"{what} over the time of a draw, training and burn-in excluded: {note}"
            figure = time_figure(parts[name], [*LEVELS, *LONG], y_label=y_label, title=title)
            written += save(figure, to / f"time_{name}")
        for target, cells in read_panels(folder).items():
            written += save(images_figure(target, cells), to / f"images_{target}")
    return written


def images_figure(target: str, cells: Cells) -> Figure:
    """Panels of 24 images each.

    Args:
        target: for the title.
        cells: of each panel its images ``(n, n_pixels)`` in [-1, 1], or the sentence that says why there are none.
    """
    n_columns = min(PER_ROW, len(cells))
    n_rows = math.ceil(len(cells) / n_columns)
    figure = Figure(figsize=(1.9 * n_columns, 1.45 * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis, (name, images) in zip(axes, cells.items(), strict=False):
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
        if isinstance(images, str):
            axis.text(0.5, 0.5, images, transform=axis.transAxes, ha="center", va="center", fontsize=7, wrap=True)
        else:
            axis.imshow(tiled(images), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    for axis in axes[len(cells) :]:
        axis.set_visible(False)
    set_title(figure, f"{target}: {N_IMAGES} draws of each row of the first seed")
    return figure


def tiled(images: Array) -> Array:
    """Square images ``(n, n_pixels)`` in rows of six, with grey lines between them; values beyond [-1, 1] are cut."""
    side = math.isqrt(images.shape[1])
    n_rows = math.ceil(len(images) / N_COLUMNS)
    page = np.full((n_rows * (side + 1) - 1, N_COLUMNS * (side + 1) - 1), 0.2)
    for k, image in enumerate(np.clip(images, -1, 1)):
        top, left = (side + 1) * (k // N_COLUMNS), (side + 1) * (k % N_COLUMNS)
        page[top : top + side, left : left + side] = image.reshape(side, side)
    return page
