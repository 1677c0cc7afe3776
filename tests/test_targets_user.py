"""Targets made of functions, plug-in files and installed packages; the documentation's examples run."""

import inspect
import math
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench import samplers
from samplerbench.benchmarks.truth import TruthSource
from samplerbench.targets import (
    Estimate,
    HasLogZ,
    HasMarginals,
    HasModes,
    HasMoments,
    HasReference,
    HasSample,
    HasScore,
    HasStart,
    HasView,
    Marginal,
    Meter,
    Modes,
    Moments,
    TargetError,
    from_log_prob,
    load_plugin,
)
from samplerbench.targets.base import TARGETS

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLE = DOCS / "examples" / "my_target.py"
KNOWLEDGE = (HasScore, HasLogZ, HasSample, HasModes, HasMoments, HasMarginals, HasView, HasStart, HasReference)
LEVEL = 1e-5


def bowl(x: Tensor) -> Tensor:
    """Standard normal without its constant."""
    return -0.5 * x.square().sum(-1)


def normal_draws(n_samples: int, generator: Generator) -> Tensor:
    return torch.randn(n_samples, 2, generator=generator, dtype=torch.float64)


def make(log_prob: Any = bowl, *, dim: int = 2, scale: float = 1.0, name: str = "bowl", **arguments: Any) -> Any:
    return from_log_prob(log_prob, dim=dim, scale=scale, name=name, register=False, **arguments)


def test_knowledge_that_is_not_given_is_absent() -> None:
    target = make(scale=1.234)
    assert not [known for known in KNOWLEDGE if isinstance(target, known)]
    assert (target.dim, target.scale, target.version) == (2, 1.0, 1)
    assert not isinstance(make(score=None, sample=None), HasScore | HasSample)
    with pytest.raises(AttributeError):
        inspect.getattr_static(target, "sample")  # what isinstance asks from Python 3.12 on


def test_knowledge_that_is_given_is_found() -> None:
    marginal = Marginal("x[0]", lambda x: x[:, 0], torch.special.ndtr)
    moments = Moments(torch.tensor([0.0, 0, 1, 1]).double(), torch.tensor([1.0, 1, 2, 2]).double())
    modes = Modes(lambda x: torch.where(x.norm(dim=-1) < 3, 0, -1), torch.tensor([0.9889], dtype=torch.float64))
    target = make(
        score=lambda x: -x,
        log_z=math.log(2 * math.pi),
        sample=normal_draws,
        modes=modes,
        moments=moments,
        marginals=[marginal],
        view=torch.asinh,
        start=lambda n, generator: 0.1 * normal_draws(n, generator),
        reference=torch.ones(5, 2),
    )
    assert not [known for known in KNOWLEDGE if not isinstance(target, known)]
    assert target.log_z == Estimate(math.log(2 * math.pi), std_error=0.0)
    assert make(log_z=Estimate(1.5, std_error=0.1)).log_z == Estimate(1.5, std_error=0.1)
    assert target.marginals == (marginal,)
    assert inspect.getattr_static(target, "sample") is normal_draws
    assert target.reference().dtype == torch.float64
    x = normal_draws(12, Generator().manual_seed(0))
    assert torch.equal(target.score(x.reshape(3, 4, 2)), -x.reshape(3, 4, 2))
    assert target.view(x[0]).shape == (2,)
    truth = TruthSource(target).at(1_000, seed=0)
    assert truth.moments is moments
    assert truth.modes is modes


def test_one_point_at_a_time_is_the_batch() -> None:
    matrix = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    one = make(lambda x: -0.5 * x @ matrix.to(x) @ x, batched=False, score=lambda x: -matrix.to(x) @ x)
    x = normal_draws(12, Generator().manual_seed(0)).reshape(3, 4, 2)
    expected = -0.5 * torch.einsum("...i,ij,...j->...", x, matrix, x)
    torch.testing.assert_close(one.log_prob(x), expected)
    torch.testing.assert_close(one.score(x), -x @ matrix)
    hessian = torch.autograd.functional.hessian(one.log_prob, x[0, 0])
    torch.testing.assert_close(hessian, -matrix)


def test_mala_finds_the_law() -> None:
    meter = Meter(make(lambda x: -0.5 * ((x - 1) / 2).square().sum(-1), scale=2.0))
    generator = Generator().manual_seed(0)
    with meter.phase("draw"):
        x = samplers.get("mala", n_steps=100).fit(meter, generator).draw(2_000, generator).samples
    assert meter.counts["draw"].score > 0
    assert all(stats.kstest(x[:, i].numpy(), stats.norm(1, 2).cdf).pvalue > LEVEL for i in range(2))


