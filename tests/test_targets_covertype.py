import gzip
import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from samplerbench import targets
from samplerbench.benchmarks.plan import make_plan, parse_suite
from samplerbench.benchmarks.run import execute
from samplerbench.targets import covertype, datasets
from samplerbench.targets.covertype import Covertype, CovertypeFull, HierarchicalRegression
from samplerbench.targets.datasets import DATASETS, load
from samplerbench.targets.shipped import reference_draws

needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("SAMPLERBENCH_DATA") or "no folder was given") / "covertype_subset.csv.gz").is_file(),
    reason="covertype_subset.csv.gz is not in SAMPLERBENCH_DATA",
)


@pytest.fixture(scope="module")
def target() -> Covertype:
    return Covertype()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 56, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def check_against_numpy(target: HierarchicalRegression, x: torch.Tensor) -> None:
    """Log density, labels and log odds by the formulas, from the rows as they are loaded."""
    features, labels = (part.numpy() for part in load(target.data))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).numpy()
    given, held_out = np.split(order, [round(0.8 * len(labels))])
    design = np.column_stack([np.ones(len(labels)), features])
    design[:, 1:11] = (features[:, :10] - features[given, :10].mean(0)) / features[given, :10].std(0)
    y = (labels == 2).astype(int)
    la, w = x[..., 0].numpy(), x[..., 1:].numpy()
    logits = w @ design.T
    log_likelihood = np.where(y == 1, special.log_expit(logits), special.log_expit(-logits))[..., given].sum(-1)
    log_prior = la - 0.01 * np.exp(la) + stats.norm(0, np.exp(-0.5 * la)[..., None]).logpdf(w).sum(-1)
    torch.testing.assert_close(target.log_prob(x), torch.from_numpy(log_likelihood + log_prior))
    assert isinstance(target, targets.HasPredictive)
    expected = torch.from_numpy(logits[..., held_out].reshape(-1, len(held_out)))
    torch.testing.assert_close(target.log_odds(x.reshape(-1, 56)), expected)
    assert target.held_out_labels.tolist() == y[held_out].tolist()


@needs_data
def test_log_prob_and_predictions(target: Covertype, x: torch.Tensor) -> None:
    check_against_numpy(target, x)


