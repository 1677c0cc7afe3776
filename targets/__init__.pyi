from .base import (
    HasClasses as HasClasses,
    HasFeatures as HasFeatures,
    HasLogZ as HasLogZ,
    HasMarginals as HasMarginals,
    HasMinibatch as HasMinibatch,
    HasModes as HasModes,
    HasMoments as HasMoments,
    HasPredictive as HasPredictive,
    HasReference as HasReference,
    HasSample as HasSample,
    HasScore as HasScore,
    HasStart as HasStart,
    HasSymmetry as HasSymmetry,
    HasView as HasView,
    HasWells as HasWells,
    Marginal as Marginal,
    Modes as Modes,
    Moments as Moments,
    PerDevice as PerDevice,
    Target as Target,
    Wells as Wells,
    entry as entry,
    get as get,
    names as names,
    register_target as register_target,
)
from .draws import Draws as Draws, Estimate as Estimate
from .meter import (
    Budget as Budget,
    BudgetReached as BudgetReached,
    Counts as Counts,
    Meter as Meter,
    TargetError as TargetError,
    derive_generator as derive_generator,
)
from .registry import load_plugin as load_plugin
from .user import from_log_prob as from_log_prob
