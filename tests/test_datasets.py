import gzip
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch

from samplerbench.targets import datasets
from samplerbench.targets.datasets import DATASETS, DataFileError, DataSet, load

BUNDLED = ("breast_cancer", "digits")
FROM_FILES = sorted(set(DATASETS) - set(BUNDLED))
GIVEN = Path(os.environ.get("SAMPLERBENCH_DATA") or "no folder was given")
TOY = b"a,b,label\n1,0.5,1\n2,0.25,2\n3,-1,1\n"

Serve = Callable[[dict[str, bytes]], list[str]]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What a test here reads stays in memory neither for the next one nor for other modules."""
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder; the cache is empty too."""
    folder = tmp_path / "given"
    folder.mkdir()
    monkeypatch.setenv("SAMPLERBENCH_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return folder


@pytest.fixture
def cached(given: Path) -> Path:
    """The cache folder, empty."""
    return given.parent / "samplerbench"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Replace the network by files at their addresses; returns the list that collects what was asked for."""

    def replaced(files: dict[str, bytes]) -> list[str]:
        asked: list[str] = []

        def urlopen(url: str, timeout: float) -> io.BytesIO:
            asked.append(url)
            if url not in files:
                raise URLError("no network")
            return io.BytesIO(files[url])

        monkeypatch.setattr(datasets, "urlopen", urlopen)
        return asked

    replaced({})
    return replaced


@pytest.fixture
def toy(given: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A small two-class table, with an official form separated by blanks."""
    read = partial(datasets._labelled, one=1)
    data = replace(
        DATASETS["german_credit"],
        name="toy",
        files=("toy.csv",),
        urls=("https://example.org/toy.data",),
        read=read,
        read_official=partial(datasets._labelled, one=1, header=None, separator=r"\s+"),
        sha256=datasets.checksum(read([TOY])),
    )
    monkeypatch.setitem(DATASETS, "toy", data)
    return data


def as_official(frame: pd.DataFrame, separator: str = ",") -> bytes:
    return frame.to_csv(header=False, index=False, sep=separator).encode()


def local(name: str, file: int = 0) -> bytes:
    path = GIVEN / DATASETS[name].files[file]
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path.read_bytes()


def frame(name: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(datasets._plain(local(name))))


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_content_is_the_recorded_one(name: str) -> None:
    if name in FROM_FILES:
        local(name)
    features, labels = load(name)
    assert features.shape == (DATASETS[name].n_rows, DATASETS[name].n_features)
    assert features.dtype == torch.float64
    assert features.isfinite().all()
    assert labels.shape == ((0,) if name == "pines" else (DATASETS[name].n_rows,))
    assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("breast_cancer", [212, 357]),
        ("german_credit", [300, 700]),
        ("ionosphere", [126, 225]),
        ("sonar", [111, 97]),
        ("covertype_subset", [0, 1375, 1462, 1262, 1620, 1583, 1349, 1349]),
        ("mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
    ],
)
def test_class_counts(name: str, counts: list[int]) -> None:
    if name in FROM_FILES:
        local(name)
    assert load(name)[1].bincount().tolist() == counts


def test_images_lie_in_the_unit_interval() -> None:
    for name in ("digits", "mnist") if (GIVEN / "mnist").is_dir() else ("digits",):
        assert load(name)[0].min() == 0
        assert load(name)[0].max() == 1


def test_german_credit_from_uci(given: Path, serve: Serve) -> None:
    raw = "".join("   " + "  ".join(map(str, row)) + " \n" for row in frame("german_credit").to_numpy())
    serve({DATASETS["german_credit"].urls[0]: raw.encode()})
    features, labels = load("german_credit")
    assert features[0, :5].tolist() == [1, 6, 4, 12, 5]
    assert labels[:2].tolist() == [1, 0]


def test_ionosphere_from_uci(given: Path, serve: Serve) -> None:
    table = frame("ionosphere")
    table["label"] = table["label"].map({1: "g", -1: "b"})
    serve({DATASETS["ionosphere"].urls[0]: as_official(table)})
    assert (load("ionosphere")[0][:, 1] == 0).all()


def test_sonar_from_uci_has_another_scale_order_and_spelling(given: Path, serve: Serve) -> None:
    table = frame("sonar")
    units = np.linspace(0.3, 0.9, 60)  # any increasing map of the columns, as the smallest and largest values fix it
    table.iloc[:, :-1] = 0.05 + units * (table.iloc[:, :-1] + 1) / 2
    table["label"] = table["label"].map({1: "R", -1: "M"})
    serve({DATASETS["sonar"].urls[0]: as_official(table.sample(frac=1, random_state=1))})
    features, labels = load("sonar")
    assert (features.min(0).values == -1).all()
    assert (features.max(0).values == 1).all()
    assert labels.sum() == 97


def test_pines_are_a_set_of_points(given: Path) -> None:
    points = frame("pines")
    (given / "pines.csv").write_bytes(points.sample(frac=1, random_state=1).to_csv(index=False).encode())
    assert load("pines")[0].shape == (126, 2)


def test_the_covertype_subset_is_found_in_the_full_table(given: Path, serve: Serve) -> None:
    subset = frame("covertype_subset").to_numpy()
    others = np.random.default_rng(0).permuted(subset, axis=0)  # columns shuffled apart: other rows of the same kind
    full = np.random.default_rng(1).permutation(np.concatenate([subset, others, others + 1]))
    serve({DATASETS["covertype_subset"].urls[0]: gzip.compress(as_official(pd.DataFrame(full)), 1)})
    features, labels = load("covertype_subset")
    assert np.array_equal(np.column_stack([features, labels]), subset)


