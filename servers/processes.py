"""Helpers for the servers: find a free port, wait for an answer, and stop processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

HOST = "127.0.0.1"
START_SECONDS = 90.0
"""How many seconds to wait for the first answer of a server."""


def free_port() -> int:
    """Return an unused port on loopback."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(answers: Callable[[], bool], process: subprocess.Popen[bytes], log: str) -> None:
    """Wait until a server answers.

    Raises
    ------
    RuntimeError
        If the server exits or does not answer in time. The message includes the end of its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            with open(log, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                raise RuntimeError(f"{process.args!r} does not answer:\n{file.read()[-4000:]}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Return whether a server accepts connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def stop_group(process: subprocess.Popen[bytes], first_signal: int = signal.SIGTERM) -> None:
    """Stop a process and its process group, first with a signal that lets it clean up, then with SIGKILL."""
    for signal_number in (first_signal, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