def test_a_registered_target_is_found_by_name_and_has_no_parameters() -> None:
    target = from_log_prob(bowl, dim=2, scale=1.0, name="test_registered_bowl", version=3)
    assert TARGETS.get("test_registered_bowl") is target
    entry = TARGETS.entry("test_registered_bowl")
    assert (entry.version, entry.summary) == (3, "Standard normal without its constant.")
    assert entry.build.__module__ == __name__  # where it was made, not where the function that makes it stands
    with pytest.raises(ValueError, match="unknown parameter 'dim'"):
        TARGETS.get("test_registered_bowl", dim=3)
    with pytest.raises(ValueError, match=r"'test_registered_bowl' is taken by .*register=False"):
        from_log_prob(bowl, dim=2, scale=1.0, name="test_registered_bowl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": 2.0}, r"dim must be an integer, got 2\.0"),
        ({"version": 0}, "version must be at least 1, got 0"),
        ({"scale": 0.0}, r"scale must be positive and finite, got 0\.0"),
        ({"name": "a, b"}, "name must be letters, .* got 'a, b'"),
        ({"log_prob": 3}, "log_prob must be a function, got 3"),
        (
            {"log_prob": torch.square},
            r"log_prob of 17 points torch.float32 must be a tensor .*float32, got \(17, 2\)",
        ),
        (
            {"log_prob": lambda x: bowl(x.double())},
            r"log_prob of .* must be .*float32, got .*float64",
        ),
        ({"log_prob": lambda x: bowl(x.detach())}, "log_prob must be differentiable by torch"),
        ({"log_prob": lambda x: bowl(x.detach()) * torch.ones((), requires_grad=True).to(x)}, "be differentiable"),
        ({"log_prob": lambda x: torch.as_tensor(np.sum(x.numpy(), -1))}, "log_prob must accept .* RuntimeError"),
        ({"log_prob": lambda x: bowl(x) * math.nan}, "log_prob must be a number or -inf at every point, got .*nan"),
        ({"log_prob": lambda x: bowl(x) - math.inf}, "log_prob must be finite at some of 17 points"),
        ({"log_prob": lambda x: -x.square().sum(-1).sqrt() * 0 - (0 * x[..., 0]).sqrt()}, "a finite gradient"),
        ({"log_prob": lambda x: x.square().sum(0), "dim": 17}, "the same value alone and among others"),
        ({"batched": False, "log_prob": lambda x: x}, r"log_prob of .* must be a tensor \(17,\)"),
        ({"score": lambda x: x}, "score must be the gradient of log_prob, got entries that differ by up to"),
        ({"score": bowl}, r"score of .* must be a tensor \(17, 2\)"),
        ({"view": bowl}, r"view must be a tensor \(17, 2\)"),
        ({"log_z": math.nan}, "log_z must be finite, .* got nan"),
        ({"log_z": Estimate(0.0, std_error=-1.0)}, "log_z must be finite, with a standard error from 0 on"),
        ({"sample": lambda n, g: normal_draws(n, g).float()}, "sample must be a tensor .*float64, got .*float32"),
        ({"sample": lambda n, g: normal_draws(n + 1, g)}, r"sample must be a tensor \(17, 2\).* got \(18, 2\)"),
        ({"sample": lambda n, g: torch.randn(n, 2).double()}, "sample must depend on its generator alone"),
        ({"sample": 3}, "sample must be a function"),
        ({"start": lambda n, g: torch.zeros(n, 3)}, r"start must be a tensor \(17, 2\)"),
        ({"reference": torch.zeros(3)}, r"reference must be a tensor of draws \(n, 2\), got \(3,\)"),
        ({"reference": torch.full((3, 2), math.inf)}, "reference must be finite, got 3 points that are not"),
        ({"modes": 3}, "modes must be Modes"),
        ({"modes": Modes(lambda x: x[:, 0] > 0, torch.tensor([0.5]).double())}, r"modes.assign must .*torch.bool"),
        ({"modes": Modes(lambda x: x[:, 0].long(), torch.tensor([0.9, 0.2]).double())}, "with a sum of at most 1"),
        ({"modes": Modes(lambda x: 0 * x[:, 0].long() + 1, torch.tensor([0.9]).double())}, "index of one of 1 modes"),
        ({"moments": Moments(torch.zeros(2).double(), torch.zeros(4).double())}, r"moments.mean .* \(4,\)"),
        ({"marginals": [Marginal("x", lambda x: x[:, 0], lambda v: 2 * v)]}, "marginal 'x': cdf must rise from 0 to 1"),
        ({"marginals": [Marginal("x", lambda x: x, torch.sigmoid)]}, "marginal 'x': statistic must be a tensor"),
    ],
)
def test_what_breaks_the_contract_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_an_error_of_the_function_is_shown() -> None:
    def broken(x: Tensor) -> Tensor:
        raise IndexError("index 7 is out of bounds")

    with pytest.raises(TargetError, match=r"'bowl': log_prob must accept \(17, 2\) .* IndexError: index 7 is out"):
        make(broken)


