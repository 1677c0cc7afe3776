"""Targets from Stan models, through bridgestan (``pip install samplerbench[stan]``)."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .meter import TargetError
from .user import Knowledge, UserTarget, from_log_prob, register_user_target

if TYPE_CHECKING:
    import numpy.typing as npt

N_SHOWN_LINES = 15  # of the compiler's message: the error stands at its end


def from_stan(
    stan_file: Path | str,
    data: Mapping[str, Any] | Path | str | None = None,
    *,
    scale: float,
    name: str,
    version: int = 1,
    summary: str = "",
    register: bool = True,
    stanc_args: Sequence[str] = (),
    make_args: Sequence[str] = (),
    **knowledge: Unpack[Knowledge],
) -> UserTarget:
    """A target from a Stan model: its log density on the unconstrained space.

    ``log_prob`` includes the log Jacobian of Stan's transforms and every constant (``jacobian=True, propto=False``), so
    where all statements are normalised laws ``log_z`` is the log evidence. Where Stan raises an error (a ``reject``, a
    covariance that is not positive definite) the density is zero, as in Stan's own samplers, and derivatives are
    given as zero. Stan evaluates one point at a time in float64 on the CPU, whatever the dtype and device of the
    points. The score is Stan's; so are Hessian-vector products, by finite differences of the score unless
    ``make_args=["BRIDGESTAN_AD_HESSIAN=true"]``. There are no third derivatives.

    Args:
        stan_file: a ``.stan`` file, compiled when it has changed (``NAME_model.so`` is written beside it), or such a
            library.
        data: values by name, a ``.json`` file, or JSON text.
        stanc_args, make_args: of the compilation, see ``bridgestan.compile_model``.
        scale, name, version, summary, register, **knowledge: as ``from_log_prob``, of the unconstrained law. Raise
            ``version`` when the model or its data change: the hash of a plug-in file does not see them.
    Raises:
        ModuleNotFoundError: if bridgestan is not installed.
        FileNotFoundError: if the model or its data file does not exist.
        ValueError: if the model does not compile, with the compiler's last lines, or does not accept its data; else
            as ``from_log_prob``.
    """
    law = _Law(_load(Path(stan_file), data, list(stanc_args), list(make_args)))
    try:
        target = from_log_prob(
            lambda x: _LogProb.apply(x, law),  # type: ignore[no-untyped-call]
            dim=law.model.param_unc_num(), scale=scale, name=name, version=version, register=False,
            summary=summary or f"Stan model {Path(stan_file).name} on the unconstrained space.", **knowledge,
        )  # fmt: skip
    except TargetError as error:
        raise TargetError(f"{error}; Stan's last error: {law.rejection}" if law.rejection else str(error)) from error
    if register:
        register_user_target(target, module=sys._getframe(1).f_globals["__name__"])
    return target


def _load(stan_file: Path, data: Any, stanc_args: list[str], make_args: list[str]) -> Any:
    """The ``bridgestan.StanModel``, or an error that tells the installation, the model and the data apart."""
    try:
        import bridgestan  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Stan models need bridgestan: pip install 'samplerbench[stan]' ({error})", name="bridgestan"
        ) from error
    library = stan_file
    if stan_file.suffix == ".stan":
        try:
            library = bridgestan.compile_model(stan_file, stanc_args=stanc_args, make_args=make_args)
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()][-N_SHOWN_LINES:]
            raise ValueError("\n".join([f"Stan model {stan_file} does not compile:", *lines])) from error
    try:
        return bridgestan.StanModel(library, data)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"Stan model {stan_file} does not accept its data: {error}") from error


class _Law:
    """A Stan model at many points, in float64 on the CPU; ``rejection`` is the last error that made a density zero."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rejection = ""

    def log_density(self, x: Tensor) -> Tensor:
        """Points ``(n, dim)`` to ``(n,)``."""
        values = np.full(len(x), -np.inf)
        for i, point in enumerate(_array(x)):
            with self._rejections():
                values[i] = self.model.log_density(point, propto=False, jacobian=True)
        return torch.from_numpy(values).to(x)

    def log_density_and_score(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Points ``(n, dim)`` to ``(n,)`` and ``(n, dim)``."""
        values, scores = np.full(len(x), -np.inf), np.zeros(x.shape)
        for i, point in enumerate(_array(x)):
            with self._rejections():
                values[i], scores[i] = self.model.log_density_gradient(point, propto=False, jacobian=True)
        return torch.from_numpy(values).to(x), torch.from_numpy(scores).to(x)

    def hessian_vector_product(self, x: Tensor, v: Tensor) -> Tensor:
        """Points and directions ``(n, dim)`` to ``(n, dim)``."""
        products = np.zeros(x.shape)
        possible = self.log_density(x).isfinite().tolist()  # elsewhere zero; an error of the product itself is raised
        for i, (point, direction) in enumerate(zip(_array(x), _array(v), strict=True)):
            if possible[i]:
                _, products[i] = self.model.log_density_hessian_vector_product(
                    point, direction, propto=False, jacobian=True
                )
        return torch.from_numpy(products).to(x)

    @contextmanager
    def _rejections(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.rejection = str(error).strip()


class _LogProb(torch.autograd.Function):
    """Log density of points ``(n, dim)``; its gradient is Stan's score."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, law: _Law) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return law.log_density(x)
        ctx.save_for_backward(x)
        ctx.law = law
        log_density, ctx.score = law.log_density_and_score(x)
        return log_density

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        score = _Score.apply(*ctx.saved_tensors, ctx.law, ctx.score)  # type: ignore[no-untyped-call]
        return grad_outputs[0][:, None] * score, None


class _Score(torch.autograd.Function):
    """The score that the forward pass computed, as a function of the points, differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, law: _Law, score: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.law = law
        return score.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.law.hessian_vector_product(*ctx.saved_tensors, grad_outputs[0]), None, None


def _array(x: Tensor) -> "npt.NDArray[np.float64]":
    return np.ascontiguousarray(x.detach().to("cpu", torch.float64).numpy())
