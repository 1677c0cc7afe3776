"""Targets: unnormalised densities with certified truth. ``names()`` lists them, ``get(name)`` builds one."""

from .registry import lazy_attributes

__getattr__ = lazy_attributes(
    __name__,
    {
        "Budget": "meter",
        "BudgetReached": "meter",
        "Counts": "meter",
        "Draws": "draws",
        "Estimate": "draws",
        "HasLogZ": "base",
        "HasModes": "base",
        "HasMoments": "base",
        "HasPredictive": "base",
        "HasReference": "base",
        "HasSample": "base",
        "HasScore": "base",
        "HasStart": "base",
        "HasView": "base",
        "Meter": "meter",
        "Modes": "base",
        "Moments": "base",
        "Target": "base",
        "TargetError": "meter",
        "derive_generator": "meter",
        "load_plugin": "registry",
        "register_target": "base",
    },
    ("base", "TARGETS"),
)
