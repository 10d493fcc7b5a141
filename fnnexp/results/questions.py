"""What a frame of trials asks: which rows answer it, and the pairs that do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fnnexp.errors import FnnexpError, did_you_mean
from fnnexp.results import comparisons, frames
from fnnexp.results.arguments import validate_frames
from fnnexp.results.numeric import at_best
from fnnexp.results.ranking import ranking_of

if TYPE_CHECKING:
    import pandas as pd

    from fnnexp.results.ranking import Ranking


def rows_asked(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return the rows that answer what the frame asks.

    With numeric factors they are those of each option :func:`at_best`; where nothing else varies, all are.
    """
    best = at_best(runs, ranking)
    if best is runs:
        return runs
    finished = [each for each in comparisons.configurations(best, ranking) if len(each.metric)]
    return best if len(finished) > 1 else runs


def rows_and_findings(
    runs: pd.DataFrame, ranking: Ranking | None = None
) -> tuple[pd.DataFrame, comparisons.Findings]:
    """Return the rows that answer what the frame asks, and what is found in them.

    The shares of variance are over all rows.
    """
    ranking = ranking or ranking_of(runs)
    rows = rows_asked(runs, ranking)
    found = comparisons.findings(rows, ranking)
    if rows is not runs:
        shares, about = comparisons.shares_by(runs, ranking)
        found = found._replace(shares=shares, about_shares=about)
    return rows, found


@validate_frames
def compare(
    runs: pd.DataFrame, factor: str | None = None, *, metric: str | None = None, margin: float | None = None
) -> pd.DataFrame:
    """Compare trials in pairs by seed: the best configuration with every other, or the options of one factor.

    Parameters
    ----------
    runs
        :func:`fnnexp.runs` or :func:`fnnexp.sweep`, or some of their rows.
    factor
        What varies, such as `init`, `batching` or `optimizer.lr`: every two of its options are compared, over
        all combinations of the other factors. Without it the best configuration meets every other. Where
        numeric factors vary too, each option stands at its own best values of them (:func:`at_best`).
    metric
        What ranks: one of :data:`fnnexp.results.ranking.NAMES`, such as `val_loss`, or what
        :func:`fnnexp.seconds_to` has added; validation accuracy if every trial held out rows, else test
        accuracy, if None. Of a loss or a time less is better.
    margin
        Options within it are equivalent. In percentage points of an accuracy (0.2 if None), else in the
        metric's own unit (if None, none are equivalent).

    Returns
    -------
    DataFrame
        One row a pair, accuracies in fractions:

        - `a` (str) is the better, `b` (str) the other; with a factor also `cells` (int64), in how many
          combinations of the other factors both finished.
        - `seeds` (int64), how many both finished; `ahead` (int64), in how many of them a is ahead; `looks`
          (int64), how often such a pair of these seeds was looked at while they grew, this time included.
        - `difference` (float64), by how much a is better, the mean over seeds (a − b, of a loss or a time
          b − a); `low` and `high`, its 95% interval; `interval`, how that was computed
          (:mod:`fnnexp.results.statistics`). Without an interval: NaN.
        - `probability` (float64) that a new seed of a beats one of b; missing for one seed.
        - `failed` (int64), in how many of the seeds a trial failed to learn (:func:`failed_to_learn`);
          `test`: `t`, Student's paired t, or `sign flip` where an option failed in some seeds and not in
          others; `safe t` and `safe signs` in their place from the second look on. Of times it is `none`,
          and every verdict is open: trials of one stack share a clock, so their seeds say nothing of chance.
        - `p` of that test; `p_sign_flip`, of the test that assumes nothing about the differences' shape, for
          one look.
        - `family` (int64), the number of pairs of the question: all pairs of the factor's options, or of
          configurations, because the best was picked by looking; `p_corrected` for them (Holm).
        - `p_equivalent` of two one-sided tests for a mean difference within ±`margin`, corrected likewise;
          missing where an option failed in some seeds and not in others, and without a margin.
        - `seeds_needed` (Int64) to tell the two apart at this difference and spread, at a second look;
          missing where there is a verdict, or where it is unknown, or more than 1,000.
        - `verdict`: `equivalent` where the whole interval lies within ±`margin` and `p_equivalent` ≤ 5%; else
          `better` where `p_corrected` ≤ 5%; else `open`.

    Of a question with more than ten options only the best has rows, with every other.

    Raises
    ------
    FnnexpError
        When the factor does not vary in these trials, the metric can't rank them, or the margin is not above
        0.
    """
    ranking = ranking_of(runs, metric, margin)
    rows = rows_asked(runs, ranking)
    if factor is None:
        return comparisons.with_leader(rows, ranking)
    factors = [list(comparisons.levels(each.reset_index(drop=True)).columns) for each in (rows, runs)]
    asked_of = rows if factor in factors[0] else runs
    if factor not in factors[1] and factor not in factors[0]:
        problem = "does not vary in" if factor in frames.params_of(runs) else "is no factor of"
        varied = list(dict.fromkeys([*factors[0], *factors[1]]))
        raise FnnexpError(
            f"factor={factor!r} {problem} these {len(runs)} trials; what varies is "
            f"{', '.join(varied) or 'nothing'}.{did_you_mean(str(factor), varied)}"
        )
    pairs = comparisons.of_options(asked_of, ranking)
    return pairs[pairs["factor"] == factor].drop(columns="factor").reset_index(drop=True)
