"""Recorded frames of trials on real MNIST; each is the `runs.csv` of a report."""

from pathlib import Path

import pandas as pd

from fnnexp.results.arguments import restore_types

FOLDER = Path(__file__).parent / "results" / "recorded"


def recorded(*names):
    """Return the runs of these files in one frame; the column `command` says how they were trained."""
    return restore_types(pd.concat([pd.read_csv(FOLDER / f"{name}.csv") for name in names]), "runs")
