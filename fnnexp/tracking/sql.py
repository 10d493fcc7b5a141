"""Many runs written to a SQLite store in one transaction, where MLflow's client takes seven for each.

The client needs 20 ms a run, nearly all of it Python's: it makes objects of every tag and param, and reads
the run again before each kind of thing it writes. Here the tables are MLflow's own, as it declares them, its
own session writes them, and a run looks as MLflow makes one, because the first of a sweep is made by MLflow
and the others are made like it. What a store of another kind or another version has is left to the client.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy import Table
    from sqlalchemy.orm import Session

Row = dict[str, Any]

PAIR = {"run_uuid", "key", "value"}
POINT = PAIR | {"timestamp", "step", "is_nan"}
COLUMNS = {"tags": PAIR, "params": PAIR, "metrics": POINT, "latest_metrics": POINT}
"""What these tables must have, and nothing else, to be written here."""


@dataclass
class Batch:
    """What is to be written of some runs: all of it, or nothing."""

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
        """Add metrics by epoch (what is not finite stays out), tags, params and the status it ends with."""
        now = int(time.time() * 1000)
        for epoch, values in curve:
            for key, value in values.items():
                if math.isfinite(value):
                    point = {"key": key, "value": float(value), "timestamp": now, "step": epoch}
                    self.metrics.append({"run_uuid": run_id, **point, "is_nan": False})
        for key, told in (tags or {}).items():
            self.tags[run_id, key] = told
        self.params += [
            {"run_uuid": run_id, "key": key, "value": told} for key, told in (params or {}).items()
        ]
        if end is not None:
            self.ends[run_id] = end, now


class SqlRuns:
    """The runs of one experiment in a SQLite store, written many at a time.

    Make it with :meth:`of`. What fails raises what MLflow's client would raise, and nothing is written.
    """

    def __init__(
        self, session: Callable[[], AbstractContextManager[Session]], tables: Mapping[str, Table]
    ) -> None:
        self._session, self._tables = session, tables
        self._like: tuple[Row, dict[str, str]] | None = None
        self._last_start = 0

    @classmethod
    def of(cls, client: MlflowClient) -> SqlRuns | None:
        """Return the runs of a client's store; None where it is no SQLite store, or one of another make."""
        try:
            from mlflow.store.tracking.dbmodels import models
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            store = client._tracking_client.store
            if not isinstance(store, SqlAlchemyStore) or store.db_type != "sqlite":
                return None
            kinds = (models.SqlRun, models.SqlTag, models.SqlParam, models.SqlMetric, models.SqlLatestMetric)
            tables = {kind.__tablename__: kind.__table__ for kind in kinds}
            if any(set(tables[name].columns.keys()) != columns for name, columns in COLUMNS.items()):
                return None
            session = store.ManagedSessionMaker
            writing = {"read_only": False} if "read_only" in signature(session).parameters else {}
        except (ImportError, AttributeError, KeyError):
            return None
        return cls(partial(session, **writing), tables)

    @property
    def has_example(self) -> bool:
        """Whether a run was seen that others can be made like."""
        return self._like is not None

    def follow(self, run_id: str, ours: Iterable[str]) -> None:
        """Take a new run that MLflow made as the example; `ours` are the tags that it was asked for."""
        from sqlalchemy import select

        runs, tags = self._tables["runs"], self._tables["tags"]
        with self._session() as session:
            row = session.execute(select(runs).where(runs.c.run_uuid == run_id)).mappings().one()
            pairs = session.execute(select(tags.c.key, tags.c.value).where(tags.c.run_uuid == run_id)).all()
        self._last_start = row["start_time"]
        self._like = dict(row), {key: value for key, value in pairs if key not in set(ours)}

    def begin(self, batch: Batch, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        """Add a new run like the example; return its id and the address of its artifacts."""
        assert self._like
        row, others = self._like
        run_id = uuid.uuid4().hex
        place = row["artifact_uri"].replace(row["run_uuid"], run_id)
        batch.runs.append({**row, "run_uuid": run_id, "name": name, "artifact_uri": place})
        named = {key: name if value == row["name"] else value for key, value in others.items()}
        batch.add(run_id, tags={**named, **tags})
        return run_id, place

    def write(self, batch: Batch) -> None:
        """Write a batch in one transaction. No two runs start in one millisecond: that keeps their order."""
        first = max(self._last_start + 1, int(time.time() * 1000) - len(batch.runs))
        for start, row in enumerate(batch.runs, first):
            row["start_time"] = self._last_start = start
        with self._session() as session:
            for table, statement, rows in self._statements(batch):
                if rows:
                    session.execute(statement(table), rows)

    def _statements(self, batch: Batch) -> Iterator[tuple[Table, Callable[[Table], Any], list[Row]]]:
        """Return what is to be executed, and with which rows. What was said before of the same gives way."""
        from sqlalchemy import bindparam, delete, insert, update

        def old(table: Table) -> Any:
            return delete(table).where(table.c.run_uuid == bindparam("of"), table.c.key == bindparam("named"))

        def ending(table: Table) -> Any:
            return update(table).where(table.c.run_uuid == bindparam("of"))

        last = {(row["run_uuid"], row["key"]): row for row in batch.metrics}  # the epochs come in order
        tags = [{"run_uuid": of, "key": key, "value": value} for (of, key), value in batch.tags.items()]
        ends = [
            {"of": of, "status": status, "end_time": max(when, self._last_start)}
            for of, (status, when) in batch.ends.items()
        ]
        new = {row["run_uuid"] for row in batch.runs}
        by_table = self._tables
        yield by_table["runs"], insert, batch.runs
        yield by_table["params"], insert, batch.params
        yield by_table["metrics"], insert, batch.metrics
        for name, rows in (("latest_metrics", list(last.values())), ("tags", tags)):
            again = [row for row in rows if row["run_uuid"] not in new]
            yield by_table[name], old, [{"of": row["run_uuid"], "named": row["key"]} for row in again]
            yield by_table[name], insert, rows
        yield by_table["runs"], ending, ends
