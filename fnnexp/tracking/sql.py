"""MLflow's private parts: its tables, the store and session of its client, and ``get-history-bulk``.

MLflow does not guarantee any of these, so every use has a fallback:

- The functions that read a SQLite file (:func:`trials`, :func:`trial_params`, :func:`lacks_experiment`,
  :func:`latest_experiments`) or correct the addresses in it (:func:`move_artifacts`) do not import MLflow,
  because the import takes seconds. Each has a special return value for a file that it can't read.
- :class:`SqlRuns` writes many runs in one transaction, so that 108 runs take 0.7 s. The client needs seven
  transactions for every run, and 8.5 s. :meth:`SqlRuns.of` returns None if the tables have :func:`changed`.
- :func:`points` reads curves in bulk, by ``get_metric_history_bulk`` of the client's store or by a server's
  request ``get-history-bulk``. The public call reads a single metric of a single run, in 1 to 8 ms.

``tests/tracking/test_mlflow_seams.py`` explains what changed if a new version of MLflow breaks one of these.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
import uuid
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any

from fnnexp.nn.layer_stats import FULL, Level
from fnnexp.tracking.run_format import (
    DONE,
    ENGINE,
    HISTOGRAMS,
    MAP,
    PRUNED,
    RANGE_TEST,
    REPORTED,
    RUNNING,
    STATUS,
    TRIAL,
    engine_name,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy import Connection, Table
    from sqlalchemy.orm import Session

Row = dict[str, Any]
Values = tuple[Any, ...]

Point = tuple[str, str, int, int, float | None]
"""A point of a curve: run id, metric, epoch, timestamp, value. None stands for not a number."""

PAIR = {"run_uuid", "key", "value"}
POINT = PAIR | {"timestamp", "step", "is_nan"}
WRITTEN = {"tags": PAIR, "params": PAIR, "metrics": POINT, "latest_metrics": POINT}
"""The columns of the tables to write. A table with other columns is not written."""

COPIED = {
    "run_uuid",
    "experiment_id",
    "name",
    "status",
    "start_time",
    "end_time",
    "artifact_uri",
    "lifecycle_stage",
}
"""The columns that the table `runs` must have. Its other columns are copied from a run that MLflow made."""


# The SQLite file, read without MLflow


@contextlib.contextmanager
def opened(file: Path, *, mode: str = "ro", timeout: float = 5.0) -> Iterator[sqlite3.Connection]:
    """Open an existing SQLite file, and never create it."""
    address = f"{file.as_uri()}?mode={mode}"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=timeout)) as store:
        yield store


def unreadable(file: Path) -> sqlite3.Error | None:
    """Return the error if SQLite can't read a file, else None. A lock of another program does not count."""
    return _failure(file, "ro", "SELECT count(*) FROM sqlite_master")


def unwritable(file: Path) -> sqlite3.Error | None:
    """Return the error if SQLite can't write a file, else None. A lock of another program does not count."""
    return _failure(file, "rw", "BEGIN IMMEDIATE")


def _failure(file: Path, mode: str, statement: str) -> sqlite3.Error | None:
    try:
        with opened(file, mode=mode, timeout=0) as store:
            store.execute(statement)
    except sqlite3.Error as error:
        return None if "locked" in str(error) else error
    return None


def is_failure(error: Exception) -> bool:
    """Return whether an error means that a database (its file, address, driver or tables) can't be opened."""
    from alembic.util.exc import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, (sqlite3.Error, OSError, ModuleNotFoundError, SQLAlchemyError, CommandError))


def disconnect(client: MlflowClient) -> None:
    """Close the connections that a client keeps to its file."""
    with contextlib.suppress(AttributeError):
        client._tracking_client.store.engine.dispose()


