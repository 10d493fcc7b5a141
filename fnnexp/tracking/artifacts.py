"""A run's files in MLflow, written and read: ``config.yaml``, ``weights.npz``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fnnexp.errors import FnnexpError
from fnnexp.tracking import store
from fnnexp.tracking.retry import mlflow_settings

_YAML = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write(place: str, uri: str, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> None:
    """Write a trial's resolved config and its trained weights where its run's artifacts go.

    MLflow's client would read the whole run to find out where that is, and would copy the files.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    repository = get_artifact_repository(place, tracking_uri=uri)
    here = repository.artifact_dir if isinstance(repository, LocalArtifactRepository) else None
    with tempfile.TemporaryDirectory() if here is None else nullcontext(here) as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.dump(dict(config), Dumper=_YAML, sort_keys=False)
        Path(folder, "config.yaml").write_text(text, encoding="utf-8")
        np.savez(Path(folder, "weights.npz"), **weights)  # type: ignore[arg-type]
        if here is None:
            repository.log_artifacts(name)  # type: ignore[no-untyped-call]


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
            listed = store.ask(client, client.list_artifacts, run_id)
            sizes = {file.path: file.file_size or 0 for file in listed if not file.is_dir}
            if name not in sizes:
                raise FnnexpError(f"its run in MLflow has no artifact {name}")
            content = b""
            if sizes[name] <= most:
                store.ask(client, client.download_artifacts, run_id, name, folder)
                with Path(folder, name).open("rb") as stream:
                    content = stream.read(most + 1)
            if max(sizes[name], len(content)) > most:
                raise FnnexpError(f"its artifact {name} is larger than the {most:,} bytes that it can have")
            return content
    except FnnexpError:
        raise
    except Exception as error:  # a store's own exceptions are many
        raise FnnexpError(f"MLflow does not give its artifact {name}: {error}") from error
