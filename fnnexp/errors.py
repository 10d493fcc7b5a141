"""Errors that a user can fix. A message says what was given, what is allowed, and what to write instead."""

from __future__ import annotations

import difflib
import re
import shlex
import traceback
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path


class FnnexpError(Exception):
    """Bad input, or something missing. The message is complete and is shown without a traceback."""

    def __str__(self) -> str:
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(FnnexpError):
    """A configuration that cannot be run."""


class DataError(FnnexpError):
    """A data set that is missing, broken, or not what its name or format claims."""


def printable(text: str) -> str:
    r"""Return the text with the characters that control a terminal escaped; line ends and tabs stay.

    Anyone may have written the names in a store. An escape sequence in a name could hide or forge the text
    around it, and a direction mark could reverse it. Marks that only join letters stay.

    >>> print(printable("a\x1b[2J b"))
    a\x1b[2J b
    """
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    is_invisible = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return is_invisible and character not in "\n\t\u00ad\u200c\u200d"


def raised(error: BaseException, below: int = 1) -> str:
    """Return the text of an exception that a user's function raised, with the file and line of its cause.

    Parameters
    ----------
    error
        The exception that was caught.
    below
        How many calls there are between the ``try`` and the user's function. If a library that the function
        calls raised the exception, the line is the last one reached in the user's file.
    """
    frames = traceback.extract_tb(error.__traceback__)[below:]
    lines = [frame.lineno for frame in frames if frame.filename == frames[0].filename]
    where = f" ({Path(frames[0].filename).name}, line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def plural(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    >>> plural(1, "pair"), plural(2775, "pair")
    ('1 pair', '2,775 pairs')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


ELSEWHERE = {
    "quadratic": "mse", "squared_error": "mse", "mse_loss": "mse", "l2_loss": "mse",
    "bce": "binary_cross_entropy", "log_loss": "cross_entropy", "nll": "cross_entropy",
    "categorical_crossentropy": "cross_entropy", "binary_crossentropy": "binary_cross_entropy",
    "swish": "silu", "logistic": "sigmoid", "linear": "identity", "lrelu": "leaky_relu",
    "kaiming": "he_normal", "kaiming_normal": "he_normal", "kaiming_uniform": "he_uniform",
    "glorot": "glorot_normal", "xavier_normal": "glorot_normal", "xavier_uniform": "glorot_uniform",
    "gradient_descent": "sgd", "gd": "sgd", "nag": "nesterov", "online": "sample", "stochastic": "sample",
    "minibatch": "mini", "mini_batch": "mini", "batch": "full",
}  # fmt: skip
"""fnnexp's name for what other libraries and books call by another name."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the allowed name that `given` may stand for, or "" if there is none.

    The name 'x' is fnnexp's word for `given`, if other libraries use that word (:data:`ELSEWHERE`);
    otherwise it is the most similar name.

    >>> did_you_mean("hee", ["max", "he", "xavier"]), did_you_mean("quadratic", ["cross_entropy", "mse"])
    (" Did you mean 'he'?", " Did you mean 'mse'?")
    """
    by_lower_case = {name.lower(): name for name in allowed}
    if (name := ELSEWHERE.get(given.lower())) in by_lower_case:
        return f" Did you mean '{name}'?"
    similar = difflib.get_close_matches(given.lower(), by_lower_case, n=1)
    return f" Did you mean '{by_lower_case[similar[0]]}'?" if similar else ""


def did_you_mean_path(missing: Path) -> str:
    """Return " Did you mean 'x'?" with the path of the most similar name in the same folder, or "".

    Names with a common suffix are not similar for that: `cars.csv` is no suggestion for `pets.csv`.
    """

    def stem(name: str) -> str:
        return name.lower().partition(".")[0]

    try:
        names = {path.name for path in islice(missing.parent.iterdir(), MOST_NAMES)} - {missing.name}
    except OSError:  # the folder is missing too, or cannot be read
        return ""
    stems = difflib.get_close_matches(stem(missing.name), {stem(name) for name in names})
    similar = [name for name in names if stem(name) in stems]
    best = difflib.get_close_matches(missing.name, similar, n=1, cutoff=0.0)
    return f" Did you mean '{missing.parent / best[0]}'?" if best else ""


MOST_NAMES = 10_000
"""The largest number of names of a folder among which a similar one is looked for."""


PLAIN = r"(?!(null|true|false|nan|inf)$|\.\d)[A-Za-z_./][\w./-]*"
"""A value that Hydra's override grammar reads as plain text, without quotes."""


def quoted(text: str) -> str:
    r"""Return a text as a value in Hydra's override grammar, in quotes if it needs them.

    >>> [quoted(text) for text in ("he", "a/b.npz", "a b", "True", ".5")]
    ['he', 'a/b.npz', "'a b'", "'True'", "'.5'"]
    """
    if re.fullmatch(PLAIN, text, re.ASCII | re.IGNORECASE):
        return text
    # In Hydra's grammar a backslash escapes a quote. It escapes itself only before a quote or at the end.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


def to_write(key: str, names: Sequence[str]) -> str:
    """Return the override that gives a key a name, or a list of several names, for a message to propose.

    It is in quotes for a shell if a name needs them.

    >>> print(to_write("data.drop", ["id"]), to_write("data.drop", ["id", "pet name"]))
    data.drop=id "data.drop=[id,'pet name']"
    """
    values = ",".join(name if re.fullmatch("0|[1-9][0-9]*", name) else quoted(name) for name in names)
    word = f"{key}={values}" if len(names) == 1 else f"{key}=[{values}]"
    if "'" not in word:
        return word
    return shlex.quote(word) if re.search(r'["$`\\!]', word) else f'"{word}"'