def write_ahead(file: Path) -> None:
    """Turn on a SQLite store's write-ahead log: readers never wait, and a commit costs one flush to disk.

    The file keeps the setting. If SQLite can't use the log (on some network drives), the file is unchanged.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA journal_mode=WAL")


def empty_log(file: Path) -> None:
    """Move what a SQLite store's write-ahead log contains into the file, so that a copy of the file has it.

    SQLite does this by itself only when the last program closes the store, which a notebook may never do.
    """
    with contextlib.suppress(sqlite3.Error), opened(file, mode="rw", timeout=1) as store:
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


MANY_RUNS = 1000
"""From this number of runs on, a store notes the sizes of its tables. Notes of a small store would mislead
SQLite after it has grown: it would read whole tables, since they were small."""


def note_sizes(file: Path) -> None:
    """Let SQLite measure the tables of a store with many runs, because it needs their sizes to plan queries.

    Without that, MLflow's UI sorts runs by a metric in time that is quadratic in their number: minutes
    for 100,000. A sample of the rows is enough, and takes milliseconds.
    """
    with contextlib.suppress(sqlite3.Error), opened(file, mode="rw", timeout=1) as store:
        if len(store.execute("SELECT 1 FROM runs LIMIT ?", (MANY_RUNS,)).fetchall()) == MANY_RUNS:
            store.execute("PRAGMA analysis_limit=1000")
            store.execute("ANALYZE")


EXPERIMENT = "SELECT 1 FROM experiments WHERE name = ?"


def lacks_experiment(file: Path, name: str) -> bool:
    """Return whether a store certainly has no experiment of this name. False if the store can't be read."""
    try:
        with opened(file) as store:
            return not store.execute(EXPERIMENT, (name,)).fetchall()
    except sqlite3.Error:
        return False


def location(file: Path, name: str) -> str | None:
    """Return the address of an experiment's files; None without such an experiment, or without its table."""
    try:
        with opened(file) as store:
            query = "SELECT artifact_location FROM experiments WHERE name = ?"
            row = store.execute(query, (name,)).fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row else None


LATEST = """
SELECT e.experiment_id, e.name FROM experiments e JOIN runs r ON r.experiment_id = e.experiment_id
WHERE e.lifecycle_stage = 'active' GROUP BY e.experiment_id ORDER BY max(r.start_time) DESC LIMIT ?
"""


def latest_experiments(file: Path, most: int) -> list[tuple[str, str]]:
    """Return pairs (id, name) of the latest experiments, latest first; empty if the store can't be read."""
    try:
        with opened(file) as store:
            return [(str(key), str(name)) for key, name in store.execute(LATEST, (most,))]
    except sqlite3.Error:
        return []


TRIALS = f"""
SELECT runs.run_uuid, runs.status, trial.value, coalesce(ours.value, '{RUNNING}'), layer.key IS NOT NULL,
  engine.value, histograms.value IS NOT NULL
FROM runs JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = '{TRIAL}'
LEFT JOIN tags AS ours ON ours.run_uuid = runs.run_uuid AND ours.key = '{STATUS}'
LEFT JOIN latest_metrics AS layer ON layer.run_uuid = runs.run_uuid AND layer.key = ?
LEFT JOIN tags AS engine ON engine.run_uuid = runs.run_uuid AND engine.key = '{ENGINE}'
LEFT JOIN tags AS histograms ON histograms.run_uuid = runs.run_uuid AND histograms.key = '{HISTOGRAMS}'
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active' ORDER BY runs.start_time DESC, runs.run_uuid
"""


def _rows(file: Path, query: str, *values: Any) -> Iterator[tuple[Any, ...]] | None:
    """Return the rows of a query, read one by one, or None if the file can't be read."""

    def read() -> Iterator[tuple[Any, ...]]:
        with opened(file) as store:
            yield from store.execute(query, values)

    rows = read()
    try:
        first = next(rows, None)
    except sqlite3.Error:
        return None
    return rows if first is None else chain([first], rows)


def trials(
    file: Path, experiment_id: str, *, diagnosed: str
) -> Iterator[tuple[str, str, str, str, Level, str]] | None:
    """Return the runs of trials, the newest first, or None if the file can't be read.

    A row is (run id, MLflow's status, trial id, trial's status, what diagnostics the run has, name of its
    engine). For 10,000 runs this takes a tenth of a second; MLflow, which builds whole runs, takes ten
    seconds. `diagnosed` is a metric that only runs with diagnostics have.
    """
    rows = _rows(file, TRIALS, diagnosed, int(experiment_id))
    if rows is None:
        return None
    return (
        (run_id, intern(mlflows), trial, intern(status), level, intern(engine_name(engine)))
        for run_id, mlflows, trial, status, layer, engine, full in rows
        for level in (FULL if full else bool(layer),)
    )


