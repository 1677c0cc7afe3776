"""Draws as ArviZ's InferenceData and back, so that its summaries and plots take ours, and ``judge`` takes anybody's.

posterior      variable x (chain, draw, x_dim_0): the chains; without chains the samples, as one chain
sample_stats   log_weight, log_density (chain, draw) of the posterior's rows, where they are known
forward        log_ratio (exact_draw): log_prob less the sampler's log density at exact draws, where known
draws          only beside chains: the samples x (sample, x_dim_0) themselves, with their log_weight, log_density
attribute      samplerbench of the posterior: log Z, why the method stopped and diagnostics, as JSON
"""

import json
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..targets.draws import Draws, Estimate

if TYPE_CHECKING:
    from arviz import InferenceData
    from xarray import Dataset

ATTRIBUTE = "samplerbench"
STATS = {"log_weight": "log_weights", "log_density": "log_density"}  # name in InferenceData: field of Draws


def to_inference_data(draws: Draws) -> "InferenceData":
    """Draws as ArviZ's InferenceData, in the layout of this module; all to the bit but diagnostics, which JSON keeps.

    Args:
        draws: on any device; not modified.
    Raises:
        TypeError: if the diagnostics hold what JSON cannot.
    """
    import xarray as xr

    stats = {name: array for name, field in STATS.items() if (array := getattr(draws, field)) is not None}
    rows = {"x": (("sample", "x_dim_0"), _numpy(draws.samples))}
    own = {name: (("sample",), _numpy(array)) for name, array in stats.items()}
    chains = draws.samples[None] if draws.chains is None else draws.chains
    coordinates = {"chain": np.arange(chains.shape[0]), "draw": np.arange(chains.shape[1])}
    dims = ("chain", "draw", "x_dim_0")
    groups = {"posterior": xr.Dataset({"x": (dims, _numpy(chains))}, coordinates, {ATTRIBUTE: _rest(draws)})}
    if draws.chains is not None:
        groups["draws"] = xr.Dataset({**rows, **own})
    elif stats:
        per_draw = {name: (("chain", "draw"), _numpy(array[None])) for name, array in stats.items()}
        groups["sample_stats"] = xr.Dataset(per_draw, coordinates)
    if draws.forward_log_ratio is not None:
        groups["forward"] = xr.Dataset({"log_ratio": (("exact_draw",), _numpy(draws.forward_log_ratio))})
    data: InferenceData = arviz().InferenceData(**groups)
    return data


def from_inference_data(data: "InferenceData", *, variables: Sequence[str] = ()) -> Draws:
    """Draws from ArviZ's InferenceData: ours with all they hold, anybody's posterior as samples and chains.

    Args:
        data: with a group posterior, whose variables have dimensions (chain, draw, ...). Variables log_weight and
            log_density (chain, draw) of its sample_stats are the log importance weights and the normalised log
            densities of the method; ``lp`` is neither, and not used.
        variables: of the posterior, whose entries are the coordinates, in this order; default all, in the file's.
    Returns:
        Samples chain by chain; ``chains`` from two chains on. Floats keep their dtype.
    Raises:
        ValueError: if there is no posterior, it has no such variable, or a shape is wrong.
    """
    if "posterior" not in data.groups():
        raise ValueError(f"InferenceData must have a group posterior, got {', '.join(data.groups()) or 'no group'}")
    chains = _stacked(data["posterior"], variables)
    n_chains, n_kept, dim = chains.shape
    if "draws" in data.groups():
        own = data["draws"]
        fields = {name: _tensor(own[name].values) for name in ("x", *STATS) if name in own}
    else:
        fields = {"x": chains.reshape(n_chains * n_kept, dim), **_stats(data, (n_chains, n_kept))}
    rest = _own_fields(data["posterior"].attrs.get(ATTRIBUTE, "{}"))
    return Draws(
        samples=fields["x"],
        log_weights=fields.get("log_weight"),
        log_density=fields.get("log_density"),
        forward_log_ratio=_tensor(data["forward"]["log_ratio"].values) if "forward" in data.groups() else None,
        log_z=Estimate(**rest["log_z"]) if rest["log_z"] else None,
        chains=chains if n_chains > 1 or "draws" in data.groups() else None,
        stopped=rest["stopped"],
        reason=rest["reason"],
        diagnostics=rest["diagnostics"],
    )


