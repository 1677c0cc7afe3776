"""``python -m samplerbench.benchmarks.stability STORE``: how stable training is over starts, noise levels and seeds.

Of a store of suite ``stability``, or of any suite whose samplers differ in ``network.start_scale`` and ``noise.level``:
``stability.csv``, and a figure of quality (PNG, SVG).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from .evaluate import evaluate_store
from .look import LOOK, save
from .ranks import UNRANKED
from .store import Store, write_csv

SETTING = ["target", "sampler", "start_scale", "noise"]
KEPT = (*SETTING, "n_runs", "share_finite")
FINITE = ("ok", "budget")
SHOWN = "sliced_w2"
GOOD_TO_BAD = LinearSegmentedColormap.from_list("ratio", ["#FFFFFF", "#F3DCB0", "#E69F00", "#D55E00", "#7A3300"])


def settings(store: Path | str) -> pd.DataFrame:
    """Start scale and noise level of every run: run_id, sampler (its registered name), start_scale, noise.

    Raises:
        ValueError: for a run whose configuration lacks either.
        StoreError: if the directory is not a store.
    """
    rows = []
    for run in Store(store).plan().runs:
        try:
            start_scale = run.configuration["network"]["start_scale"]
            noise = run.configuration["noise"]["level"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"samplers must have network.start_scale and noise.level, {run.title} has not") from error
        rows.append({"run_id": run.run_id, "sampler": run.sampler, "start_scale": start_scale, "noise": noise})
    return pd.DataFrame(rows)


def stability_table(values: pd.DataFrame, of_runs: pd.DataFrame) -> pd.DataFrame:
    """One row per target, sampler and setting.

    Args:
        values: of ``evaluate_store``.
        of_runs: of ``settings``.
    Returns:
        target, sampler, start_scale, noise, n_runs (that were run), share_finite (those that ended with finite draws;
        nan of none), and of each metric the median, least and largest value over the runs that have one, and the ratio
        of the median to the floor where there is one.
    """
    joined = values.drop(columns="sampler").merge(of_runs, on="run_id", validate="many_to_one")
    rows = []
    for setting, cell in joined.groupby(SETTING, sort=False):
        status = cell.drop_duplicates("run_id")["status"]
        row: dict[str, object] = dict(zip(SETTING, setting, strict=True))
        ended = status[~status.isin(["missing", *UNRANKED])]
        row |= {"n_runs": len(ended), "share_finite": ended.isin(FINITE).mean()}
        for metric, of_metric in cell.groupby("metric", sort=False):
            found = of_metric["value"]
            row |= {f"{metric}_median": found.median(), f"{metric}_min": found.min(), f"{metric}_max": found.max()}
            row[f"{metric}_ratio"] = found.median() / of_metric["floor"].max()
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.drop(columns=[name for name in table if name not in KEPT and table[name].isna().all()])


def stability_figure(table: pd.DataFrame) -> Figure:
    """A panel per target and sampler: sliced W2 over its floor, median and range over seeds, by start and noise.

    Raises:
        ValueError: if the table has no ratios of sliced W2.
    """
    if f"{SHOWN}_ratio" not in table:
        raise ValueError(f"the suite must have the metric {SHOWN} with a floor, got {', '.join(table.columns)}")
    ratios = table[f"{SHOWN}_ratio"]
    floor = table[f"{SHOWN}_median"] / ratios
    worst = max(2.0, float(ratios.max()))
    norm = LogNorm(1.0, worst)
    panels = list(dict.fromkeys(zip(table["target"], table["sampler"], strict=True)))
    starts, noises = (sorted(set(table[name])) for name in ("start_scale", "noise"))
    figure = Figure(figsize=(3.0 * len(panels) + 1.4, 0.75 * len(starts) + 1.3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    image = None
    for axis, panel in zip(axes, panels, strict=True):
        grid = np.full((len(starts), len(noises)), np.nan)
        for (_, row), unit in zip(table.iterrows(), floor, strict=True):
            if (row["target"], row["sampler"]) != panel:
                continue
            i, j = starts.index(row["start_scale"]), noises.index(row["noise"])
            grid[i, j] = row[f"{SHOWN}_ratio"]
            least, largest = (row[f"{SHOWN}_{end}"] / unit for end in ("min", "max"))
            text = f"{grid[i, j]:.1f}\n{least:.1f} to {largest:.1f}"
            if row["share_finite"] < 1:  # not where nothing was run
                text += f"\n{row['share_finite']:.0%} finite"
            color = "white" if norm(grid[i, j]) > 0.8 else "black"
            axis.text(j, i, text, ha="center", va="center", size="small", color=color)
        image = axis.imshow(grid, cmap=GOOD_TO_BAD, norm=norm, aspect="auto")
        axis.set(
            title=", ".join(panel), xlabel="noise level / scale", xticks=range(len(noises)), yticks=range(len(starts))
        )
        axis.set_xticklabels([f"{value:g}" for value in noises])
        axis.set_yticklabels([f"{value:g}" for value in starts])
        axis.spines[["left", "bottom"]].set_visible(False)
    axes[0].set_ylabel("start scale / scale")
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), label="sliced W2 / floor")
        ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 50) if tick <= worst]
        bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
        bar.minorticks_off()
    figure.suptitle("Median over seeds, and range; 1 is what exact draws reach")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table and the figure of a store."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.stability", description=main.__doc__)
    parser.add_argument("store", type=Path, metavar="STORE", help="directory of the store")
    parser.add_argument("--to", type=Path, help="directory of the files (default: the store)")
    options = parser.parse_args(arguments)
    to: Path = options.to or options.store
    to.mkdir(parents=True, exist_ok=True)
    table = stability_table(evaluate_store(options.store), settings(options.store))
    write_csv(to / "stability.csv", table)
    with matplotlib.rc_context(LOOK):
        save(stability_figure(table), to / "stability")
    print(table.groupby(["target", "sampler"], sort=False)[["share_finite", f"{SHOWN}_ratio"]].agg(["min", "max"]))


if __name__ == "__main__":
    main()
