"""Run ``fnnexp`` with a clock at each seam and write where the time went.

python -m benchmarks.profile_sweep OUT.json [what fnnexp is told]

The parent's parts are disjoint: a part that is met within another counts for itself alone. The workers' time
is what came back with the records (training), what else a segment took from handing out to taking in
(sending, waking up, loading), and what is left of all workers' wall time (idle).
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clock:
    """Seconds by part, of the main thread; and of segments, of all threads."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.segments: Counter[str] = Counter()
        self._open: list[list[Any]] = []
        self._lock = threading.Lock()

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted under a name."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            frame = [time.perf_counter(), 0.0]
            self._open.append(frame)
            try:
                return function(*args, **kwargs)
            finally:
                self._open.pop()
                spent = time.perf_counter() - frame[0]
                self.parts[name] += spent - frame[1]
                if self._open:
                    self._open[-1][1] += spent

        return timed

    def segment(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what runs a segment, with its round trip and its training counted."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            ended = function(*args, **kwargs)
            spent = time.perf_counter() - began
            with self._lock:
                self.segments["round trips"] += spent
                self.segments["training"] += sum(record.seconds for record in getattr(ended, "records", []))
                self.segments["count"] += 1
            return ended

        return timed


def main() -> int:
    out, sys.argv = sys.argv[1], ["fnnexp", *sys.argv[2:]]
    clock = Clock()
    import fnnexp.sweeping.loop as run
    from fnnexp import cli
    from fnnexp.config import compose, composition
    from fnnexp.sweeping.checkpoints import Checkpoints
    from fnnexp.sweeping.executor import Executor, worker_count
    from fnnexp.tracking.writer import Tracker

    composition.Composition.job = clock.part("compose", composition.Composition.job)  # type: ignore[method-assign]
    compose.trial = clock.part("compose", compose.trial)
    compose.datasets.prepare = clock.part("data", compose.datasets.prepare)
    Tracker.open = clock.part("open the store", Tracker.open)  # type: ignore[method-assign]
    for name in ("known", "begin", "resume", "describe", "log", "finish", "fail", "interrupt", "discard"):
        setattr(Tracker, name, clock.part("log to MLflow", getattr(Tracker, name)))
    for name in ("save", "load", "remove", "tidy"):
        setattr(Checkpoints, name, clock.part("checkpoints", getattr(Checkpoints, name)))
    run.plan = clock.part("plan", run.plan)
    Executor.result = clock.part("wait for workers", Executor.result)  # type: ignore[method-assign]
    Executor._train = clock.segment(Executor._train)  # type: ignore[method-assign]
    main_of_cli = clock.part("start Python, Hydra and the rest", cli.main)
    status = main_of_cli(sys.argv[1:])
    Path(out).write_text(
        json.dumps({"workers": worker_count(-1), "parts": clock.parts, "segments": clock.segments})
    )
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