def _own_fields(text: str) -> dict[str, Any]:
    """What ``to_inference_data`` wrote as JSON; defaults where that is another's file."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"attribute {ATTRIBUTE} must be JSON, got {text[:40]!r}") from error
    if not isinstance(found, dict):
        raise ValueError(f"attribute {ATTRIBUTE} must be a JSON object, got {text[:40]!r}")
    fields: dict[str, Any] = {"log_z": None, "stopped": None, "reason": "", "diagnostics": {}, **found}
    log_z, kinds = fields["log_z"], {"reason": str, "diagnostics": dict}
    is_estimate = log_z is None or (isinstance(log_z, dict) and set(log_z) == {"value", "std_error"})
    if not is_estimate or not all(isinstance(fields[name], kind) for name, kind in kinds.items()):
        raise ValueError(f"attribute {ATTRIBUTE} must hold what to_inference_data writes, got {text[:40]!r}")
    return fields


def arviz() -> ModuleType:
    """ArviZ, imported when it is needed, without its announcement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz as module
    return module


def sizes(data: "InferenceData") -> dict[str, int]:
    """Numbers of coordinates of the posterior's variables, in the file's order."""
    return {str(name): int(np.prod(variable.shape[2:])) for name, variable in data["posterior"].data_vars.items()}


def _stacked(posterior: "Dataset", variables: Sequence[str]) -> Tensor:
    """Entries of the variables side by side, shape ``(n_chains, n_kept, dim)``."""
    known = [str(name) for name in posterior.data_vars]
    absent = [name for name in variables if name not in known]
    if absent or not known:
        raise ValueError(f"variables must be in the posterior ({', '.join(known)}), got {', '.join(absent) or 'none'}")
    arrays = []
    for name in variables or known:
        variable = posterior[name]
        if variable.dims[:2] != ("chain", "draw"):
            raise ValueError(f"dimensions of {name} must begin with chain, draw, got {variable.dims}")
        arrays.append(variable.values.reshape(*variable.shape[:2], -1))
    return _tensor(np.concatenate(arrays, axis=-1))


def _stats(data: "InferenceData", shape: tuple[int, int]) -> dict[str, Tensor]:
    """The log weights and log densities that sample_stats hold, one per row of the samples."""
    found: dict[str, Tensor] = {}
    for name in STATS:
        if "sample_stats" in data.groups() and name in data["sample_stats"]:
            values = data["sample_stats"][name].values
            if values.shape != shape:
                raise ValueError(f"{name} in sample_stats must have shape {shape} (chain, draw), got {values.shape}")
            found[name] = _tensor(values.reshape(-1))
    return found


def _rest(draws: Draws) -> str:
    log_z = draws.log_z and {"value": draws.log_z.value, "std_error": draws.log_z.std_error}
    rest = {"log_z": log_z, "stopped": draws.stopped, "reason": draws.reason, "diagnostics": dict(draws.diagnostics)}
    return json.dumps(rest, default=_plain)


def _plain(value: object) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"diagnostics must be numbers, strings and lists of numbers, got {type(value).__name__}")


def _numpy(array: Tensor) -> NDArray[Any]:
    return array.detach().cpu().numpy()


def _tensor(values: NDArray[Any]) -> Tensor:
    """Own memory, in the byte order of this machine; whole numbers become float64."""
    kind = values.dtype.newbyteorder("=") if np.issubdtype(values.dtype, np.floating) else np.dtype(np.float64)
    return torch.from_numpy(np.array(values, dtype=kind))
