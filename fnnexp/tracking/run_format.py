"""The format of a trial's run in MLflow: its metrics, statuses and tags, and the form of their values."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fnnexp.config.schema import MOST_MARGIN
from fnnexp.errors import plural, printable
from fnnexp.nn.pieces import metrics

if TYPE_CHECKING:
    from mlflow.entities import Metric

    from fnnexp.nn.pieces.stopping import Stopping
    from fnnexp.nn.stack import End

Curve = Iterable[tuple[int, Mapping[str, float]]]
"""Pairs of an epoch and its metrics."""

METRICS: Sequence[str] = metrics.Names()
"""The names of a curve's metrics."""

BEST = ("best_val_accuracy", "best_val_epoch")
"""Two more metrics of a finished run: its best validation accuracy, and the first epoch with this value."""

FINISHED, DIVERGED, FAILED, RUNNING, INTERRUPTED = "finished", "diverged", "failed", "running", "interrupted"
PRUNED = "pruned"

STATUSES = (FINISHED, DIVERGED, FAILED, RUNNING, INTERRUPTED, PRUNED)
"""The statuses of a trial. If its process was killed outright, a run stays `running` until it resumes.

A search stopped a pruned trial because others had better results; MLflow shows its run as KILLED.
"""

DONE = (FINISHED, DIVERGED)
"""The statuses of trials that a sweep does not run again."""

TRIAL, STATUS, COMMAND = "fnnexp.trial", "fnnexp.status", "fnnexp.command"
DIVERGED_EPOCH, PRUNED_EPOCH = "fnnexp.diverged_epoch", "fnnexp.pruned_epoch"
ENGINE = "fnnexp.engine"
"""Tags of a run: the id of its trial, its status, and the command line that made it; the epoch at which it
diverged or was pruned; its engine."""

HISTOGRAMS = "fnnexp.histograms"
"""A tag of a run that has histograms of its layers: the number of epochs with histograms."""

TUNING = "fnnexp.tuning"
"""A tag of a run that was trained to tune options, and enters no comparison. Its value names the tuned
comparison, as in `compare=init tune=optimizer.lr`; several names are joined by :data:`AND`."""

AND = "; "

MAP = "fnnexp.map"
"""A tag of a run with a map: a hash of its cells. Such a run belongs to no trial."""

RANGE_TEST = "fnnexp.range_test"
"""A tag of a run with a learning-rate range test: a hash of its trials. Such a run belongs to no trial."""

REPORTED, NOTE = "fnnexp.report", "mlflow.note.content"
"""Tags of an experiment: the id of the run with its report; its description, which MLflow's UI shows."""

CLASS_NAMES = "fnnexp.class_names"
"""A tag of a run: the names of the classes of its data, in the order of their numbers, as a JSON list. Runs
of data whose classes are only numbers do not have it, nor do older runs."""

LOOKS = "fnnexp.looks"
"""A tag of an experiment: when reports read its trials, in milliseconds since 1970, the oldest first."""

ASKED = "fnnexp.asked"
"""A tag of an experiment: what its last sweep with ``until=settled`` asked, as JSON (:class:`Asked`)."""

LONGEST_TAG = 5000
"""Maximum number of characters of a tag in all MLflow versions; MLflow 3 cuts values after 8,000."""

MOST_METRICS = 1000
"""Maximum number of metrics that MLflow accepts in one batch."""

GONE = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")
"""The codes of MLflow's errors when a run to write to, or a tag to delete, does not exist any more."""


def as_param(value: object) -> str:
    """Return a value as the text of a run's param in MLflow."""
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def looks_of(tags: Mapping[str, str]) -> list[int]:
    """Return the times when reports read an experiment's trials, in order.

    A tag that is not a list of times counts as empty.

    >>> [looks_of({LOOKS: text}) for text in ("17 23", "", "a user's text", 4301 * "9")]
    [[17, 23], [], [], []]
    """
    words = tags.get(LOOKS, "").split()
    return sorted(map(int, words)) if all(re.fullmatch("[0-9]{1,18}", word) for word in words) else []


