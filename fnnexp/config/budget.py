"""Budgets: how much a command may train."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""The units of time, in seconds."""

EXAMPLES = "5m (also 90s, 2h), 200trials or 1000epochs"


@dataclass(frozen=True)
class Budget:
    """How much a command may train.

    Attributes
    ----------
    text
        The budget as it was written.
    seconds
        The wall-clock time from the start of the command; None: no limit.
    trials, epochs
        How many trials, and how many epochs of trials, may be trained in all, by this command and by earlier
        ones; None: no limit.
    """

    text: str
    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None


def budget_of(text: str) -> Budget:
    """Return a budget.

    Raises
    ------
    ValueError
        If the text is not a number above 0 and a unit.

    Examples
    --------
    >>> budget_of("5m").seconds, budget_of("200trials").trials, budget_of("1 epoch").epochs
    (300.0, 200, 1)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|m|h|trials?|epochs?)", text.strip())
    if found is None or float(found[1]) == 0:
        raise ValueError(f"budget={text}: must be above 0, with a unit; write {EXAMPLES}")
    number, unit = float(found[1]), found[2]
    if unit in UNITS:
        return Budget(text, seconds=number * UNITS[unit])
    if not number.is_integer():
        raise ValueError(f"budget={text}: must be a whole number of {unit.rstrip('s')}s; write {EXAMPLES}")
    return Budget(text, **{f"{unit.rstrip('s')}s": int(number)})
