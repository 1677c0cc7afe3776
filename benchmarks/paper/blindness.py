"""Which divergences see the weights of separated modes: two modes by quadrature, and what trained samplers end with."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure

from ...targets.base import TARGETS, HasModes
from ..leaderboard import Results
from ..look import COLOURS, LOOK, save, set_title, style
from ..panels import first_draws
from ..store import Store, write_csvs
from .sweeps import METHODS

Array = npt.NDArray[np.float64]
SEPARATION = 8.0  # standard deviations
WEIGHTS = tuple(k / 100 for k in range(1, 100))
BEYOND, N_NODES = 12.0, 1_601  # quadrature: standard deviations beyond the modes, nodes
DIVERGENCES = {
    "total_variation": "total variation",
    "kl": "KL(p || q)",
    "fisher": "Fisher divergence",
    "ksd2": "KSD$^2$ (IMQ, c = 1)",
}
TARGET = "ring8"


def divergences(p: Sequence[Array], q: Sequence[Array], x: Array) -> dict[str, float]:
    """Divergences of p from q in one dimension, by the trapezoidal rule.

    Args:
        p, q: log density and score at the nodes, of each law both of shape ``(n,)``.
        x: equally spaced nodes, shape ``(n,)``, beyond which both laws have no mass.
    Returns:
        total_variation, kl = E_p log(p / q), fisher = E_p |s_p - s_q|^2, and ksd2 = E_p E_p' (s_q - s_p)(x) k(x, x')
        (s_q - s_p)(x') with the inverse multiquadric k = (1 + |x - x'|^2)^(-1/2).
    """
    (log_p, s_p), (log_q, s_q), step = p, q, float(x[1] - x[0])
    mass = step * np.exp(log_p)
    moved = mass * (s_q - s_p)
    kernel = 1 / np.sqrt(1 + (x[:, None] - x[None, :]) ** 2)
    return {
        "total_variation": float(0.5 * step * np.abs(np.exp(log_p) - np.exp(log_q)).sum()),
        "kl": float(mass @ (log_p - log_q)),
        "fisher": float(mass @ (s_q - s_p) ** 2),
        "ksd2": float(moved @ kernel @ moved),
    }


def two_modes(weight: float, x: Array, separation: float = SEPARATION, shift: float = 0.0) -> tuple[Array, Array]:
    """Log density and score of weight N(-d/2 + shift, 1) + (1 - weight) N(d/2 + shift, 1), d the separation.

    Args:
        weight: strictly between 0 and 1.
        x: points, shape ``(n,)``.
    Returns:
        Both of shape ``(n,)``.
    Raises:
        ValueError: if the weight is out of range.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must be between 0 and 1, got {weight}")
    centres = np.array([-0.5, 0.5]) * separation + shift
    logs = -0.5 * (x[:, None] - centres) ** 2 - 0.5 * math.log(2 * math.pi) + np.log([weight, 1 - weight])
    log_density: Array = np.logaddexp(logs[:, 0], logs[:, 1])
    score: Array = (np.exp(logs - log_density[:, None]) * (centres - x[:, None])).sum(-1)
    return log_density, score


def blindness_table(weights: Iterable[float] = WEIGHTS, separation: float = SEPARATION) -> pd.DataFrame:
    """Divergences of two modes of weights w and 1 - w from the same two of equal weights, as functions of w.

    A divergence has a unit of its own, so each is also given over the value that it takes when the law of equal weights
    is shifted as a whole by one standard deviation: an error that all of them see.

    Args:
        weights: w, strictly between 0 and 1.
        separation: of the modes, in standard deviations.
    Returns:
        One row per weight: weight, separation, and of total_variation, kl, fisher and ksd2 the value and, as
        ``NAME_of_shift``, its ratio to that of the shift.
    """
    edge = separation / 2 + BEYOND
    x = np.linspace(-edge, edge, N_NODES)
    equal = two_modes(0.5, x, separation)
    unit = divergences(two_modes(0.5, x, separation, shift=1.0), equal, x)
    rows = []
    for weight in weights:
        found = divergences(two_modes(weight, x, separation), equal, x)
        relative = {f"{name}_of_shift": value / unit[name] for name, value in found.items()}
        rows.append({"weight": weight, "separation": separation, **found, **relative})
    return pd.DataFrame(rows)