def class_names_tag(names: Sequence[str]) -> str:
    """Return names of classes as the text of a tag; if they are too long together, the longest are cut.

    >>> class_names_tag(["ant", "bee"]), len(class_names_tag(["x" * 99] * 256)) <= LONGEST_TAG
    ('["ant","bee"]', True)
    """
    most = max(map(len, names))
    while True:
        cut = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
        text = json.dumps(cut, ensure_ascii=False, separators=(",", ":"))
        if len(text) <= LONGEST_TAG or most == 1:
            return text
        most -= 1


def class_names_of(tag: str | None, classes: int) -> tuple[str, ...]:
    """Return the names of so many classes from a run's tag; () if it is missing or no list of so many.

    >>> class_names_of('["ant","bee"]', 2), class_names_of('["ant","bee"]', 3), class_names_of(None, 2)
    (('ant', 'bee'), (), ())
    """
    try:
        names = json.loads(tag or "")
    except (ValueError, RecursionError):
        return ()
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(names) != classes:
        return ()
    return tuple(" ".join(printable(name).split()) for name in names)


START, MOST_ASKED = 8, 1_000_000
"""How many characters of a trial's id :class:`Asked` keeps, and the limit of its numbers of seeds and
questions."""


@dataclass(frozen=True)
class Asked:
    """The questions of a sweep with ``until=settled``: what it compared, and how.

    Attributes
    ----------
    compare
        The factors that it compared; all if empty.
    margin
        The margin of equivalence that it was given, if any.
    seeds
        The seeds of its first round.
    most_seeds
        The largest number of seeds of an option.
    questions
        How many questions it had.
    trials
        The start of the id of one trial of each configuration; empty for all trials of the experiment.
    """

    compare: tuple[str, ...]
    margin: float | None
    seeds: tuple[int, ...]
    most_seeds: int
    questions: int = 0
    trials: tuple[str, ...] = ()

    def as_tag(self) -> str | None:
        """Return the text of an MLflow tag, without the trials if they do not fit; None if it is too long.

        >>> Asked(("init",), None, (0, 1, 2), 30, 9, ("0123456789abcdef",)).as_tag()
        '{"compare":["init"],"margin":null,"seeds":[0,1,2],"most_seeds":30,"questions":9,"trials":"01234567"}'
        """
        starts = " ".join(trial[:START] for trial in self.trials)
        texts = (
            json.dumps(asdict(self) | {"trials": trials}, separators=(",", ":")) for trials in (starts, "")
        )
        return next((text for text in texts if len(text) <= LONGEST_TAG), None)


