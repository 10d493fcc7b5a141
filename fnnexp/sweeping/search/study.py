"""The file of a search: a study that Optuna and its dashboard open.

It is made from the store alone, so it can be written anew at any time. It is made in memory, and written to a
new file that then replaces the old one. If the old file belongs to another search, it is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fnnexp.config.commands import file_name
from fnnexp.config.grids.spaces import Choices, Interval, Space, Steps, WholeNumbers, text_of
from fnnexp.console import without_messages
from fnnexp.errors import ConfigError
from fnnexp.tracking.retry import reason

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

STUDIES = Path("studies")
"""The folder of studies, relative to the folder in which the search was started."""

LOGGERS = ("optuna", "alembic")
"""The loggers of Optuna, and of the library with which it makes its tables."""

SEARCH = "fnnexp.search"
"""The attribute of a study that says to which search it belongs."""


@dataclass(frozen=True)
class Result:
    """A configuration that was trained, and what Optuna is told about it.

    Attributes
    ----------
    row
        The values of the keys that are drawn.
    value
        The mean over the seeds of the metric that ranks; None if all seeds failed, or if there are no trials.
    trials, names
        The ids and the names of its trials.
    span
        When its first trial started and its last trial ended; None if it has no trials.
    """

    row: tuple[Any, ...]
    value: float | None
    trials: Sequence[str] = ()
    names: Sequence[str] = ()
    span: tuple[datetime, datetime] | None = None


def distributions(dimensions: Sequence[tuple[str, Space]]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each key, sorted by key: the order in the command changes nothing."""
    in_order = sorted(dimensions, key=lambda dimension: dimension[0])
    return {key: _distribution(space) for key, space in in_order}


def _distribution(space: Space) -> BaseDistribution:
    """Return Optuna's distribution of a key: categorical for a list, numeric for a range or an interval."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, Interval):
        return FloatDistribution(space.low, space.high, log=space.is_log)
    if isinstance(space, WholeNumbers):
        return IntDistribution(space.low, space.high, log=space.is_log)
    values = space.values
    if isinstance(values, range | Steps):
        low, high = sorted((values[0], values[-1]))
    if isinstance(values, range):
        return IntDistribution(low, high, step=abs(values.step))
    if isinstance(values, Steps):
        return FloatDistribution(_short(low), _short(high), step=_short(abs(values.step)))
    return CategoricalDistribution(space.texts)


def value_in(space: Space, param: Any) -> Any:
    """Return the value of a key, as configs have it, from a value that Optuna suggested.

    >>> value_in(Interval(1e-4, 1, is_log=True), 0.0123456), value_in(Choices([[32], [64]]), "[64]")
    (0.01235, [64])
    """
    if isinstance(space, Interval):
        return space.rounded(param)
    if isinstance(space, WholeNumbers) or isinstance(space.values, range):
        return int(param)
    if isinstance(space.values, Steps):
        return space.values[round((param - space.values[0]) / space.values.step)]
    return space.values[space.texts.index(param)]


def params(dimensions: Sequence[tuple[str, Space]], row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the values of a configuration as Optuna stores them: numbers, and other values as text."""
    return {key: _param(space, value) for (key, space), value in zip(dimensions, row, strict=True)}


def _param(space: Space, value: Any) -> Any:
    if not isinstance(space, Choices) or isinstance(space.values, range):
        return value
    return _short(value) if isinstance(space.values, Steps) else text_of(value)


def _short(step: float) -> float:
    """Return a number rounded to 12 digits, without a rounding error such as that of 0.1 + 0.2."""
    return float(f"{step:.12g}")


def as_trial(dimensions: Sequence[tuple[str, Space]], result: Result) -> FrozenTrial:
    """Return a configuration as a trial of Optuna: complete with its value, or failed."""
    from optuna.trial import TrialState, create_trial

    trial = create_trial(
        state=TrialState.FAIL if result.value is None else TrialState.COMPLETE,
        value=result.value,
        params=params(dimensions, result.row),
        distributions=distributions(dimensions),
        user_attrs={"trials": [*result.trials], "names": [*result.names]},
    )
    if result.span is not None:
        trial.datetime_start, trial.datetime_complete = result.span
    return trial


