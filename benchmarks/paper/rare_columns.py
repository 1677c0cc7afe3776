"""What the columns of the tables of rare faults mean: rare_modes, detector, detector_runs, audit and rare_faults."""

from ..column import WEIGHT, Column, Table, count, text
from ..columns import SAMPLER, SEED, TARGET

_STATUS = text("status", "How the run ended, see metrics.csv")
_WEIGHT = Column("weight", "Mass of the mode under the law")
_TO_ONE_DIGIT = "the faults of this weight to one digit"
_COSTS = (
    Column("gradient_equivalents", "Evaluations of fit and draw together", "gradient equivalents"),
    Column("seconds", "Time of fit and draw together", "s"),
)
_TYPICAL = "the range of log densities that holds 99% of the exact draws of the mode"


def _if(name: str, meaning: str) -> Column:
    return count(name, f"1 if {meaning}; else 0")


def _exact(*columns: Column) -> tuple[Column, ...]:
    """The same of a detector trained on as many exact draws."""
    return tuple(
        Column(f"exact_{c.name}", f"As {c.name}, of a detector trained on as many exact draws") for c in columns
    )


_OF_FAULT = (
    Column("recall", "Share of the exact draws of the mode that the detector takes for it"),
    Column("std_error", "Binomial standard error of recall"),
    Column("alarm_rate", "Share of the exact draws of the mode that are taken for any fault"),
    Column("precision", "Share that is of the mode, of what is taken for it at the true prevalence"),
    Column("false_alarm_rate", "Share of the draws of all other modes that is taken for it, at the true prevalence"),
)
_OF_ALL_FAULTS = (
    Column("recall", "Share of the faults at their true prevalence that the detector takes for what they are"),
    Column("precision", "Share that is named rightly, of what is taken for a fault at the true prevalence"),
    Column("false_alarm_rate", "Share of the exact draws of the heaviest mode that are taken for a fault"),
)

TABLES: dict[str, Table] = {
    "rare_modes": Table(
        "one mode of the target, or the outside of all modes, in the draws of one run",
        ("target", "sampler", "seed", "mode"),
        (
            TARGET, SAMPLER, SEED, _STATUS,
            count("mode", "Number of the mode, from 0; -1 is outside all"),
            _WEIGHT,
            count("n_draws", "Draws of the run; 0 if it has none, or some are not finite", "draws"),
            count("hits", "Draws in the mode", "draws"),
            _if("found", "there are 5 or more"),
            Column("weight_ratio", "Share of the draws in the mode over the weight"),
            Column("share_typical", f"Share of the hits in {_TYPICAL}"),
            count("first_hit", "Draws to the first hit, itself included, in random order; n_draws if none", "draws"),
            _if("censored", "there is no hit"),
            Column("first_hit_exact", "What exact draws take on average, n_draws if none likewise", "draws"),
        ),
    ),
    "detector": Table(
        "one fault, a mode that is not the heaviest, and the detector trained on the draws of one run",
        ("target", "sampler", "seed", "mode"),
        (
            TARGET, SAMPLER, SEED, _STATUS,
            count("mode", "Number of the mode, from 0"),
            _WEIGHT,
            count("n_train", "Training draws in the mode", "draws"),
            *_OF_FAULT, *_exact(_OF_FAULT[0]), *_COSTS,
        ),
    ),
    "detector_runs": Table(
        "all faults of one target, and the detector trained on the draws of one run",
        ("target", "sampler", "seed"),
        (
            TARGET, SAMPLER, SEED, _STATUS,
            count("n_train", "Training draws in any mode", "draws"),
            count("n_outside", "Draws outside all modes, which are left out", "draws"),
            *_OF_ALL_FAULTS, *_exact(*_OF_ALL_FAULTS), *_COSTS,
        ),
    ),
    "audit": Table(
        "one rare draw of the first seed: of the first in every fault, or of the farthest outside all modes",
        (),  # a chain that stands still gives the same draw twice
        (
            TARGET, SAMPLER, SEED,
            text("kind", "What it is: a fault, in a mode that is not the heaviest, or outside, in no mode"),
            count("mode", "Number of the mode, from 0; of a draw outside the nearest"),
            _WEIGHT,
            *(Column(f"x{k}", f"Coordinate {k} of the draw; empty in fewer dimensions") for k in (1, 2, 3)),
            Column("log_prob", "Log density of the draw, maybe unnormalised", "nats"),
            Column("log_prob_low", f"Lower end of {_TYPICAL}", "nats"),
            Column("log_prob_high", "Upper end of that range", "nats"),
            Column("distance", "From the centre of the mode, every coordinate in its own there", "standard deviations"),
            Column("distance_high", "What 99.5% of its exact draws do not exceed", "standard deviations"),
            _if("typical", "log_prob is in that range and the draw is in a mode"),
        ),
    ),
    "rare_faults": Table(
        "one sampler on one target, over all seeds",
        ("target", "sampler"),
        (
            TARGET, SAMPLER,
            count("n_seeds", "Seeds that were planned"),
            count("n_ok", "Seeds whose run was ok"),
            Column("rarest_found", "Weight of the rarest mode with 5 draws or more in every seed; empty if none"),
            Column(
                f"first_hit_{WEIGHT}",
                f"draws to the first hit, all draws where there is none; mean over seeds and {_TO_ONE_DIGIT}", "draws",
            ),
            count(f"never_{WEIGHT}", f"seeds with draws but no hit, summed over {_TO_ONE_DIGIT}; empty without draws"),
            Column(
                f"detector_recall_{WEIGHT}",
                f"recall of the detector, see detector.csv; mean over seeds and {_TO_ONE_DIGIT}",
            ),
            Column("outside_share", "Share of the draws outside all modes; mean over seeds"),
            Column("outside_exact", "Mass outside all modes under the law"),
            Column("weight_error", "Mean over seeds of rare_weight_error", "nats"),
            Column("weight_error_ratio", "Mean over seeds of its ratio to the floor"),
            Column("false_alarm_rate", "Of the detector, see detector_runs.csv; mean over seeds"),
            Column("gradient_equivalents", "Evaluations of fit and draw, mean over seeds", "gradient equivalents"),
            Column("seconds", "Time of fit and draw, mean over seeds", "s"),
            text(
                "cheapest_as_good",
                "Of the other rows of long chains, SMC and AIS whose weight_error a paired test over five seeds or "
                "more does not call larger (5%, Holm) the one of fewest gradient_equivalents, a wide one for a wide "
                "row only; empty if there is none",
            ),
            Column("cost_ratio", "Ratio of gradient_equivalents to those of that row"),
        ),
    ),
}  # fmt: skip
