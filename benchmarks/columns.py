"""What the columns of leaderboards and of other shipped CSVs mean."""

from .column import METRIC, OF_METRIC, Column, Table, count, flag, text
from .ranks import LEAST_RATIO, MIN_SEEDS


def _break_even(unit: str, paid: str) -> tuple[Column, ...]:
    name = f"break_even_{unit}"
    return (
        text(
            f"{name}_against",
            f"The row of no worse quality whose draws cost least in {paid}, training included; empty with fewer than "
            f"{MIN_SEEDS} seeds",
        ),
        Column(name, f"Number of draws from which the row costs less than that one in {paid}; inf is never", "draws"),
        Column(f"{name}_low", f"Lower end of Fieller's 95% interval of {name}", "draws"),
        Column(f"{name}_high", f"Upper end of Fieller's 95% interval of {name}", "draws"),
    )


TARGET = text("target", "Label of the target; provenance.json gives its registered name and version")
_VERSIONED = text("target", "Registered name and version of the target")
SAMPLER = text("sampler", "Label of the row; provenance.json gives the sampler, its version and whole configuration")
SEED = count("seed", "Seed of the run; training and drawing derive their random numbers from it")
_DEVICE = text("device", "Processor or GPU that computed it; several are separated by semicolons")
_EVALUATED = (
    Column("value", "Value of the metric; empty where it cannot be computed, reason says why", OF_METRIC),
    Column(
        "floor",
        "What exact draws of the same number reach: the median of a distance over repeats, the 95% point of a metric "
        "that is centred at zero",
        OF_METRIC,
    ),
    Column("ratio", "Value over floor; 1 is as good as exact draws"),
    Column("z", "Value less the mean over repeats of exact draws, in their standard deviations"),
    Column("p", "Share of the repeats of exact draws, the value itself added, that are at least as large"),
)
COSTS = (
    Column("fit_seconds", "Paid once: training, adaptation, burn-in; processor time on a CPU, wall time on a GPU", "s"),
    Column("draw_seconds", "Of all draws of a run, timed alike", "s"),
    Column("microseconds_per_draw", "draw_seconds over the number of draws", "µs"),
    Column("best_microseconds_per_draw", "Time of a draw at the batch size where it is least", "µs"),
    Column(
        "microseconds_per_effective_draw",
        "As microseconds_per_draw, but chains count by their effective size (ess_bulk), weighted draws by Kish's",
        "µs",
    ),
    Column("fit_log_prob", "Points at which fit evaluated the log density", "evaluations"),
    Column("fit_score", "Points at which fit evaluated the score", "evaluations"),
    Column("fit_hvp", "Hessian-vector products of fit", "evaluations"),
    Column("draw_log_prob", "Points at which draw evaluated the log density", "evaluations"),
    Column("draw_score", "Points at which draw evaluated the score", "evaluations"),
    Column("draw_hvp", "Hessian-vector products of draw", "evaluations"),
    Column(
        "fit_gradient_equivalents",
        "Evaluations of fit; a score with its log density is 1, a log density alone 0.5, a Hessian-vector "
        "product 2", "gradient equivalents",
    ),
    Column("draw_gradient_equivalents", "Evaluations of draw, counted alike", "gradient equivalents"),
    Column(
        "gradient_equivalents_per_effective_draw",
        "draw_gradient_equivalents over the number of draws; of chains over their effective size (ess_bulk), of "
        "weighted draws over Kish's, (sum of weights)^2 over the sum of their squares",
        "gradient equivalents",
    ),
    Column("peak_memory_mb", "Peak memory of the worker process; exact on Linux only", "MB"),
)  # fmt: skip
WORSE = f"worse ratio of sliced_w2 and mode_tv, ratios below {LEAST_RATIO} counted as that"
_AT_FLOOR = flag("at_floor", "Whether the value is no worse than the 95% point of exact draws")

