"""Commands as a shell takes them, and texts as Hydra's override grammar takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence


def report_command(experiment: str, where: Sequence[str] = ()) -> str:
    """Return the command that reports on an experiment, or on the part of it that `where` chooses.

    >>> report_command("a b", ["init=he"]), report_command("-x")
    ("fnnexp report 'a b' init=he", 'fnnexp report -- -x')
    """
    words = [*(["--"] if experiment.startswith("-") else []), experiment, *where]
    return f"fnnexp report {shlex.join(words)}"


PLAIN = r"(?!(null|true|false|nan|inf)$|\.\d)[A-Za-z_./][\w./-]*"
"""A text that Hydra's override grammar reads as itself."""


def quoted(text: str) -> str:
    r"""Return a text as Hydra's override grammar reads it back: in quotes where it is not plain.

    >>> [quoted(text) for text in ("he", "a/b.npz", "a b", "True", ".5")]
    ['he', 'a/b.npz', "'a b'", "'True'", "'.5'"]
    """
    if re.fullmatch(PLAIN, text, re.ASCII | re.IGNORECASE):
        return text
    # Hydra's grammar: a backslash escapes a quote, and itself only before one or at the end.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"