PARAMS = f"""
SELECT runs.run_uuid, params.key, params.value FROM runs
JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = '{TRIAL}'
CROSS JOIN params ON params.run_uuid = runs.run_uuid
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
"""


def trial_params(file: Path, experiment_id: str) -> Iterator[dict[str, str]] | None:
    """Return the params of each trial's run, read one by one, or None if the file can't be read.

    1,000 runs take 20 ms.
    """
    rows = _rows(file, PARAMS, int(experiment_id))
    if rows is None:
        return None
    return ({intern(key): intern(value) for _, key, value in run} for _, run in groupby(rows, itemgetter(0)))


FINISHED = ", ".join(f"'{status}'" for status in DONE)
SUMMARIES = f"""
SELECT name, sum(kind = '{TRIAL}'), sum(kind = '{TRIAL}' AND done),
  sum(kind = '{TRIAL}' AND pruned AND NOT done), sum(kind = '{MAP}' AND whole),
  sum(kind = '{RANGE_TEST}' AND whole), max(last), group_concat(DISTINCT data)
FROM (
  SELECT experiments.experiment_id, experiments.name, own.key AS kind,
    max(coalesce(status.value, '') IN ({FINISHED})) AS done,
    max(coalesce(status.value, '') = '{PRUNED}') AS pruned,
    max(runs.status = 'FINISHED') AS whole,
    max(coalesce(runs.end_time, runs.start_time)) AS last, max(data.value) AS data
  FROM experiments JOIN runs ON runs.experiment_id = experiments.experiment_id
  JOIN tags AS own ON own.run_uuid = runs.run_uuid AND own.key IN ('{TRIAL}', '{MAP}', '{RANGE_TEST}')
  LEFT JOIN tags AS status ON status.run_uuid = runs.run_uuid AND status.key = '{STATUS}'
  LEFT JOIN params AS data ON data.run_uuid = runs.run_uuid AND data.key = 'data'
  WHERE experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
  GROUP BY experiments.experiment_id, own.key, own.value
)
WHERE kind = '{TRIAL}' OR whole
GROUP BY experiment_id
"""
"""The inner query has a row for each trial, map and range test, since each may have several runs."""


def summaries(file: Path) -> list[tuple[str, int, int, int, int, int, int, str]] | None:
    """Return the fields of an ``ExperimentSummary`` (in ``reader``) for each experiment of a store."""
    try:
        with opened(file) as store:
            rows = store.execute(SUMMARIES).fetchall()
    except sqlite3.Error:
        return None
    return [(*row[:-1], row[-1] or "") for row in rows]


OURS = f"run_uuid IN (SELECT run_uuid FROM tags WHERE key IN ('{TRIAL}', '{REPORTED}'))"
ARTIFACTS = {
    "experiments": (
        "artifact_location",
        f"experiment_id IN (SELECT experiment_id FROM runs WHERE {OURS} "
        "UNION SELECT experiment_id FROM experiment_tags WHERE key LIKE 'fnnexp.%')",
    ),
    "runs": ("artifact_uri", OURS),
}
"""The tables with addresses of files: the column of the address, and the condition for fnnexp's rows."""


def move_artifacts(file: Path, new_address: Mapping[str, Callable[[str], str | None]]) -> list[str]:
    """Change the addresses of fnnexp's files in a store, all or none, and return the old addresses.

    `new_address` has a function for every table of :data:`ARTIFACTS`, from an old address to its new address,
    or to None to keep the old. A store that is missing or can't be written stays unchanged.
    """
    moved: list[str] = []
    try:
        with opened(file, mode="rw") as store, store:
            for table, (column, condition) in ARTIFACTS.items():
                rows = store.execute(f"SELECT rowid, {column} FROM {table} WHERE {condition}").fetchall()
                addresses = [(new_address[table](old or ""), row, old) for row, old in rows]
                changes = [(new, row, old) for new, row, old in addresses if new is not None]
                update = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"
                store.executemany(update, [(new, row) for new, row, _ in changes])
                moved += [old for _, _, old in changes]
    except sqlite3.Error:
        return []
    return moved


# Runs, written many at a time


