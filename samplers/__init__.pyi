from .base import (
    FittedSampler as FittedSampler,
    Kernel as Kernel,
    NotApplicableError as NotApplicableError,
    Sampler as Sampler,
    State as State,
    checked_start as checked_start,
    entry as entry,
    get as get,
    names as names,
    normal_like as normal_like,
    register_sampler as register_sampler,
)
