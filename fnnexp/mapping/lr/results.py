"""The results of a range test: the losses of each configuration by learning rate, and the suggested rates."""

from __future__ import annotations

import math
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
    """Return rates to sweep over: 1 and 3 times each power of ten around the suggested rates.

    They lie between a third of the least suggested rate and three times the greatest.

    >>> around([0.5])
    [0.1, 0.3, 1.0, 3.0]
    """
    low, high = min(suggested) / 3, max(suggested) * 3
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ladder = [float(f"{digit}e{power}") for power in powers for digit in (1, 3)]
    first = max(i for i, rate in enumerate(ladder) if rate <= low * (1 + 1e-9))
    last = min(i for i, rate in enumerate(ladder) if rate >= high * (1 - 1e-9))
    return ladder[first : last + 1]
