"""Settings of one-pass training, and what a suite that moves them one at a time says of each: tidy tables."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from ..plan import RunSpec
from .run_values import run_values, value_names

METHODS: Mapping[str, str] = {"dft": "DFT", "fisher": "Fisher", "kl": "KL"}  # sampler, and the label of its centre
FIELDS: Mapping[str, tuple[str, str]] = {
    "start_scale": ("network", "start_scale"),
    "noise": ("noise", "level"),
    "schedule": ("noise", "schedule"),
    "highest": ("noise", "highest"),
    "share": ("noise", "share"),
    "sampler_step_size": ("training", "sampler_step_size"),
    "score_step_size": ("training", "score_step_size"),
    "n_score_steps": ("training", "n_score_steps"),
    "n_steps": ("training", "n_steps"),
}
Setting: TypeAlias = Mapping[str, Any]
"""A value for each of FIELDS, and ``method``."""


@dataclass(frozen=True)
class Sweep:
    """Settings that differ from the centre in some fields alone.

    Attributes:
        name: what is moved, with its unit.
        varies: fields that may differ from the centre.
        text: of a setting, given the centre: what stands on the axis.
        order: sorts the settings.
        keeps: a quantity that must be that of the centre too.
    """

    name: str
    varies: tuple[str, ...]
    text: Callable[[Setting, Setting], str]
    order: Callable[[Setting], tuple[Any, ...]]
    keeps: Callable[[Setting], float] = lambda setting: 0.0

    def holds(self, setting: Setting, centre: Setting) -> bool:
        """Whether the setting belongs to the sweep; the centre does."""
        same = all(setting[name] == centre[name] for name in FIELDS if name not in self.varies)
        return same and math.isclose(self.keeps(setting), self.keeps(centre))


def _noise(setting: Setting, centre: Setting) -> str:
    if setting["schedule"] != "annealed":
        return f"{setting['noise']:g}"
    over = "" if setting["share"] == centre["share"] else f" in {setting['share']:.0%}"
    return f"{setting['highest']:g} to {setting['noise']:g}{over}"


def _ratio(setting: Setting) -> float:
    return float(setting["score_step_size"] / setting["sampler_step_size"])


GRID = Sweep(
    "start and noise / scale",
    ("start_scale", "noise"),
    lambda setting, centre: f"start {setting['start_scale']:g}, noise {setting['noise']:g}",
    lambda setting: (setting["start_scale"], setting["noise"]),
)
LENGTH = Sweep(
    "length / that of the centre",
    ("n_steps",),
    lambda setting, centre: f"{round(16 * setting['n_steps'] / centre['n_steps']) / 16:g}",
    lambda setting: (setting["n_steps"],),
)
SWEEPS = (
    GRID,
    Sweep(
        "noise schedule / scale",
        ("noise", "schedule", "highest", "share"),
        _noise,
        lambda setting: (setting["schedule"] == "annealed", setting["noise"], setting["share"], setting["highest"]),
    ),
    Sweep(
        "step size",
        ("sampler_step_size", "score_step_size"),
        lambda setting, centre: f"{setting['sampler_step_size']:g}",
        lambda setting: (setting["sampler_step_size"],),
        keeps=_ratio,
    ),
    Sweep(
        "step size of the score / of the sampler",
        ("score_step_size",),
        lambda setting, centre: f"{_ratio(setting):g}",
        lambda setting: (setting["score_step_size"],),
    ),
    Sweep(
        "score steps per sampler step",
        ("n_score_steps",),
        lambda setting, centre: f"{setting['n_score_steps']}",
        lambda setting: (setting["n_score_steps"],),
    ),
    LENGTH,
)


def sweep_runs(runs: Iterable[RunSpec]) -> pd.DataFrame:
    """Which runs belong to which sweep.

    Args:
        runs: of METHODS, each with a row labelled as there, the centre of its sweeps.
    Returns:
        One row per run and sweep that it belongs to, by sweep, method and the order of settings: method, sweep,
        setting, run_id. A run at the centre belongs to all sweeps.
    Raises:
        ValueError: for a run of another sampler, or methods without a centre.
    """
    planned = list(runs)
    for run in planned:
        if run.sampler not in METHODS:
            raise ValueError(f"samplers must be {', '.join(METHODS)}, {run.title} is {run.sampler}")
    settings = {run.run_id: _setting(run) for run in planned}
    centres = {run.sampler: settings[run.run_id] for run in planned if run.sampler_label == METHODS[run.sampler]}
    rows = []
    for sweep in SWEEPS:
        for method in dict.fromkeys(run.sampler for run in planned):
            if method not in centres:
                raise ValueError(f"{method} must have a row {METHODS[method]!r}, the centre of its sweeps")
            own = {run.run_id: settings[run.run_id] for run in planned if run.sampler == method}
            rows += [(METHODS[method], sweep.name, *placed) for placed in _in_order(sweep, own, centres[method])]
    return pd.DataFrame(rows, columns=["method", "sweep", "setting", "run_id"])


def _in_order(sweep: Sweep, settings: Mapping[str, Setting], centre: Setting) -> list[tuple[str, str]]:
    """Text and run_id of the runs that a sweep holds, in its order."""
    held = {run_id: setting for run_id, setting in settings.items() if sweep.holds(setting, centre)}
    ordered = sorted(held, key=lambda run_id: sweep.order(held[run_id]))
    return [(sweep.text(held[run_id], centre), run_id) for run_id in ordered]


def _setting(run: RunSpec) -> Setting:
    return {name: run.configuration[table][key] for name, (table, key) in FIELDS.items()}


def robustness_table(metrics: pd.DataFrame, costs: pd.DataFrame, sweeps: pd.DataFrame) -> pd.DataFrame:
    """Every setting of every sweep, with the spread over seeds.

    Args:
        metrics: what ``evaluate_store`` returned.
        costs: what ``costs.run_costs`` returned.
        sweeps: of ``sweep_runs``.
    Returns:
        One row per sweep, target, method and setting: method, sweep, setting, target, n_runs (that were run),
        share_finite, fit_gradient_equivalents, fit_seconds (medians), and of the primary ratio and of each metric NAME
        median, least and largest ratio to the floor over seeds (NAME_ratio_median, _min, _max), or value where there is
        no floor (NAME_median, _min, _max); over the runs that have one, so see share_finite.
    """
    values = run_values(metrics)
    paid = ["fit_gradient_equivalents", "fit_seconds"]
    priced = values.reset_index().merge(
        costs[["target", "sampler", "seed", *paid]], on=["target", "sampler", "seed"], how="left"
    )
    joined = sweeps.merge(priced, on="run_id")
    rows = []
    for key, cell in joined.groupby(["sweep", "target", "method", "setting"], sort=False):
        sweep, target, method, setting = key
        row: dict[str, object] = {"method": method, "sweep": sweep, "setting": setting, "target": target}
        ended = cell[cell["status"] != "missing"]
        row |= {"n_runs": len(ended), "share_finite": ended["is_finite"].mean(), **cell[paid].median()}
        for name in value_names(values):
            of_runs = cell[name].astype(float)
            row |= {f"{name}_{end}": getattr(of_runs, end)() for end in ("median", "min", "max")}
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis="columns", how="all")
