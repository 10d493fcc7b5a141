"""fnnexp: which small neural network works, and why.

The public API is small: :func:`sweep` runs a sweep, and :func:`runs`, :func:`curves` and :func:`diagnostics`
return what one has recorded, as data frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

__version__ = "0.1.0"
__all__ = ["__version__", "curves", "diagnostics", "runs", "sweep"]


def sweep(
    grid: str | None = None, /, *overrides: str, config_dir: str | Path | None = None, **choices: Any
) -> DataFrame:
    """Run a sweep, with a progress bar, and return its trials: `sweep("card_grid", epochs=2, seed=range(5))`.

    It is the command line's sweep: what is finished is not run again, what was interrupted goes on, curves
    and weights are in MLflow. A trial that fails is told, costs no other, and has the status `failed`.

    Parameters
    ----------
    grid
        A grid's name, as after `-cn`; without it there is one trial with the defaults.
    overrides
        In Hydra's grammar, as on the command line: `"optimizer.lr=0.1,0.01"`.
    config_dir
        A folder of configs of your own, as after `-cd`.
    choices
        Values by key; a list, tuple, range or array is swept over: `init=["max", "he"]`. A key with a dot
        goes into `**{"optimizer.lr": 0.1}`.

    Returns
    -------
    DataFrame
        One row a trial of this sweep; see :func:`fnnexp.analysis.frames.runs`.

    Raises
    ------
    FnnexpError
        Before anything trains, when an input is bad; after Ctrl-C, with what was trained saved.
    """
    from fnnexp import api

    return api.sweep(grid, overrides, choices, config_dir)


def runs(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial: its choices, parameters and final metrics, typed.

    See :func:`fnnexp.analysis.frames.runs`.
    """
    from fnnexp.analysis import frames

    return frames.runs(experiment, tracking_uri=tracking_uri)


def curves(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial, epoch and metric.

    See :func:`fnnexp.analysis.frames.curves`.
    """
    from fnnexp.analysis import frames

    return frames.curves(experiment, tracking_uri=tracking_uri)


def diagnostics(experiment: str, *, tracking_uri: str | None = None) -> DataFrame:
    """Return one row a trial, epoch, layer and quantity of what was recorded with ``diagnostics=true``.

    See :func:`fnnexp.analysis.frames.diagnostics`.
    """
    from fnnexp.analysis import frames

    return frames.diagnostics(experiment, tracking_uri=tracking_uri)
