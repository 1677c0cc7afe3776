"""The contract of a sampler, rule by rule: configuration, rows, seeds and side effects.

Runs are short: 33 rows on a Gaussian in the plane, with budgets on fit and draw that cut a long training off. The
configuration is the sampler's default. ``check_costs`` has the checks of counts and budgets, ``check_law`` those of
what it converges to.
"""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import torch

from ..targets.meter import derive_generator
from .check_costs import budget_of_draw, budget_of_fit, counts, divergence
from .check_law import density, log_normaliser, moments_of_gaussian2, moments_of_mog2
from .contract import (
    BrokenRule,
    Check,
    global_states,
    require,
    require_states,
)
from .other_process import in_another_process
from .plan import plain
from .sampler_subject import N_SHORT, SamplerSubject, check_draws

ROWS = (1, 7, N_SHORT)


def configuration(subject: SamplerSubject) -> str:
    """A frozen dataclass that survives a record: fields to JSON, and back by the registry."""
    config = subject.sampler
    is_dataclass = dataclasses.is_dataclass(config) and not isinstance(config, type)
    require(is_dataclass, "the sampler", "be a dataclass", type(config).__name__)
    for part in (config, *(getattr(config, field.name) for field in dataclasses.fields(config))):
        if dataclasses.is_dataclass(part):
            frozen = part.__dataclass_params__.frozen  # type: ignore[union-attr]
            require(frozen, f"dataclass {type(part).__name__}", "be frozen", "frozen=False")
    try:
        text = json.dumps(plain(dataclasses.asdict(subject.sampler)), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenRule(f"the configuration must be representable in JSON, got {error}") from error
    again = subject.configure(**json.loads(text))
    require(again == config, "the configuration", f"be {config} after JSON and back", again)
    for wrong in ("no_such_field", *(field.name for field in dataclasses.fields(config) if field.init)):
        try:
            subject.configure(**{wrong: object()})
        except ValueError as error:
            require(wrong in str(error), f"the error of a bad {wrong}", "name it", f"{error}")
        else:
            raise BrokenRule(f"a bad value of {wrong} must be refused with a ValueError, got a sampler")
    return f"a frozen dataclass; {text} comes back equal, bad values of every field are refused"


def rows_and_dtypes(subject: SamplerSubject) -> str:
    """Exactly n finite rows without a graph, in the meter's dtype, with whatever else the draws hold."""
    for dtype in (torch.float32, torch.float64):
        run = subject.short if dtype == torch.float32 else subject.run(dtype=dtype)
        check_draws(run.draws, run, N_SHORT, dtype)
        for n_samples in ROWS[:-1]:
            check_draws(run.draw(n_samples), run, n_samples, dtype)
    return f"{', '.join(map(str, ROWS))} finite rows in float32 and float64, as asked for"


def devices(subject: SamplerSubject) -> str:
    """Draws lie where the meter is."""
    if not torch.cuda.is_available():
        check_draws(subject.short.draws, subject.short, N_SHORT, torch.float32)
        return "draws on the cpu; this machine offers no CUDA device, so that was not tried"
    run = subject.run(device="cuda")
    check_draws(run.draws, run, N_SHORT, torch.float32)
    return "draws on the cpu and on CUDA, where the meter was"


def seeds(subject: SamplerSubject) -> str:
    """The same seed gives the same draws, bit by bit; another seed gives other rows."""
    first, again, other = subject.short.draws.samples, subject.run().draws.samples, subject.run(seed=1).draws.samples
    n_other = int((first != again).any(-1).sum())
    require(not n_other, "draws of the same seed", "be equal bit by bit", f"{n_other} of {N_SHORT} other rows")
    n_same = int(torch.isclose(first, other, rtol=0, atol=1e-4).all(-1).sum())
    require(not n_same, "draws of another seed", "all be others", f"{n_same} of {N_SHORT} rows equal within 1e-4")
    return f"{N_SHORT} rows equal for the same seed, all others for another one"


def another_process(subject: SamplerSubject) -> str:
    """Another process draws the same from the same seed."""
    there = in_another_process(subject.plugins, draws_of_short_run, subject.name)
    n_other = int((subject.short.draws.samples != torch.from_numpy(there)).any(-1).sum())
    require(not n_other, "draws in another process", "be equal bit by bit", f"{n_other} of {N_SHORT} other rows")
    return f"{N_SHORT} rows of the same seed equal bit by bit"


def draws_of_short_run(name: str) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """What the short run of a registered sampler draws; for another process."""
    samples: np.ndarray[Any, np.dtype[np.float32]] = SamplerSubject.registered(name).short.draws.samples.numpy()
    return samples


def global_random_states(subject: SamplerSubject) -> str:
    """All randomness comes from the generator that is passed."""
    before = global_states()
    subject.run()
    return require_states(before, "fit and draw")


def fitted_sampler_unchanged(subject: SamplerSubject) -> str:
    """Drawing leaves the fitted sampler as it was, and so does whatever is done to its draws."""
    run = subject.run()
    kept = run.draws.samples.clone()
    for owned in (run.draws.samples, run.draws.chains):
        if owned is not None:
            owned.fill_(math.nan)
    run.draw(7, seed=1)
    again = run.draw(N_SHORT).samples
    n_other = int((again != kept).any(-1).sum())
    require(not n_other, "a later draw from the same seed", "be the first one", f"{n_other} of {N_SHORT} other rows")
    return "the same draws after another draw, and after the first ones were overwritten"


def inputs_unchanged(subject: SamplerSubject) -> str:
    """A start is used and left alone, or refused; target, meter and configuration stay as they are."""
    run = subject.run()
    x = torch.randn(100, 2, generator=derive_generator("check", "inputs"))
    before, law = subject.configure(), run.witness.law(x)
    start = 0.5 * torch.randn(N_SHORT, 2, generator=derive_generator("check", "start"))
    copy = start.clone()
    try:
        started = run.draw(N_SHORT, start=start)
    except ValueError as error:
        use = f"start is refused ({error})"
    else:
        use = "start is used"
        require(not torch.equal(started.samples, run.draws.samples), "a start", "be used or refused", "the same draws")
        started.samples.fill_(math.nan)
    require(torch.equal(start, copy), "start", "be left as it is", "other values")
    meter, target = run.meter, run.witness
    require((meter.dim, meter.scale) == (2, 0.5) == (target.dim, target.scale), "dim and scale", "be left", meter.scale)
    require(torch.equal(target.law(x), law), "the target's density", "be left as it is", "other values")
    require(subject.sampler == before, "the configuration", f"still be {before}", subject.sampler)
    return f"{use} and not modified; target, meter and configuration are as they were"


def bad_starts(subject: SamplerSubject) -> str:
    """A start of the wrong shape, or that is not finite, is a ValueError that speaks of it."""
    start = 0.5 * torch.randn(N_SHORT, 2, generator=derive_generator("check", "start"))
    wrong = {"too few rows": start[1:], "too few columns": start[:, :1], "NaN": torch.full_like(start, math.nan)}
    for what, value in wrong.items():
        try:
            subject.short.draw(N_SHORT, start=value)
        except ValueError as error:
            require("start" in str(error), f"the error of a start with {what}", "name start", f"{error}")
        else:
            raise BrokenRule(f"a start with {what} must be refused with a ValueError, got draws")
    return f"refused with a ValueError: {', '.join(wrong)}"


CHECKS: tuple[Check[SamplerSubject], ...] = (
    configuration,
    rows_and_dtypes,
    devices,
    seeds,
    another_process,
    global_random_states,
    fitted_sampler_unchanged,
    inputs_unchanged,
    bad_starts,
    budget_of_fit,
    budget_of_draw,
    divergence,
    moments_of_gaussian2,
    moments_of_mog2,
    log_normaliser,
    density,
    counts,
)