def changed() -> str | None:
    """Return a message if MLflow's tables are not those that :class:`SqlRuns` can write, else None.

    Examples
    --------
    A later MLflow might give: MLflow 9.0: table `tags` has columns key, run_uuid, type, value;
    fnnexp.tracking.sql writes key, run_uuid, value; MLflow's client writes the runs until fnnexp is adapted
    """
    import mlflow

    fallback = "MLflow's client writes the runs until fnnexp is adapted"
    try:
        actual = {name: set(table.columns.keys()) for name, table in _tables().items()}
    except (ImportError, AttributeError) as error:
        return f"MLflow {mlflow.__version__}: {error}; fnnexp.tracking.sql needs it; {fallback}"
    for name, expected in (*WRITTEN.items(), ("runs", COPIED)):
        if expected - actual[name] if name == "runs" else expected ^ actual[name]:
            return (
                f"MLflow {mlflow.__version__}: table `{name}` has columns {', '.join(sorted(actual[name]))}; "
                f"fnnexp.tracking.sql writes {', '.join(sorted(expected))}; {fallback}"
            )
    return None


def _tables() -> dict[str, Table]:
    """Return MLflow's tables of runs by name, as MLflow declares them."""
    from mlflow.store.tracking.dbmodels import models

    classes = (models.SqlRun, models.SqlTag, models.SqlParam, models.SqlMetric, models.SqlLatestMetric)
    return {model.__tablename__: model.__table__ for model in classes}


@dataclass
class Batch:
    """Metrics, tags, params and statuses of some runs, to be written completely or not at all."""

    runs: list[Row] = field(default_factory=list)
    params: list[Row] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    ends: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(
        self,
        run_id: str,
        *,
        curve: Iterable[tuple[int, Mapping[str, float]]] = (),
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        end: str | None = None,
    ) -> None:
        """Add a run's metrics by epoch (finite values only), tags, params, and final status."""
        now = int(time.time() * 1000)
        for epoch, values in curve:
            for key, value in values.items():
                if math.isfinite(value):
                    point = {"key": key, "value": float(value), "timestamp": now, "step": epoch}
                    self.metrics.append({"run_uuid": run_id, **point, "is_nan": False})
        for key, text in (tags or {}).items():
            self.tags[run_id, key] = text
        self.params += [
            {"run_uuid": run_id, "key": key, "value": text} for key, text in (params or {}).items()
        ]
        if end is not None:
            self.ends[run_id] = end, now


ACTIVE_RUNS = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN ({runs})"
ACTIVE_EXPERIMENT = "SELECT 1 FROM experiments WHERE lifecycle_stage = 'active' AND experiment_id = ?"


