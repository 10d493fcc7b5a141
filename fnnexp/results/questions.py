"""Choose the rows that a comparison is about, and compare them: `fnnexp.compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.results import comparisons, filters, frames, seeds
from fnnexp.results.arguments import validate_frames
from fnnexp.results.factors import by_version
from fnnexp.results.numeric import at_best
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking


def rows_to_compare(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return the rows of a frame of runs that comparisons use.

    Trials that differ only in seeds such as `seed_init` are averaged (:func:`seeds.averaged`). With numeric
    factors, each option is compared at its own best values (:func:`at_best`). If nothing but numeric factors
    varies, all rows are compared.
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
    """Return the rows to compare, and their comparisons.

    The shares of variance and the spreads over seeds are computed from all rows of `runs`.
    """
    ranking = ranking or ranking_of(runs)
    rows = rows_to_compare(runs, ranking)
    findings = comparisons.findings(rows, ranking)
    if rows is not runs:
        shares, about = comparisons.shares_by(runs, ranking)
        spread = seeds.spread(runs, ranking)
        findings = findings._replace(shares=shares, about_shares=about, spread=spread)
    return rows, findings


@validate_frames
def compare(
    runs: pd.DataFrame, factor: str | None = None, *, metric: str | None = None, margin: float | None = None
) -> pd.DataFrame:
    """Compare trials in pairs by seed: the best configuration with every other, or the options of one factor.

    Parameters
    ----------
    runs
        The frame of :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of its rows. Trials that a later
        command trained for more epochs are left out, unless `factor` is `epochs`.
    factor
        What varies, e.g. `init`, `batching` or `optimizer.lr`: every two of its options are compared,
        averaged over the combinations of the other factors. Default: the best configuration is compared with
        every other. If numeric factors vary too, each option has its own best values of them
        (:func:`at_best`).
    metric
        The column to rank by: one of :data:`fnnexp.results.ranking.NAMES`, e.g. `val_loss`, or a column added
        by :func:`fnnexp.seconds_to`. For a loss or a time less is better. Default: validation accuracy if
        every trial held out rows, else test accuracy.
    margin
        Options are equivalent if their difference is surely smaller than this: in percentage points for an
        accuracy (default 0.2), else in the metric's unit (default: no options are equivalent).

    Returns
    -------
    DataFrame
        One row per pair; accuracies are fractions. With more than ten options, only the pairs with the best
        option have rows.

        - `a` (str), the better option or configuration; `b` (str), the other; with `factor` also `cells`
          (int64), the number of combinations of the other factors that both finished.
        - `seeds` (int64), the number of seeds that both finished; `looks` (int64), how often their results
          were looked at while seeds were added, including now.
        - `difference` (float64): by how much `a` is better, averaged over seeds: a − b, for a loss or a time
          b − a. `low` and `high`: its 95% interval, if any; `interval`: the method
          (:mod:`fnnexp.results.statistics`).
        - `ahead` (int64), in how many seeds `a` is better; `probability` (float64), that a new seed of `a`
          beats a new seed of `b`, missing with one seed.
        - `failed` (int64): in how many seeds a trial failed to learn (:func:`failed_to_learn`).
        - `test`: `t`, Student's paired t test; `shared t` with three or more options and at most five seeds,
          whose pairs share their variance; or `sign flip` if an option failed to learn in some seeds but
          not in others; from the second look on `safe t` and `safe signs`. For times it is `none` and all
          verdicts are open: trials that train together share one measured time, so times are not independent.
        - `p`, the p value of `test`; `p_sign_flip`, that of the sign-flip test for one look, which assumes
          only symmetric differences.
        - `family` (int64): the number of all pairs of options or configurations, also of pairs without a row,
          because the best was picked by looking; `p_corrected`: p corrected for the family (Holm).
        - `p_equivalent`: p of two one-sided tests for a mean difference within ±`margin`, also corrected;
          missing without a margin, and if an option failed to learn in some seeds but not in others.
        - `seeds_needed` (Int64): about how many seeds would settle an open pair at a second look, given this
          difference and spread; missing if unknown or above 1,000.
        - `verdict`: `equivalent` if the interval is within ±`margin` and `p_equivalent` ≤ 5%; else `better`
          if `p_corrected` ≤ 5%; else `open`.

    Raises
    ------
    FnnexpError
        If the factor does not vary in these trials, the metric cannot rank them, or the margin is not above
        0.

    Examples
    --------
    >>> pairs = fnnexp.compare(runs, "init")  # doctest: +SKIP
    >>> pairs[["a", "b", "difference", "p_corrected", "verdict"]]  # doctest: +SKIP
    """
    runs = filters.compared(runs)
    runs = by_version(runs if factor == "epochs" else filters.longest(runs))
    ranking = ranking_of(runs, metric, margin)
    rows = rows_to_compare(runs, ranking)
    if factor is None:
        return comparisons.with_leader(rows, ranking)
    factors = [list(comparisons.levels(frame.reset_index(drop=True)).columns) for frame in (rows, runs)]
    # Factors that vary together are compared as one, which the name of any of them selects.
    varied = list(dict.fromkeys([*factors[0], *factors[1]]))
    factor = next((name for name in varied if factor in name.split(comparisons.WITH)), factor)
    compared = rows if factor in factors[0] else runs
    if factor not in factors[1] and factor not in factors[0]:
        problem = "does not vary in" if factor in frames.params_of(runs) else "is not a factor of"
        these = "this trial" if len(runs) == 1 else f"these {len(runs)} trials"
        raise FnnexpError(
            f"factor={factor!r} {problem} {these}; the factors that vary are "
            f"{', '.join(varied) or 'none'}.{did_you_mean(str(factor), varied)}"
        )
    pairs = comparisons.of_options(compared, ranking)
    return pairs[pairs["factor"] == factor].drop(columns="factor").reset_index(drop=True)
