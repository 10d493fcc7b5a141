"""A run's files in MLflow, written and read: ``config.yaml``, the weights, a report.

A store records the address of each run's files. A store may come from someone else, so every address on this
machine's disk goes through :func:`local`, and nothing outside the store's folder is read or written.
"""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

WEIGHTS, BEST_WEIGHTS = "weights.npz", "weights_best.npz"
"""The files with the weights after the last epoch and, with early stopping, after the best epoch."""

HISTOGRAMS = "histograms.npz"
"""The file with the histograms of the layers: see :func:`fnnexp.nn.layer_stats.histogram_arrays`."""

MOST_TEXTS = 1000
"""Maximum number of parts of configs whose YAML is cached."""

_YAML = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


# The folder of a run's files


def local(address: str, uri: str) -> Path | None:
    """Return the folder on this machine at an artifact address, or None if it is on another machine.

    The address is that of an experiment or of a run. A SQLite store that was moved or copied still records
    addresses in its old folder. So a path below ``mlruns`` in the old folder is read as the same path below
    the ``mlruns`` beside the store.

    Raises
    ------
    FnnexpError
        If the folder is outside the store's folder (:func:`fnnexp.tracking.store.root`). But ``mlruns`` in
        the store's folder may be a link to another disk.
    """
    if address.lower().startswith(("runs:", "models:")):
        raise FnnexpError(
            f"MLflow's store {shown(uri)} has this experiment's files in {address}, "
            "which belongs to another run or model; write tracking.experiment=NAME for another experiment"
        )
    path = _path(address)
    if path is None:
        return None
    folder = store.root(uri)
    if _is_within(path, folder):
        return path
    if store.store_file(uri) and (moved := _beside(path, folder)):
        path = moved
    if not _is_within(path, folder):
        other = (
            f"write tracking.experiment=NAME for an experiment whose files are in {folder / MLRUNS}"
            if store.store_file(uri)
            else "let the server keep them (mlflow server --artifacts-destination FOLDER)"
        )
        raise FnnexpError(
            f"MLflow's store {shown(uri)} has this experiment's files in {path}; fnnexp reads and writes "
            f"only inside {folder}; {other}, or make {folder / MLRUNS} a link to the folder for the files"
        )
    return path


def repository(run_id: str, address: str, uri: str) -> ArtifactRepository:
    """Return MLflow's artifact repository of a run at the address that the store records.

    Raises
    ------
    FnnexpError
        If the address is outside the store's folder, or does not end in ``RUN_ID/artifacts``.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    path = _folder(run_id, address, uri)
    return get_artifact_repository(address if path is None else path.as_uri(), tracking_uri=uri)


def _folder(run_id: str, address: str, uri: str) -> Path | None:
    """Return the folder of a run's files on this machine; None if they are on another machine."""
    path = local(address, uri)
    if path is not None and path.parts[-2:] != (run_id, "artifacts"):
        raise FnnexpError(
            f"MLflow's store {shown(uri)} says that the files of the run {run_id} are in {path}; fnnexp "
            f"reads and writes them only in a folder {run_id}/artifacts"
        )
    return path


def location_note(experiment: str, address: str, uri: str) -> str | None:
    """Return a note on where an experiment's files go, or None if they go beside its SQLite store.

    Raises
    ------
    FnnexpError
        If the address is outside the store's folder: see :func:`local`.
    """
    path, folder = local(address, uri), store.root(uri).resolve()
    if store.store_file(uri) is None or (path and path.resolve().is_relative_to(folder)):
        return None
    target = path.resolve() if path else shown(address)
    return f"the files of '{experiment}' go to {target}, not beside its store"


def correct_addresses(uri: str) -> str | None:
    """Correct the file addresses in a SQLite store that was moved or copied, and return a note about it.

    The new addresses are beside the store. Runs whose files are only in the old folder keep their addresses.
    Return None if nothing changed.
    """
    file = store.store_file(uri)
    if file is None:
        return None
    new_address = partial(_new_address, folder=file.parent)
    moved = sql.move_artifacts(
        file, {"experiments": new_address, "runs": partial(new_address, keep_left_behind=True)}
    )
    if not moved:
        return None
    return (
        f"this store was moved or copied: its files were in {_path(moved[0])}; fnnexp now reads and writes "
        f"them in {file.parent / MLRUNS}, and still reads files that are only in the old folder"
    )


def _new_address(address: str, folder: Path, *, keep_left_behind: bool = False) -> str | None:
    """Return the address beside the moved store for an address in its old folder, or None to keep it.

    `folder` is the store's folder. With `keep_left_behind`, files that exist only in the old folder keep
    their address.
    """
    if address.startswith((f"{folder.as_uri()}/", f"{folder.as_posix()}/")):
        return None  # the usual case, which needs no access to the disk
    old = _path(address)
    if old is None or _is_within(old, folder) or not (new := _beside(old, folder)):
        return None
    return None if keep_left_behind and old.exists() and not new.exists() else new.as_uri()


