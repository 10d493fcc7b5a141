"""The commands that the product prints. Each can be pasted into a shell as it stands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def report_command(experiment: str, where: Sequence[str] = ()) -> str:
    """Return the command that reports on an experiment, or on the part of it that `where` chooses.

    >>> report_command("a b", ["init=he"]), report_command("-x")
    ("fnnexp report 'a b' init=he", 'fnnexp report -- -x')
    """
    words = [*(["--"] if experiment.startswith("-") else []), experiment, *where]
    return f"fnnexp report {shlex.join(words)}"
