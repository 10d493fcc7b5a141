"""Tell how much memory is left: of this machine, or of what its container may use."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


def available_memory() -> int | None:
    """Return how many bytes of memory this process can still use; None if unknown.

    It is what the machine has left or what the limit of its container leaves, whichever is less.
    """
    known = [left for left in (_left_on_machine(), *_left_in_containers(Path("/"))) if left is not None]
    return max(min(known), 0) if known else None


def _left_on_machine() -> int | None:
    with suppress(OSError, ValueError, AttributeError, subprocess.SubprocessError):
        if sys.platform == "win32":
            return _left_on_windows()
        if sys.platform == "darwin":
            printed = subprocess.run(
                ["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True
            )
            return left_on_macos(printed.stdout)
        return 1024 * _number_after("MemAvailable:", Path("/proc/meminfo").read_text("utf-8"))
    return None


def left_on_macos(text: str) -> int:
    """Return the bytes of memory that macOS has left: its free, inactive and speculative pages.

    `text` is the output of the command ``vm_stat``.
    """
    page = _number_after("page size of", text)
    return page * sum(_number_after(f"Pages {kind}:", text) for kind in ("free", "inactive", "speculative"))


def _left_on_windows() -> int:
    class Status(ctypes.Structure):
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "left", *"abcde")),
        ]

    status = Status(ctypes.sizeof(Status))
    windows: Any = ctypes
    if not windows.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return int(status.left)


def _number_after(words: str, text: str) -> int:
    """Return the number that follows these words in a text; raise ValueError if the text lacks them."""
    match = re.search(rf"{re.escape(words)}\s+(\d+)", text)
    if match is None:
        raise ValueError(f"no {words}")
    return int(match[1])


CGROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of cgroup version 2, and of version 1 (https://docs.kernel.org/admin-guide/cgroup-v1/memory.html): the
folder, the files with the limit and the usage, and the name of the file pages that can be given back."""


def _left_in_containers(root: Path) -> Iterator[int]:
    """Yield how many bytes each memory limit of Linux leaves to this process.

    A limit belongs to the process's control group, or to a group that contains this group. ``root`` is the
    folder ``/``.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in {*controllers.split(",")} & CGROUPS.keys():
                folder, *names = CGROUPS[controller]
                top, parts = root / "sys/fs/cgroup" / folder, Path(path).parts[1:]
                for depth in range(len(parts), -1, -1):
                    # In a container, the folders of its outer groups may not exist.
                    with suppress(OSError, ValueError):
                        yield _left_in_group(top.joinpath(*parts[:depth]), *names)


def _left_in_group(folder: Path, limit: str, usage: str, reclaimable: str) -> int:
    """Return how many bytes a control group has left; raise ValueError if it has no memory limit.

    Parameters
    ----------
    folder
        The group's folder in ``/sys/fs/cgroup``.
    limit, usage, reclaimable
        The names of the files with the limit and the usage; and in ``memory.stat``, the name of the part of
        the usage that the kernel can take back.
    """
    most, used = (int((folder / name).read_text("utf-8")) for name in (limit, usage))
    kept = _number_after(f"\n{reclaimable}", "\n" + (folder / "memory.stat").read_text("utf-8"))
    return most - used + kept
