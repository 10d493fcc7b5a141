"""The printed tables of the published experiments, as they were printed."""

from __future__ import annotations

from importlib import resources

import pandas as pd


def published() -> pd.DataFrame:
    """Return what was published of each experiment: one row an epoch and split of a printed run.

    Returns
    -------
    DataFrame
        - `experiment`: a category, the preset's name (`fnnexp.sweep(experiment="tanh_mini_batch")`).
        - `run`: a category; `a`, `b` where an experiment was printed twice.
        - `epoch` (Int64); 0 is before training.
        - `split`: a category, train or test. Training numbers are means over the epoch's rows as met.
        - `loss`, `accuracy` (float64, a fraction), to the digits that were printed; NaN where none was.

    Examples
    --------
    >>> table = published()
    >>> table.query("experiment == 'tanh_mini_batch' and epoch == 1")["accuracy"].item()
    0.8875
    """
    with resources.files(__package__).joinpath("published.csv").open("r", encoding="utf-8") as file:
        table = pd.read_csv(file)
    for column in ("experiment", "run"):
        names = table[column].drop_duplicates().to_list()
        table[column] = table[column].astype(pd.CategoricalDtype(names, ordered=True))
    split = pd.CategoricalDtype(["train", "test"], ordered=True)
    return table.astype({"split": split, "epoch": "Int64", "loss": "float64", "accuracy": "float64"})
