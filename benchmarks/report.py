"""The files of a leaderboard: CSV, Markdown, HTML and provenance."""

from pathlib import Path

import pandas as pd

from .kpis import kpis
from .leaderboard import Results, collect, provenance, throughput
from .markdown import markdown
from .page import certificates_of, page
from .panels import panels_of
from .store import write_csvs, write_json, write_text


def write_leaderboard(
    store: Path | str, to: Path, *, metrics: pd.DataFrame | None = None, device: str = "cpu"
) -> Results:
    """Write leaderboard.html, .md and .csv, overall, kpis, metrics, costs (.csv) and provenance.json into ``to``.

    Where the suite measured draws over batch sizes, also throughput.csv. The same store gives the same bytes.

    Args:
        store, metrics, device: see ``leaderboard.collect``.
        to: directory; made if absent.
    """
    results = collect(store, metrics=metrics, device=device)
    figures = kpis(results)
    to.mkdir(parents=True, exist_ok=True)
    tables = {
        "leaderboard": results.board,
        "overall": results.overall,
        "metrics": results.metrics,
        "kpis": figures,
        "costs": results.costs,
    }
    curves = throughput(results.stored)
    if len(curves):
        tables["throughput"] = curves
    write_csvs(to, tables)
    write_text(to / "leaderboard.md", markdown(results, figures))
    html = page(results, panels_of(store, results), certificates_of(results.plan), figures)
    write_text(to / "leaderboard.html", html)
    write_json(to / "provenance.json", provenance(results.plan, results.records))
    return results