@needs_data
def test_far_out_the_squared_score_is_smaller_than_at_the_start_and_hardly_pulls_back(target: Covertype) -> None:
    """Why training by the Fisher divergence ends there (docs/paper.md); the place is an example of where it ends."""
    generator = torch.Generator().manual_seed(0)
    law = reference_draws("covertype")[:200].double()
    start = target.scale * torch.randn(200, 56, generator=generator, dtype=law.dtype)
    far = torch.cat([torch.full((200, 1), -60.0, dtype=law.dtype), 200 * law[:, 1:]], dim=-1)
    probe = torch.randn(200, 56, generator=generator, dtype=law.dtype)

    def squares(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean squares of the score and of its change along the probes."""
        x = x.requires_grad_()
        score = target.score(x)
        (product,) = torch.autograd.grad((score * probe).sum(), x)
        return score.square().sum(-1).mean(), product.square().sum(-1).mean()

    (of_law, pull_of_law), (of_start, pull_of_start), (of_far, pull_of_far) = map(squares, (law, start, far))
    assert of_law < of_far < of_start / 10
    assert pull_of_far < min(pull_of_law, pull_of_start) / 100


@pytest.fixture
def full_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file in the form of the official table, of 500 rows, that stands for it."""
    generator = np.random.default_rng(0)
    parts = [
        generator.integers(0, 7_000, (500, 10)),
        generator.integers(0, 2, (500, 44)),
        generator.integers(1, 8, (500, 1)),
    ]
    content = gzip.compress(pd.DataFrame(np.hstack(parts)).to_csv(header=False, index=False).encode())
    monkeypatch.setattr(datasets, "COVERTYPE_FILE", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(DATASETS, "covertype_full", replace(DATASETS["covertype_full"], n_rows=500))
    monkeypatch.setenv("SAMPLERBENCH_DATA", str(tmp_path))
    (tmp_path / "covtype.data.gz").write_bytes(content)
    load.cache_clear()
    yield tmp_path / "covtype.data.gz"
    load.cache_clear()


def test_the_full_table_gives_the_same_model(full_table: Path, x: torch.Tensor) -> None:
    target = CovertypeFull()
    assert target.n_rows == 400
    check_against_numpy(target, x)
    inputs = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(target.log_prob(inputs).sum(), inputs)
    torch.testing.assert_close(target.score(x), expected)
    for knowledge in (targets.HasLogZ, targets.HasReference, targets.HasSample):
        assert not isinstance(target, knowledge)


def test_runs_on_the_full_table_need_its_file(full_table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = {"n_samples": 10, "metrics": ["accuracy"], "targets": ["covertype_full"], "samplers": ["sgld"]}
    run = make_plan(parse_suite(suite, "official"))[0]
    assert execute(run)[0].status == "ok"
    load.cache_clear()
    monkeypatch.setattr(datasets, "urlopen", _no_network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(full_table.parent))
    full_table.unlink()
    record, _ = execute(run)
    assert record.status == "not_installed"
    assert "data set 'covertype_full': covtype.data.gz not found in" in record.reason


def _no_network(url: str, timeout: float) -> None:
    raise URLError("no network")


@needs_data
def test_log_prob_at_zero_weights(target: Covertype) -> None:
    x = torch.zeros(56, dtype=torch.float64)
    x[0] = math.log(2)
    expected = 28.5 * math.log(2) - 0.02 - 27.5 * math.log(2 * math.pi) - 8_000 * math.log(2)
    assert math.isclose(target.log_prob(x).item(), expected, rel_tol=1e-13)


@needs_data
def test_score_is_the_gradient(target: Covertype, x: torch.Tensor) -> None:
    inputs = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(target.log_prob(inputs).sum(), inputs)
    torch.testing.assert_close(target.score(x), expected, rtol=1e-10, atol=1e-8)
    assert target.score(x.float()).dtype == torch.float32


@needs_data
def test_blocks_change_nothing(target: Covertype, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = target.log_prob(x), target.score(x)
    monkeypatch.setattr(covertype, "MARGINS", 4 * 8_000)  # six points: a block of four and one of two
    torch.testing.assert_close((target.log_prob(x), target.score(x)), whole, rtol=1e-12, atol=1e-12)


@needs_data
def test_minibatch_scores_average_to_the_score(target: Covertype, x: torch.Tensor) -> None:
    parts = torch.randperm(8_000, generator=torch.Generator().manual_seed(1)).reshape(80, 100)  # every row once
    mean = torch.stack([target.minibatch_score(x, rows) for rows in parts]).mean(0)
    torch.testing.assert_close(mean, target.score(x), rtol=1e-10, atol=1e-8)
    assert not torch.allclose(target.minibatch_score(x, parts[0]), mean, rtol=1e-3)


@needs_data
def test_the_posterior_has_one_mode_where_it_predicts(target: Covertype) -> None:
    """Newton steps find it; the reference draws go further out (root mean square 1.6), as the posterior is skewed."""
    mode = torch.zeros(56, dtype=torch.float64)
    for _ in range(15):
        values, vectors = torch.linalg.eigh(-torch.autograd.functional.hessian(target.log_prob, mode))
        newton = vectors @ ((vectors.T @ target.score(mode)) / values.abs())
        mode = mode + newton * min(1.0, 2 / newton.norm().item())
    assert target.score(mode).abs().max() < 1e-6
    covariance = torch.linalg.inv(-torch.autograd.functional.hessian(target.log_prob, mode))
    assert torch.linalg.eigvalsh(covariance).min() > 0
    assert 1.2 < (mode.square() + covariance.diag()).mean().sqrt() < 1.6
    accuracy = ((target.log_odds(mode[None])[0] > 0) == (target.held_out_labels == 1)).double().mean()
    assert accuracy > 0.87  # 0.859 are not of type 2


def test_dimension_and_truth_need_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covertype, "load", None)
    monkeypatch.setattr(covertype, "shipped_log_z", lambda truth: f"log Z of {truth}")
    monkeypatch.setattr(covertype, "reference_draws", lambda truth: f"draws of {truth}")
    target = targets.get("covertype")
    assert isinstance(target, Covertype)
    assert (target.dim, target.n_rows, target.scale) == (56, 8_000, 2.0)
    assert target.log_z == "log Z of covertype"
    assert target.reference() == "draws of covertype"
    assert isinstance(target, targets.HasMinibatch)


def test_the_law_has_no_parameters() -> None:
    with pytest.raises(ValueError, match="unknown parameter 'scale'"):
        targets.get("covertype", scale=1.0)
