"""The errors that a user can mend. Each message says what was given, what is allowed, and what to write."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable


class FnnexpError(Exception):
    """Bad input or a missing thing; its message is complete and is shown without a traceback."""

    def __str__(self) -> str:
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in the traceback's place."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(FnnexpError):
    """A configuration that names no experiment."""


class DataError(FnnexpError):
    """A data set that is missing, broken or not what it claims to be."""


def printable(text: str) -> str:
    r"""Return the text with what would steer a terminal written out; line ends and tabs stay.

    Names in a store are anybody's: an escape sequence in one could hide or forge what stands around it, and
    a mark of direction turn it round. Marks that only join letters stay.

    >>> print(printable("a\x1b[2J b"))
    a\x1b[2J b
    """
    return "".join(c.encode("unicode_escape").decode() if _steers(c) else c for c in text)


def _steers(character: str) -> bool:
    unseen = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return unseen and character not in "\n\t\u00ad\u200c\u200d"


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest allowed name, or an empty string.

    >>> did_you_mean("hee", ["max", "he", "xavier"])
    " Did you mean 'he'?"
    """
    by_letters = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(given.lower(), by_letters, n=1)
    return f" Did you mean '{by_letters[near[0]]}'?" if near else ""
