"""A run's files in MLflow, written and read: ``config.yaml``, ``weights.npz``, a report.

A store records where the files of each run are. Who made the store is not always who reads it, so what it
says of this machine's disk passes :func:`local`, and nothing is read or written outside the store's folder.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import url2pathname

import numpy as np
import yaml
from numpy.typing import NDArray

from fnnexp.errors import FnnexpError
from fnnexp.tracking import sql, store
from fnnexp.tracking.retry import mlflow_settings, shown
from fnnexp.tracking.store import MLRUNS

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

_YAML = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


# Where they are


def local(address: str, uri: str) -> Path | None:
    """Return the folder on this machine that an address in a store means, or None for one elsewhere.

    An address is that of an experiment's artifacts, or of a run's. A SQLite store that was moved or copied
    has those of its old folder: what was in ``mlruns`` there is in the ``mlruns`` beside the store.

    Raises
    ------
    FnnexpError
        When it is outside the store's folder (:func:`fnnexp.tracking.store.root`). That its ``mlruns`` is a
        link to another disk is the owner's choice.
    """
    if address.lower().startswith(("runs:", "models:")):
        raise FnnexpError(f"MLflow's store {shown(uri)} has this experiment's files in {address}, another's")
    path = _path(address)
    if path is None:
        return None
    folder = store.root(uri)
    if not _is_within(path, folder) and store.store_file(uri) and (moved := _beside(path, folder)):
        path = moved
    if not _is_within(path, folder):
        other = (
            f"write tracking.experiment=NAME for an experiment that has them in {folder / MLRUNS}"
            if store.store_file(uri)
            else "let the server keep them (mlflow server --artifacts-destination FOLDER)"
        )
        raise FnnexpError(
            f"MLflow's store {shown(uri)} has this experiment's files in {path}, and a store does not choose "
            f"where outside {folder} is read or written; {other}, or make {folder / MLRUNS} a link to the "
            "folder that is to have them"
        )
    return path


def repository(run_id: str, address: str, uri: str) -> ArtifactRepository:
    """Return MLflow's access to the files of a run, whose address a store has recorded.

    Raises
    ------
    FnnexpError
        When they would be outside the store's folder, or where no run has its files.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    path = local(address, uri)
    if path is not None and path.parts[-2:] != (run_id, "artifacts"):
        raise FnnexpError(
            f"MLflow's store {shown(uri)} says that the files of the run {run_id} are in {path}; a run has "
            f"them in {run_id}/artifacts"
        )
    return get_artifact_repository(address if path is None else path.as_uri(), tracking_uri=uri)


def elsewhere(experiment: str, address: str, uri: str) -> str | None:
    """Return a line that says where files go that are not beside their SQLite store; None where they are.

    Raises
    ------
    FnnexpError
        When they would be where no file is written, as :func:`local`.
    """
    path, folder = local(address, uri), store.root(uri).resolve()
    if store.store_file(uri) is None or (path and path.resolve().is_relative_to(folder)):
        return None
    place = path.resolve() if path else shown(address)
    return f"the files of '{experiment}' go to {place}, not beside its store"


def settle(uri: str) -> str | None:
    """Have a SQLite store that was moved or copied record that its files are beside it; return a line on it.

    Runs whose files were left behind keep their addresses.
    """
    file = store.store_file(uri)
    if file is None:
        return None
    now = partial(_now, folder=file.parent)
    moved = sql.move_artifacts(file, {"experiments": now, "runs": partial(now, if_there=True)})
    if not moved:
        return None
    return (
        f"this store was moved or copied: its files were at {_path(moved[0])}; what came with it, and what "
        f"is new, is in {file.parent / MLRUNS}"
    )


def _now(address: str, folder: Path, *, if_there: bool = False) -> str | None:
    """Return the address in a store's folder of what has one in the folder it was moved from; None if none.

    With `if_there` files that are in the old folder alone keep theirs.
    """
    if address.startswith((f"{folder.as_uri()}/", f"{folder.as_posix()}/")):
        return None  # the usual case, without a look at the disk
    old = _path(address)
    if old is None or _is_within(old, folder) or not (new := _beside(old, folder)):
        return None
    return None if if_there and old.exists() and not new.exists() else new.as_uri()


def _path(address: str) -> Path | None:
    """Return the path that MLflow takes a local address for; None for an address elsewhere.

    >>> _path("file:///a%20b/mlruns").as_posix(), _path("/a/mlruns").as_posix(), _path("s3://a/mlruns")
    ('/a b/mlruns', '/a/mlruns', None)
    """
    scheme = re.match(r"([A-Za-z][\w+.-]+):", address)  # a single letter is a drive
    if scheme is None:
        return Path(url2pathname(address))
    if scheme[1].lower() != "file":
        return None
    path = address.partition(":")[2]
    return Path(url2pathname(path if os.name == "nt" else re.sub("^//[^/]*", "", path)))


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, or where that folder's ``mlruns`` leads; links are followed."""
    return any(path.resolve().is_relative_to(each.resolve()) for each in (folder, folder / MLRUNS))


def _beside(path: Path, folder: Path) -> Path | None:
    """Return a path in any ``mlruns`` in this folder's; None if it is in none."""
    _, found, below = f"/{path.as_posix()}".rpartition(f"/{MLRUNS}/")
    return folder / MLRUNS / below if found else None


# What they hold


def write(files: ArtifactRepository, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> None:
    """Write a trial's resolved config and its trained weights among the files of its run.

    On this machine they are renamed to where they stay: MLflow would copy them, and a link that stands there
    already would be followed.
    """
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    here = Path(files.artifact_dir) if isinstance(files, LocalArtifactRepository) else None
    if here is not None:
        here.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=here) as name:
        text = yaml.dump(dict(config), Dumper=_YAML, sort_keys=False)
        Path(name, "config.yaml").write_text(text, encoding="utf-8")
        np.savez(Path(name, "weights.npz"), **weights)  # type: ignore[arg-type]
        if here is None:
            files.log_artifacts(name)  # type: ignore[no-untyped-call]
            return
        for file in Path(name).iterdir():
            file.replace(here / file.name)


def write_text(files: ArtifactRepository, name: str, text: str) -> None:
    """Write a text among the files of a run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_text(text, encoding="utf-8")
        files.log_artifact(str(file))  # type: ignore[no-untyped-call]


def read(run_id: str, name: str, uri: str | None, *, most: int) -> bytes:
    """Return the content of one of a run's artifacts, of at most so many bytes.

    Raises
    ------
    FnnexpError
        When there is none, it is larger, or the store does not give it.
    """
    try:
        with mlflow_settings(), tempfile.TemporaryDirectory() as folder:
            client = store.client(uri)
            run = store.ask(client, client.get_run, run_id)
            files = repository(run_id, str(run.info.artifact_uri), store.address_of(uri))
            listed = store.ask(client, files.list_artifacts, None)
            sizes = {file.path: file.file_size or 0 for file in listed if not file.is_dir}
            if name not in sizes:
                raise FnnexpError(
                    f"its run in MLflow has no artifact {name} (looked for in {files.artifact_uri})"
                )
            content = b""
            if sizes[name] <= most:
                store.ask(client, files.download_artifacts, name, folder)
                with Path(folder, name).open("rb") as stream:
                    content = stream.read(most + 1)
            if max(sizes[name], len(content)) > most:
                raise FnnexpError(f"its artifact {name} is larger than the {most:,} bytes that it can have")
            return content
    except FnnexpError:
        raise
    except Exception as error:  # a store's own exceptions are many
        raise FnnexpError(f"MLflow does not give its artifact {name}: {error}") from error
