"""What the suite knows of each target, in one row: for ``samplerbench list targets`` and for the documentation."""

import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeAlias

from ..targets.base import TARGETS, HasLogZ, HasModes, HasReference, HasSample, Target
from ..targets.draws import Estimate
from ..targets.registry import Entry

DATA = f"{__package__}.data"
FACTS, VERDICTS = "catalogue.json", "certified.json"
PACKAGE = "samplerbench.targets."
NOT_YET = "not yet"

Kind: TypeAlias = Literal["exact", "reference", "none"]


@dataclass(frozen=True)
class Facts:
    """What is computed from a target, and so is worth keeping.

    Attributes:
        dim, scale: of the target.
        log_z, log_z_std_error: None if unknown.
        n_modes: None if unknown.
        truth: what draws are judged by: exact ones, shipped reference draws, or none.
    """

    dim: int
    scale: float
    log_z: float | None
    log_z_std_error: float | None
    n_modes: int | None
    truth: Kind


@dataclass(frozen=True)
class Row:
    """One target: its facts, whether they are certified, and where its law comes from.

    Attributes:
        name, version: as registered.
        facts: what is known of its truth.
        verdict: certified, uncertified, failed, or not yet: by the shipped certificates.
        reason: of a verdict that is not certified.
        source: of the law.
    """

    name: str
    version: int
    facts: Facts
    verdict: str
    reason: str
    source: str

    @property
    def key(self) -> str:
        """Name and version."""
        return f"{self.name}@{self.version}"


def shipped_targets() -> list[str]:
    """Names of the targets that the package itself defines, sorted."""
    return [name for name in TARGETS.names() if TARGETS.entry(name).build.__module__.startswith(PACKAGE)]


def describe(name: str) -> Row:
    """The row of a registered target: facts as shipped where they are, else computed (seconds for a large mixture)."""
    entry = TARGETS.entry(name)
    key = f"{name}@{entry.version}"
    shipped = _json(FACTS).get(key)
    facts = facts_of(TARGETS.get(name)) if shipped is None else Facts(**shipped)
    verdict: Mapping[str, str] = _json(VERDICTS).get(key, {})
    return Row(name, entry.version, facts, verdict.get("verdict", NOT_YET), verdict.get("reason", ""), source_of(entry))


def facts_of(target: Target) -> Facts:
    """The facts, computed; what a file says that is not there is unknown."""
    log_z = _log_z(target)
    return Facts(
        dim=target.dim,
        scale=target.scale,
        log_z=None if log_z is None else round(log_z.value, 6),
        log_z_std_error=None if log_z is None else _two_digits(log_z.std_error),
        n_modes=_n_modes(target),
        truth=_truth(target),
    )


def facts_as_json(rows: list[Row]) -> str:
    """Contents of the file of facts."""
    return json.dumps({row.key: asdict(row.facts) for row in rows}, indent=1) + "\n"


def source_of(entry: Entry[Target]) -> str:
    """The docstring's paragraph on its source, or the base class's; of several sources, that of the entry's name.

    Returns:
        One line; the first line of the docstring if no source is named.
    """
    for cls in inspect.getmro(entry.build) if inspect.isclass(entry.build) else (entry.build,):
        for paragraph in inspect.cleandoc(cls.__doc__ or "").split("\n\n"):
            if found := re.match(r"(?:Sources?|References?)\b:?\s*(.*)", paragraph, flags=re.DOTALL):
                text = " ".join(found[1].replace("``", "").split()).rstrip(".")
                own = re.search(rf"\b{re.escape(entry.name)}\b[^:.;]*: (.*?)(?=[.;] (?:\w+(?:, | to ))*\w+: |$)", text)
                return own[1] if own else text
    return entry.summary


def log_z_text(facts: Facts) -> str:
    """log Z, with its standard error where that is not negligible; empty if unknown."""
    value, error = facts.log_z, facts.log_z_std_error
    if value is None or error is None:
        return ""
    if error < 1e-6:
        return f"{value:.6g}"
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 6)
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


TARGET_COLUMNS = ("name", "dim", "scale", "log Z", "modes", "truth", "certified", "source")


def target_line(row: Row) -> tuple[str, ...]:
    """The row as the command line shows it, in the order of TARGET_COLUMNS; "-" is unknown."""
    facts = row.facts
    n_modes = "-" if facts.n_modes is None else str(facts.n_modes)
    log_z = log_z_text(facts) or "-"
    return row.key, str(facts.dim), f"{facts.scale:g}", log_z, n_modes, facts.truth, row.verdict, row.source


def _log_z(target: Target) -> Estimate | None:
    try:
        return target.log_z if isinstance(target, HasLogZ) else None
    except FileNotFoundError:
        return None


def _n_modes(target: Target) -> int | None:
    try:
        return len(target.modes.masses) if isinstance(target, HasModes) else None
    except FileNotFoundError:
        return None


def _truth(target: Target) -> Kind:
    if isinstance(target, HasSample):
        return "exact"
    if isinstance(target, HasReference):
        try:
            target.reference()
        except FileNotFoundError:
            return "none"
        return "reference"
    return "none"


def _two_digits(value: float) -> float:
    """Round-off of a quadrature is not a fact: zero below 1e-9."""
    return float(f"{value:.1e}") if value >= 1e-9 else 0.0


@cache
def _json(name: str) -> Mapping[str, Any]:
    """A shipped file, empty if this installation has none."""
    file = resources.files(DATA) / name
    contents: Mapping[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return contents
