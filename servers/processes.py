"""What the servers share: a free port, a wait, and processes that end with whoever started them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

HOST = "127.0.0.1"
START = 90.0
"""Seconds in which a server answers."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: str) -> None:
    """Wait until a server answers.

    Raises
    ------
    RuntimeError
        With the end of its log, when it ended, or does not answer within :data:`START` seconds.
    """
    end = time.monotonic() + START
    while not answers():
        if process.poll() is not None or time.monotonic() > end:
            with open(log, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                raise RuntimeError(f"{process.args!r} does not answer:\n{file.read()[-4000:]}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether a port of loopback takes a connection."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def stop_group(process: subprocess.Popen[bytes], kind: int = signal.SIGTERM) -> None:
    """End a process and all of its group: first asked, then killed."""
    for sign in (kind, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
