"""The experiments, in the order in which they are run."""

from collections.abc import Sequence

from ...targets.registry import unknown
from . import dimensions, images, plane, rare_faults, regressions, robustness
from .experiment import Experiment

EXPERIMENTS = (
    Experiment("paper-2d", plane.write_tables, plane.write_figures),
    Experiment("paper-ebm", images.write_tables, images.write_figures),
    Experiment("paper-blr", regressions.write_tables, regressions.write_figures),
    Experiment("paper-robustness", robustness.write_tables, robustness.write_figures),
    Experiment("paper-dimensions", dimensions.write_tables, dimensions.write_figures),
    Experiment("paper-rare", rare_faults.write_tables, rare_faults.write_figures),
)


def chosen_suites(only: Sequence[str] = ()) -> list[str]:
    """Names of the suites to run; all where none is named.

    Raises:
        KeyError: for an unknown one, listing the known.
    """
    known = [experiment.suite for experiment in EXPERIMENTS]
    for name in only:
        if name not in known:
            raise unknown("suite of the paper", name, known)
    return [name for name in known if not only or name in only]
