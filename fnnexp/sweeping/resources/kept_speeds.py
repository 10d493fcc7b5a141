"""The speeds that sweeps measured on this machine: a file in the cache folder, which later dry runs read."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fnnexp import __version__
from fnnexp.config.trial import kind_of
from fnnexp.nn.training import Recipe

Kept = Mapping[str, Mapping[str, tuple[float, int]]]
"""The seconds of an epoch, and the number of trials that were measured: by the text that :func:`key_of`
returns, and then by the number of lanes of the stack."""

MOST_KEPT = 2000
"""How many keys the file has at most; the oldest leave."""


def key_of(recipe: Recipe, checksum: str, engine: str, threads: int, workers: int) -> str:
    """Return a text that says for what a speed was measured; speeds with equal texts can be compared.

    It has everything that decides the speed of a stack, except the machine and the number of networks.
    """
    return f"{kind_of(recipe, checksum)} {engine} {threads} {workers}"


def file_in(cache: Path) -> Path:
    """Return the file of this machine's speeds in a cache folder, which several machines may share."""
    return cache / "speeds" / f"{hashlib.sha256(platform.node().encode()).hexdigest()[:16]}.json"


def kept(cache: Path) -> Kept:
    """Return the speeds that this version of fnnexp recorded on this machine; none if they can't be read."""
    try:
        content = json.loads(file_in(cache).read_text("utf-8"))
        return _checked(content["speeds"]) if content["version"] == __version__ else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _checked(speeds: Any) -> Kept:
    """Return the content of a file of speeds, with each value converted to its type.

    Impossible values, such as a negative time, are left out.
    """
    return {
        str(key): {
            str(int(lanes)): (float(seconds), int(trials))
            for lanes, (seconds, trials) in widths.items()
            if int(lanes) > 0 and 0 < float(seconds) < math.inf
        }
        for key, widths in speeds.items()
    }


def keep(cache: Path, new: Kept) -> None:
    """Add the speeds that a sweep measured to the file of this machine, unless it can't be written."""
    if not new:
        return
    speeds = dict(kept(cache))
    for key, widths in new.items():
        speeds[key] = {**speeds.pop(key, {}), **widths}  # the newest come last
    newest = dict(list(speeds.items())[-MOST_KEPT:])
    file = file_in(cache)
    staging = file.with_name(f".{uuid.uuid4().hex}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            staging.write_text(json.dumps({"version": __version__, "speeds": newest}), "utf-8")
            staging.replace(file)
        finally:
            staging.unlink(missing_ok=True)
