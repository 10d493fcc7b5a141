"""The results of a range test: the losses of each configuration by learning rate, and the suggested rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fnnexp.mapping.lr.rule import Reading, read

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class RangeTest:
    """The results of a range test.

    Attributes
    ----------
    factors
        The keys that distinguish the configurations, such as ``init``; of a single one, ``arch``.
    options
        The values of these keys, for each configuration.
    rates
        The rising learning rates of each configuration (n,): the rate in the middle of each epoch.
    train, val
        The training and validation losses of these epochs (n,), the median over the seeds. NaN after a
        divergence, and for validation losses if there are no validation rows.
    command
        The command of a sweep around the suggested rates, from Python a call; None if there are none.
    """

    factors: tuple[str, ...]
    options: tuple[tuple[str, ...], ...]
    rates: tuple[NDArray[np.float64], ...] = field(repr=False)
    train: tuple[NDArray[np.float64], ...] = field(repr=False)
    val: tuple[NDArray[np.float64], ...] = field(repr=False)
    command: str | None = None

    @property
    def readings(self) -> list[Reading]:
        """The rates read off the losses of each configuration: the suggested rate and two others."""
        return [read(*each) for each in zip(self.rates, self.train, self.val, strict=True)]

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame with a row for each configuration.

        Beside the factors it has ``suggested``, the rate at which the loss falls fastest, ``steepest``, and
        the rate at which training ``diverges``; NaN where there is none.
        """
        import pandas as pd

        named = [dict(zip(self.factors, each, strict=True)) for each in self.options]
        return pd.DataFrame(
            [names | reading._asdict() for names, reading in zip(named, self.readings, strict=True)]
        )

    def curves(self) -> pd.DataFrame:
        """Return a data frame with a row for each configuration and learning rate, with both losses."""
        import pandas as pd

        named = [dict(zip(self.factors, each, strict=True)) for each in self.options]
        return pd.concat(
            [
                pd.DataFrame({**names, "lr": rates, "train_loss": train, "val_loss": val})
                for names, rates, train, val in zip(named, self.rates, self.train, self.val, strict=True)
            ],
            ignore_index=True,
        )


def short(rate: float) -> str:
    """Return a learning rate with two digits.

    >>> short(0.04371), short(3.0), short(123.0)
    ('0.044', '3', '120')
    """
    return f"{float(f'{rate:.2g}'):g}"


def around(suggested: Sequence[float]) -> list[float]:
    """Return the suggested rates as they are printed, and about a third of each and three times each.

    Of these, only those are returned that differ from all others by at least the factor :data:`APART`.

    >>> around([0.157])
    [0.05, 0.16, 0.5]
    """
    rates = sorted({float(short(rate)) for rate in suggested})
    for rate in (*(rate / 3 for rate in rates), *(rate * 3 for rate in reversed(rates))):
        rounded = float(f"{rate:.1g}")
        if all(max(rounded / other, other / rounded) >= APART for other in rates):
            rates.append(rounded)
    return sorted(rates)


APART = 2.0
"""The least ratio of a rate beside the suggested ones to any other rate of a sweep around them."""