class SqlRuns:
    """Writes many runs of one experiment to a SQLite store at once, which is faster than MLflow's client.

    MLflow creates the first run of a sweep. The row and MLflow's tags of this run are copied for the
    other runs, so that these have the form of this MLflow version. If writing fails, nothing is written,
    and the exception is that of MLflow's client.
    """

    def __init__(
        self, session: Callable[[], AbstractContextManager[Session]], tables: Mapping[str, Table]
    ) -> None:
        self._session, self._tables = session, tables
        self._example: tuple[Row, dict[str, str]] | None = None
        self._last_start = 0

    @classmethod
    def of(cls, client: MlflowClient) -> SqlRuns | None:
        """Return a writer for a client's store; None if it is no SQLite store with the expected tables."""
        try:
            store = client._tracking_client.store
            session = store.ManagedSessionMaker
            if store.db_type != "sqlite" or changed():
                return None
            writing = {"read_only": False} if "read_only" in signature(session).parameters else {}
        except AttributeError:  # a server's store has no session
            return None
        return cls(partial(session, **writing), _tables())

    @property
    def has_example(self) -> bool:
        """Whether a run has been named by :meth:`follow`, from which new runs are copied."""
        return self._example is not None

    def follow(self, run_id: str, own_tags: Iterable[str]) -> None:
        """Use a run that MLflow has just created as the example for new runs, without its `own_tags`."""
        from sqlalchemy import select

        runs, tags = self._tables["runs"], self._tables["tags"]
        with self._session() as session:
            row = session.execute(select(runs).where(runs.c.run_uuid == run_id)).mappings().one()
            pairs = session.execute(select(tags.c.key, tags.c.value).where(tags.c.run_uuid == run_id)).all()
        self._last_start = row["start_time"]
        self._example = dict(row), {key: value for key, value in pairs if key not in set(own_tags)}

    def begin(self, batch: Batch, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        """Add a new run to a batch, a copy of the example; return its id and the address of its artifacts."""
        assert self._example
        row, mlflow_tags = self._example
        run_id = _new_id()
        artifact_uri = row["artifact_uri"].replace(row["run_uuid"], run_id)
        batch.runs.append({**row, "run_uuid": run_id, "name": name, "artifact_uri": artifact_uri})
        copied = {key: name if value == row["name"] else value for key, value in mlflow_tags.items()}
        batch.add(run_id, tags={**copied, **tags})
        return run_id, artifact_uri

    def write(self, batch: Batch) -> set[str]:
        """Write a batch in one transaction. Nothing is written to runs that were deleted; return these runs.

        Every new run gets a different start time, in milliseconds, which keeps the order of the runs.
        """
        first = max(self._last_start + 1, int(time.time() * 1000) - len(batch.runs))
        for start, row in enumerate(batch.runs, first):
            row["start_time"] = self._last_start = start
        with self._session() as session:
            connection = session.connection()
            deleted = self._deleted(connection, batch)
            for statement, rows in self._statements(batch, deleted):
                if rows:
                    connection.exec_driver_sql(statement, rows)
        return deleted

    def _deleted(self, connection: Connection, batch: Batch) -> set[str]:
        """Return the runs of a batch that were deleted, or marked as deleted.

        New runs count as deleted if their experiment was deleted.
        """
        new = {row["run_uuid"] for row in batch.runs}
        written = {row["run_uuid"] for row in (*batch.params, *batch.metrics)} | batch.ends.keys()
        earlier = (written | {of for of, _ in batch.tags}) - new
        deleted: set[str] = set()
        for part in _parts(sorted(earlier), RUNS_A_QUERY):
            query = ACTIVE_RUNS.format(runs=",".join("?" * len(part)))
            deleted |= {run_id for (run_id,) in connection.exec_driver_sql(query, tuple(part))}
        experiments = {row["experiment_id"] for row in batch.runs}
        if any(not connection.exec_driver_sql(ACTIVE_EXPERIMENT, (each,)).all() for each in experiments):
            return (earlier - deleted) | new
        return earlier - deleted

    def _statements(self, batch: Batch, deleted: Container[str]) -> Iterator[tuple[str, list[Values]]]:
        """Yield the SQL statements that write a batch, with their rows. Tags and last values are replaced."""
        last = {(row["run_uuid"], row["key"]): row for row in batch.metrics}  # later epochs replace earlier
        tags = [{"run_uuid": of, "key": key, "value": value} for (of, key), value in batch.tags.items()]
        for verb, table, rows in (
            ("INSERT", "runs", batch.runs),
            ("INSERT", "params", batch.params),
            ("INSERT", "metrics", batch.metrics),
            ("INSERT OR REPLACE", "latest_metrics", [*last.values()]),
            ("INSERT OR REPLACE", "tags", tags),
        ):
            for columns, same in groupby(rows, tuple):
                names, marks = ", ".join(columns), ", ".join("?" * len(columns))
                kept = [tuple(row.values()) for row in same if row["run_uuid"] not in deleted]
                yield f"{verb} INTO {table} ({names}) VALUES ({marks})", kept
        yield (
            "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?",
            [
                (status, max(when, self._last_start), of)
                for of, (status, when) in batch.ends.items()
                if of not in deleted
            ],
        )


def _new_id() -> str:
    """Return a new run's id: a UUID of version 7 (RFC 9562), which begins with the time.

    MLflow's own ids are random. In a store of many runs, each row of a random id goes to another page of an
    index, and SQLite would write hundreds of pages for a run.
    """
    random = uuid.uuid4().int & ~(0xFFFF_FFFF_FFFF << 80 | 0xF << 76)
    return f"{random | int(time.time() * 1000) << 80 | 7 << 76:032x}"


# Runs, copied from one file to another


def artifact_addresses(file: Path, run_ids: Sequence[str]) -> dict[str, str]:
    """Return the address of the files of each of these runs, by run id."""
    addresses: dict[str, str] = {}
    with opened(file) as store:
        for part in _parts(run_ids, RUNS_A_QUERY):
            marks = ",".join("?" * len(part))
            query = f"SELECT run_uuid, artifact_uri FROM runs WHERE run_uuid IN ({marks})"
            addresses |= dict(store.execute(query, part).fetchall())
    return addresses


def last_points(file: Path, run_id: str) -> dict[tuple[str, int], float | None]:
    """Return a run's metrics by key and epoch; of several values of an epoch, the last counts."""
    query = (
        "SELECT key, step, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics WHERE run_uuid = ? "
        "ORDER BY timestamp, value"
    )
    with opened(file) as store:
        return {(key, step): value for key, step, value in store.execute(query, (run_id,))}


def copy_runs(source: Path, target: Path, addresses: Mapping[str, str], experiment_id: str) -> None:
    """Copy runs with their tags, params and metrics into an experiment of another store, all or none.

    Parameters
    ----------
    source, target
        The files. Both have the tables of this MLflow version.
    addresses
        The address of the files of each run in the target.
    experiment_id
        The experiment in the target.
    """
    with opened(target, mode="rw", timeout=60) as store:
        store.execute("ATTACH ? AS source", (f"{source.as_uri()}?mode=ro",))
        with store:
            for part in _parts(list(addresses), RUNS_A_QUERY):
                marks = ",".join("?" * len(part))
                for table in ("runs", *WRITTEN):
                    names = [row[1] for row in store.execute(f"PRAGMA main.table_info({table})")]
                    known = {row[1] for row in store.execute(f"PRAGMA source.table_info({table})")}
                    columns = ", ".join(name for name in names if name in known)
                    store.execute(
                        f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table} "
                        f"WHERE run_uuid IN ({marks})",
                        part,
                    )
            store.executemany(
                "UPDATE main.runs SET experiment_id = ?, artifact_uri = ? WHERE run_uuid = ?",
                [(int(experiment_id), address, run_id) for run_id, address in addresses.items()],
            )


