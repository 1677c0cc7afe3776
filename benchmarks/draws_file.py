"""Draws from files made anywhere: CSV, NPY, NPZ, Parquet, ArviZ's InferenceData (NetCDF). Reading executes nothing.

CSV, Parquet   a row per draw; columns log_weight and log_density, where there, are no coordinates
NPY            (n, dim), or chains (n_chains, n_kept, dim)
NPZ            arrays samples (n, dim), log_weights (n,), log_density (n,), forward_log_ratio (m,), chains; or one array
               of any name, as NPY
NetCDF         see inference_data
"""

import csv
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..targets.datasets import UNREADABLE
from ..targets.draws import Draws
from .inference_data import STATS, arviz, from_inference_data, sizes
from .store import ARRAYS

MAX_SHOWN = 8  # names of columns


@dataclass(frozen=True)
class Reading:
    """What a file holds: the draws in float64, and in words what was read, for messages."""

    draws: Draws
    text: str


def read_draws(path: Path | str, *, variables: Sequence[str] = ()) -> Reading:
    """Draws from a file, by the ending of its name: .csv, .tsv, .txt, .npy, .npz, .parquet, .nc or .netcdf.

    Args:
        path: of the file.
        variables: columns (CSV, Parquet) or variables of the posterior (NetCDF) that are the coordinates, in this
            order; default all, in the file's.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read or holds no draws; the message names the file, the rule and the value.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"the name of a draws file must end in {', '.join(READERS)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"draws file {path} does not exist" + (": it is a folder" if path.is_dir() else ""))
    try:
        draws, details = reader(path, variables)
    except (ValueError, KeyError, csv.Error, *UNREADABLE) as error:
        raise ValueError(f"draws file {path}: {str(error).strip() or type(error).__name__}") from error
    n, dim = draws.samples.shape
    return Reading(draws, f"read {n:,} rows x {dim} columns from {path} ({details})")


def _csv(path: Path, variables: Sequence[str]) -> tuple[Draws, str]:
    with path.open(encoding="utf-8-sig") as lines:
        written = (line.strip("\r\n") for line in lines if line.strip() and not line.startswith("#"))
        first, second = next(written, ""), next(written, "")
    unquoted = "".join(first.split('"')[::2])
    separator = next((mark for mark in ("\t", ",", ";") if mark in unquoted), r"\s+")
    cells, cells_below = _split(first, separator), _split(second, separator)
    has_header = _is_header(cells)
    if second and len(cells_below) < len(cells):
        raise ValueError(f"every row must have {len(cells)} columns, as the first line, got {len(cells_below)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a header shorter than the rows would drop columns
        try:
            frame = pd.read_csv(
                path, sep=separator, header=0 if has_header else None, names=cells if has_header else None,
                comment="#", skipinitialspace=True, index_col=False, encoding="utf-8-sig",
            )  # fmt: skip
        except pd.errors.ParserWarning as error:
            raise ValueError(f"every row must have {len(cells)} columns, as the first line") from error
    return _from_table(frame, has_header=has_header, variables=variables)


def _split(line: str, separator: str) -> list[str]:
    """The cells of a line, without quotes."""
    cells = line.split() if separator == r"\s+" else next(csv.reader([line], delimiter=separator), [])
    return [cell.strip().strip('"') for cell in cells]


def _is_header(cells: Sequence[str]) -> bool:
    """Whether the first line names columns: some cell is no number, or they count 0, 1, ... as pandas names columns."""
    named = [cell for cell in cells if cell]
    return any(not _is_number(cell) for cell in named) or named == [str(i) for i in range(len(named))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(path: Path, variables: Sequence[str]) -> tuple[Draws, str]:
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise ValueError("reading Parquet needs pyarrow: pip install 'samplerbench[parquet]'") from error
    return _from_table(frame.set_axis([str(name) for name in frame.columns], axis=1), variables=variables)


def _from_table(frame: pd.DataFrame, *, variables: Sequence[str], has_header: bool = True) -> tuple[Draws, str]:
    names = list(frame.columns) if has_header else []
    details = f"header {_shown([name for name in names if name])}" if has_header else "no header"
    absent = [name for name in variables if name not in names]
    if absent:
        raise ValueError(f"variables must be columns, got {', '.join(absent)}; {details}")
    if "" in names:
        details += "; the column without a name, an index, is left out"
    columns = list(variables) or [name for name in frame.columns if name not in ("", *STATS)]
    if not columns:
        raise ValueError(f"there must be a column of coordinates; {details}")
    stats: dict[str, Any] = {field: _numbers(frame[[name]])[:, 0] for name, field in STATS.items() if name in names}
    return replace(Draws(samples=_numbers(frame[columns])), **stats), details


def _numbers(frame: pd.DataFrame) -> Tensor:
    """The columns in float64, shape ``(n, n_columns)``."""
    columns = []
    for name, column in frame.items():
        numbers = pd.to_numeric(column, errors="coerce")
        bad = np.flatnonzero(numbers.isna() & column.notna() & (column.astype(str).str.lower() != "nan"))
        if len(bad):
            raise ValueError(f"column {name} must hold numbers, got {column.iloc[bad[0]]!r} in row {bad[0] + 1}")
        columns.append(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    return torch.from_numpy(np.stack(columns, axis=1))


def _npy(path: Path, variables: Sequence[str]) -> tuple[Draws, str]:
    _refuse(variables)
    array = _loaded(path)
    if isinstance(array, dict):
        raise ValueError("it is a NPZ file under another name")
    return _from_array(array), f"array of shape {array.shape}"


def _npz(path: Path, variables: Sequence[str]) -> tuple[Draws, str]:
    _refuse(variables)
    found = _loaded(path)
    if not isinstance(found, dict):
        raise ValueError("it is a NPY file under another name")
    shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
    if len(found) == 1 and not set(found) & set(ARRAYS):
        return _from_array(*found.values()), f"array {shapes}"
    if "samples" not in found and "chains" not in found:
        raise ValueError(f"one of its arrays must be samples or chains, got {shapes or 'none'}")
    arrays: dict[str, Any] = {name: _floats(found[name]) for name in ARRAYS if name in found}
    draws = _from_array(found["samples"] if "samples" in found else found["chains"])
    unused = sorted(set(found) - set(ARRAYS))
    details = f"arrays {shapes}" + (f"; not used: {', '.join(unused)}" if unused else "")
    if "chains" in arrays and len(arrays["chains"]) < 2:
        del arrays["chains"]  # one chain says nothing of its convergence
    return replace(draws, **{name: array for name, array in arrays.items() if name != "samples"}), details


def _loaded(path: Path) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """What ``numpy.save`` or ``savez`` wrote."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return dict(found)
    except ValueError as error:  # NumPy's message would advise to unpickle the file, which can execute anything
        raise ValueError("it must hold plain arrays of numbers, as numpy.save and savez write them") from error