TABLES: dict[str, Table] = {
    "metrics": Table(
        "one value of one run",
        ("run_id", "metric"),
        (
            text(
                "run_id", "Identity of the run: a hash of sampler, target, their versions and settings, seed and budget"
            ),
            TARGET, SAMPLER, SEED,
            text(
                "status",
                "How the run ended: ok, budget, diverged, timeout, failed, killed, not_installed, not_applicable, "
                "missing",
            ),
            text("metric", "Name of the value"),
            count("n_samples", "Draws that the metric was given", "draws"),
            *_EVALUATED, _AT_FLOOR,
            text("reason", "Why there is no value; empty if there is one"),
        ),
    ),
    "leaderboard": Table(
        "one sampler on one target, over all seeds",
        ("target", "sampler"),
        (
            TARGET, SAMPLER,
            text("status", "Worst status over the seeds, see metrics.csv; not_installed and not_applicable hide none"),
            count("n_ok", "Seeds whose run was ok"),
            count("n_seeds", "Seeds that were planned"),
            Column(f"{METRIC}_mean", "mean over the seeds that have a value", OF_METRIC),
            Column(f"{METRIC}_low", "lower end of the 95% t-interval of the mean; empty with one seed", OF_METRIC),
            Column(f"{METRIC}_high", "upper end of the 95% t-interval of the mean; empty with one seed", OF_METRIC),
            Column(f"{METRIC}_floor", "what exact draws of the same number reach; empty if there is none", OF_METRIC),
            Column(f"{METRIC}_ratio", "ratio of the mean to the floor"),
            Column(f"{METRIC}_z", "mean less that of exact draws, in standard deviations of exact draws"),
            Column(f"{METRIC}_at_floor", "share of the seeds no worse than the 95% point of exact draws"),
            *COSTS,
            _DEVICE,
            flag("development", "Whether settings of shipped samplers were chosen on this target: not in overall.csv"),
            Column(
                "primary_ratio",
                f"Geometric mean over seeds of the {WORSE}; empty unless all runs are ok",
            ),
            Column("primary_low", "Lower end of the 95% t-interval of primary_ratio, taken in logs"),
            Column("primary_high", "Upper end of the 95% t-interval of primary_ratio, taken in logs"),
            Column("rank", f"1 + n_better + n_tied / 2; empty below {MIN_SEEDS} seeds or if the row took no part"),
            Column("n_better", "Rows of the target that paired tests over seeds call better (5%, Holm)"),
            Column("n_tied", "Other rows of the target that are not told apart from this one"),
            Column("n_worse", "Rows of the target that paired tests over seeds call worse"),
            text("tie_group", "Letters; rows of a target that share one are not told apart"),
            flag("is_best", "Whether the row is ranked and none is better"),
            text("loss", "Why the row comes last: how many runs were not ok, and the first reason; empty if none"),
            Column(
                "bias_shows_at",
                "Number of draws at which the row's bias is as large as the noise of exact draws; inf is never",
                "draws",
            ),
            *_break_even("equivalents", "gradient equivalents"), *_break_even("seconds", "seconds"),
            text("reason", "Of the first seed with the status that is shown; also a remark on a run that is ok"),
        ),
    ),
    "overall": Table(
        "one sampler, over the targets that are not development targets",
        ("sampler",),
        (
            SAMPLER,
            Column("mean_rank", "Mean over targets of the column rank of leaderboard.csv"),
            Column("rank_low", "Lower end of the 95% t-interval of mean_rank; empty if all ranks are equal"),
            Column("rank_high", "Upper end of the 95% t-interval of mean_rank; empty if all ranks are equal"),
            count("n_targets", "Targets on which the row is ranked"),
            count("n_best", "Targets on which no row is better"),
            count("n_losses", "Targets on which a run of the row was not ok, those where no row is ranked included"),
        ),
    ),
    "kpis": Table(
        "one key figure of one sampler on one target, over all seeds",
        ("target", "sampler", "kpi"),
        (
            TARGET, SAMPLER,
            text("kpi", "Name of the key figure; leaderboard.md defines it"),
            Column("value", "Its value", "of the key figure"),
            text("text", "The value in words, with what exact draws would give; in brackets how many runs have one"),
            text("unit", "Of the value"),
        ),
    ),
    "costs": Table(
        "one run that ended its draw", ("target", "sampler", "seed"), (TARGET, SAMPLER, SEED, *COSTS)
    ),
    "budget_curves": Table(
        "one sampler on one target at one price, over all seeds",
        ("target", "sampler", "suite"),
        (
            TARGET, SAMPLER,
            text("suite", "Suite whose budget it is"),
            Column("equivalents", "Spent by fit and draw together; mean over seeds", "gradient equivalents"),
            Column("seconds", "Of fit and draw together; mean over seeds", "s"),
            count("n_seeds", "Seeds that were planned"),
            Column("ratio", "Geometric mean over seeds of the worse ratio of sliced_w2 and mode_tv"),
            Column("low", "Lower end of its 95% t-interval, taken in logs"),
            Column("high", "Upper end of its 95% t-interval, taken in logs"),
        ),
    ),
    "throughput": Table(
        "one batch size of one run",
        ("target", "sampler", "seed", "batch"),
        (
            TARGET, SAMPLER, SEED, _DEVICE,
            count("batch", "Draws that were asked for at once", "draws"),
            Column("microseconds_per_draw", "Seconds over the number of draws", "µs"),
        ),
    ),
    "stability": Table(
        "one setting of one sampler on one target, over seeds",
        ("target", "sampler", "start_scale", "noise"),
        (
            TARGET,
            text("sampler", "Registered name of the sampler"),
            Column("start_scale", "Spread of the untrained network's draws", "scales of the target"),
            Column("noise", "Standard deviation of the training noise", "scales of the target"),
            count("n_runs", "Seeds that were run"),
            Column("share_finite", "Share of the runs that ended with finite draws"),
            Column(f"{METRIC}_median", "median over the runs that have a value", OF_METRIC),
            Column(f"{METRIC}_min", "least value of a run", OF_METRIC),
            Column(f"{METRIC}_max", "largest value of a run", OF_METRIC),
            Column(f"{METRIC}_ratio", "ratio of the median to the floor"),
        ),
    ),
    "certificates": Table(
        "one check of one target",
        ("target", "check"),
        (
            _VERSIONED,
            text("check", "Name of the check; certificate is the verdict on the target"),
            Column("value", "What the draws, the quadrature or the derivatives gave", "of the check"),
            Column("expected", "What it should be by the density", "of the check"),
            Column("std_error", "Standard error of the value; empty where a bound judges it", "of the check"),
            text("verdict", "pass, fail, uncertified or not_applicable"),
            text("reason", "Numbers of draws or nodes, or why there is no verdict"),
        ),
    ),
    "exact_draws": Table(
        "one metric on exact draws of one target, as judge sees them",
        ("target", "metric"),
        (
            _VERSIONED,
            text("metric", "Name of the metric"),
            count("n_samples", "Draws that the metric was given", "draws"),
            *_EVALUATED,
            Column("smallest_p", "Least p that the number of repeats behind the floor allows"),
            _AT_FLOOR,
            count("n_drawn", "Draws that were judged", "draws"),
            count("seed", "Seed of the draws and of the truth draws, which share no random numbers"),
        ),
    ),
    "power": Table(
        "one metric against one corruption of exact draws, on one target at one size",
        ("target", "n", "corruption", "metric"),
        (
            text("target", "Name of the target"),
            count("n", "Draws of a sample", "draws"),
            text("corruption", "Name of what is done to exact draws; nothing is the control"),
            text("strength", "The corruption in words, with its strength"),
            text("metric", "Name of the metric"),
            count("n_used", "Draws that the metric was given: slow ones get fewer", "draws"),
            count("n_null", "Values on exact draws, which make the p-values"),
            count("n_repeats", "Values on corrupted draws"),
            Column("power", "Share of the corrupted samples with a p-value of at most 5%; empty if not finite"),
            Column("std_error", "Standard error of power"),
            Column("median_exact", "Median of the values on exact draws", OF_METRIC),
            Column("median_corrupted", "Median of the values on corrupted draws", OF_METRIC),
        ),
    ),
}  # fmt: skip
