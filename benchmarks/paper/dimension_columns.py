"""What the columns of the tables of dimensions mean: dimensions and exponents."""

from collections.abc import Mapping
from dataclasses import replace

from ..column import METRIC, OF_METRIC, Column, Table, count, flag, text
from ..columns import COSTS, TARGET, WORSE

_FAMILY = text("family", "Laws of the same kind in all dimensions")
_ROW = text("sampler", "Label of the row; where some dimensions need other settings, that of all their rows together")
_COSTS: Mapping[str, Column] = {column.name: column for column in COSTS}


def _median(name: str, but: str = "") -> Column:
    """Over runs, of a cost of the leaderboard."""
    return replace(_COSTS[name], meaning=f"Median over runs: {_COSTS[name].meaning}{but}")


def _range(name: str, unit: str = "") -> tuple[Column, ...]:
    return Column(f"{name}_min", "Least over runs", unit), Column(f"{name}_max", "Largest over runs", unit)


TABLES: dict[str, Table] = {
    "dimensions": Table(
        "one sampler on one law in one dimension, over all seeds",
        ("family", "dim", "sampler"),
        (
            _FAMILY,
            count("dim", "Dimension of the law"),
            _ROW, TARGET,
            flag("is_one_pass", "Whether the row is a one-pass sampler; all others are their rivals"),
            count("n_seeds", "Seeds that were planned"),
            count("n_ok", "Seeds whose run was ok"),
            Column("primary_ratio", f"Median over runs of the {WORSE}; those without one are left out"),
            Column(f"{METRIC}_ratio", "median over runs of the ratio to the floor; those without one are left out"),
            Column(METRIC, "median over runs of the value, of a metric without floor", OF_METRIC),
            _median("fit_gradient_equivalents"),
            _median("draw_gradient_equivalents"),
            _median("gradient_equivalents_per_effective_draw"),
            _median("fit_seconds", "; 0 where nothing is evaluated before the first draw"),
            _median("draw_seconds"),
            _median("microseconds_per_draw"),
            _median("microseconds_per_effective_draw"),
            *_range("primary_ratio"),
            Column(f"{METRIC}_ratio_min", "least over runs of the ratio to the floor"),
            Column(f"{METRIC}_ratio_max", "largest over runs of the ratio to the floor"),
            *_range("fit_seconds", "s"),
            *_range("microseconds_per_effective_draw", "µs"),
            text(
                "rival",
                "Of a one-pass row, the MCMC or SMC row of no significantly worse primary ratio whose effective draws "
                "cost least time; empty if there is none",
            ),
            Column("times_cheaper", "Time of an effective draw of the rival over that of one of the row"),
        ),
    ),
    "exponents": Table(
        "one quantity of one sampler as a power of the dimension, fitted to the runs on one family",
        ("family", "sampler", "quantity"),
        (
            _FAMILY, _ROW,
            text("quantity", "Column of dimensions.csv whose values of single runs are fitted"),
            Column("exponent", "Power a in quantity = factor x dim^a, by least squares in logs; empty below two dims"),
            Column("low", "Lower end of its 95% t-interval"),
            Column("high", "Upper end of its 95% t-interval"),
            Column("factor", "Value of the fitted law at dimension 1", "of the quantity"),
            Column(
                "curvature",
                "Coefficient of the squared log of the dimension where the fit has that term too; empty below three "
                "dims",
            ),
            Column("curvature_p", "The p-value of the t-test of curvature 0"),
            flag("is_power_law", "Whether curvature_p is above 5%: one exponent says it all; empty where not testable"),
            count("n_runs", "Runs that are fitted"),
            count("n_lost", "Runs that are not ok and have no value"),
            text("dims", "Dimensions that are fitted, separated by spaces"),
            text("lost_dims", "Dimensions that are left out since a run there was lost, separated by spaces"),
        ),
    ),
}  # fmt: skip
