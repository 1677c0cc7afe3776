"""Draws from files of every kind, and what is said of files that hold none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from samplerbench.benchmarks import to_inference_data
from samplerbench.benchmarks.draws_file import read_draws
from samplerbench.targets import Draws

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
LOG_WEIGHT, LOG_DENSITY = RNG.normal(size=40), RNG.normal(size=40)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
WEIGHTED = FRAME.assign(log_weight=LOG_WEIGHT, log_density=LOG_DENSITY)
Write = Callable[[Path], Any]

PLAIN: dict[str, tuple[str, Write, str]] = {
    "header": ("x.csv", lambda path: FRAME.to_csv(path, index=False), "(header a, b, c)"),
    "no header": ("x.csv", lambda path: FRAME.to_csv(path, index=False, header=False), "(no header)"),
    "counted columns": ("x.csv", lambda path: pd.DataFrame(X).to_csv(path, index=False), "(header 0, 1, 2)"),
    "index": ("x.csv", lambda path: FRAME.to_csv(path), "the column without a name, an index, is left out)"),
    "counted columns and index": ("x.csv", lambda path: pd.DataFrame(X).to_csv(path), "(header 0, 1, 2; the column"),
    "semicolons": ("x.csv", lambda path: FRAME.to_csv(path, index=False, sep=";"), "(header a, b, c)"),
    "tabs": ("x.tsv", lambda path: FRAME.to_csv(path, index=False, sep="\t"), "(header a, b, c)"),
    "byte order mark": ("x.csv", lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"), "(header a, b"),
    "savetxt": ("x.txt", lambda path: np.savetxt(path, X, fmt="%.17g", header="a b c"), "(no header)"),
    "npy": ("x.npy", lambda path: np.save(path, X), "(array of shape (40, 3))"),
    "other byte order": ("x.npy", lambda path: np.save(path, X.astype(">f8")), "(array of shape (40, 3))"),
    "npz": ("x.npz", lambda path: np.savez(path, X), "(array arr_0 (40, 3))"),
    "npz by name": ("x.npz", lambda path: np.savez(path, samples=X, other=X), "not used: other)"),
    "parquet": ("x.parquet", lambda path: FRAME.to_parquet(path), "(header a, b, c)"),
    "netcdf": (
        "x.nc",
        lambda path: to_inference_data(Draws(samples=torch.tensor(X))).to_netcdf(str(path)),
        "(posterior of 1 chains x 40 draws, variables x[3])",
    ),
}


def written(folder: Path, name: str, write: Write) -> Path:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    write(folder / name)
    return folder / name


@pytest.mark.parametrize("case", PLAIN)
def test_every_format_gives_the_same_draws_and_says_what_was_read(case: str, tmp_path: Path) -> None:
    name, write, details = PLAIN[case]
    path = written(tmp_path, name, write)
    reading = read_draws(path)
    assert torch.equal(reading.draws.samples, torch.tensor(X))
    assert reading.draws.log_weights is None
    assert reading.draws.chains is None
    assert reading.text.startswith(f"read 40 rows x 3 columns from {path} (")
    assert reading.text.endswith(details) or details in reading.text


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.csv", lambda path: WEIGHTED.to_csv(path, index=False)),
        ("x.parquet", lambda path: WEIGHTED.to_parquet(path)),
        ("x.npz", lambda path: np.savez(path, samples=X, log_weights=LOG_WEIGHT, log_density=LOG_DENSITY)),
        (
            "x.nc",
            lambda path: to_inference_data(
                Draws(
                    samples=torch.tensor(X),
                    log_weights=torch.tensor(LOG_WEIGHT),
                    log_density=torch.tensor(LOG_DENSITY),
                )
            ).to_netcdf(str(path)),
        ),
    ],
)
def test_weights_and_densities_are_no_coordinates(name: str, write: Write, tmp_path: Path) -> None:
    draws = read_draws(written(tmp_path, name, write)).draws
    assert torch.equal(draws.samples, torch.tensor(X))
    assert draws.log_weights is not None
    assert draws.log_density is not None
    assert torch.equal(draws.log_weights, torch.tensor(LOG_WEIGHT))
    assert torch.equal(draws.log_density, torch.tensor(LOG_DENSITY))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("x.npy", lambda path: np.save(path, X.reshape(4, 10, 3))),
        ("x.npz", lambda path: np.savez(path, X.reshape(4, 10, 3))),
        ("x.npz", lambda path: np.savez(path, samples=X, chains=X.reshape(4, 10, 3))),
        ("x.npz", lambda path: np.savez(path, chains=X.reshape(4, 10, 3))),
    ],
)
def test_arrays_of_chains(name: str, write: Write, tmp_path: Path) -> None:
    draws = read_draws(written(tmp_path, name, write)).draws
    assert torch.equal(draws.samples, torch.tensor(X))
    assert draws.chains is not None
    assert torch.equal(draws.chains, torch.tensor(X.reshape(4, 10, 3)))


def test_everything_is_float64_and_one_column_is_a_law_on_the_line(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5, dtype=np.int16))
    draws = read_draws(tmp_path / "x.npy").draws
    assert draws.samples.dtype == torch.float64
    assert draws.samples.tolist() == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_variables_choose_columns_and_their_order(name: str, tmp_path: Path) -> None:
    frame = FRAME.assign(lp__=0.0, note="text")
    write: Write = frame.to_parquet if name == "x.parquet" else lambda path: frame.to_csv(path, index=False)
    draws = read_draws(written(tmp_path, name, write), variables=["c", "a"]).draws
    assert torch.equal(draws.samples, torch.tensor(X[:, [2, 0]]))


def test_comments_as_stan_writes_them_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("# model\nlp__,a.1,a.2\n# Adaptation terminated\n-1,2,3\n-4,5,6\n# Elapsed: 1 s\n")
    draws = read_draws(tmp_path / "x.csv", variables=["a.1", "a.2"]).draws
    assert draws.samples.tolist() == [[2, 3], [5, 6]]


class Harmful:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    harmful = np.array([Harmful(tmp_path / "executed")], dtype=object)
    (np.save if name == "x.npy" else np.savez)(tmp_path / name, harmful)
    with pytest.raises(ValueError, match="must hold plain arrays of numbers"):
        read_draws(tmp_path / name)
    assert not (tmp_path / "executed").exists()
    np.load(tmp_path / name, allow_pickle=True)["arr_0" if name == "x.npz" else 0]
    assert (tmp_path / "executed").exists()  # it would have been


def text(contents: str) -> Write:
    return lambda path: path.write_text(contents)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("x.csv", text(""), "No columns to parse"),
        ("x.csv", text("a,b\n1,2\n3,x\n"), "column b must hold numbers, got 'x' in row 2"),
        ("x.csv", text("a,b,c\n1,2\n4,5\n"), "every row must have 3 columns, as the first line, got 2"),
        ("x.csv", text("a,b\n1,2,3\n4,5,6\n"), "every row must have 2 columns, as the first line"),
        ("x.csv", text("1,2\n4,5,6\n"), "Expected 2 fields in line 2, saw 3"),
        ("x.csv", text("log_weight\n1\n"), "must be a column of coordinates; header log_weight"),
        ("x.csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "codec can't decode"),
        ("x.npy", text("hello"), "must hold plain arrays of numbers"),
        ("x.npy", text(""), "No data left in file"),
        ("x.npy", lambda path: np.savez(path.open("wb"), X), "is a NPZ file under another name"),
        ("x.npz", lambda path: np.save(path.open("wb"), X), "is a NPY file under another name"),
        (
            "x.npy",
            lambda path: np.save(path, np.zeros((2, 2, 2, 2))),
            r"must have shape \(n, dim\) .* got \(2, 2, 2, 2",
        ),
        ("x.npy", lambda path: np.save(path, X + 1j), "must hold real numbers, got dtype complex128"),
        ("x.npz", text("PK"), "must hold plain arrays|not a zip file"),
        ("x.npz", lambda path: np.savez(path, a=X, b=X), r"must be samples or chains, got a \(40, 3\), b \(40, 3\)"),
        ("x.parquet", text("hello"), "Parquet"),
        ("x.nc", text("hello"), "file signature not found"),
        ("x.json", text("[]"), r"must end in .csv, .*, got .*x\.json"),
    ],
)
def test_files_without_draws_are_named(name: str, write: Write, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, write)
    with pytest.raises(ValueError, match=message) as caught:
        read_draws(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cut", [10, 0.5, -20])
@pytest.mark.parametrize("case", ["npy", "npz", "parquet", "netcdf"])
def test_files_that_end_early_are_an_error_of_one_kind(case: str, cut: float, tmp_path: Path) -> None:
    name, write, _ = PLAIN[case]
    path = written(tmp_path, name, write)
    contents = path.read_bytes()
    path.write_bytes(contents[: int(cut * len(contents)) if cut == 0.5 else int(cut)])
    with pytest.raises(ValueError, match=f"draws file {path}: ."):
        read_draws(path)


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.csv does not exist$"):
        read_draws(tmp_path / "absent.csv")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder\.npz does not exist: it is a folder"):
        read_draws(tmp_path / "folder.npz")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("header", "variables must be columns, got d; header a, b, c"),
        ("no header", "variables must be columns, got d; no header"),
        ("npy", "variables are for files with names of columns, got d"),
        ("netcdf", r"variables must be in the posterior \(x\), got d"),
    ],
)
def test_unknown_variables_are_named(case: str, message: str, tmp_path: Path) -> None:
    name, write, _ = PLAIN[case]
    with pytest.raises(ValueError, match=message):
        read_draws(written(tmp_path, name, write), variables=["d"])


def test_parquet_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> pd.DataFrame:
        raise ImportError("Unable to find a usable engine")

    (tmp_path / "x.parquet").touch()
    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(ValueError, match=r"pip install 'samplerbench\[parquet\]'"):
        read_draws(tmp_path / "x.parquet")


def test_names_with_commas_in_quotes_are_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text('"L[1,1]","L[2,1]"\n1,2\n3,4\n')
    reading = read_draws(path, variables=["L[2,1]", "L[1,1]"])
    assert reading.draws.samples.tolist() == [[2, 1], [4, 3]]
    tabs = tmp_path / "x.tsv"
    tabs.write_text("L[1,1]\tL[2,1]\n1\t2\n3\t4\n")
    assert read_draws(tabs).draws.samples.tolist() == [[1, 2], [3, 4]]


def test_one_chain_in_an_archive_is_no_chains(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", chains=X[None])
    draws = read_draws(tmp_path / "x.npz").draws
    assert draws.samples.shape == (40, 3)
    assert draws.chains is None