def mode_shares(store: Path, results: Results) -> pd.DataFrame:
    """Weights of the modes of ring8 that trained samplers end with, at the centre of all sweeps.

    Returns:
        One row per method, seed and mode: target, method, seed, mode, share (of the draws), mass (of the target). Runs
        without draws are left out.
    """
    directory = Store(store)
    rows = []
    for run, record, problem in results.stored:
        if run.target_label != TARGET or run.sampler_label not in METHODS.values():
            continue
        target = TARGETS.get(run.target, **run.target_parameters)
        draws = first_draws(directory, record, problem, run.n_samples)
        if isinstance(draws, str) or not isinstance(target, HasModes):
            continue
        mode = target.modes.assign(torch.from_numpy(draws))
        for k, mass in enumerate(target.modes.masses.tolist()):
            share = (mode == k).double().mean().item()
            rows.append((run.target_label, run.sampler_label, run.seed, k, share, mass))
    return pd.DataFrame(rows, columns=["target", "method", "seed", "mode", "share", "mass"])


def blindness_figure(table: pd.DataFrame, shares: pd.DataFrame) -> Figure:
    """Left: divergences over the weight of a mode, in units of a shift. Right: weights that training ends with.

    Args:
        table: of ``blindness_table``.
        shares: of ``mode_shares``; without rows there is no right panel.
    """
    has_runs = len(shares) > 0
    figure = Figure(figsize=(9.6 if has_runs else 5.2, 4.2), layout="constrained")
    axes = figure.subplots(1, 1 + has_runs, squeeze=False)[0]
    for index, (name, title) in enumerate(DIVERGENCES.items()):
        seen = table[table[name] > 0]
        for half in (seen["weight"] < 0.5, seen["weight"] > 0.5):  # no line through 0 at equal weights
            part = seen[half]
            label = title if half.iloc[0] else None
            axes[0].plot(part["weight"], part[f"{name}_of_shift"], lw=1.8, color=COLOURS[4 + index], label=label)
    axes[0].axhline(1.0, color="0.6", lw=1, ls="--", zorder=0)
    axes[0].text(0.5, 1.1, "shifted by one standard deviation", ha="center", va="bottom", fontsize=8, color="0.35")
    axes[0].set_yscale("log")
    axes[0].set_ylim(1e-10, 30)
    separation = table["separation"].iloc[0]
    axes[0].set(
        xlabel="weight of the first mode (target: 0.5)",
        ylabel="divergence / its value for the shift",
        title=f"two modes, {separation:g} standard deviations apart",
    )
    axes[0].legend(loc="lower left", frameon=False, fontsize=8)
    if has_runs:
        for index, (_, part) in enumerate(shares.groupby("method", sort=False)):
            n_seeds = part["seed"].nunique()
            for place, (_, run) in enumerate(part.groupby("seed", sort=True)):
                x = index + 0.7 * ((place + 0.5) / n_seeds - 0.5)
                look = style(index)
                axes[1].plot([x] * len(run), run["share"], ls="", ms=5, alpha=0.85, **look)
        axes[1].axhline(shares["mass"].mean(), color="0.6", lw=1, ls="--", zorder=0)
        names = list(dict.fromkeys(shares["method"]))
        axes[1].set_xticks(range(len(names)), names)
        axes[1].set_ylim(bottom=-0.01)
        axes[1].set(
            ylabel="share of the draws",
            title=f"weights of the {shares['mode'].nunique()} modes of {TARGET} after training",
        )
        axes[1].set_xlabel("a column per seed; dashed: the target's weights")
    set_title(figure, "Wrong weights of separated modes are an error that the Fisher divergence and KSD hardly see")
    return figure


def write_tables(store: Path, results: Results, to: Path) -> None:
    """Write blindness.csv and mode_shares.csv into ``to``."""
    write_csvs(to, {"blindness": blindness_table(), "mode_shares": mode_shares(store, results)})


def write_figures(folder: Path) -> list[Path]:
    """Draw figures/blindness from blindness.csv and mode_shares.csv in ``folder``."""
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    table, shares = (pd.read_csv(folder / f"{name}.csv") for name in ("blindness", "mode_shares"))
    with matplotlib.rc_context(LOOK):
        return save(blindness_figure(table, shares), figures / "blindness")
