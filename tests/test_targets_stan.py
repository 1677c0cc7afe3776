"""Stan models as targets, with a stand-in for bridgestan; with the real one where it is installed and can compile."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from samplerbench.samplers import get
from samplerbench.targets import HasSample, HasScore, Meter, TargetError, load_plugin
from samplerbench.targets.base import TARGETS
from samplerbench.targets.stan import from_stan

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
MODEL = EXAMPLES / "normal.stan"
DATA = {"n": 3, "y": [1.0, 2.0, 4.0]}
REJECTED_BELOW = -30.0  # log sigma


def expected_log_prob(x: Tensor) -> Tensor:
    """The density of docs/examples/normal.stan at (mu, log sigma), by hand."""
    mu, log_sigma = x[..., 0], x[..., 1]
    y = x.new_tensor(DATA["y"])
    prior = -0.5 * (mu / 10).square() - math.log(10) - 0.5 * math.log(2 * math.pi) - log_sigma.exp()
    z = (y - mu[..., None]) * torch.exp(-log_sigma)[..., None]
    likelihood = -0.5 * z.square().sum(-1) - 3 * log_sigma - 1.5 * math.log(2 * math.pi)
    return prior + likelihood + log_sigma  # the last is the Jacobian of sigma = exp(log sigma)


class FakeModel:
    """``bridgestan.StanModel`` of that model: the same methods, defaults and errors."""

    n_calls = 0

    def __init__(self, model_lib: object, data: Any = None, **_: object) -> None:
        if not isinstance(data, dict) or "y" not in data:
            raise RuntimeError("variable does not exist; processing stage=data initialization; variable name=y")
        assert str(model_lib).endswith("_model.so")

    def param_unc_num(self) -> int:
        return 2

    def log_density(self, theta_unc: Any, *, propto: bool = True, jacobian: bool = True) -> float:
        return float(self._density(theta_unc, propto, jacobian)[1])

    def log_density_gradient(self, theta_unc: Any, *, propto: bool = True, jacobian: bool = True) -> Any:
        x, value = self._density(theta_unc, propto, jacobian)
        return value.item(), torch.autograd.grad(value, x)[0].numpy()

    def log_density_hessian_vector_product(
        self, theta_unc: Any, v: Any, *, propto: bool = True, jacobian: bool = True
    ) -> Any:
        x, value = self._density(theta_unc, propto, jacobian)
        (score,) = torch.autograd.grad(value, x, create_graph=True)
        return value.item(), torch.autograd.grad(score, x, torch.from_numpy(v))[0].numpy()

    @staticmethod
    def _density(theta_unc: Any, propto: bool, jacobian: bool) -> tuple[Tensor, Tensor]:
        FakeModel.n_calls += 1
        assert theta_unc.dtype == np.float64
        assert theta_unc.shape == (2,)
        assert theta_unc.flags.c_contiguous
        if theta_unc[1] < REJECTED_BELOW:
            raise RuntimeError("normal_lpdf: Scale parameter is 0, but must be positive!")
        with torch.enable_grad():
            x = torch.from_numpy(theta_unc.copy()).requires_grad_()
            value = expected_log_prob(x) + (2 * math.log(2 * math.pi) + math.log(10)) * propto
            return x, value - x[1] * (not jacobian)


def fake_compile(stan_file: Path, *, stanc_args: list[str], make_args: list[str]) -> Path:
    if not stan_file.is_file():
        raise FileNotFoundError(f"File '{stan_file}' does not exist")
    if "normall" in stan_file.read_text():
        noise = "\n".join(f"line {i} of make" for i in range(100))
        raise RuntimeError(f"Command make failed with code 2.\nstdout:\n{noise}\nstderr:\nIll-typed: 'normall'\n")
    return stan_file.with_name(f"{stan_file.stem}_model.so")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("bridgestan")
    module.StanModel, module.compile_model = FakeModel, fake_compile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bridgestan", module)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model where the real bridgestan compiles it."""
    bridgestan = pytest.importorskip("bridgestan")
    path = tmp_path_factory.mktemp("stan") / MODEL.name
    path.write_text(MODEL.read_text())
    try:
        bridgestan.compile_model(path)
    except (RuntimeError, ValueError, OSError) as error:
        pytest.skip(f"bridgestan cannot compile here: {str(error)[-200:]}")
    return path


def make(model: Path = MODEL, data: Any = DATA, **arguments: Any) -> Any:
    return from_stan(model, data, scale=2.0, name="stan", register=False, **arguments)


def points(n: int = 20) -> Tensor:
    return torch.randn(n, 2, generator=Generator().manual_seed(0), dtype=torch.float64)


def check_law(target: Any, *, hvp_tolerance: float) -> None:
    """Values with every constant and the Jacobian, score and Hessian-vector products, against autograd by hand."""
    x, v = points().requires_grad_(), points().flip(0)
    value, expected = target.log_prob(x), expected_log_prob(x)
    torch.testing.assert_close(value, expected)
    weights = torch.linspace(0.5, 2, len(x), dtype=torch.float64)
    results = []
    for log_prob in (value, expected):
        (score,) = torch.autograd.grad((weights * log_prob).sum(), x, create_graph=True)
        (product,) = torch.autograd.grad((score * v).sum(), x)
        results.append((score, product))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=hvp_tolerance, atol=hvp_tolerance)


