"""Metrics: pure functions of draws and truth. ``names()`` lists them, ``get(name)`` returns one."""

from ..targets.registry import lazy_attributes

__getattr__ = lazy_attributes(
    __name__,
    {
        "Metric": "base",
        "Truth": "base",
        "register_metric": "base",
    },
    ("base", "METRICS"),
)
