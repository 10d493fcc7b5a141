"""What seeds do: how much each seed changes the results, and whether options share a seed's random draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fnnexp.nn.pieces.initializers import INITIALIZERS, distribution_of
from fnnexp.results import filters
from fnnexp.results.factors import factors_of
from fnnexp.results.frames import SEEDS, remembered
from fnnexp.results.ranking import NAMES, SECONDS_TO

if TYPE_CHECKING:
    from fnnexp.results.ranking import Ranking


def spread(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return how much the metric varies if only one of the seeds changes, such as `seed_init`.

    Returns
    -------
    DataFrame
        `seed` (str), the key; `values` (int64), its number of values; `deviation` (float64): the standard
        deviation of the metric among finished trials that differ only in this key, pooled over everything
        else. Empty if no key but `seed` itself varies.
    """
    columns = ["seed", "values", "deviation"]
    runs = filters.once(runs)
    varied = [key for key in (*SEEDS, "seed") if key in runs and int(runs[key].nunique(dropna=False)) > 1]
    if not {*varied} - {"seed"}:
        return pd.DataFrame(columns=columns)
    finished = runs[(runs["status"] == "finished") & runs[ranking.metric].notna()]
    others = [factor for factor in factors_of(runs) if factor not in varied]
    rows = []
    for key in varied:
        by = [*others, *(other for other in varied if other != key)]
        cells = finished.groupby(by, observed=True, dropna=False) if by else finished.groupby(lambda _: 0)
        freedom = cells[ranking.metric].count() - 1
        if freedom.sum() > 0:
            squares = (freedom * cells[ranking.metric].var()).sum()
            values = int(finished[key].nunique(dropna=False))
            rows.append((key, values, float(np.sqrt(squares / freedom.sum()))))
    return pd.DataFrame(rows, columns=columns)


@remembered
def averaged(runs: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds such as `seed_init`: return one row for all trials that differ in nothing else.

    Such seeds repeat a configuration and have no best value. So the metrics of a row are means over them, and
    the rows of a configuration differ in `seed`. If `seed` has only one value, the seed with the most values
    takes its place in the column `seed`, and the metrics are means over the other seeds.

    Returns
    -------
    DataFrame
        Trials without the columns of the seeds. A row is finished if all its trials are; its other columns
        are those of the first trial, or of the first that has not finished. If no such seed varies, or
        nothing else does, `runs` itself.
    """
    varied = [key for key in SEEDS if key in runs and int(runs[key].nunique(dropna=False)) > 1]
    if not varied or not {*factors_of(runs)} - {*varied}:
        return runs
    runs = filters.once(runs)
    if int(runs["seed"].nunique()) == 1:
        repeats = str(runs[varied].nunique().idxmax())
        runs = runs.assign(seed=runs[repeats].astype("Int64"))
    by = [*(factor for factor in factors_of(runs) if factor not in varied), "seed"]
    cell = runs.groupby(by, observed=True, dropna=False).ngroup()
    means = [column for column in runs if column in NAMES or str(column).startswith(SECONDS_TO)]
    over = runs[means].groupby(cell).transform("mean")
    unfinished = (runs["status"] != "finished").sort_values(ascending=False, kind="stable")
    first = cell[unfinished.index].drop_duplicates().index.sort_values()
    return runs.assign(**over).loc[first].drop(columns=varied).reset_index(drop=True)


def unpaired_draws(runs: pd.DataFrame) -> list[str]:
    """Return the distributions from which the initial weights were drawn, if there are several; else [].

    Options share fewer random draws then. Truncated normal draws count as normal: with one seed, 95% of the
    weights are equal.
    """
    if "init.method" not in runs:
        return []
    present = set(runs["init.method"].dropna().astype("str"))
    kinds = [distribution_of(method) for method in INITIALIZERS if method in present]
    kinds = list(dict.fromkeys("normal" if kind == "truncated_normal" else kind for kind in kinds))
    return kinds if len(kinds) > 1 else []