def _path(address: str) -> Path | None:
    """Return the path that MLflow reads from a local address, or None for a remote address.

    >>> _path("file:///a%20b/mlruns").as_posix(), _path("/a/mlruns").as_posix(), _path("s3://a/mlruns")
    ('/a b/mlruns', '/a/mlruns', None)
    """
    scheme = re.match(r"([A-Za-z][\w+.-]+):", address)  # a single letter is a drive on Windows, not a scheme
    if scheme is None:
        return Path(url2pathname(address))
    if scheme[1].lower() != "file":
        return None
    path = address.partition(":")[2]
    return Path(url2pathname(path if os.name == "nt" else re.sub("^//[^/]*", "", path)))


def _is_within(path: Path, folder: Path) -> bool:
    """Return whether a path is in a folder or in the target of the folder's ``mlruns``, following links."""
    path = path.resolve()
    return any(path.is_relative_to(root.resolve()) for root in (folder, folder / MLRUNS))


def _beside(path: Path, folder: Path) -> Path | None:
    """Return where a file below some ``mlruns`` would be below the ``mlruns`` of `folder`.

    Return None for a path without ``mlruns``.
    """
    _, separator, below = f"/{path.as_posix()}".rpartition(f"/{MLRUNS}/")
    return folder / MLRUNS / below if separator else None


# The files


@dataclass(frozen=True)
class RunFiles:
    """Writes the files (artifacts) of an MLflow run to the address that the store `uri` records for them."""

    run_id: str
    address: str
    uri: str

    def write(self, config: Mapping[str, Any], arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Write ``config.yaml`` with a trial's resolved config, and files with arrays, given by name."""
        self._place(partial(_write_in, config=config, files=arrays))

    def write_contents(self, contents: Mapping[str, bytes]) -> None:
        """Write files, given their contents by name."""

        def write_them(folder: Path, prefix: str) -> list[str]:
            for name, content in contents.items():
                (folder / f"{prefix}{name}").write_bytes(content)
            return list(contents)

        self._place(write_them)

    def _place(self, write_them: Callable[[Path, str], list[str]]) -> None:
        """Put files into the run's folder, each under its name only once it is complete.

        `write_them` gets a folder and a prefix. It writes the files, with the prefix before their
        names, and returns the names. If the folder is on this machine, the files are then renamed
        there. MLflow would copy them, and if a link had the name of a file, MLflow would write to the
        link's target.
        """
        folder = _folder(self.run_id, self.address, self.uri)
        if folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                write_them(Path(temporary), "")
                self._repository().log_artifacts(temporary)  # type: ignore[no-untyped-call]
            return
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f".{uuid.uuid4().hex}."  # removing a temporary folder would take longer than the writing
        try:
            for name in write_them(folder, prefix):
                (folder / f"{prefix}{name}").replace(folder / name)
        except BaseException:
            for file in folder.glob(f"{prefix}*"):
                file.unlink()
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a text file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, name)
            file.write_text(text, encoding="utf-8")
            self._repository().log_artifact(str(file))  # type: ignore[no-untyped-call]

    def _repository(self) -> ArtifactRepository:
        return repository(self.run_id, self.address, self.uri)


def _write_in(
    folder: Path, prefix: str, config: Mapping[str, Any], files: Mapping[str, Mapping[str, NDArray[Any]]]
) -> list[str]:
    """Write ``config.yaml`` and a trial's arrays, with a prefix before the names, and return the names."""
    text = "".join(_as_yaml(key, value) for key, value in config.items())
    (folder / f"{prefix}config.yaml").write_text(text, encoding="utf-8")
    for name, arrays in files.items():
        save = np.savez_compressed if name == HISTOGRAMS else np.savez
        save(folder / f"{prefix}{name}", **arrays)  # type: ignore[arg-type]
    return ["config.yaml", *files]


_texts: dict[tuple[str, str], str] = {}


def _as_yaml(key: str, value: object) -> str:
    """Return a key of a config with its value as YAML. The YAML of a value that trials share is cached."""
    given = key, repr(value)
    if given not in _texts:
        if len(_texts) >= MOST_TEXTS:
            _texts.clear()
        _texts[given] = yaml.dump({key: value}, Dumper=_YAML, sort_keys=False)
    return _texts[given]


def read(run_id: str, name: str, uri: str | None, *, most: int) -> bytes:
    """Return the content of one of a run's artifacts.

    Raises
    ------
    FnnexpError
        If the artifact is missing or larger than `most` bytes, or the store can't read it.
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
                    f"the run {run_id} in MLflow has no artifact {name} (searched {files.artifact_uri})"
                )
            content = b""
            if sizes[name] <= most:
                store.ask(client, files.download_artifacts, name, folder)
                with Path(folder, name).open("rb") as stream:
                    content = stream.read(most + 1)
            if max(sizes[name], len(content)) > most:
                raise FnnexpError(
                    f"in the run {run_id}, the artifact {name} is larger than the {most:,} bytes allowed"
                )
            return content
    except FnnexpError:
        raise
    except Exception as error:  # each kind of store raises its own exceptions
        raise FnnexpError(f"MLflow can't read the artifact {name} of the run {run_id}: {error}") from error
