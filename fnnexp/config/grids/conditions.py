"""Sentences about the jobs that a grid keeps: the value of ``where``.

A sentence such as ``init=he -> arch.activation=relu`` leaves out the jobs in which its condition holds and
its consequence does not. A sentence without an arrow must hold in every job. Both sides are comparisons,
joined by commas that mean "and". ``KEY=VALUE`` may name several values, as in ``init=he,max``: any of them.
Nothing in a sentence is evaluated as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fnnexp.config.commands import quoted
from fnnexp.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXAMPLE = 'where="init=he -> arch.activation=relu"'

TWO = """'where=["init=he -> epochs=3","seed<5 -> epochs=3"]'"""

ARROW = "->"

WORDS = {" or ": "or", " OR ": "or", " || ": "or", " and ": "and", " AND ": "and", " && ": "and"}
"""What other languages write between comparisons, and what it means. The grammar has none of these."""

MOST_COMBINATIONS = 10**8
"""Maximum number of combinations of a grid with ``where``; one byte of memory is needed for each."""

MOST_SHOWN = 10
"""Maximum number of values that a message lists."""

BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""The comparisons of numbers. They are false for a key without a number."""

COMPARISON = re.compile(r"([A-Za-z_][\w.]*)\s*(!=|<=|>=|=|<|>)\s*(.*)", re.DOTALL)


class Values(NamedTuple):
    """The values of a key, for each combination of the groups of axes on which they depend.

    Attributes
    ----------
    groups
        The indices of these groups, in order.
    values
        The value for each combination of these groups. The last group changes fastest.
    """

    groups: tuple[int, ...]
    values: Sequence[Any]


@dataclass(frozen=True)
class Comparison:
    """A comparison of a key's value with one or several values, as in ``init=he,max`` or ``epochs>3``."""

    key: str
    sign: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Return whether the comparison holds in a job in which the key has this value."""
        if self.sign in BOUNDS:
            return _is_number(value) and BOUNDS[self.sign](value, self.values[0])
        return any(_same(value, other) for other in self.values) == (self.sign == "=")


@dataclass(frozen=True)
class Sentence:
    """A sentence: if all `conditions` hold in a job, all `consequences` must."""

    text: str
    conditions: tuple[Comparison, ...]
    consequences: tuple[Comparison, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All comparisons of the sentence: its conditions and its consequences."""
        return self.conditions + self.consequences


def as_override(word: str) -> str:
    """Return an override of ``where`` with its sentence in quotes; every other override as it is.

    A shell removes the quotes of ``where="init=he -> epochs=3"``, and Hydra's grammar needs them.

    >>> as_override("where=init=he -> epochs=3"), as_override("seed=1,2")
    ("where='init=he -> epochs=3'", 'seed=1,2')
    """
    match = re.fullmatch(r"(\+{0,2}where)=\s*([^\s\"'\[].*)", word, re.DOTALL)
    return word if match is None or match[2] == "null" else f"{match[1]}={quoted(match[2])}"


def sentences(given: Any, read: Callable[[str, str], Any]) -> list[Sentence]:
    """Return the sentences in the value of ``where``.

    Parameters
    ----------
    given
        A sentence, a list of sentences, or None.
    read
        Return the value that a text stands for as a value of a key. It raises for a key that does not exist,
        and for a value that the key can't have.

    Raises
    ------
    ConfigError
        If `given` is something else, or a sentence does not follow the grammar.
    """
    texts = given if isinstance(given, list) else [] if given in (None, "") else [given]
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(
                f"where={given}: must be a sentence, or a list of sentences; write {EXAMPLE}, or where=null"
            )
    return [_sentence(text, read) for text in texts]


def _sentence(text: str, read: Callable[[str, str], Any]) -> Sentence:
    _refuse_words(text)
    sides = _split(text, ARROW, text)
    if len(sides) > 2:
        raise ConfigError(
            f"where={text}: has {len(sides) - 1} arrows, and a sentence has at most one; write a list of "
            f'sentences, as in where=["init=he -> epochs=3","init=max -> epochs=5"]'
        )
    *conditions, consequences = (tuple(_comparisons(side, text, read)) for side in sides)
    return Sentence(text, conditions[0] if conditions else (), consequences)


def _refuse_words(text: str) -> None:
    """Raise if a sentence has `or` or `and` between comparisons."""
    for word, meaning in WORDS.items():
        parts = [part.strip() for part in _split(text, word, text)]
        if len(parts) == 1:
            continue
        if meaning == "and":
            raise ConfigError(f'where={text}: a comma means "and"; write where="{", ".join(parts)}"')
        raise ConfigError(
            f"where={text}: `or` is not allowed. For several values of a key write init=he,max; for `or` "
            f"before the arrow, a sentence for each alternative, as in {TWO}; and if one of two conditions "
            'must hold, as in init=he or seed<5, "if not the first, then the second": '
            'where="init!=he -> seed<5"'
        )


