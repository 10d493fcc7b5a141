"""Run both servers until Ctrl-C, for `make postgres`."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from servers.mlflow_server import MlflowServer
from servers.postgres import NoPostgresError, Postgres


def main() -> int:
    """Start both servers, print how to use them, and stop them at Ctrl-C; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        postgres = Postgres()
    except NoPostgresError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="fnnexp-mlflow-") as folder:
            server = MlflowServer(postgres.uri, Path(folder))
            try:
                print(f"MLflow over PostgreSQL: {server.uri}\n")
                print(f"  fnnexp -cn demo tracking.uri={server.uri}")
                print(f"  fnnexp report demo --uri {server.uri}\n")
                print("Ctrl-C stops both servers and deletes their data.", flush=True)
                while True:
                    signal.pause()
            except KeyboardInterrupt:
                return 0
            finally:
                server.stop()
    except KeyboardInterrupt:
        return 0
    finally:
        postgres.stop()


if __name__ == "__main__":
    sys.exit(main())
