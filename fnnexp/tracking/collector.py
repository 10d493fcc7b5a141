"""Python's cycle collector, kept from looking again and again through what lives on anyway.

Each of its full passes walks every object there is, and MLflow, Hydra and a thousand runs are a million.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Keep the collector out of a block that makes many objects that live on.

    It takes a quarter of the time in which MLflow is imported, and half of that in which 1,000 runs are read.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def past_start_up() -> None:
    """Collect from here on, and never look through what is there now: for a process that is all ours."""
    gc.freeze()
    gc.enable()