def _comparisons(side: str, text: str, read: Callable[[str, str], Any]) -> Iterator[Comparison]:
    """Yield the comparisons on one side of a sentence. `text` is the whole sentence, for error messages."""
    parts: list[tuple[str, str, list[str]]] = []
    for part in map(str.strip, _split(side, ",", text)):
        match = COMPARISON.fullmatch(part)
        if match is not None and match[3]:
            parts.append((match[1], match[2], [match[3]]))
        elif match is None and part and parts and parts[-1][1] not in BOUNDS:
            parts[-1][2].append(part)  # one more value of the key
        else:
            raise ConfigError(
                f"where={text}: '{part}' is not a comparison; write KEY=VALUE, KEY!=VALUE, KEY<VALUE, "
                f"KEY<=VALUE, KEY>VALUE or KEY>=VALUE, as in {EXAMPLE}"
            )
    for key, sign, given in parts:
        for value in given:
            if value.startswith("="):
                raise ConfigError(f"where={text}: there is no sign {sign}=; write {key}={value.lstrip('= ')}")
        values = tuple(read(key, value) for value in given)
        if sign in BOUNDS and not _is_number(values[0]):
            raise ConfigError(
                f"where={text}: {key}{sign}{given[0]}: {sign} compares numbers; write {key}={given[0]}, or a "
                "key that has numbers"
            )
        yield Comparison(key, sign, values)


def _split(text: str, separator: str, whole: str) -> list[str]:
    """Split a text at a separator that is outside quotes and brackets. `whole` is for error messages."""
    parts, depth, quote, begin, i = [], 0, "", 0, 0
    while i < len(text):
        character = text[i]
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[]":
            depth += 1 if character == "[" else -1
        elif depth == 0 and text.startswith(separator, i):
            parts.append(text[begin:i])
            begin = i + len(separator)
            i = begin - 1
        i += 1
    if quote or depth:
        raise ConfigError(f"where={whole}: {quote or '['} has no partner that closes it; write {EXAMPLE}")
    return [*parts, text[begin:]]


def kept(
    sentences: Iterable[Sentence], shape: Sequence[int], values: Mapping[str, Values]
) -> NDArray[np.int64]:
    """Return the numbers of the combinations in which all sentences hold, counted from 0 in the grid's order.

    Parameters
    ----------
    sentences
        The sentences.
    shape
        The number of values of each group of axes.
    values
        The values of each key in the sentences.
    """
    several = [group for group, size in enumerate(shape) if size > 1]  # NumPy has at most 32 axes

    def truth(comparison: Comparison) -> NDArray[np.bool_]:
        groups, given = values[comparison.key]
        sizes = [shape[group] if group in groups else 1 for group in several]
        return np.array([comparison.holds(value) for value in given]).reshape(sizes)

    keep = np.ones([shape[group] for group in several], bool)
    for sentence in sentences:
        met, follows = np.array(True), np.array(True)
        for comparison in sentence.conditions:
            met = met & truth(comparison)
        for comparison in sentence.consequences:
            follows = follows & truth(comparison)
        keep &= ~met | follows
    return np.flatnonzero(keep)


def never(sentences: Iterable[Sentence], values: Mapping[str, Values]) -> Iterator[tuple[str, str]]:
    """Yield the key and a message for each value in a sentence that occurs in no combination of the grid."""
    for sentence in sentences:
        for comparison in sentence.comparisons:
            key, occurring = comparison.key, _distinct(values[comparison.key].values)
            if comparison.sign in BOUNDS:
                if not any(map(_is_number, occurring)):
                    yield (
                        key,
                        f"where={sentence.text}: {key}{comparison.sign}{_text(comparison.values[0])} needs "
                        f"numbers, but in this grid {key} is {_listed(occurring)}",
                    )
                continue
            for value in comparison.values:
                if not any(_same(value, other) for other in occurring):
                    hint = did_you_mean(_text(value), (name for name in occurring if isinstance(name, str)))
                    yield (
                        key,
                        f"where={sentence.text}: {key}={_text(value)} never occurs; in this grid {key} is "
                        f"{_listed(occurring)}.{hint}",
                    )


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _listed(values: Sequence[Any]) -> str:
    texts = [_text(value) for value in values]
    if len(texts) > MOST_SHOWN:
        return f"{', '.join(texts[:MOST_SHOWN])} or another of {len(texts)} values"
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _text(value: Any) -> str:
    """Return a value as it is written in a sentence."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace("'", "").replace(", ", ",") if isinstance(value, list) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)
