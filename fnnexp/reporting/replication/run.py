"""``fnnexp reproduce``: which published experiments run at which seeds, and on to the page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from fnnexp import app
from fnnexp.api import override
from fnnexp.config.execution import Execution
from fnnexp.errors import FnnexpError

if TYPE_CHECKING:
    from fnnexp.config.schema import Job
    from fnnexp.config.trial import Trial

EXPERIMENT = "reproduce"


class Share(NamedTuple):
    """Some seeds of a preset, with what is changed of it."""

    preset: str
    seeds: range
    changed: tuple[str, ...] = ()


FULL = (
    Share("tanh_mini_batch_as_published", range(6)),
    Share("tanh_mini_batch", range(6)),
    Share("relu98_full_batch", range(4)),
    Share("relu98_full_batch_as_listed", range(2)),
    Share("relu_full_batch", range(8)),
    Share("sigmoid_per_sample", range(12)),
    Share("sigmoid_per_sample", range(12), ("epochs=0",)),
)

QUICK = (
    Share("tanh_mini_batch_as_published", range(3), ("dtype=float32",)),
    Share("tanh_mini_batch", range(3), ("dtype=float32",)),
    Share("relu98_full_batch", range(1), ("epochs=100",)),
    Share("relu98_full_batch_as_listed", range(1), ("epochs=100",)),
    Share("relu98_full_batch", range(1, 3), ("epochs=25",)),
    Share("relu98_full_batch_as_listed", range(1, 3), ("epochs=25",)),
    Share("relu_full_batch", range(3), ("dtype=float32",)),
    Share("sigmoid_per_sample", range(6)),
    Share("sigmoid_per_sample", range(6), ("epochs=0",)),
)

LEFT_OUT = (
    "This is the quick run: fewer seeds, so that less is told apart; tanh_mini_batch and relu_full_batch in"
    " float32 where they were published in float64; and of relu98_full_batch 100 of 500 epochs for one seed"
    " and 25 for two, so that four of its five rows are not run. `fnnexp reproduce` runs all."
)


def run(*, quick: bool, engine: str, folder: str | None, uri: str | None) -> Path:
    """Train what is not done of the published experiments as one sweep, and write the page.

    Parameters
    ----------
    quick
        Whether fewer seeds and epochs will do.
    engine
        Who computes what is not done; what is done stays, whoever computed it.
    folder
        Where the page and its files go; None is `reports/reproduce`.
    uri
        MLflow's store; None is its default.

    Raises
    ------
    FnnexpError
        Before anything trains, when an input is bad; after Ctrl-C, with what was trained saved.
    """
    from fnnexp.reporting.replication import page as reproduction

    if folder is not None and not folder.strip():
        raise FnnexpError(f"--folder {folder!r}: is no name; write --folder NAME, or leave it out")
    place = Path("reports", EXPERIMENT) if folder is None else Path(folder)
    console = Console(width=None if sys.stdout.isatty() else 120)
    jobs = {share: jobs_of(share, engine, uri) for share in (QUICK if quick else FULL)}
    first = app.alike([job for some in jobs.values() for job in some])
    trials: dict[str, list[Trial]] = {}
    for share, some in jobs.items():
        trials.setdefault(share.preset, []).extend(app.trials_of(some, console))
    reproduction.make_folder(place)
    outcome = app.sweep([each for group in trials.values() for each in group], EXPERIMENT, first, console)
    page = reproduction.write(
        trials,
        place,
        console,
        experiment=EXPERIMENT,
        tracking_uri=uri,
        left_out=LEFT_OUT if quick else "",
        command=_command(quick, engine),
    )
    if outcome.failed:
        raise app.TrialsFailedError(f"{len(outcome.failed)} trials failed; the page is of the others")
    return page


def _command(quick: bool, engine: str) -> str:
    """Return what to type for the same page; not the store, whose address may hold a password."""
    how = ["--quick"] if quick else []
    how += ["--engine", engine] if engine != Execution.engine else []
    return shlex.join(["fnnexp", "reproduce", *how])


def jobs_of(share: Share, engine: str, uri: str | None) -> list[Job]:
    """Return the checked jobs of some seeds of a preset."""
    words = [f"experiment={share.preset}", override("seed", share.seeds), *share.changed]
    words += [override("execution.engine", engine)]
    words += [override("tracking.experiment", EXPERIMENT)]
    words += [override("tracking.uri", uri)] if uri is not None else []
    return app.jobs_of("config", words)
