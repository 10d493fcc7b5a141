"""Choose the rows that a comparison is about, and make all comparisons of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.results import comparisons, seeds
from fnnexp.results.numeric import at_best
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking


def rows_to_compare(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return the rows of a frame of runs that comparisons use.

    Trials that differ only in seeds such as `seed_init` are averaged (:func:`seeds.averaged`). With numeric
    factors, each option is compared at its own best values (:func:`at_best`). If this leaves fewer than two
    configurations to compare, since nothing but numeric factors varies, all rows are compared.
    """
    runs = seeds.averaged(runs)
    best = at_best(runs, ranking)
    if best is runs:
        return runs
    finished = [
        configuration
        for configuration in comparisons.configurations(best, ranking)
        if len(configuration.metric)
    ]
    return best if len(finished) > 1 else runs


def rows_and_findings(
    runs: pd.DataFrame, ranking: Ranking | None = None
) -> tuple[pd.DataFrame, comparisons.Findings]:
    """Return the rows that comparisons use (:func:`rows_to_compare`), and all comparisons of them.

    But the shares of variance and the spreads over seeds are computed from all rows of `runs`.
    """
    ranking = ranking or ranking_of(runs)
    rows = rows_to_compare(runs, ranking)
    findings = comparisons.findings(rows, ranking)
    if rows is not runs:
        shares, about = comparisons.shares_by(runs, ranking)
        spread = seeds.spread(runs, ranking)
        findings = findings._replace(shares=shares, about_shares=about, spread=spread)
    return rows, findings
