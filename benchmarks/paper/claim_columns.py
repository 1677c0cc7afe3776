"""What the columns of the ledger of claims mean: claims and claims_evidence."""

from ..column import Column, Table, text

_CLAIM = text("claim", "What is claimed, in our words")
_UNIT = "of what is measured"

TABLES: dict[str, Table] = {
    "claims": Table(
        "one claim of a paper, with the verdict on it",
        ("claim",),
        (
            _CLAIM,
            text("source", "The paper, or papers"),
            text("experiment", "Suite whose tables it is held against; empty where nothing can be"),
            Column("value", "Median over claims_evidence.csv; note says of what", _UNIT),
            text("interval", "95% interval of a single value; of several their range and number"),
            text(
                "verdict",
                "By the rule that docs/claims.md states: replicated, partly, not replicated or not testable",
            ),
            text("note", "What is measured, the threshold that the claim is above, and what else must be known"),
        ),
    ),
    "claims_evidence": Table(
        "one measured value that a claim is held against",
        ("claim", "of"),
        (
            _CLAIM,
            text("of", "What it was measured on: a target, with the chain or the rival where there is one"),
            Column("value", "Its value; the note in claims.csv says of what", _UNIT),
            Column("low", "Lower end of its 95% interval", _UNIT),
            Column("high", "Upper end of its 95% interval", _UNIT),
        ),
    ),
}  # fmt: skip
