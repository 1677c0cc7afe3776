from .base import (
    Metric as Metric,
    Predictive as Predictive,
    Truth as Truth,
    entry as entry,
    get as get,
    names as names,
    register_metric as register_metric,
)
