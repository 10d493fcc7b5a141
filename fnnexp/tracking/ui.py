"""MLflow's UI on the store that the sweeps write to; only this machine reaches it unless told otherwise."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys

from fnnexp.errors import FnnexpError, printable
from fnnexp.tracking import schema, sql
from fnnexp.tracking.artifacts import settle
from fnnexp.tracking.retry import shown
from fnnexp.tracking.saved_views import link
from fnnexp.tracking.store import (
    asked_first,
    given,
    has_store,
    on_stderr,
    plain,
    refuse_unreadable,
    store_file,
)

HOST = "127.0.0.1"

MOST_LATEST = 5
"""As many experiments are linked to, those that ran last."""

PATIENCE = 10
"""Seconds in which the server ends when it is asked to."""


def serve(port: int, uri: str | None, host: str = HOST) -> int:
    """Run the UI until it is stopped; return its exit status. Say so where others can reach it.

    Raises
    ------
    FnnexpError
        There is nothing to show, or no such host and port to show it at.
    """
    backend = plain(given(uri))
    if backend.startswith(("http://", "https://")):
        raise FnnexpError(f"the store is a server already: open {shown(backend)}")
    if not has_store(uri):
        raise FnnexpError(
            "no sweep has been recorded here; run one first (`fnnexp -cn card_grid`), go to its directory, "
            "or set MLFLOW_TRACKING_URI"
        )
    refuse_unreadable(uri)
    file = store_file(backend)
    if not 0 < port < 65536:
        raise FnnexpError(f"--port {port}: must be 1 to 65535; write --port 5000")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise FnnexpError(f"--host {host}: is no address of this machine ({error}); leave it out") from error
    with socket.socket(family) as probe:
        probe.settimeout(5)
        if probe.connect_ex(address) == 0:
            raise FnnexpError(f"port {port} is taken; write --port {port + 1}")
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        print(
            f"fnnexp: warning: with --host {host} the UI is open to the network. MLflow asks for no login: "
            "anyone who reaches this port may read, change and delete every run. Leave --host out to keep it "
            "to this machine.",
            file=sys.stderr,
            flush=True,
        )
    if file is not None:
        with asked_first(uri):
            schema.ready(file, on_stderr)  # MLflow's server would upgrade it in place
    if line := settle(backend):
        on_stderr(line)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    if file is None or file.exists():  # else MLflow finds what MLflow 2 left here
        command += ["--backend-store-uri", backend]
    server_at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"MLflow's UI: {server_at} (Ctrl-C stops it)", flush=True)
    for experiment_id, name in sql.latest_experiments(file, MOST_LATEST) if file else ():
        print(f"  {printable(name)}: {link(experiment_id, server=server_at)}", flush=True)
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # the page would report its use to MLflow's makers
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its queue has no work here
    }
    server = subprocess.Popen(command, env=environment)
    # Also where whoever started this ignores Ctrl-C, as a shell does for what it runs in the background.
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        return server.wait()
    except KeyboardInterrupt:  # in a terminal the server has had it too
        _end(server)
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and again: asked while it starts processes of its own, it may wait for ever."""
    for _ in range(PATIENCE):
        server.terminate()
        try:
            server.wait(1)
        except subprocess.TimeoutExpired:
            continue
        return
    server.kill()
    server.wait()
