"""Which classes a trained network recognizes: the recall of each, from the weights of finished trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fnnexp.data import datasets as data
from fnnexp.nn.evaluation import parameters_from, predict
from fnnexp.nn.rows import splits_of
from fnnexp.results.networks.stored import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fnnexp.config.trial import Trial

COLUMNS = ["preset", "seed", "class", "recall"]


def of_test_images(
    trials: Mapping[str, Sequence[Trial]], runs: Mapping[str, str], uri: str | None = None
) -> pd.DataFrame:
    """Return, for each trial and class, the share of the class's test images that the network recognizes.

    Parameters
    ----------
    trials
        Finished trials by preset.
    runs
        The id of each trial's run.
    uri
        MLflow's store; None is MLflow's default.

    Returns
    -------
    DataFrame
        `preset seed class recall`, one row per trial and class that the test images have.

    Raises
    ------
    FnnexpError
        If the weights of a trial are missing or damaged.
    """
    rows: list[tuple[str, int, int, float]] = []
    for preset, group in trials.items():
        for trial in group:
            recipe = trial.recipe
            split = splits_of(recipe, data.load(trial.data))["test"]
            trained = parameters_from(recipe.architecture, weights_of(runs[trial.id], recipe, uri))
            hits = predict(recipe, trial.lane(), trained, split).predicted == split.labels
            labels = np.asarray(split.labels)
            rows += [
                (preset, trial.seed, int(label), float(hits[labels == label].mean()))
                for label in np.unique(labels)
            ]
    return pd.DataFrame(rows, columns=COLUMNS)