def _from_array(array: NDArray[Any]) -> Draws:
    x = _floats(array)
    if x.ndim == 3:
        return Draws(samples=x.reshape(-1, x.shape[2]), chains=x if len(x) > 1 else None)
    if x.ndim not in (1, 2):
        raise ValueError(f"an array must have shape (n, dim) or (n_chains, n_kept, dim), got {array.shape}")
    return Draws(samples=x[:, None] if x.ndim == 1 else x)


def _floats(array: NDArray[Any]) -> Tensor:
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"an array must hold real numbers, got dtype {array.dtype}")
    return torch.from_numpy(np.array(array, dtype=np.float64))


def _netcdf(path: Path, variables: Sequence[str]) -> tuple[Draws, str]:
    data = arviz().from_netcdf(str(path))
    draws = _in_float64(from_inference_data(data, variables=variables))
    n_chains, n_kept = (data["posterior"].sizes[name] for name in ("chain", "draw"))
    found = _shown([name if size == 1 else f"{name}[{size}]" for name, size in sizes(data).items()])
    return draws, f"posterior of {n_chains} chains x {n_kept:,} draws, variables {found}"


def _in_float64(draws: Draws) -> Draws:
    return replace(draws, **{name: array.double() for name in ARRAYS if (array := getattr(draws, name)) is not None})


def _refuse(variables: Sequence[str]) -> None:
    if variables:
        raise ValueError(f"variables are for files with names of columns, got {', '.join(variables)}")


def _shown(names: Sequence[object]) -> str:
    shown = ", ".join(str(name) for name in names[:MAX_SHOWN])
    return shown if len(names) <= MAX_SHOWN else f"{shown}, ... ({len(names)} names)"


READERS: Mapping[str, Callable[[Path, Sequence[str]], tuple[Draws, str]]] = {
    ".csv": _csv, ".tsv": _csv, ".txt": _csv, ".npy": _npy, ".npz": _npz, ".parquet": _parquet, ".nc": _netcdf,
    ".netcdf": _netcdf,
}  # fmt: skip
