"""How much each factor matters where the grid is not full, as after a search: PED-ANOVA, computed by Optuna.

Shares of variance need a result for every combination. PED-ANOVA (Watanabe et al., "PED-ANOVA: Efficiently
Quantifying Hyperparameter Importance in Arbitrary Subspaces", 2023) compares the values of the best
configurations with the values of all: a factor matters as far as these distributions differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from fnnexp.console import without_messages
from fnnexp.reporting.document.blocks import Cell, Table
from fnnexp.results import comparisons, numeric

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from fnnexp.results.ranking import Ranking

FEWEST = 20
"""With fewer configurations than this, no importance is estimated."""

BEST, FEWEST_BEST = 0.1, 5
"""The best configurations: this share of all, but at least this many, as Optuna's documentation advises."""

LOG_FROM = 100
"""A factor above 0 counts as logarithmic if its largest value is at least this many times its smallest."""


def of(runs: pd.DataFrame, ranking: Ranking) -> tuple[pd.DataFrame, str]:
    """Return the importance of each factor, the largest first, and a sentence about it.

    A seed that diverged counts as the worst finished trial.

    Returns
    -------
    DataFrame
        The columns `factor` (str) and `importance` (float64), fractions that add up to 1. It has no rows if
        Optuna is not installed, and neither rows nor a sentence if fewer than :data:`FEWEST` configurations
        have a result, or if all have the same.
    """
    none = pd.DataFrame({"factor": pd.Series(dtype="str"), "importance": pd.Series(dtype="float64")})
    if runs.empty:
        return none, ""
    points = _configurations(runs, ranking)
    value = points.pop("value")
    if len(points) < FEWEST or value.nunique() < 2 or points.columns.empty:
        return none, ""
    try:
        import optuna
    except ImportError:
        return none, 'To estimate how much each factor matters here, run pip install "fnnexp[optuna]".'
    best = max(-(-len(points) // round(1 / BEST)), FEWEST_BEST)
    spaces = {str(name): _space(points[name]) for name in points}
    with without_messages("optuna"):
        study = optuna.create_study(direction="maximize")
        for row, result in zip(points.to_dict("records"), value.tolist(), strict=True):
            params = {str(name): each for name, each in row.items() if not pd.isna(each)}
            own = {name: spaces[name] for name in params}
            study.add_trial(optuna.trial.create_trial(value=result, params=params, distributions=own))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=(best - 0.5) / len(points))
        importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    rows = sorted(importances.items(), key=lambda item: (-item[1], item[0]))
    about = (
        f"PED-ANOVA (Optuna {optuna.__version__}), which needs no full grid, over {len(points)} "
        f"configurations: how much each factor decides whether a configuration is among the best {best}."
    )
    return pd.DataFrame(rows, columns=[*none.columns]).astype(none.dtypes.to_dict()), about


def _configurations(runs: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """Return a row for each configuration with a result: its options, its numeric values, and `value`.

    `value` is the mean over seeds of the ranking metric, with a sign that makes larger values better.
    """
    rows, numbers = numeric.layout(runs)
    goodness = ranking.goodness(rows[ranking.metric].astype("float64")).where(rows["status"] == "finished")
    goodness = goodness.mask(rows["status"] == "diverged", goodness.min())
    points = comparisons.levels(rows).astype("str").join(numbers)
    names = [*points.columns]
    points = points.assign(value=goodness)[goodness.notna()]
    if not names or points.empty:
        return points[["value"]]
    return points.groupby(names, dropna=False, sort=True)["value"].mean().reset_index()


def _space(values: pd.Series) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if values.dtype != "float64":
        return CategoricalDistribution(sorted(values.unique()))
    low, high = float(values.min()), float(values.max())
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_FROM)


def table(importances: pd.DataFrame) -> Table:
    """Return a table with the importance of each factor in percent."""
    rows: list[list[Any]] = [
        [Cell(row["factor"]), Cell(f"{100 * row['importance']:.1f}", row["importance"])]
        for row in importances.to_dict("records")
    ]
    return Table("", ["factor", "importance %"], rows, 1)
