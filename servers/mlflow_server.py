"""MLflow's server on loopback, over a database, with its artifacts in a folder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from servers.processes import HOST, free_port, stop_group, wait_for


class MlflowServer:
    """A server that can be stopped and started again; what it holds is in the database and the folder."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://{HOST}:{self.port}"
        self._database, self._folder = database, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = self._folder / "mlflow.log"
        words = ("server", "--host", HOST, "--port", str(self.port), "--workers", "1")
        artifacts = ("--artifacts-destination", str(self._folder / "artifacts"))
        environment = {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": self._database,  # not on the command line: it holds the password
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, *artifacts],
                env=environment,
                cwd=self._folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait_for(self._healthy, self._process, str(log))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once, whatever it is at."""
        if self._process is not None:
            stop_group(self._process)

    def _healthy(self) -> bool:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer,
        ):
            return bool(answer.status == 200)
        return False