def asked_of(tags: Mapping[str, str]) -> Asked | None:
    """Return what an experiment's last sweep with ``until=settled`` asked, by its tags; None without a tag.

    >>> asked = Asked(("init",), 0.5, (0, 1), 30, 9, ("01234567",))
    >>> asked_of({ASKED: asked.as_tag()}) == asked, asked_of({ASKED: "a user's text"})
    (True, None)
    """
    try:
        tag = json.loads(tags.get(ASKED, ""))
        margin, most, questions = tag["margin"], int(tag["most_seeds"]), int(tag["questions"])
        asked = Asked(
            tuple(map(str, tag["compare"])),
            None if margin is None else float(margin),
            tuple(map(int, tag["seeds"])),
            most,
            questions,
            tuple(str(tag["trials"]).split()),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    valid = asked.seeds and 2 <= most <= MOST_ASKED and 0 <= questions <= MOST_ASKED
    return asked if valid and (asked.margin is None or 0 < asked.margin < MOST_MARGIN) else None


TOO_GOOD = (
    "Networks hardly ever learn this fast. Usually the data contains the answer: test rows among the "
    "training rows, or the label in a column among the inputs. Check the data before you believe any "
    "number here"
)
"""A warning about a test accuracy of 1.0 at the first epoch."""


def is_too_good(epoch: int, metrics: Mapping[str, float]) -> bool:
    """Return whether every test row is classified correctly at the first epoch or before it.

    >>> is_too_good(1, {"test_accuracy": 1.0}), is_too_good(2, {"test_accuracy": 1.0})
    (True, False)
    """
    return epoch <= 1 and metrics.get("test_accuracy") == 1.0


def best_of(curve: Curve) -> dict[str, float]:
    """Return the best validation accuracy of a curve and its first epoch; {} if there is no such accuracy.

    >>> best_of([(1, {"val_accuracy": 0.5}), (2, {"val_accuracy": 0.75}), (3, {"val_accuracy": 0.75})])
    {'best_val_accuracy': 0.75, 'best_val_epoch': 2}
    """
    points = [(values["val_accuracy"], -epoch) for epoch, values in curve if "val_accuracy" in values]
    finite = [point for point in points if math.isfinite(point[0])]
    if not finite:
        return {}
    value, negative_epoch = max(finite)
    return dict(zip(BEST, (value, -negative_epoch), strict=True))


def tags_of_end(end: End, stopping: Stopping | None = None) -> dict[str, str]:
    """Return the tags of a run that say how its trial ended: its status, and when and why it ended early.

    >>> from fnnexp.nn.pieces.stopping import Stopping
    >>> from fnnexp.nn.stack import End
    >>> tags_of_end(End("stopped", 9, None, 7), Stopping(2, 0.01))["fnnexp.stopped_because"]
    'val_loss did not improve by more than 0.01 in 2 epochs; epoch 7 was the best'
    """
    tags = {STATUS: DIVERGED if end.how == "diverged" else FINISHED}
    if end.how == "diverged":
        tags[DIVERGED_EPOCH] = str(end.epoch)
    if end.how == "stopped" and stopping is not None:
        by = f" by more than {stopping.min_delta:g}" if stopping.min_delta else ""
        tags["fnnexp.stopped_epoch"] = str(end.epoch)
        tags["fnnexp.stopped_because"] = (
            f"{stopping.metric} did not improve{by} in {plural(stopping.patience, 'epoch')}; "
            f"epoch {end.best_epoch} was the best"
        )
    if end.best_epoch is not None:
        tags["fnnexp.weights_best_epoch"] = str(end.best_epoch)
    return tags


def at_epochs(epochs: Collection[int]) -> str:
    """Return, in words, the epochs at which some trials ended.

    >>> at_epochs([7]), at_epochs([12, 7, 8])
    ('at epoch 7', 'at epochs 7 to 12')
    """
    first, last = min(epochs), max(epochs)
    return f"at epoch {first}" if first == last else f"at epochs {first} to {last}"


def batches_of(curve: Curve) -> list[list[Metric]]:
    """Return a curve's metrics in batches of at most :data:`MOST_METRICS`; the last may be empty.

    An epoch is not split if it fits in one batch, so that a kill between two batches leaves no epoch half
    logged.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    batches: list[list[Metric]] = [[]]
    for epoch, values in curve:
        points = [Metric(name, value, now, epoch) for name, value in values.items() if math.isfinite(value)]
        if batches[-1] and len(batches[-1]) + len(points) > MOST_METRICS:
            batches.append([])
        while len(points) > MOST_METRICS:
            batches.insert(-1, points[:MOST_METRICS])
            points = points[MOST_METRICS:]
        batches[-1] += points
    return batches


def engine_name(tag: str | None) -> str:
    """Return the name of the engine from a run's tag; ``numpy`` for old runs, which have no such tag.

    >>> engine_name("numba 0.61.0, llvmlite 0.44.0, znver3"), engine_name(None)
    ('numba', 'numpy')
    """
    return (tag or "numpy").partition(" ")[0]
