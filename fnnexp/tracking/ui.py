"""Run MLflow's UI on the store of the sweeps. By default only this machine can reach it."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys

from fnnexp.errors import FnnexpError, printable
from fnnexp.tracking import schema, sql
from fnnexp.tracking.artifacts import correct_addresses
from fnnexp.tracking.retry import shown
from fnnexp.tracking.saved_views import link
from fnnexp.tracking.store import (
    address_or_default,
    asked_first,
    full_address,
    has_store,
    no_sweep,
    on_stderr,
    refuse_unreadable,
    store_file,
)

HOST = "127.0.0.1"

MOST_LATEST = 5
"""The number of experiments to which links are printed, the latest first."""

PATIENCE = 10
"""Seconds within which the server must stop before it is killed."""


def serve(port: int, uri: str | None, host: str = HOST) -> int:
    """Run MLflow's UI until it is stopped, and return the exit status of its server.

    Print a warning if other machines can reach the UI.

    Raises
    ------
    FnnexpError
        If there is nothing to show, or the host or port can't be used.
    """
    backend = full_address(address_or_default(uri))
    if backend.startswith(("http://", "https://")):
        raise FnnexpError(f"the store is a server already: open {shown(backend)}")
    if not has_store(uri):
        raise FnnexpError(no_sweep(uri, f"here: there is no MLflow store at {store_file(backend)}"))
    refuse_unreadable(uri)
    file = store_file(backend)
    if not 0 < port < 65536:
        raise FnnexpError(f"--port {port}: must be 1 to 65535; write --port 5000")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise FnnexpError(f"--host {host}: not an address of this machine ({error}); omit --host") from error
    with socket.socket(family) as probe:
        probe.settimeout(5)
        if probe.connect_ex(address) == 0:
            raise FnnexpError(f"port {port} is taken; write --port {port + 1}")
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        print(
            f"fnnexp: warning: with --host {host} the UI is open to the network. MLflow asks for no login: "
            "anyone who reaches this port can read, change and delete every run. Omit --host to keep the UI "
            "on this machine.",
            file=sys.stderr,
            flush=True,
        )
    if file is not None:
        with asked_first(uri):
            schema.ready(file, on_stderr)  # otherwise MLflow's server upgrades the store in place
    if line := correct_addresses(backend):
        on_stderr(line)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port), "--workers", "1"]
    # If the SQLite file does not exist, give MLflow no address: it may then open a folder mlruns of MLflow 2.
    if file is None or file.exists():
        command += ["--backend-store-uri", backend]
    server_at = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"MLflow's UI: {server_at} (Ctrl-C stops it)", flush=True)
    for experiment_id, name in sql.latest_experiments(file, MOST_LATEST) if file else ():
        print(f"  {printable(name)}: {link(experiment_id, server=server_at)}", flush=True)
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # otherwise the page sends usage data to MLflow's developers
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # fnnexp gives MLflow's server no jobs to execute
    }
    server = subprocess.Popen(command, env=environment)
    # A shell starts background commands with Ctrl-C ignored, so set the handler explicitly.
    signals = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        return server.wait()
    except KeyboardInterrupt:  # in a terminal the server receives Ctrl-C too
        _stop(server)
        return 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Terminate the UI's server, repeatedly: it may miss a signal while it starts its own processes."""
    for _ in range(PATIENCE):
        server.terminate()
        try:
            server.wait(1)
        except subprocess.TimeoutExpired:
            continue
        return
    server.kill()
    server.wait()
