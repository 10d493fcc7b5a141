"""MLflow's UI on the store that the sweeps write to, reachable from this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from fnnexp.errors import FnnexpError
from fnnexp.tracking import has_store

HOST = "127.0.0.1"


def serve(port: int, uri: str | None) -> int:
    """Run the UI until it is stopped; return its exit status."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri and uri.startswith(("http://", "https://")):
        raise FnnexpError(f"the store is a server already: open {uri}")
    if not has_store(uri):
        raise FnnexpError(
            "no sweep has been recorded here; run one first (`fnnexp -cn card_grid`), go to its directory, "
            "or set MLFLOW_TRACKING_URI"
        )
    if not 0 < port < 65536:
        raise FnnexpError(f"--port {port}: must be 1 to 65535; write --port 5000")
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise FnnexpError(f"port {port} is taken; write --port {port + 1}")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    if uri:
        command += ["--backend-store-uri", uri]
    print(f"MLflow's UI: http://{HOST}:{port} (Ctrl-C stops it)", flush=True)
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # its queue has no work here
    server = subprocess.Popen(command, env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        return server.wait()
    except KeyboardInterrupt:  # in a terminal the server has had it too
        server.terminate()
        server.wait()
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
