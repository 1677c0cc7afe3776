"""Real data: one table of data sets, and the loader that finds, checks or downloads them.

A data set is looked for in the folder that the environment variable SAMPLERBENCH_DATA names, then in the cache
(``$XDG_CACHE_HOME/samplerbench``, else ``~/.cache/samplerbench``), then at its official source. Whatever the form of
the file, its parsed content must have the recorded checksum (of the full Covertype table, the official file must have
the published one): a posterior is a law only together with its data.
Files are parsed by pandas and numpy and never unpickled.
"""

import contextlib
import gzip
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from .registry import unknown

Array: TypeAlias = npt.NDArray[Any]
Table: TypeAlias = tuple[Array, Array]  # features (n_rows, n_features); labels (n_rows,), (0,) if there are none
Read: TypeAlias = Callable[[Sequence[bytes]], Table]

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"
MNIST_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"  # the one that torchvision uses
COVERTYPE_FILE = "614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771"  # as fetch_covtype checks it
CC_BY = "CC BY 4.0"
TIMEOUT = 60.0  # seconds without an answer from a server
UNREADABLE = (ValueError, OSError, EOFError, LookupError, OverflowError, zlib.error, zipfile.BadZipFile)


class DataFileError(FileNotFoundError):
    """A data file that is nowhere and cannot be downloaded; its message says where to get and to put it."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Attributes:
        name: key of the table.
        files: names in SAMPLERBENCH_DATA of the project's form; empty if scikit-learn bundles the data.
        origin: who made the data, and where they are described.
        source: how to get them officially: an address, or a command.
        licence: terms of use.
        n_rows, n_features: shape of the features.
        sha256: of the parsed content (see ``checksum``); empty where only that of the official file is published: then
            ``read`` checks the file, and of the copy in the cache that is made from it the shape is checked.
        read: contents of ``files``, in order, to the table.
        urls: official files, where they can be downloaded; their last parts are accepted as file names too.
        read_official: contents of the files at ``urls``, in order, to the same table.
        unit: the features are divided by it on loading.
    """

    name: str
    files: tuple[str, ...]
    origin: str
    source: str
    licence: str
    n_rows: int
    n_features: int
    sha256: str
    read: Read
    urls: tuple[str, ...] = ()
    read_official: Read | None = None
    unit: float = 1.0

    @property
    def official_files(self) -> tuple[str, ...]:
        """Names of the official files."""
        return tuple(url.rsplit("/", 1)[-1] for url in self.urls)


