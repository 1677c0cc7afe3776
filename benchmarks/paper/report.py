"""Everything that is written about the paper's experiments: leaderboards, tables, figures, claims."""

from pathlib import Path

from ..evaluate import evaluate_store
from ..report import write_leaderboard
from .claims import SHIPPED_CSV, SHIPPED_PAGE, SHIPPED_TABLES, write_claims
from .experiments import EXPERIMENTS


def write_paper(store: Path, to: Path, *, device: str = "cpu", compute_floors: bool = True) -> list[Path]:
    """Evaluate the stores of the experiments, and write their leaderboards, tables and figures.

    Args:
        store: directory of the stores, one folder per suite; absent ones are left out.
        to: directory; every suite gets a folder.
        device: where metrics are computed.
        compute_floors: whether floors that are not shipped are computed, minutes per target, once.
    Returns:
        Paths of the figures and claims.
    Raises:
        ValueError: if the directory holds no store of an experiment.
    """
    found = [experiment for experiment in EXPERIMENTS if (store / experiment.suite / "plan.json").is_file()]
    if not found:
        names = ", ".join(experiment.suite for experiment in EXPERIMENTS)
        raise ValueError(f"{store} must hold a store of one of {names}; `samplerbench paper` makes them")
    for experiment in found:
        directory = store / experiment.suite
        metrics = evaluate_store(directory, device=device, compute_floors=compute_floors)
        results = write_leaderboard(directory, to / experiment.suite, metrics=metrics)
        experiment.write_tables(directory, results, to / experiment.suite)
    return redraw(to)


def redraw_shipped() -> list[Path]:
    """``redraw`` of the tables of a checkout, whose ledger is results/claims.csv and docs/claims.md."""
    return redraw(SHIPPED_TABLES, csv=SHIPPED_CSV, page=SHIPPED_PAGE)


def redraw(folder: Path, *, csv: Path | None = None, page: Path | None = None) -> list[Path]:
    """Draw the figures again from the tables that ``write_paper`` left in a folder, and write the ledger of claims.

    Args:
        folder: with one folder per suite.
        csv, page: of the ledger; by default claims.csv and claims.md in the folder.
    Raises:
        ValueError: if the folder holds no tables of an experiment.
    """
    found = [experiment for experiment in EXPERIMENTS if (folder / experiment.suite / "leaderboard.csv").is_file()]
    if not found:
        raise ValueError(f"{folder} must hold tables of the paper's experiments; `samplerbench paper` makes them")
    figures = [path for experiment in found for path in experiment.write_figures(folder / experiment.suite)]
    return [*figures, *write_claims(folder, csv or folder / "claims.csv", page or folder / "claims.md")]