def test_unknown_knowledge_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown knowledge 'logz'; did you mean 'log_z'"):
        make(logz=0.0)


def test_support_may_be_bounded_and_start_may_be_needed() -> None:
    far: Callable[[Tensor], Tensor] = lambda x: torch.where(x[..., 0] > 100, bowl(x - 100), -math.inf)  # noqa: E731
    with pytest.raises(TargetError, match="must be finite at some"):
        make(far)
    target = make(far, start=lambda n, generator: 100 + normal_draws(n, generator).abs())
    assert target.log_prob(torch.zeros(2)) == -math.inf


# The documentation


def test_the_example_is_loaded_sampled_and_true() -> None:
    load_plugin(EXAMPLE)
    generator = Generator().manual_seed(0)
    for name, dim in (("tilted_ring", 2), ("logistic5", 5), ("gumbel3", 3)):
        target = TARGETS.get(name)
        assert TARGETS.entry(name).plugin_hash is not None
        fitted = samplers.get("mala", n_steps=20, n_chains=8).fit(Meter(target), generator)
        assert fitted.draw(30, generator).samples.shape == (30, dim)
    n_draws = 100_000
    logistic, gumbel = TARGETS.get("logistic5"), TARGETS.get("gumbel3")
    assert isinstance(logistic, HasSample)
    assert isinstance(gumbel, HasSample)
    assert stats.kstest(logistic.sample(n_draws, generator)[:, 4].numpy(), stats.logistic.cdf).pvalue > LEVEL
    assert stats.kstest(gumbel.sample(n_draws, generator)[:, 2].numpy(), stats.gumbel_r.cdf).pvalue > LEVEL
    x = torch.tensor([[0.3, -1.2, 2.0, 0.0, 5.0]], dtype=torch.float64)
    assert math.isclose(logistic.log_prob(x).item(), stats.logistic.logpdf(x.numpy()).sum())
    assert math.isclose(gumbel.log_prob(x[:, :3]).item(), stats.gumbel_r.logpdf(x[:, :3].numpy()).sum())
    assert gumbel.scale == float(f"{math.hypot(stats.gumbel_r.mean(), stats.gumbel_r.std()):.0e}")


def test_the_documentation_shows_the_examples() -> None:
    page = (DOCS / "plugins.md").read_text()
    examples = "".join(path.read_text() for path in (DOCS / "examples").glob("*.py"))
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    at_once = [block for block in blocks if block not in examples]
    assert ["register=False" in block for block in at_once] == [True]
    names: dict[str, Any] = {"from_log_prob": from_log_prob, "Meter": Meter, "samplers": samplers, "Tensor": Tensor}
    names["generator"] = Generator().manual_seed(0)
    exec(blocks[0].partition("from_log_prob")[0] + at_once[0].replace("1_000", "20"), names)
    assert names["draws"].shape == (20, 2)


def test_an_installed_package_registers_by_its_entry_point(tmp_path: Path) -> None:
    page = (DOCS / "plugins.md").read_text()
    (snippet,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    ((group, points),) = tomllib.loads(snippet)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {module}" for name, module in points.items())]
    information = tmp_path / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "my_target.py").write_text(EXAMPLE.read_text())
    assert "tilted_ring@1" in list_targets(at=tmp_path, PYTHONPATH=str(tmp_path))


def test_the_command_line_lists_the_example(tmp_path: Path) -> None:
    shown = list_targets("--plugin", EXAMPLE, at=tmp_path)
    for name in ("tilted_ring@1", "logistic5@1", "gumbel3@1"):
        assert name in shown


def list_targets(*arguments: object, at: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "samplerbench.benchmarks.cli", "list", "targets", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=at, env={**os.environ, **environment}
    ).stdout
