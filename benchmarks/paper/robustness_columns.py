"""What the columns of the tables of settings mean: robustness, sensitivity, blindness and mode_shares."""

from ..column import METRIC, OF_METRIC, Column, Table, count, text
from ..columns import SEED, TARGET, WORSE

_METHOD = text("method", "DFT, Fisher or KL; label of the row at the centre of its sweeps, see provenance.json")
_SWEEP = text("sweep", "What is moved away from the centre, after the slash in which unit")
_PER_VARIANCE = "1 / variance of a mode"


def _spread(name: str, of: str, unit: str = "") -> tuple[Column, ...]:
    return (
        Column(f"{name}_median", f"median over runs of the {of}; those without one are left out", unit),
        Column(f"{name}_min", f"least over runs of the {of}", unit),
        Column(f"{name}_max", f"largest over runs of the {of}", unit),
    )


def _divergence(name: str, meaning: str, unit: str = "") -> Column:
    return Column(name, f"{meaning}, p of these weights and q of equal ones", unit)


def _of_shift(name: str) -> Column:
    shift = "its value where the law of equal weights is shifted by one standard deviation"
    return Column(f"{name}_of_shift", f"Ratio of {name} to {shift}")


TABLES: dict[str, Table] = {
    "robustness": Table(
        "one setting of one sweep of one method on one target, over all seeds",
        ("sweep", "target", "method", "setting"),
        (
            _METHOD, _SWEEP,
            text("setting", "Where it is moved to; the centre is a setting of every sweep"),
            TARGET,
            count("n_runs", "Seeds that were run"),
            Column("share_finite", "Share of the runs that ended with finite draws"),
            Column("fit_gradient_equivalents", "Median over runs of what training evaluated", "gradient equivalents"),
            Column("fit_seconds", "Median over runs of the time of training", "s"),
            Column("primary_ratio_median", f"Median over runs of the {WORSE}; those without one are left out"),
            Column("primary_ratio_min", "Least over runs of that ratio"),
            Column("primary_ratio_max", "Largest over runs of that ratio"),
            *_spread(f"{METRIC}_ratio", "ratio to the floor"),
            *_spread(METRIC, "value, of a metric without floor", OF_METRIC),
        ),
    ),
    "sensitivity": Table(
        "the settings of one sweep of one method on one target by one metric",
        ("sweep", "target", "method", "metric"),
        (
            _METHOD, _SWEEP, TARGET,
            text("metric", "Which ratio to the floor: of sliced_w2, of mode_tv, or primary, the worse of the two"),
            count("n_settings", "Settings of the sweep, the centre included"),
            count("n_runs", "Runs of all settings"),
            count("n_lost", "Runs without a value; they count as infinitely bad"),
            text("best", "Setting with the least median over its runs"),
            text("worst", "Setting with the largest median over its runs"),
            Column("best_ratio", "Median over the runs of best, where ratios below the floor count as the floor"),
            Column("worst_ratio", "The same of worst; inf where half of its runs are lost or more"),
            Column("worst_over_best", "Ratio of these medians; inf where the larger is infinite"),
            Column(
                "low",
                "Lower end of its simultaneous 95% interval over all pairs of settings (Tukey and Kramer), of those "
                "without lost runs; 1 where these are fewer than two, inf where all runs of a setting are lost, empty "
                "where settings have one run each",
            ),
            Column("high", "Upper end of that interval; inf where a run is lost"),
        ),
    ),
    "blindness": Table(
        "two normal modes in one dimension against the same two with equal weights, by quadrature",
        ("weight",),
        (
            Column("weight", "Of the first mode; the other has the rest"),
            Column("separation", "Distance between the modes", "standard deviations"),
            _divergence("total_variation", "Total variation between p and q"),
            _divergence("kl", "Kullback-Leibler divergence of p from q, the mean under p of log p / q", "nats"),
            _divergence("fisher", "Fisher divergence, the mean under p of the squared gap of scores", _PER_VARIANCE),
            _divergence(
                "ksd2", "Squared kernel Stein discrepancy of p from q, inverse multiquadric of width 1", _PER_VARIANCE
            ),
            *map(_of_shift, ("total_variation", "kl", "fisher", "ksd2")),
        ),
    ),
    "mode_shares": Table(
        "one mode of the target in the draws of one run at the centre of all sweeps",
        ("method", "seed", "mode"),
        (
            TARGET, _METHOD, SEED,
            count("mode", "Number of the mode, from 0"),
            Column("share", "Share of the draws in the mode"),
            Column("mass", "Mass of the mode under the law"),
        ),
    ),
}  # fmt: skip
