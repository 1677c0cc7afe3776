"""Any text as plain Markdown text: nothing in it is markup, HTML, a new line or a new cell."""

import re

# an underscore between letters or digits is itself, and so is a bracket that no link follows
_MARKUP = re.compile(r"[\\`*|~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")


def escape(text: str) -> str:
    """The text with everything that GitHub's Markdown would take for markup made harmless, on one line.

    ``gmm40_fab`` and ``[4/5 runs]`` stay as they are.
    """
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)