@cache
def load(name: str) -> tuple[Tensor, Tensor]:
    """Features and labels of a data set of the table; read once per process, not to be modified.

    Returns:
        Features ``(n_rows, n_features)`` in float64, images in [0, 1]; labels ``(n_rows,)`` in int64, 0 or 1 for the
        two-class sets, the class elsewhere, and of shape ``(0,)`` for points without labels.
    Raises:
        UnknownNameError: (a KeyError) for an unknown name.
        DataFileError: if the data are in no folder and cannot be downloaded.
        ValueError: if a file is corrupt or has another content.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    features, labels = _table(DATASETS[name])
    scaled = features.astype(np.float64) / DATASETS[name].unit
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))


def checksum(table: Table) -> str:
    """SHA-256 of the shape, the features as float64 and the labels as int64, little-endian, row by row."""
    features, labels = table
    digest = hashlib.sha256(repr(features.shape).encode())
    digest.update(np.ascontiguousarray(features, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where downloaded data are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "samplerbench"


def _table(data: DataSet) -> Table:
    """The checked table, from the first place that has it."""
    if not data.files:
        return _checked(data, "scikit-learn's copy", partial(data.read, ()))
    looked = []
    if os.environ.get("SAMPLERBENCH_DATA"):
        folder = Path(os.environ["SAMPLERBENCH_DATA"])
        looked.append(folder)
        for names, read in ((data.files, data.read), (data.official_files, data.read_official)):
            paths = [folder / name for name in names]
            if read is not None and paths and all(path.is_file() for path in paths):
                return _checked(data, " and ".join(map(str, paths)), partial(_read_files, paths, read))
    kept = cache_folder() / f"{data.name}.npz"
    looked.append(kept.parent)
    if kept.is_file():
        return _checked(data, f"{kept}", partial(_read_npz, kept))
    table = _download(data, looked)
    _keep(table, kept)
    return table


def _checked(data: DataSet, where: str, read: Callable[[], Table]) -> Table:
    """What ``read`` returns, if it is the recorded content.

    Raises:
        ValueError: naming the file, the expected and the found checksum (the shape where none is recorded).
    """
    kind, expected = ("sha256", data.sha256) if data.sha256 else ("shape", str((data.n_rows, data.n_features)))
    rule = f"{where} is not data set {data.name!r}: its content must have {kind} {expected}"
    try:
        table = read()
    except UNREADABLE as error:
        raise ValueError(f"{rule}, but it cannot be parsed ({type(error).__name__}: {error})") from error
    found = checksum(table) if data.sha256 else str(table[0].shape)
    if found != expected:
        raise ValueError(f"{rule}, found {found}")
    return table


def _download(data: DataSet, looked: Sequence[Path]) -> Table:
    """The checked table from its official source."""
    reason = "there is no plain download"
    if data.read_official is not None:
        try:
            contents = [_fetch(url) for url in data.urls]
        except (OSError, HTTPException) as error:
            reason = f"the download failed ({type(error).__name__}: {error})"
        else:
            return _checked(data, " and ".join(data.urls), partial(data.read_official, contents))
    files, folders = " and ".join(data.files), " or ".join(map(str, looked))
    raise DataFileError(
        f"data set {data.name!r}: {files} not found in {folders}, and {reason}; get it from {data.source}, put it "
        f"({' and '.join(data.official_files or data.files)}) into a folder, and name that folder in the environment "
        f"variable SAMPLERBENCH_DATA"
    )


def _fetch(url: str) -> bytes:
    with urlopen(url, timeout=TIMEOUT) as response:
        return bytes(response.read())


def _keep(table: Table, path: Path) -> None:
    """Write the table to the cache at once or not at all: another process may be reading or writing it.

    A cache that cannot be written (read-only, full) costs the next process a download, and this one nothing.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, features=table[0], labels=table[1])
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(buffer.getvalue())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _read_files(paths: Sequence[Path], read: Read) -> Table:
    return read([path.read_bytes() for path in paths])


def _read_npz(path: Path) -> Table:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["features"], arrays["labels"]


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _frame(content: bytes, *, header: int | None, separator: str = ",") -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(_plain(content)), header=header, sep=separator)


def _labelled(contents: Sequence[bytes], *, one: object, header: int | None = 0, separator: str = ",") -> Table:
    """Two classes: the last column is the label, 1 where it equals ``one``."""
    frame = _frame(contents[0], header=header, separator=separator)
    return frame.iloc[:, :-1].to_numpy(np.float64), (frame.iloc[:, -1] == one).to_numpy(np.int64)


def _sonar(contents: Sequence[bytes], *, one: object, header: int | None = 0) -> Table:
    """Sonar comes in [0, 1], or scaled to [-1, 1] and printed to six digits, in several orders: one form for all."""
    features, labels = _labelled(contents, one=one, header=header)
    low, high = features.min(0), features.max(0)
    scaled = -1 + 2 * (features - low) / (high - low)
    snapped = scaled.round(12) + 0.0  # a midpoint is zero, whatever the round-off, and not minus zero
    rounded = np.array([float(f"{value:.6g}") for value in snapped.ravel()]).reshape(scaled.shape)
    order = np.lexsort(rounded.T[::-1])
    return rounded[order], labels[order]


def _pines(contents: Sequence[bytes]) -> Table:
    """Points of the unit square, as a pattern has no order: sorted; to 10 digits, as R prints no more than 15."""
    points = _frame(contents[0], header=0).to_numpy(np.float64).round(10)
    return points[np.lexsort(points.T[::-1])], np.zeros(0, dtype=np.int64)


