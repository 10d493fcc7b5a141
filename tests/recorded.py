"""Frames of trials that were trained on real MNIST and recorded, as `runs.csv` of their reports."""

from pathlib import Path

import pandas as pd

from fnnexp.results.arguments import restore_types

FOLDER = Path(__file__).parent / "results" / "recorded"


def recorded(*names):
    """Return the runs of these files together; each file's `command` says what trained them."""
    return restore_types(pd.concat([pd.read_csv(FOLDER / f"{name}.csv") for name in names]), "runs")