# Runs and curves, read many at a time

RUNS_A_QUERY = 500
"""The largest number of runs in one query."""

RUNS_A_REQUEST, POINTS_A_REQUEST = 100, 25_000
"""A server's limits for one request ``get-history-bulk``."""

HEADS = f"""
SELECT runs.rowid, runs.run_uuid, coalesce(nullif(runs.name, ''), name.value), runs.status, runs.start_time,
  runs.end_time
FROM runs JOIN tags AS trial ON trial.run_uuid = runs.run_uuid AND trial.key = '{TRIAL}'
LEFT JOIN tags AS name ON name.run_uuid = runs.run_uuid AND name.key = 'mlflow.runName'
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active'
"""

# The plus sign keeps SQLite from using the index by key, which has the rows of every run in the store.
VALUES = """
SELECT runs.rowid, pairs.key, {value} FROM runs CROSS JOIN {table} AS pairs ON pairs.run_uuid = runs.run_uuid
WHERE runs.experiment_id = ? AND runs.lifecycle_stage = 'active' AND +pairs.key GLOB '{keys}'
"""

POINTS = """
SELECT run_uuid, key, step, timestamp, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics
WHERE run_uuid IN ({runs}) AND +key IN ({metrics})
"""


class Columns:
    """Values of runs, such as params: for each key a list with the value of every run, None if it has none.

    Equal texts are kept once, since most params and tags have few values.
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._texts: dict[str, str] = {}

    def add(self, row: int, key: str, value: Any) -> None:
        """Set a key's value for the run with the number `row`."""
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = []
        if len(column) <= row:
            column.extend([None] * (row + 1 - len(column)))
        column[row] = self._texts.setdefault(value, value) if isinstance(value, str) else value

    def take(self, rows: Sequence[int]) -> dict[str, list[Any]]:
        """Return the lists with only the runs of these numbers, in this order."""
        whole = 1 + max(rows, default=-1)
        taken = {}
        for key, column in self._columns.items():
            column.extend([None] * (whole - len(column)))
            taken[key] = [column[row] for row in rows]
        return taken


