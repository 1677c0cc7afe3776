"""``python -m samplerbench.benchmarks.exact_draws``: does ``judge`` pass exact draws of every target that has them?

One set of exact draws per target; killed and called again, it goes on. Targets without a floor have nothing to pass.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from scipy import stats

from ..metrics.base import METRICS
from ..targets.base import TARGETS, HasSample
from ..targets.draws import Draws
from ..targets.meter import derive_generator
from .judge import LADDER, floor_at, judge_draws, judged_size
from .store import write_csv

COLUMNS = [
    "target",
    "metric",
    "n_samples",
    "value",
    "floor",
    "ratio",
    "z",
    "p",
    "smallest_p",
    "at_floor",
    "n_drawn",
    "seed",
]
TRANSPORT = ("sliced_w2", "w2", "w1")
LEVEL = 0.01  # of all cells together
MAX_CENTRED, TRANSPORT_RATIOS = 3.0, (0.5, 2.0)


def judged_exact(name: str, n_samples: int, seed: int = 0) -> pd.DataFrame:
    """Cells of exact draws of a target, those that have a floor: COLUMNS.

    Args:
        name: of the target.
        n_samples: number of draws.
        seed: of the draws and of the truth, which share no random numbers.
    Raises:
        ValueError: if the target has no exact draws.
    """
    target = TARGETS.get(name)
    if not isinstance(target, HasSample):
        raise ValueError(f"target must have exact draws, {name} has none")
    metrics = [metric for metric in METRICS.names() if floor_at(name, metric, judged_size(name, metric, n_samples))]
    if not metrics:
        return pd.DataFrame(columns=COLUMNS)
    draws = Draws(samples=target.sample(n_samples, derive_generator("judged", name, seed)))
    table = judge_draws(draws, name, metrics=metrics, seed=seed)
    kept = table[table["floor"].notna()].assign(target=TARGETS.versioned(name), n_drawn=n_samples, seed=seed)
    return kept[COLUMNS]


def broken(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells that exact draws should not give, with the rule that each breaks in a column rule."""
    centred = [METRICS.get(metric).null == "centred" for metric in cells["metric"]]
    low, high = TRANSPORT_RATIOS
    rules = {
        f"p at least {LEVEL} / {len(cells)} cells": cells["p"] < LEVEL / max(len(cells), 1),
        f"|ratio| below {MAX_CENTRED}": pd.Series(centred, cells.index) & (cells["ratio"].abs() >= MAX_CENTRED),
        f"ratio in {low} to {high}": cells["metric"].isin(TRANSPORT) & ~cells["ratio"].between(low, high),
    }
    return pd.concat([cells[is_broken].assign(rule=rule) for rule, is_broken in rules.items()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge exact draws of all targets that have them; exit code 1 if a cell breaks a rule."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.exact_draws", description=main.__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all with exact draws")
    parser.add_argument("--n", type=int, default=LADDER[1], help="draws of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/judge/exact_draws.csv"), help="(default %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    names = options.targets or [name for name in TARGETS.names() if isinstance(TARGETS.get(name), HasSample)]
    cells = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=COLUMNS)
    without = []
    for name in names:
        done = cells[(cells["n_drawn"] == options.n) & (cells["seed"] == options.seed)]
        if TARGETS.versioned(name) in set(done["target"]):
            continue
        found = judged_exact(name, options.n, options.seed)
        if found.empty:
            without.append(name)
            continue
        print(f"{name}: {len(found)} cells, smallest p {found['p'].min():.3g}", flush=True)
        cells = pd.concat([cells, found], ignore_index=True) if len(cells) else found
        write_csv(options.out, cells.sort_values("target", kind="stable"))
    print(summary(cells))
    if without:
        print(f"no floors: {', '.join(without)}")
    return int(len(broken(cells)) > 0)


def summary(cells: pd.DataFrame) -> str:
    """Numbers of cells, their p-values against the uniform law, and the cells that break a rule."""
    n_least, expected = int((cells["p"] == cells["smallest_p"]).sum()), cells["smallest_p"].sum()
    uniform = stats.kstest(cells["p"].to_numpy(float), "uniform").pvalue  # rough: cells of one target depend
    lines = [
        f"{len(cells)} cells of {cells['target'].nunique()} targets: {cells['at_floor'].mean():.1%} at the floor, "
        f"smallest p {cells['p'].min():.3g}; {n_least} have the smallest p that their floor allows, {expected:.1f} are "
        f"expected; p-values against the uniform law: KS p {uniform:.2g}"
    ]
    for metric, part in cells.groupby("metric"):
        lines.append(f"{metric}: {len(part)} cells, ratio {part['ratio'].min():.2f} to {part['ratio'].max():.2f}")
    lines += [
        f"BROKEN: {row['target']} {row['metric']}: ratio {row['ratio']:.3g}, p {row['p']:.3g}: {row['rule']}"
        for row in broken(cells).to_dict("records")
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