@pytest.mark.usefixtures("fake")
def test_density_score_and_second_derivatives_are_those_of_the_model() -> None:
    check_law(make(), hvp_tolerance=1e-10)


def test_the_real_bridgestan_agrees(real: Path) -> None:
    check_law(make(real), hvp_tolerance=1e-5)
    with pytest.raises(ValueError, match="does not accept its data"):
        make(real, {"n": 3})
    wrong = real.with_name("wrong.stan")
    wrong.write_text(MODEL.read_text().replace("normal(0, 10)", "normall(0, 10)"))
    with pytest.raises(ValueError, match=r"does not compile:\n(.*\n)*.*normall"):
        make(wrong)


def test_the_spot_value_is_that_of_scipy() -> None:
    sigma = math.exp(0.3)
    by_scipy = (
        stats.norm(0, 10).logpdf(1.5)
        + stats.expon().logpdf(sigma)
        + stats.norm(1.5, sigma).logpdf(DATA["y"]).sum()  # type: ignore[arg-type]
        + 0.3
    )
    assert math.isclose(expected_log_prob(torch.tensor([1.5, 0.3], dtype=torch.float64)).item(), by_scipy)


@pytest.mark.usefixtures("fake")
def test_shape_dtype_and_cost() -> None:
    target = make()
    assert target.dim == 2
    assert not isinstance(target, HasScore | HasSample)
    x = points(6).float()
    assert target.log_prob(x.reshape(2, 3, 2)).shape == (2, 3)
    assert target.log_prob(x).dtype == torch.float32
    assert target.log_prob(x[0]).shape == ()
    before = FakeModel.n_calls
    Meter(target).log_prob_and_score(x)
    assert FakeModel.n_calls == before + 6  # value and score in one call of Stan


@pytest.mark.usefixtures("fake")
def test_rejected_points_have_density_zero() -> None:
    target = make()
    x = torch.tensor([[0.0, REJECTED_BELOW - 1], [0.0, 0.0]]).requires_grad_()
    value = target.log_prob(x)
    (score,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (product,) = torch.autograd.grad(score.sum(), x)
    assert value[0] == -math.inf
    assert score[0].tolist() == product[0].tolist() == [0.0, 0.0]
    assert score[1].isfinite().all()
    assert (score[1] != 0).all()
    far = lambda n, generator: torch.full((n, 2), 2 * REJECTED_BELOW)  # noqa: E731
    with pytest.raises(TargetError, match="-inf at all of them; Stan's last error: normal_lpdf: Scale parameter is 0"):
        make(start=far)


@pytest.mark.usefixtures("fake")
def test_an_error_of_second_derivatives_is_not_taken_for_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("not implemented for this function")

    monkeypatch.setattr(FakeModel, "log_density_hessian_vector_product", refuse)
    x = points(1).requires_grad_()
    (score,) = torch.autograd.grad(make().log_prob(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        torch.autograd.grad(score.sum(), x)


@pytest.mark.usefixtures("fake")
def test_third_derivatives_are_refused() -> None:
    x = points(1).requires_grad_()
    (score,) = torch.autograd.grad(make().log_prob(x).sum(), x, create_graph=True)
    (product,) = torch.autograd.grad(score.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate"):
        torch.autograd.grad(product.square().sum(), x)


@pytest.mark.usefixtures("fake")
def test_what_is_wrong_with_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.stan"):
        make(tmp_path / "absent.stan")
    with pytest.raises(ValueError, match=r"normal\.stan does not accept its data: variable does not exist"):
        make(data=None)
    wrong = tmp_path / "wrong.stan"
    wrong.write_text(MODEL.read_text().replace("normal(0, 10)", "normall(0, 10)"))
    with pytest.raises(ValueError, match=r"wrong\.stan does not compile:\n(.*\n)*Ill-typed: 'normall'") as raised:
        make(wrong)
    assert len(str(raised.value).splitlines()) <= 16
    with pytest.raises(TypeError, match="unknown knowledge 'logz'"):
        make(logz=0.0)


def test_a_missing_bridgestan_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bridgestan", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'samplerbench\[stan\]'") as raised:
        make()
    assert raised.value.name == "bridgestan"


@pytest.fixture
def example(fake: None) -> Iterator[Any]:
    load_plugin(EXAMPLES / "my_stan_target.py")
    return TARGETS.get("stan_normal")


def test_the_example_of_the_documentation_runs(example: Any) -> None:
    assert TARGETS.entry("stan_normal").plugin_hash is not None
    assert TARGETS.entry("stan_normal").summary == "Stan model normal.stan on the unconstrained space."
    generator = Generator().manual_seed(0)
    draws = get("mala", n_steps=10, n_chains=8).fit(Meter(example), generator).draw(20, generator)
    assert draws.samples.isfinite().all()