def _covertype(contents: Sequence[bytes]) -> Table:
    """The subset: 54 features and Cover_Type (1 to 7)."""
    table = _frame(contents[0], header=0).to_numpy(np.int64)
    return table[:, :-1], table[:, -1]


def _covertype_full(contents: Sequence[bytes]) -> Table:
    """The full table, of the file whose checksum scikit-learn publishes."""
    found = hashlib.sha256(contents[0]).hexdigest()
    if found != COVERTYPE_FILE:
        raise ValueError(f"sha256 of the file must be {COVERTYPE_FILE}, got {found}")
    table = _covertype_table(contents[0])
    return table[:, :-1], table[:, -1]


def _covertype_table(content: bytes) -> Array:
    return pd.read_csv(io.BytesIO(_plain(content)), header=None, dtype=np.int16).to_numpy()


def _covertype_official(contents: Sequence[bytes]) -> Table:
    """The rows of the full table that make up the subset, in its order, found by their hashes."""
    table = _covertype_table(contents[0])
    with resources.files(f"{__package__}.data").joinpath("covertype_rows.npz").open("rb") as stream:
        wanted = np.load(stream, allow_pickle=False)["hashes"]
    hashes = row_hashes(table)
    order = np.argsort(hashes)
    place = np.searchsorted(hashes, wanted, sorter=order)  # past the end for a hash larger than all
    rows = table[order[np.minimum(place, len(order) - 1)]].astype(np.int64)  # a wrong row fails the checksum
    return rows[:, :-1], rows[:, -1]


def row_hashes(table: Array) -> npt.NDArray[np.uint64]:
    """One 64-bit hash per row of integers: FNV-1a over the columns as words, shape ``(n_rows,)``."""
    hashes = np.full(len(table), 0xCBF29CE484222325, dtype=np.uint64)
    for column in table.T:
        hashes = (hashes ^ column.astype(np.int64).view(np.uint64)) * np.uint64(0x100000001B3)
    return hashes


def _mnist(contents: Sequence[bytes]) -> Table:
    images, labels = (np.frombuffer(_plain(content), dtype=np.uint8) for content in contents)
    return images[16:].reshape(-1, 784), labels[8:]  # after the IDX headers


def _breast_cancer(_: Sequence[bytes]) -> Table:
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    return np.asarray(features), np.asarray(labels)


def _digits(_: Sequence[bytes]) -> Table:
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    return np.asarray(features), np.asarray(labels)


PINES_IN_R = (
    "R: p <- spatstat.data::finpines; "
    'write.csv(data.frame(x = (p$x + 5) / 10, y = (p$y + 8) / 10), "pines.csv", row.names = FALSE)'
)

