"""fnnexp: which small neural network works, and why.

:func:`sweep` trains a grid of networks and records them in MLflow. :func:`runs`, :func:`curves` and
:func:`diagnostics` return the records of an experiment as data frames. :func:`leaderboard`, :func:`compare`,
:func:`shares`, :func:`answer`, :func:`plot_curves` and :func:`plot_heat_map` accept the frame of runs, or any
rows of it. :func:`histograms` returns how the values of a trial's layers are distributed, which
:func:`plot_histograms` draws. :func:`map` trains a trial for each cell of two axes, :func:`read_map` returns
the arrays of such a map, and :func:`plot_map` draws them.
:func:`lr_range` suggests a learning rate for each configuration, and :func:`plot_lr` draws the losses that
it saw.

:func:`show_data` shows a data set before anything trains. :func:`plot_boundary` draws what networks of
two-dimensional data predict.

:func:`at_equal` takes the results of trials at equal cost, to compare batching modes fairly.
:func:`seconds_to` adds a column to the frame of runs: the seconds of training until each trial reached an
accuracy. :func:`images` returns a data set as a table. :func:`published` returns the numbers that the
publications report for the published experiments.

:func:`load` returns the network of a finished trial, which predicts. :func:`best` chooses a trial, and
:func:`confusion` and :func:`mistakes` show what its network gets wrong. :class:`Classifier` is an estimator
for scikit-learn. :func:`experiments` lists what a store has, and :func:`report` writes the report.
:func:`merge` copies the trials of several stores into one, and :func:`verify` trains some of them again.

Errors that a user can fix are raised as :class:`FnnexpError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fnnexp.api import lr_range, show_data, sweep
    from fnnexp.api import map as map  # noqa: A004
    from fnnexp.data.images import images
    from fnnexp.errors import FnnexpError
    from fnnexp.mapping.arrays import read_map
    from fnnexp.mapping.lr.picture import plot_lr
    from fnnexp.mapping.picture import plot_map
    from fnnexp.reporting.at_equal import at_equal
    from fnnexp.reporting.plots.api import plot_boundary, plot_curves, plot_heat_map, plot_histograms
    from fnnexp.reporting.replication.published import published
    from fnnexp.reporting.sections.by_factor.shares import shares
    from fnnexp.reporting.sections.leaderboard import leaderboard
    from fnnexp.reporting.sections.pairs import compare
    from fnnexp.reporting.sections.summary import answer
    from fnnexp.reporting.write import report
    from fnnexp.results.frames import curves, diagnostics, experiments, runs
    from fnnexp.results.networks.classifier import Classifier
    from fnnexp.results.networks.histograms import histograms
    from fnnexp.results.networks.mistakes import confusion, mistakes
    from fnnexp.results.networks.stored import load
    from fnnexp.results.networks.verifying import verify
    from fnnexp.results.ranking import best, seconds_to
    from fnnexp.sweeping.resources.merging import merge

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "FnnexpError",
    "__version__",
    "answer",
    "at_equal",
    "best",
    "compare",
    "confusion",
    "curves",
    "diagnostics",
    "experiments",
    "histograms",
    "images",
    "leaderboard",
    "load",
    "lr_range",
    "merge",
    "mistakes",
    "plot_boundary",
    "plot_curves",
    "plot_heat_map",
    "plot_histograms",
    "plot_lr",
    "plot_map",
    "published",
    "read_map",
    "report",
    "runs",
    "seconds_to",
    "shares",
    "show_data",
    "sweep",
    "verify",
]
"""All public names but `map`, which `from fnnexp import *` would put in the place of Python's."""

_DEFINED_IN = {
    "Classifier": "fnnexp.results.networks.classifier",
    "FnnexpError": "fnnexp.errors",
    "answer": "fnnexp.reporting.sections.summary",
    "at_equal": "fnnexp.reporting.at_equal",
    "best": "fnnexp.results.ranking",
    "compare": "fnnexp.reporting.sections.pairs",
    "confusion": "fnnexp.results.networks.mistakes",
    "curves": "fnnexp.results.frames",
    "diagnostics": "fnnexp.results.frames",
    "experiments": "fnnexp.results.frames",
    "histograms": "fnnexp.results.networks.histograms",
    "images": "fnnexp.data.images",
    "leaderboard": "fnnexp.reporting.sections.leaderboard",
    "load": "fnnexp.results.networks.stored",
    "lr_range": "fnnexp.api",
    "map": "fnnexp.api",
    "merge": "fnnexp.sweeping.resources.merging",
    "mistakes": "fnnexp.results.networks.mistakes",
    "plot_boundary": "fnnexp.reporting.plots.api",
    "plot_curves": "fnnexp.reporting.plots.api",
    "plot_heat_map": "fnnexp.reporting.plots.api",
    "plot_histograms": "fnnexp.reporting.plots.api",
    "plot_lr": "fnnexp.mapping.lr.picture",
    "plot_map": "fnnexp.mapping.picture",
    "published": "fnnexp.reporting.replication.published",
    "read_map": "fnnexp.mapping.arrays",
    "report": "fnnexp.reporting.write",
    "runs": "fnnexp.results.frames",
    "seconds_to": "fnnexp.results.ranking",
    "shares": "fnnexp.reporting.sections.by_factor.shares",
    "show_data": "fnnexp.api",
    "sweep": "fnnexp.api",
    "verify": "fnnexp.results.networks.verifying",
}
"""The module of each public name. It is imported on first use, so that commands start without pandas."""


def __getattr__(name: str) -> Any:
    if name == "pieces":
        return import_module("fnnexp.pieces")
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'fnnexp' has no attribute {name!r}")
    return getattr(import_module(_DEFINED_IN[name]), name)


def __dir__() -> list[str]:
    return sorted([*_DEFINED_IN, "__version__"])
