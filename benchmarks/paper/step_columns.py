"""What the columns of the CSVs of chains of many lengths mean: step_curves, equal_steps, outcome, rivals and images."""

from ..column import OF_METRIC, Column, Table, count, text
from ..columns import SAMPLER, TARGET

_METRIC = Column(
    "metric",
    "What is measured: a metric, primary (the worse ratio of sliced_w2 and mode_tv) or frechet_real (see images.csv)",
    kind="text",
)
_ONE_PASS = text("sampler", "Label of the one-pass row that chains are held against")
_SEEDS = count("n_seeds", "Seeds that were planned")


def _pays(name: str, against: str) -> tuple[Column, ...]:
    return (
        Column(name, f"Draws from which training is paid for against {against}; inf is never", "draws"),
        Column(f"{name}_low", f"Lower end of Fieller's 95% interval of {name}", "draws"),
        Column(f"{name}_high", f"Upper end of Fieller's 95% interval of {name}", "draws"),
    )


def _rival(unit: str, per_draw: str) -> tuple[Column, ...]:
    name = f"rival_{unit}"
    return (
        Column(name, f"Long chains or SMC of no worse quality whose draws are cheapest in {unit}", kind="text"),
        Column(f"{name}_per_draw", "Cost of an effective draw of it, without what is paid once", per_draw),
        Column(f"{name}_ratio", "That over the cost of a draw of the one-pass row; inf where the latter is free"),
        *_pays(f"{name}_break_even", "it"),
    )


_K = (
    Column(
        "k",
        "Steps at which the chain is as good as one pass; 0 is at most the smallest number that was run, inf "
        "more than the largest", "steps",
    ),
    Column("k_low", "Lower end of its 95% interval by paired tests over seeds, 0 likewise", "steps"),
    Column("k_high", "Upper end of its 95% interval by paired tests over seeds, inf likewise", "steps"),
    text("censored", "below or above where k is 0 or inf; then costs are bounds"),
)  # fmt: skip
_RATIO = (
    Column("microseconds_ratio", "Chain over one pass; geometric mean over seeds"),
    Column("microseconds_ratio_low", "Lower end of its 95% t-interval at k_low; 0 where k_low is 0"),
    Column("microseconds_ratio_high", "Upper end of its 95% t-interval at k_high; inf where k_high is inf"),
)
_WHY = text("reason", "Why there is no k; empty if there is one")
TABLES: dict[str, Table] = {
    "step_curves": Table(
        "one metric of one sampler on one target, over all seeds",
        ("target", "metric", "sampler"),
        (
            TARGET, _METRIC, SAMPLER,
            text("chain", "MALA or ULA, of rows whose every draw is the end of a chain of its own"),
            count("n_steps", "Steps of such a chain"),
            _SEEDS,
            count("n_ok", "Seeds with a value"),
            Column(
                "quality",
                "Geometric mean over seeds of the ratio to the floor, at least 1, or without a floor of the value; "
                "empty unless all seeds have one", OF_METRIC,
            ),
            Column("low", "Lower end of its 95% t-interval, taken in logs", OF_METRIC),
            Column("high", "Upper end of its 95% t-interval, taken in logs", OF_METRIC),
            Column("has_floor", "Whether quality is a ratio to a floor", kind="boolean"),
            Column("share_at_floor", "Share of the seeds no worse than the 95% point of exact draws"),
            Column("microseconds_per_draw", "Mean over seeds; long chains count by their effective size", "µs"),
            Column("equivalents_per_draw", "Mean over seeds, counted alike", "gradient equivalents"),
        ),
    ),
    "equal_steps": Table(
        "one metric of one one-pass sampler against one kind of chain on one target",
        ("target", "metric", "sampler", "chain"),
        (
            TARGET, _METRIC, _ONE_PASS,
            text("chain", "MALA or ULA, restarted for every draw"),
            _SEEDS,
            *_K,
            Column("at_floor_from", "Steps from which on half of the chain's runs or more are at the floor", "steps"),
            Column("is_monotone", "Whether the chain's means fell all the way, without isotonic fit", kind="boolean"),
            text("left_out", "Numbers of steps of which a run has no value"),
            Column("k_costed", "Steps at which costs of the chain are taken: k within the range that was run", "steps"),
            Column("microseconds_per_draw_one_pass", "Mean over seeds", "µs"),
            Column("microseconds_per_draw_chain", "Mean over seeds, linear in steps between those run", "µs"),
            *_RATIO,
            Column("equivalents_per_draw_one_pass", "Mean over seeds", "gradient equivalents"),
            Column("equivalents_per_draw_chain", "Mean over seeds at k_costed", "gradient equivalents"),
            *_pays("break_even_equivalents", "that chain, in gradient equivalents"),
            *_pays("break_even_seconds", "that chain, in seconds"),
            _WHY,
        ),
    ),
    "outcome": Table(
        "one one-pass sampler on one law of images: the steps of MALA that its pass is worth",
        ("target", "sampler"),
        (TARGET, _ONE_PASS, _METRIC, _SEEDS, *_K, *_RATIO, _WHY),
    ),
    "rivals": Table(
        "one one-pass sampler on one target, against chains that go on and SMC",
        ("target", "sampler"),
        (TARGET, _ONE_PASS, *_rival("equivalents", "gradient equivalents"), *_rival("seconds", "µs")),
    ),
    "images": Table(
        "the draws of one run, or the real images that were held out, as the classifier sees them",
        ("target", "sampler", "seed"),
        (
            TARGET, SAMPLER,
            count("seed", "Seed of the run; empty for the real images"),
            text("status", "How the run ended, see metrics.csv"),
            Column(
                "frechet_real",
                "Frechet distance of features to the real images of the training split, with their noise",
                "of the features",
            ),
            Column("class_tv_real", "Total variation between the shares of classes there and here"),
            Column("mean_confidence", "Mean probability of the likeliest class"),
            text("reason", "Why there is no value; empty if there is one"),
        ),
    ),
}  # fmt: skip
