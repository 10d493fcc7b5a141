"""How much each factor matters: its share of the variance, over all trials and within each batching mode.

There are no shares if the grid is not full, and no separate shares of numbers that were drawn at random. Then
the importance of each factor is estimated instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fnnexp.reporting import tuned
from fnnexp.reporting.document.blocks import Cell, Section, Table, Text
from fnnexp.reporting.document.wording import listed
from fnnexp.reporting.sections import overview
from fnnexp.reporting.sections.by_factor import importance
from fnnexp.results import comparisons, filters
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import by_version, groups
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    from fnnexp.reporting.document.blocks import Block
    from fnnexp.results.comparisons import Findings
    from fnnexp.results.ranking import Ranking

MOST_NAMED = 5
"""A sentence that holds within more batching modes than this is left out."""


@validate_frames
def shares(runs: pd.DataFrame, *, metric: str | None = None) -> pd.DataFrame:
    """Return how much each factor matters: the shares of factors and interactions in the metric's variance.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of its rows.
    metric
        As for :func:`fnnexp.compare`.

    Returns
    -------
    DataFrame
        The largest share first:

        - `effect` (str): `init`, `arch × init`, …; `seed` is the variance over seeds within a configuration.
        - `share` (float64), a fraction; shares add up to 1.

        Shares are defined only for a full grid. Otherwise there are no rows, and `.attrs["about"]` says what
        is missing.

    Raises
    ------
    FnnexpError
        If the metric cannot rank these trials.

    Examples
    --------
    >>> fnnexp.shares(runs).set_index("effect")  # doctest: +SKIP
    """
    runs = by_version(filters.longest(runs))
    ranking = ranking_of(runs, metric)
    rows, keys = tuned.reported(runs, ranking)
    shares_of_effects, about = comparisons.shares_by(rows.drop(columns=keys), ranking)
    shares_of_effects.attrs["about"] = about
    return shares_of_effects


TITLE, SHARE = "How much each factor matters", "share of variance %"


def section(runs: pd.DataFrame, findings: Findings) -> Section:
    """Return the section on how much each factor (a setting that varies) and each interaction matters.

    It has no blocks if nothing varies.
    """
    modes, about = within_batching(runs, findings.ranking)
    if findings.shares.empty or overview.has_drawn_numbers(runs):
        importances, about_importances = importance.of(runs, findings.ranking)
    else:
        importances, about_importances = pd.DataFrame(), ""
    if findings.about_shares == comparisons.NOTHING_VARIES:
        return Section(TITLE, [], {"shares": findings.shares})
    alike: dict[str, list[str]] = {}
    for mode, text in about.items():
        if text not in (findings.about_shares, comparisons.NOTHING_VARIES):
            alike.setdefault(text, []).append(mode)
    blocks: list[Block] = [
        Text(findings.about_shares),
        *([Text(about_importances)] if about_importances else []),
        *([importance.table(importances)] if len(importances) else []),
        *(Text(f"Within {listed(of)}: {text}") for text, of in alike.items() if len(of) <= MOST_NAMED),
    ]
    blocks += [shown for shown in (table(findings), of_modes(modes)) if shown.rows]
    data = {"shares": findings.shares} | ({"importance": importances} if len(importances) else {})
    return Section(TITLE, blocks, data | ({"shares_within_batching": _stacked(modes)} if modes else {}))


def within_batching(
    runs: pd.DataFrame, ranking: Ranking | None = None
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the factors' shares of the variance within each batching mode, and a sentence about them.

    Both are empty unless batching and other factors vary. A large difference between modes, as after one
    epoch, would hide the factors that matter within a mode.
    """
    runs = filters.once(runs)
    table = comparisons.levels(runs) if len(runs) else runs[[]]
    if "batching" not in table or len(table.columns) == 1:
        return {}, {}
    by_mode = {
        str(mode): comparisons.shares_by(runs.loc[part.index], ranking)
        for (mode,), part in groups(table, ["batching"])
    }
    return {mode: shares for mode, (shares, _) in by_mode.items()}, {
        mode: about for mode, (_, about) in by_mode.items()
    }


def _stacked(modes: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the shares of all modes as one frame, with the mode as the first column."""
    return pd.concat(modes, names=["batching"]).reset_index("batching")


def table(findings: Findings) -> Table:
    """Return the table of the share of each factor and interaction in the variance over all trials."""
    return Table("", ["factor or interaction", SHARE], _rows(findings.shares, ["effect"]), 1)


def of_modes(modes: dict[str, pd.DataFrame]) -> Table:
    """Return the table of each factor's share in the variance, within each batching mode."""
    rows = _rows(_stacked(modes), ["batching", "effect"]) if modes else []
    return Table("Within each batching mode", ["batching", "factor or interaction", SHARE], rows, 2)


def _rows(shares: pd.DataFrame, names: list[str]) -> list[list[Cell]]:
    return [
        [*(Cell(row[name]) for name in names), Cell(f"{100 * row['share']:.1f}", row["share"])]
        for row in shares.to_dict("records")
    ]
