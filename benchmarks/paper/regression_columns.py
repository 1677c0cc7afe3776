"""What the columns of the table of regressions mean: predictive."""

from ..column import OF_METRIC, Column, Table, count, text
from ..columns import SAMPLER, TARGET

TABLES: dict[str, Table] = {
    "predictive": Table(
        "one metric of one sampler on one regression, over all seeds",
        ("target", "sampler", "metric"),
        (
            TARGET, SAMPLER,
            text("metric", "Of predictions on held-out rows accuracy, nll or ece; of the draws moment_bias2"),
            count("n_ok", "Seeds with a value"),
            count("n_seeds", "Seeds that were planned"),
            Column("mean", "Mean over the seeds that have a value", OF_METRIC),
            Column("low", "Lower end of its 95% t-interval; empty below two values", OF_METRIC),
            Column("high", "Upper end of its 95% t-interval; empty below two values", OF_METRIC),
            Column("reference", "Value of all reference draws of the posterior; empty for moment_bias2", OF_METRIC),
            Column("excess", "By how much mean exceeds reference", OF_METRIC),
            Column("floor", "What exact draws of the same number reach; empty if there is none", OF_METRIC),
        ),
    ),
}  # fmt: skip
