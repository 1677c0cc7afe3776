"""Any text as LaTeX text that pdflatex sets without further packages."""

import unicodedata

_SPECIAL = {
    **{character: f"\\{character}" for character in "_%&#${}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''",
    **{character: f"${character}$" for character in "<>|"},
    **{character: f"{{{character}}}" for character in "[]*-`'"},  # no optional argument after \\, no ligatures
    "µ": r"$\mu$", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$",
    "−": "$-$", "∞": r"$\infty$", "≤": r"$\leq$", "≥": r"$\geq$", "≠": r"$\neq$", "≈": r"$\approx$", "→": r"$\to$",
    "∇": r"$\nabla$", "√": r"$\surd$", "°": r"$^\circ$", "–": "--", "—": "---", "‘": "`", "’": "'", "“": "``",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "ł": r"\l{}", "Ł": r"\L{}",
    "ı": r"\i{}", "ς": r"$\varsigma$", "ο": "o", "…": r"\ldots{}",
    "”": "''", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip
_ACCENTS = {
    "GRAVE ACCENT": "`", "ACUTE ACCENT": "'", "CIRCUMFLEX ACCENT": "^", "TILDE": "~", "DIAERESIS": '"', "MACRON": "=",
    "DOT ABOVE": ".", "BREVE": "u", "CARON": "v", "RING ABOVE": "r", "DOUBLE ACUTE ACCENT": "H", "CEDILLA": "c",
    "DOT BELOW": "d", "MACRON BELOW": "b",
}  # fmt: skip
_SMALL = (
    "ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA", "ETA", "THETA", "IOTA", "KAPPA", "LAMDA", "MU", "NU", "XI",
    "PI", "RHO", "SIGMA", "TAU", "UPSILON", "PHI", "CHI", "PSI", "OMEGA",
)  # fmt: skip
_CAPITALS = ("GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "UPSILON", "PHI", "PSI", "OMEGA")


def escape(text: str) -> str:
    """The text with everything that LaTeX would take for a command, an argument or a ligature made harmless.

    Greek letters, accents and common signs become commands; a character that pdflatex cannot set without a package is
    written by its number, ``U+4E2D``, and white space of any kind is a blank.
    """
    return "".join(_one(character) for character in unicodedata.normalize("NFC", " ".join(text.split(" "))))


def _one(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if " " <= character <= "~":
        return character
    if character.isspace():
        return " "
    kind, _, parts = unicodedata.decomposition(character).rpartition("> ")
    pieces = [chr(int(part, 16)) for part in parts.split()]
    script = "".join(pieces).replace("−", "-")
    if kind in ("<super", "<sub") and script.isascii():
        return f"${'^' if kind == '<super' else '_'}{{{script}}}$"
    if not kind and len(pieces) == 2:
        accent = _ACCENTS.get(unicodedata.name(pieces[1], "").removeprefix("COMBINING "))
        if accent:
            return f"\\{accent}{{{_one(pieces[0])}}}"
    return _greek(character) or f"\\texttt{{U+{ord(character):04X}}}"


def _greek(character: str) -> str:
    """A Greek letter that has a command, or nothing."""
    size, _, letter = unicodedata.name(character, "").removeprefix("GREEK ").partition(" LETTER ")
    if letter not in {"SMALL": _SMALL, "CAPITAL": _CAPITALS}.get(size, ()):
        return ""
    command = letter.replace("LAMDA", "LAMBDA").lower()
    return f"$\\{command if size == 'SMALL' else command.capitalize()}$"
