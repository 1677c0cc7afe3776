"""Generates docs/targets.md, its pictures and the shipped facts: ``python -m samplerbench.benchmarks.target_docs``."""

import argparse
import dataclasses
import inspect
import io
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Generator

from ..targets.base import TARGETS, HasReference, HasSample, Target
from ..targets.datasets import DATASETS
from ..targets.registry import Entry
from .catalogue import FACTS, Row, describe, facts_as_json, facts_of, log_z_text, shipped_targets

COMMAND = "python -m samplerbench.benchmarks.target_docs"
PICTURES = Path("figures", "targets")
PER_ROW = 4
N_DRAWS, N_GRID = 20_000, 240
BOX = 0.999  # share of each coordinate's draws inside the picture
REGIONS = (0.999, 0.99, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1)  # of highest density, a shade each
N_COLOURS = 32

HEAD = f"""\
# Targets

Written by `{COMMAND}` from the registry; `samplerbench list targets` shows the same.
Names carry the origin of a law, because papers mean different laws by the same word, and a version, which a change of
the law raises.

* **log Z**: log of the integral of `exp(log_prob)` in nats, ± its standard error where it is estimated; empty is
  unknown.
* **modes**: how many modes have known masses; empty is not stated.
* **truth**: what draws are judged by: `exact` draws are independent; `reference` draws are shipped, with a certificate
  of how they were made.
* **certified**: a certified target has passed every check of `samplerbench certify`; an uncertified one is shown, with
  its reason, and not ranked.

Pictures show regions of highest density, from 99.9% to 10% of the mass. Targets of your own: [plugins.md](plugins.md).
"""


def page(rows: Sequence[Row]) -> str:
    """The text of docs/targets.md."""
    entries = {row.name: TARGETS.entry(row.name) for row in rows}
    parts = [HEAD, _overview(rows)]
    by_module = sorted(rows, key=lambda row: (entries[row.name].build.__module__, _class_line(entries[row.name])))
    for module, family in groupby(by_module, key=lambda row: entries[row.name].build.__module__):
        parts.append(f"## {_first_line(sys.modules[module].__doc__)}\n")
        for _, members in groupby(family, key=lambda row: entries[row.name].build):
            parts.append(_section(list(members), entries))
    parts.append(_data_sets(rows))
    return "\n".join(parts)


def data_set_of(name: str) -> str | None:
    """The data set behind a posterior or an image model: targets are called by their data."""
    return next((data for data in DATASETS if data in name or name in data), None)


def picture(target: Target) -> bytes:
    """PNG of the regions of highest density of a two-dimensional target; the same bytes for the same libraries."""
    from matplotlib.figure import Figure
    from PIL import Image

    draws = _draws(target)
    levels = torch.quantile(target.log_prob(draws), torch.tensor([1 - region for region in REGIONS]).double())
    edges = torch.quantile(draws, torch.tensor([(1 - BOX) / 2, (1 + BOX) / 2]).double(), dim=0)
    margin = 0.05 * (edges[1] - edges[0])
    low, high = edges[0] - margin, edges[1] + margin
    axes = [torch.linspace(low[i], high[i], N_GRID, dtype=torch.float64) for i in range(2)]
    density = target.log_prob(torch.stack(torch.meshgrid(*axes, indexing="xy"), dim=-1))
    figure = Figure(figsize=(3, 3), dpi=100, layout="constrained")
    axis = figure.subplots()
    bands = [*levels.tolist(), max(density.max().item(), levels[-1].item()) + 1e-9]
    axis.contourf(*(ticks.numpy() for ticks in axes), density.numpy(), levels=bands, cmap="YlGnBu")
    axis.tick_params(labelsize=7)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(N_COLOURS).save(small, "PNG", optimize=True)
    return small.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.target_docs", description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the documentation")
    parser.add_argument("--facts", type=Path, default=Path(__file__).parent / "data" / FACTS, help="file of the facts")
    parser.add_argument("--text", action="store_true", help="write the text alone, from the facts as they are")
    options = parser.parse_args(arguments)
    if not options.docs.is_dir():
        raise SystemExit(f"{options.docs} is not a folder: run this at the root of the repository")
    rows = [describe(name) for name in shipped_targets()]
    if not options.text:
        rows = [_with_picture(row, options.docs / PICTURES) for row in rows]
        options.facts.write_text(facts_as_json(rows))
    (options.docs / "targets.md").write_text(page(rows))


def _with_picture(row: Row, folder: Path) -> Row:
    """The row with its facts computed again; writes the picture."""
    target = TARGETS.get(row.name)
    row = dataclasses.replace(row, facts=facts_of(target))
    if has_picture(row):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row.name}.png").write_bytes(picture(target))
    print(row.key, row.facts, file=sys.stderr, flush=True)
    return row


def has_picture(row: Row) -> bool:
    """Whether the target is drawn: two dimensions, and draws that say where to look."""
    return row.facts.dim == 2 and row.facts.truth != "none"


def _overview(rows: Sequence[Row]) -> str:
    cells = [
        (
            f"[{row.key}](#{_anchor(row)})", str(row.facts.dim), f"{row.facts.scale:g}", log_z_text(row.facts),
            str(row.facts.n_modes or ""), row.facts.truth, ": ".join(filter(None, (row.verdict, row.reason))),
            data_set_of(row.name) or "",
        )
        for row in rows
    ]  # fmt: skip
    return _table(("target", "dim", "scale", "log Z", "modes", "truth", "certified", "data"), cells)


def _section(members: list[Row], entries: dict[str, "Entry[Target]"]) -> str:
    build = entries[members[0].name].build
    cells = [(row.key, str(row.facts.dim), _parameters(entries[row.name])) for row in members]
    shown = [row for row in members if has_picture(row)]
    lines = [f"### {build.__name__}\n", f"```text\n{inspect.cleandoc(build.__doc__ or '')}\n```\n"]
    lines.append(_table(("target", "dim", "parameters"), cells))
    for start in range(0, len(shown), PER_ROW):
        chunk = shown[start : start + PER_ROW]
        lines.append(_table([row.name for row in chunk], [[f"![{row.name}]({_file(row)})" for row in chunk]]))
    return "\n".join(lines)


def _data_sets(rows: Sequence[Row]) -> str:
    cells = []
    for data in DATASETS.values():
        users = ", ".join(row.name for row in rows if data_set_of(row.name) == data.name)
        cells.append((data.name, users, data.origin, f"{data.n_rows} x {data.n_features}", data.source, data.licence))
    head = (
        "## Data sets\n\nFiles are looked for in the folder that `SAMPLERBENCH_DATA` names, then in the cache, then "
        "downloaded; their\ncontent (of the full Covertype table, the official file) is checked against a recorded "
        "checksum.\n"
    )
    return f"{head}\n" + _table(("data set", "targets", "origin", "size", "how to get it", "licence"), cells)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _parameters(entry: "Entry[Target]") -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in entry.parameters.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_short, value))})" if len(value) <= PER_ROW else f"({len(value)} values)"
    return str(value)


def _draws(target: Target) -> torch.Tensor:
    if isinstance(target, HasSample):
        return target.sample(N_DRAWS, Generator().manual_seed(0))
    assert isinstance(target, HasReference)
    return target.reference()


def _class_line(entry: "Entry[Target]") -> int:
    return inspect.getsourcelines(entry.build)[1]


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0].rstrip(".")


def _anchor(row: Row) -> str:
    return TARGETS.entry(row.name).build.__name__.lower()


def _file(row: Row) -> str:
    return (PICTURES / f"{row.name}.png").as_posix()


if __name__ == "__main__":
    main()