@dataclass
class RunTable:
    """The runs of the trials of an experiment as columns, that is, as lists with a value for every run.

    Attributes
    ----------
    heads
        The run's id, its name, MLflow's status, and its start and end in milliseconds since 1970.
    tags, params, metrics
        The values by key. Metrics are the last values.
    """

    heads: list[tuple[str, str | None, str, int, int | None]] = field(default_factory=list)
    tags: Columns = field(default_factory=Columns)
    params: Columns = field(default_factory=Columns)
    metrics: Columns = field(default_factory=Columns)


def run_table(file: Path, experiment_id: str) -> RunTable | None:
    """Return the runs of the trials of an experiment, or None if the file can't be read.

    The tags are those of fnnexp. 100,000 runs take seconds; MLflow, which builds whole runs, takes a
    minute and a half.
    """
    table = RunTable()
    parts = (
        (table.tags, "tags", "pairs.value", "fnnexp.*", None),
        (table.params, "params", "pairs.value", "*", None),
        (
            table.metrics,
            "latest_metrics",
            "CASE WHEN pairs.is_nan THEN NULL ELSE pairs.value END",
            "*",
            math.nan,
        ),
    )
    try:
        with opened(file) as store:
            row_of = {}
            for row, (rowid, *head) in enumerate(store.execute(HEADS, (int(experiment_id),))):
                row_of[rowid] = row
                table.heads.append(tuple(head))
            for columns, name, value, keys, missing in parts:
                query = VALUES.format(table=name, value=value, keys=keys)
                for rowid, key, text in store.execute(query, (int(experiment_id),)):
                    if (of := row_of.get(rowid)) is not None:
                        columns.add(of, key, missing if text is None else text)
    except sqlite3.Error:
        return None
    return table


def points(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[Point]:
    """Return every recorded point of a metric of some runs, by the fastest way that the store supports."""
    from mlflow.exceptions import MlflowException

    for read in (points_of_database, points_of_server):
        try:
            return read(client, run_ids, metric)
        except (AttributeError, TypeError, ValueError, KeyError, MlflowException):
            continue
    return points_by_client(client, run_ids, metric)


def points_of_file(file: Path, run_ids: Sequence[str], metrics: Sequence[str]) -> list[Point] | None:
    """Return the points of several metrics of some runs from a SQLite file; None if it can't be read."""
    points: list[Point] = []
    try:
        with opened(file) as store:
            for part in _parts(run_ids, RUNS_A_QUERY):
                marks = {"runs": ",".join("?" * len(part)), "metrics": ",".join("?" * len(metrics))}
                points += store.execute(POINTS.format(**marks), (*part, *metrics)).fetchall()
    except sqlite3.Error:
        return None
    return points


def points_of_database(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[Point]:
    """Return the points of a metric of some runs from a database, by the call that MLflow's server uses."""
    read = client._tracking_client.store.get_metric_history_bulk
    return [
        (point.run_id, metric, point.step, point.timestamp, point.value)
        for part in _parts(run_ids, RUNS_A_QUERY)
        for point in read(part, metric, max_results=2**31 - 1)
    ]


def points_of_server(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[Point]:
    """Return the points of a metric of some runs from a server, by the request that MLflow's UI uses.

    If an answer is full, it may lack points, so the request is split.
    """
    from mlflow.utils.rest_utils import http_request_safe

    host = client._tracking_client.store.get_host_creds()
    history: list[Point] = []
    for part in _parts(run_ids, RUNS_A_REQUEST):
        answer = http_request_safe(  # type: ignore[no-untyped-call]
            host,
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
            "GET",
            params={"run_id": part, "metric_key": metric, "max_results": POINTS_A_REQUEST},
        ).json()["metrics"]
        if len(answer) < POINTS_A_REQUEST:
            history += [
                (p["run_id"], metric, int(p["step"]), int(p["timestamp"]), p["value"]) for p in answer
            ]
        elif len(part) == 1:
            history += points_by_client(client, part, metric)
        else:
            half = len(part) // 2
            history += points_of_server(client, part[:half], metric)
            history += points_of_server(client, part[half:], metric)
    return history


def points_by_client(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[Point]:
    """Return the points of a metric of some runs by MLflow's public call, run by run."""
    return [
        (run_id, metric, point.step, point.timestamp, point.value)
        for run_id in run_ids
        for point in client.get_metric_history(run_id, metric)
    ]


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])
