"""Run an MLflow server on loopback, over a database, with its artifacts in a folder."""

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
    """An MLflow server that can be stopped and restarted. Its data is in the database and the folder."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://{HOST}:{self.port}"
        self._database, self._folder = database, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = self._folder / "mlflow.log"
        options = ("server", "--host", HOST, "--port", str(self.port), "--workers", "1")
        artifact_options = ("--artifacts-destination", str(self._folder / "artifacts"))
        environment = {
            **os.environ,
            # The URL contains the password, so it must not be on the command line.
            "MLFLOW_BACKEND_STORE_URI": self._database,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *options, *artifact_options],
                env=environment,
                cwd=self._folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait_for(self._is_healthy, self._process, str(log))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server at once, without waiting for requests."""
        if self._process is not None:
            stop_group(self._process)

    def _is_healthy(self) -> bool:
        with (
            contextlib.suppress(OSError, urllib.error.URLError),
            urllib.request.urlopen(f"{self.uri}/health", timeout=2) as response,
        ):
            return bool(response.status == 200)
        return False
