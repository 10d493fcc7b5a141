"""The tags that record where a run was made: versions, git commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from fnnexp.errors import plural

LIBRARIES = ("numpy", "scipy", "mlflow", "hydra-core", "joblib", "pandas")


@cache
def environment() -> dict[str, str]:
    """Return the tags that say where a run is computed: versions of libraries, the machine, the git commit.

    They are the same for every run of this process.
    """
    tags = {"fnnexp.python": platform.python_version()}
    for library in ("fnnexp", *LIBRARIES):
        try:
            tags["fnnexp.version" if library == "fnnexp" else f"fnnexp.{library}"] = version(library)
        except PackageNotFoundError:  # a run from sources that are not installed
            continue
    tags["fnnexp.machine"] = (
        f"{platform.node()} ({platform.system()} {platform.machine()}, {plural(os.cpu_count() or 1, 'core')})"
    )
    commit = _git("rev-parse", "HEAD")
    if commit:
        dirty = _git("status", "--porcelain", "--untracked-files=no")
        tags["fnnexp.git_commit"] = tags["mlflow.source.git.commit"] = commit
        tags["fnnexp.git_dirty"] = str(bool(dirty)).lower()
    tags["mlflow.source.name"] = "fnnexp"
    tags["mlflow.source.type"] = "LOCAL"
    return tags


def _git(*words: str) -> str | None:
    """Return the output of a git command in the working directory, or None if git fails."""
    try:
        completed = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.strip()