def test_the_full_covertype_table_must_be_the_official_file(
    given: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(110).reshape(2, 55)
    monkeypatch.setitem(DATASETS, "covertype_full", replace(DATASETS["covertype_full"], n_rows=2))
    (url,) = DATASETS["covertype_full"].urls
    files = {url: gzip.compress(as_official(pd.DataFrame(rows)))}
    serve(files)
    with pytest.raises(ValueError, match=r"sha256 of the file must be 614360d0"):
        load("covertype_full")
    monkeypatch.setattr(datasets, "COVERTYPE_FILE", hashlib.sha256(files[url]).hexdigest())
    asked = serve(files)
    for _ in range(2):  # the second time from the cache
        load.cache_clear()
        features, labels = load("covertype_full")
        assert np.array_equal(np.column_stack([features, labels]), rows)
    assert asked == [url]
    load.cache_clear()
    monkeypatch.setitem(DATASETS, "covertype_full", replace(DATASETS["covertype_full"], n_rows=3))
    with pytest.raises(ValueError, match=r"covertype_full.npz is not .* must have shape \(3, 54\), found \(2, 54\)"):
        load("covertype_full")


def test_a_full_table_without_the_subset_is_refused(given: Path, serve: Serve) -> None:
    serve({DATASETS["covertype_subset"].urls[0]: as_official(pd.DataFrame(np.zeros((3, 55), dtype=int)))})
    with pytest.raises(ValueError, match=r"covtype.data.gz is not data set 'covertype_subset': .* 6c6f515b"):
        load("covertype_subset")


def test_mnist_from_its_mirror(given: Path, cached: Path, serve: Serve) -> None:
    files = {url: local("mnist", file) for file, url in enumerate(DATASETS["mnist"].urls)}
    asked = serve(files)
    assert load("mnist")[1][:3].tolist() == [7, 2, 1]
    assert asked == list(DATASETS["mnist"].urls)
    load.cache_clear()
    assert load("mnist")[0].shape == (10_000, 784)  # now from the cache
    assert len(asked) == 2
    (cached / "mnist.npz").unlink()
    (given / "t10k-images-idx3-ubyte.gz").write_bytes(files[asked[0]])  # official names do without the folder
    (given / "t10k-labels-idx1-ubyte.gz").write_bytes(files[asked[1]])
    load.cache_clear()
    load("mnist")
    assert len(asked) == 2


def test_files_come_before_the_cache_and_the_cache_before_the_network(toy: DataSet, given: Path, serve: Serve) -> None:
    asked = serve({toy.urls[0]: b" 1 0.5 1\n 2 0.25 2\n 3 -1 1\n"})
    features, labels = load("toy")
    assert features.tolist() == [[1, 0.5], [2, 0.25], [3, -1]]
    assert labels.tolist() == [1, 0, 1]
    load.cache_clear()
    load("toy")
    assert asked == ["https://example.org/toy.data"]  # the second time from the cache
    (given / "toy.csv").write_bytes(TOY.replace(b"0.25", b"0.26"))
    load.cache_clear()
    with pytest.raises(ValueError, match=r"given/toy.csv is not data set 'toy'"):
        load("toy")


def test_the_cache_holds_whole_files_only(toy: DataSet, cached: Path, serve: Serve) -> None:
    serve({toy.urls[0]: b"1 0.5 1\n2 0.25 2\n3 -1 1\n"})
    load("toy")
    assert [path.name for path in cached.iterdir()] == ["toy.npz"]


def test_other_content_is_refused_with_both_checksums(toy: DataSet, given: Path, cached: Path, serve: Serve) -> None:
    other = TOY.replace(b"0.25", b"0.26")
    found = datasets.checksum(toy.read([other]))
    (given / "toy.csv").write_bytes(other)
    with pytest.raises(ValueError, match=f"toy.csv is not data set 'toy': .* sha256 {toy.sha256}, found {found}"):
        load("toy")
    (given / "toy.csv").unlink()
    serve({toy.urls[0]: b"1 0.5 1\n2 0.26 2\n3 -1 1\n"})
    with pytest.raises(ValueError, match=f"https://example.org/toy.data is not .*found {found}"):
        load("toy")
    assert not cached.exists()  # nothing wrong is kept


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08broken", b"a,b,label\n1,x,1\n", b"a\n1,2,3\n1\n1,2,3,4\n"])
def test_a_corrupt_file_is_named(toy: DataSet, given: Path, content: bytes) -> None:
    (given / "toy.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"given/toy.csv is not .*{toy.sha256}, but it cannot be parsed"):
        load("toy")


def test_a_cache_with_pickled_objects_is_not_unpickled(toy: DataSet, cached: Path) -> None:
    cached.mkdir()
    np.savez(cached / "toy.npz", features=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(ValueError, match=r"toy.npz is not .* cannot be parsed .*allow_pickle"):
        load("toy")


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_missing_file_says_where_to_get_and_to_put_it(name: str, given: Path, cached: Path, serve: Serve) -> None:
    with pytest.raises(DataFileError) as error:
        load(name)
    message = str(error.value)
    for part in (*DATASETS[name].files, DATASETS[name].source, str(given), str(cached), "SAMPLERBENCH_DATA"):
        assert part in message
    assert ("no network" in message) == (name != "pines")
    assert isinstance(error.value, FileNotFoundError)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match=r"unknown data set 'sonr'; did you mean 'sonar'\?"):
        load("sonr")


def test_every_licence_is_stated() -> None:
    for data in DATASETS.values():
        assert data.licence
        assert data.origin
        assert data.source
