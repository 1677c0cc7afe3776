"""Samplers: configurations that fit and draw. ``names()`` lists them, ``get(name)`` builds one."""

from ..targets.registry import lazy_attributes

__getattr__ = lazy_attributes(
    __name__,
    {
        "FittedSampler": "base",
        "Kernel": "base",
        "NotApplicableError": "base",
        "Sampler": "base",
        "State": "base",
        "register_sampler": "base",
    },
    ("base", "SAMPLERS"),
)
