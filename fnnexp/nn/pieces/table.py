"""Tables of pieces: the choices of one kind, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")


class Table(dict[str, V]):
    """The pieces of one kind by name: those of fnnexp, and the user's own.

    A user's piece has two names. Configs have the short one, such as ``mine``. Recipes have the exact one,
    such as ``mine@1a2b3c4d5e6f``, which ends in the checksum of the piece's file. So a recipe means the same
    code in every process, also while another version of the piece is in use. ``table[name]`` accepts both
    names, but only short names are among the keys.

    >>> table = Table({"he": 2})
    >>> table.add("mine@1a2b", 3)
    >>> list(table), table["mine"], table["mine@1a2b"], table.exact("mine"), table.exact("he")
    (['he', 'mine'], 3, 3, 'mine@1a2b', 'he')
    """

    def __init__(self, shipped: Mapping[str, V]) -> None:
        super().__init__(shipped)
        self._by_exact_name: dict[str, V] = {}
        self._exact_names: dict[str, str] = {}

    def __missing__(self, name: str) -> V:
        return self._by_exact_name[name]

    @property
    def own(self) -> Mapping[str, str]:
        """The exact names of the user's pieces, by short name."""
        return self._exact_names

    @property
    def is_used(self) -> bool:
        """Whether the table has any piece.

        In a worker process, pieces may be there under their exact names (``name@checksum``) only.
        """
        return bool(self) or bool(self._by_exact_name)

    def exact(self, name: str) -> str:
        """Return the exact name of a piece: ``name@checksum`` for a user's piece, else the name itself."""
        return self._exact_names.get(name, name)

    def keep(self, exact: str, value: V) -> None:
        """Enter a user's piece under its exact name only (``name@checksum``), as worker processes need it."""
        self._by_exact_name[exact] = value

    def add(self, exact: str, value: V) -> None:
        """Enter a user's piece under its exact name (``name@checksum``) and its short name.

        The short name then means this version, and no longer an earlier one.
        """
        self.keep(exact, value)
        name = short(exact)
        self[name], self._exact_names[name] = value, exact

    def remove(self, name: str) -> None:
        """Remove the short name of a user's piece. Its exact name (``name@checksum``) stays valid."""
        del self[name], self._exact_names[name]


def short(name: str) -> str:
    """Return the short name of a piece.

    >>> short("mine@1a2b3c4d5e6f"), short("he")
    ('mine', 'he')
    """
    return name.partition("@")[0]
