"""The MLflow runs of a sweep: open them, log curves to them, close them, and count what became of trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from fnnexp.config.trial import Trial
from fnnexp.console import print_plain
from fnnexp.errors import plural
from fnnexp.nn import layer_stats
from fnnexp.nn.arrays import Array
from fnnexp.nn.layer_stats import Level
from fnnexp.nn.network import Parameters
from fnnexp.nn.training import End, Lane, Record
from fnnexp.sweeping.plan import PlannedStack, last_epoch
from fnnexp.sweeping.terminal.progress import SweepProgress
from fnnexp.sweeping.worker import Broken, Trained
from fnnexp.tracking.artifacts import BEST_WEIGHTS, WEIGHTS
from fnnexp.tracking.reader import Known
from fnnexp.tracking.run_format import TOO_GOOD, best_of, is_too_good, tags_of_end
from fnnexp.tracking.writer import Tracker

DELETED = "its run was deleted in MLflow during the sweep; start the same command again to retrain it"


@dataclass
class Outcome:
    """What became of the trials of a sweep. Lists have the names of trials, such as those that failed.

    Attributes
    ----------
    done_before, by_other_engines
        How many trials were done before the sweep; and how many of these by another engine than the engine of
        this sweep, by that engine's name.
    elsewhere
        The trials that another sweep is training, each with a description of that sweep.
    stopped_early
        The finished trials that early stopping ended, with their last epoch.
    diverged
        The trials that diverged, with the epoch.
    too_good
        The trials whose test accuracy was 1.0 at the first epoch, which suggests a mistake in the data.
    out_of_time
        Whether the sweep stopped because its time was over.
    not_run
        How many trials a budget left untrained.
    pruned
        The trials that a search stopped training, with their last epoch.
    page
        The address of the experiment in MLflow's UI, if it is known.
    ids
        The ids of all trials of the sweep.
    """

    done_before: int = 0
    by_other_engines: Counter[str] = field(default_factory=Counter)
    elsewhere: list[tuple[str, str]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    stopped_early: list[tuple[str, int]] = field(default_factory=list)
    diverged: list[tuple[str, int]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    too_good: list[str] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False
    out_of_time: bool = False
    not_run: int = 0
    pruned: list[tuple[str, int]] = field(default_factory=list)
    seconds: float = 0.0
    page: str | None = None
    ids: list[str] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """The number of trials that need no more training."""
        ended = len(self.finished) + len(self.diverged) + len(self.failed) + len(self.pruned)
        return self.done_before + ended

    def add(self, later: Outcome) -> None:
        """Add the outcome of a later round of the same sweep."""
        for name in ("elsewhere", "finished", "stopped_early", "diverged", "failed", "too_good", "pruned"):
            getattr(self, name).extend(getattr(later, name))
        self.done_before += later.done_before
        self.by_other_engines += later.by_other_engines
        self.not_run += later.not_run
        self.seconds += later.seconds
        self.interrupted |= later.interrupted
        self.stopped |= later.stopped
        self.out_of_time |= later.out_of_time
        self.page = later.page or self.page


class Runs:
    """The MLflow runs of a sweep.

    Runs are opened when their stack is submitted, and closed when their lane (network of the stack) ends. A
    lane trains a group of numerically identical trials. Each trial of the group has a run.

    Parameters
    ----------
    groups
        The trials of each lane, by the lane's key.
    known
        The runs in the store, by trial id.
    engine
        The name of the engine that trains.
    curves
        The records of the lanes restored from checkpoints, by key.
    tracker, progress, outcome
        The writer to MLflow, the display, and the summary, all of which are updated.
    upto
        The epoch at which training stops for now; None is the last of each trial.
    """

    def __init__(
        self,
        groups: Mapping[str, Sequence[Trial]],
        known: Mapping[str, Known],
        engine: str,
        curves: dict[str, list[Record]],
        tracker: Tracker,
        progress: SweepProgress,
        outcome: Outcome,
        upto: int | None = None,
    ) -> None:
        self.groups, self.engine, self.curves = groups, engine, curves
        self.tracker, self.progress, self.outcome = tracker, progress, outcome
        self.upto = upto
        validated = all(trial.recipe.validation for group in groups.values() for trial in group)
        self._metric = "val_accuracy" if validated else "test_accuracy"
        self._known = known
        self._ids: dict[str, str] = {}
        self._last_logged: dict[str, int] = {}
        self._went_on_from: dict[str, int] = {}
        self._closed: set[str] = set()

    def open(self, lanes: Iterable[Lane]) -> None:
        """Create or reopen the runs of the trials that these lanes (networks) train."""
        with self.tracker.together():
            for lane in lanes:
                first, *_ = self.groups[lane.key]
                for trial in self.groups[lane.key]:
                    if trial.id not in self._ids:
                        self._open(trial, None if trial is first else first)

    def _open(self, trial: Trial, identical_to: Trial | None) -> None:
        known = self._known.get(trial.id)
        if known is not None and self._can_resume(known, trial):
            self._last_logged[trial.id] = self.tracker.resume(known.run_id)
            self._ids[trial.id] = known.run_id
            self.progress.epoch(min(max(self._last_logged[trial.id], 0), self._last(trial)))
            return
        if known is not None:
            self.tracker.discard(known.run_id)
        went_on = self._went_on_from.get(trial.numbers_id)
        self._ids[trial.id] = self.tracker.begin(
            trial, identical_to=identical_to, engine=self.engine, went_on_from=went_on
        )
        self._last_logged[trial.id] = -1

    def _can_resume(self, known: Known, trial: Trial) -> bool:
        """Return whether a trial's run can go on: it has a checkpoint, and this engine computed the run."""
        return trial.numbers_id in self.curves and self.tracker.engine_of(known.run_id) == self.engine

    def add(self, records: Iterable[Record]) -> None:
        """Add the records of epochs to the curves, to be logged by :meth:`log`.

        It logs all epochs that are not logged yet, so an interruption leaves no gap.
        """
        for record in records:
            self.curves.setdefault(record.key, []).append(record)

    def go_on(self, records: Iterable[Record]) -> None:
        """Add the records of finished trials with fewer epochs to the curves of trials that go on from them.

        The runs of the trials that go on record the epoch from which they do.
        """
        for record in records:
            self.curves.setdefault(record.key, []).append(record)
            self._went_on_from[record.key] = record.epoch

    def log(self, ended: Trained, unfinished: bool, *, is_paused: bool = False) -> list[str]:
        """Log the epochs whose records were added, and close the runs of the lanes (networks) that ended.

        Return the keys of these lanes. A lane ends when it diverges or stops early, or when its stack is done
        (not `unfinished`). With `is_paused`, the runs of the other lanes are closed too, as interrupted,
        since their stack is not trained further for now.
        """
        stack = ended.stack
        ends = {record.key: record.end for record in ended.records if record.end is not None}
        unfinished_lanes: Sequence[Lane] = stack.lanes if unfinished else ()
        write = self.tracker.pause if is_paused else self.tracker.log
        if not unfinished:
            ends |= {lane.key: stack.end(k) for k, lane in enumerate(stack.lanes)}
        with self.tracker.together():
            for key, end in ends.items():
                self._finish(key, end, ended)
            for lane in unfinished_lanes:
                for trial in self.groups[lane.key]:
                    write(self._ids[trial.id], self._not_logged(trial))
        self._fail_deleted([*ends, *(lane.key for lane in unfinished_lanes)])
        for key, end in ends.items():
            self._count_end(key, end)
        for lane in unfinished_lanes:
            for trial in self._open_trials(lane.key):
                self._count_epochs(trial)
                if is_paused:
                    self._closed.add(trial.id)
                    self.progress.done()
        for key in ends:
            del self.curves[key]
        return list(ends)

    def pause(self, lanes: Sequence[Lane]) -> None:
        """Log all epochs of these lanes (networks) that are not logged; close their runs as interrupted."""
        with self.tracker.together():
            for lane in lanes:
                for trial in self.groups[lane.key]:
                    self.tracker.pause(self._ids[trial.id], self._not_logged(trial))
        self._fail_deleted(lane.key for lane in lanes)
        for lane in lanes:
            for trial in self._open_trials(lane.key):
                self._count_epochs(trial)
                self._closed.add(trial.id)
                self.progress.done()

    def fail(self, planned: PlannedStack, broken: Broken) -> None:
        """Close the runs of a stack of a single lane (network) as failed, with the reason."""
        (lane,) = planned.lanes
        for trial in self._open_trials(lane.key):
            self.tracker.fail(self._ids[trial.id], broken.reason, broken.traceback)
            self._count_failure(trial, broken.reason, planned.stack.epoch)

    def _fail_deleted(self, keys: Iterable[str]) -> None:
        """Count as failed the trials of these lanes (given by key) whose runs a user deleted in MLflow."""
        for key in keys:
            for trial in self._open_trials(key):
                if self._ids[trial.id] in self.tracker.gone:
                    self._count_failure(trial, DELETED, self._last_logged[trial.id])

    def _count_failure(self, trial: Trial, reason: str, last: int) -> None:
        self._closed.add(trial.id)
        self.outcome.failed.append((trial.name, reason))
        self.progress.say(f"{trial.name} failed: {reason}")
        self.progress.drop(trial.name)
        self.progress.epoch(max(self._last(trial) - max(last, 0), 1))
        self.progress.failure()

    def _last(self, trial: Trial) -> int:
        """Return the epoch at which a trial's training stops."""
        return last_epoch(trial.recipe, self.upto)

    def _open_trials(self, key: str) -> list[Trial]:
        return [trial for trial in self.groups[key] if trial.id not in self._closed]

    def interrupt(self) -> None:
        """Close the open runs as interrupted. A finished sweep has no open runs."""
        for trial_id, run_id in self._ids.items():
            if trial_id not in self._closed:
                self.tracker.interrupt(run_id)

    def _not_logged(self, trial: Trial) -> list[tuple[int, dict[str, float]]]:
        """Return the epochs and metrics of a trial that are not logged to its run yet."""
        last, curve = self._last_logged[trial.id], self.curves[trial.numbers_id]
        return [(record.epoch, record.metrics) for record in curve if record.epoch > last]

    def _finish(self, key: str, end: End, ended: Trained) -> None:
        """Log the rest of the curve of a lane (network), and close the runs of its trials."""
        curve = self.curves[key]
        seconds = sum(record.seconds for record in curve) / max(curve[-1].epoch, 1)
        best = best_of((record.epoch, record.metrics) for record in curve)
        histograms = layer_stats.histogram_arrays(self.groups[key][0].recipe.architecture, curve)
        for trial in self.groups[key]:
            self.tracker.finish(
                self._ids[trial.id],
                trial,
                {name: _named(trial, theta) for name, theta in _weight_files(end).items()},
                histograms=histograms,
                seconds_per_epoch=seconds,
                blas=ended.blas,
                engine=ended.engine,
                how=tags_of_end(end, trial.recipe.stopping),
                curve=self._not_logged(trial),
                best=best,
            )

    def _count_epochs(self, trial: Trial) -> None:
        """Show a trial's new epochs in the progress: their number, and the latest metrics.

        Epoch 0 counts only if the trial has no other epoch.
        """
        new = self._not_logged(trial)
        counted = [epoch for epoch, _ in new if 0 < epoch <= self._last(trial) or trial.recipe.epochs == 0]
        last = self.curves[trial.numbers_id][-1]
        if not last.diverged:
            self.progress.latest(trial.name, last.metrics, self._metric)
        self.progress.epoch(len(counted))
        if any(is_too_good(epoch, metrics) for epoch, metrics in new):
            if not self.outcome.too_good:
                self.progress.say(f"{trial.name}: test accuracy is 1.0 at the first epoch. {TOO_GOOD}")
            self.outcome.too_good.append(trial.name)
        self._last_logged[trial.id] = self.curves[trial.numbers_id][-1].epoch

    def _count_end(self, key: str, end: End) -> None:
        """Count the trials of a lane (network) that ended, and count the epochs that they skip as done."""
        for trial in self._open_trials(key):
            self._closed.add(trial.id)
            self._count_epochs(trial)
            self.progress.epoch(max(self._last(trial), 1) - max(end.epoch, 1))
            if end.how == "diverged":
                self.outcome.diverged.append((trial.name, end.epoch))
                self.progress.say(f"{trial.name} diverged at epoch {end.epoch}")
                self.progress.drop(trial.name)
            else:
                self.outcome.finished.append(trial.name)
                self.progress.finished(trial.name)
            if end.how == "stopped":
                self.outcome.stopped_early.append((trial.name, end.epoch))
            self.progress.done()


def _weight_files(end: End) -> dict[str, Array]:
    """Return the weights (P,) that a run saves, by file name: the last, and with early stopping the best."""
    best = {} if end.best_theta is None else {BEST_WEIGHTS: end.best_theta}
    return {WEIGHTS: end.theta, **best}


def _named(trial: Trial, theta: Array) -> dict[str, Array]:
    return Parameters(trial.recipe.architecture, theta[None]).named(0)


def print_undiagnosed(
    known: Mapping[str, Known], done: Sequence[Trial], wanted: Level, console: Console
) -> None:
    """Print how many finished trials were trained without the diagnostics that this sweep requests.

    They may lack all diagnostics, or only the histograms.
    """
    levels = [known[trial.id].diagnosed for trial in done]
    for what, lacking in (
        ("diagnostics", wanted and levels.count(False)),
        ("histograms", wanted == layer_stats.FULL and levels.count(True)),
    ):
        if lacking:
            print_plain(
                console,
                f"{lacking} of {plural(len(done), 'trial')} done before {'has' if lacking == 1 else 'have'} "
                f"no {what}; to record them, write tracking.experiment=NAME for a new experiment",
            )
