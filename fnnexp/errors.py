"""The errors that a user can mend. Each message says what was given, what is allowed, and what to write."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FnnexpError(Exception):
    """Bad input or a missing thing; its message is complete and is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in the traceback's place."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(FnnexpError):
    """A configuration that names no experiment."""


class DataError(FnnexpError):
    """A data set that is missing, broken or not what it claims to be."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest allowed name, or an empty string.

    >>> did_you_mean("hee", ["max", "he", "xavier"])
    " Did you mean 'he'?"
    """
    near = difflib.get_close_matches(given, list(allowed), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
