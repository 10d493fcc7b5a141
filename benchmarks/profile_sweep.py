"""Run ``fnnexp``, measure the time of each part of the sweep, and write the result to a file.

python -m benchmarks.profile_sweep OUT.json [arguments of fnnexp]

The parts of the parent process are disjoint: the time of a nested part does not count for the outer part. The
workers' time consists of the training time in the records; of the rest of each segment's round trip, for
sending, waking up and loading; and of idle time.
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
    """Seconds of each part in the main thread, and of segments in all threads."""

    def __init__(self) -> None:
        self.parts: Counter[str] = Counter()
        self.segments: Counter[str] = Counter()
        self._open: list[list[Any]] = []
        self._lock = threading.Lock()

    def part(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls ``function`` and adds its time to the part ``name``."""

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
        """Return a function that runs a segment and adds up the times of its round trip and training."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = function(*args, **kwargs)
            spent = time.perf_counter() - began
            with self._lock:
                self.segments["round trips"] += spent
                self.segments["training"] += sum(record.seconds for record in getattr(result, "records", []))
                self.segments["count"] += 1
            return result

        return timed


def main() -> int:
    out_file, sys.argv = sys.argv[1], ["fnnexp", *sys.argv[2:]]
    clock = Clock()
    import fnnexp.sweeping.loop as loop
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
    loop.plan = clock.part("plan", loop.plan)
    Executor.result = clock.part("wait for workers", Executor.result)  # type: ignore[method-assign]
    Executor._train = clock.segment(Executor._train)  # type: ignore[method-assign]
    main_of_cli = clock.part("start Python, Hydra and the rest", cli.main)
    status = main_of_cli(sys.argv[1:])
    Path(out_file).write_text(
        json.dumps({"workers": worker_count(-1), "parts": clock.parts, "segments": clock.segments})
    )
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