class StudyFile:
    """A study of Optuna that has the results of a search, in memory and in a file for Optuna's tools.

    Parameters
    ----------
    experiment
        The name of the experiment, which is the name of the study.
    dimensions
        The keys that are drawn, and their spaces.
    first, where
        The ids of the trials of the first configuration, and the conditions of ``where``. Together with the
        dimensions they identify the search.

    Raises
    ------
    ConfigError
        If the file exists, and has the study of another search, or is no study.
    """

    def __init__(
        self,
        experiment: str,
        dimensions: Sequence[tuple[str, Space]],
        first: Sequence[str],
        where: Sequence[str] = (),
    ) -> None:
        import optuna

        self.path = STUDIES / f"{file_name(experiment)}.db"
        self._dimensions = dimensions
        search = _name_of(dimensions, [*first, *where])
        self._refuse_other(search)
        with without_messages(*LOGGERS):
            self._connection, self._storage = _in_memory()
            self._study = optuna.create_study(
                storage=self._storage, study_name=experiment, direction="maximize"
            )
            self._study.set_user_attr(SEARCH, search)

    def _refuse_other(self, search: str) -> None:
        """Raise if the file has the study of another search, or is not a study of Optuna."""
        if not self.path.exists():
            return
        try:
            existing = search_of(self.path)
        except Exception as error:  # SQLite or Optuna can't read the file
            holds = f"is not a study of Optuna ({reason(error)})"
        else:
            if existing == search:
                return
            holds = "has the study of another search, with other values, seeds, conditions or settings"
        raise ConfigError(
            f"{self.path}: {holds}; write tracking.experiment=NAME for a study of another name, or remove "
            "the file"
        )

    def add(self, results: Sequence[Result], metric: str) -> None:
        """Add configurations with their results to the study in memory, and note the name of their metric."""
        with without_messages(*LOGGERS):
            self._study.set_user_attr("metric", metric)
            self._study.add_trials([as_trial(self._dimensions, result) for result in results])

    def write(self) -> None:
        """Write the study to a new file, and rename that file into place."""
        self.path.parent.mkdir(exist_ok=True)
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)  # a killed process may have left it
        with closing(sqlite3.connect(new)) as target:
            target.execute("PRAGMA journal_mode=OFF")  # a kill would leave the journal's file behind
            self._connection.backup(target)
        new.replace(self.path)

    def close(self) -> None:
        """Free the study in memory."""
        _close(self._connection, self._storage)


def search_of(path: Path) -> str | None:
    """Return the hash of the search whose study a file has; None if fnnexp did not write the study.

    The hash is that of :func:`_name_of`. The file stays as it is. If it has no study, this raises an
    exception of SQLite or Optuna.
    """
    import optuna

    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as source, without_messages(*LOGGERS):
        connection, storage = _in_memory(source)
        try:
            search = optuna.load_study(study_name=None, storage=storage).user_attrs.get(SEARCH)
        finally:
            _close(connection, storage)
    return None if search is None else str(search)


def _in_memory(source: sqlite3.Connection | None = None) -> tuple[sqlite3.Connection, RDBStorage]:
    """Return a connection to a new database in memory, and Optuna's storage in it.

    With `source`, the database begins as a copy of that one.
    """
    from optuna.storages import RDBStorage

    connection = sqlite3.connect(":memory:", check_same_thread=False)
    if source is not None:
        source.backup(connection)
    return connection, RDBStorage("sqlite://", engine_kwargs={"creator": lambda: connection})


def _close(connection: sqlite3.Connection, storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()
    connection.close()


def _name_of(dimensions: Sequence[tuple[str, Space]], others: Sequence[str]) -> str:
    """Return a hash that identifies a search, made of its keys, their distributions, and `others`."""
    from optuna.distributions import distribution_to_json

    space = {key: distribution_to_json(each) for key, each in distributions(dimensions).items()}
    return hashlib.sha256(json.dumps([space, sorted(others)]).encode()).hexdigest()[:16]