DATASETS: dict[str, DataSet] = {
    data.name: data
    for data in (
        DataSet(
            name="breast_cancer",
            files=(),
            origin="UCI Breast Cancer Wisconsin (Diagnostic), doi 10.24432/C5DW2B; y = 1 is benign",
            source="bundled with scikit-learn (load_breast_cancer)",
            licence=CC_BY,
            n_rows=569,
            n_features=30,
            sha256="785a9190557f2de8e457b4298dd6f0f5437d0bfaa352f6914e735925e041b30b",
            read=_breast_cancer,
        ),
        DataSet(
            name="digits",
            files=(),
            origin="UCI Optical Recognition of Handwritten Digits (its test set), doi 10.24432/C50P49; 8 x 8 pixels",
            source="bundled with scikit-learn (load_digits)",
            licence=CC_BY,
            n_rows=1_797,
            n_features=64,
            sha256="83d36b425b0a9bb9375795c7276243562e50f199919e0c3799fa8e5725dab38f",
            read=_digits,
            unit=16.0,
        ),
        DataSet(
            name="german_credit",
            files=("german_credit.csv",),
            origin="UCI Statlog German Credit Data, numeric version, doi 10.24432/C5NC77; y = 1 is good credit",
            source=f"{UCI}/statlog/german/german.data-numeric",
            licence=CC_BY,
            n_rows=1_000,
            n_features=24,
            sha256="443f52f29488c68a719b122f26b6b252801b5e73b515de3a49a773655cb6190f",
            read=partial(_labelled, one=1),
            urls=(f"{UCI}/statlog/german/german.data-numeric",),
            read_official=partial(_labelled, one=1, header=None, separator=r"\s+"),
        ),
        DataSet(
            name="ionosphere",
            files=("ionosphere.csv",),
            origin="UCI Ionosphere, doi 10.24432/C5W01B; y = 1 is a good return; the second feature is constant",
            source=f"{UCI}/ionosphere/ionosphere.data",
            licence=CC_BY,
            n_rows=351,
            n_features=34,
            sha256="0cb8693772e938d69dae71fccddf8feda9fbdf989561105a2730dc013e5d9f92",
            read=partial(_labelled, one=1),
            urls=(f"{UCI}/ionosphere/ionosphere.data",),
            read_official=partial(_labelled, one="g", header=None),
        ),
        DataSet(
            name="sonar",
            files=("sonar.csv",),
            origin="UCI Connectionist Bench (Sonar, Mines vs. Rocks), doi 10.24432/C5T01Q; y = 1 is a rock",
            source=f"{UCI}/undocumented/connectionist-bench/sonar/sonar.all-data",
            licence=CC_BY,
            n_rows=208,
            n_features=60,
            sha256="7e2608ae302229f6a345335673ebb06c509e30f6d18e492235be0b98dfd09fd9",
            read=partial(_sonar, one=1),
            urls=(f"{UCI}/undocumented/connectionist-bench/sonar/sonar.all-data",),
            read_official=partial(_sonar, one="R", header=None),
        ),
        DataSet(
            name="covertype_subset",
            files=("covertype_subset.csv.gz",),
            origin=(
                "10,000 rows of UCI Covertype, doi 10.24432/C50K5N, classes nearly balanced and so not in the "
                "proportions of the full set; copyright Jock A. Blackard and Colorado State University"
            ),
            source=f"{UCI}/covtype/covtype.data.gz",
            licence=CC_BY,
            n_rows=10_000,
            n_features=54,
            sha256="6c6f515bcc8f87316ba59dbd06d22c7b454bdc177d10c82602a4086b8ab21834",
            read=_covertype,
            urls=(f"{UCI}/covtype/covtype.data.gz",),
            read_official=_covertype_official,
        ),
        DataSet(
            name="covertype_full",
            files=("covtype.data.gz",),
            origin="UCI Covertype, doi 10.24432/C50K5N; copyright Jock A. Blackard and Colorado State University",
            source=f"{UCI}/covtype/covtype.data.gz",
            licence=CC_BY,
            n_rows=581_012,
            n_features=54,
            sha256="",
            read=_covertype_full,
            urls=(f"{UCI}/covtype/covtype.data.gz",),
            read_official=_covertype_full,
        ),
        DataSet(
            name="pines",
            files=("pines.csv",),
            origin="Pine saplings in Finland, S. Kellomäki; scaled from [-5, 5] x [-8, 2] metres to the unit square",
            source=PINES_IN_R,
            licence="GPL (>= 2), as part of the R package spatstat.data",
            n_rows=126,
            n_features=2,
            sha256="1ba8c6034d94f7989bf2f8280b560bd2b575bd9907e84782e3d52fae558a3e24",
            read=_pines,
        ),
        DataSet(
            name="mnist",
            files=("mnist/t10k-images-idx3-ubyte.gz", "mnist/t10k-labels-idx1-ubyte.gz"),
            origin="MNIST test set, Y. LeCun, C. Cortes and C. Burges; 28 x 28 pixels",
            source=MNIST_MIRROR,
            licence="CC BY-SA 3.0",
            n_rows=10_000,
            n_features=784,
            sha256="e7bf3061cd7db2af956b3127349c7c6cebf10ca2820876b1d805c4ddb1b4900b",
            read=_mnist,
            urls=(f"{MNIST_MIRROR}/t10k-images-idx3-ubyte.gz", f"{MNIST_MIRROR}/t10k-labels-idx1-ubyte.gz"),
            read_official=_mnist,
            unit=255.0,
        ),
    )
}
