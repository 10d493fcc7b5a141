"""Tell how much memory this process may still use: the machine's, or what its container's limit leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of containers."""

LIMITS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Versions 2 and 1 of Linux's control groups: the folder, the files of the limit and of the use, and the line
of ``memory.stat`` with the cached files, which Linux drops when memory is needed."""


def available_memory() -> int | None:
    """Return how many bytes this process may still use; None if the system does not say."""
    return min([*_of_the_machine(), *_of_containers()], default=None)


def _of_the_machine() -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        yield next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        return
    with suppress(OSError, ValueError, AttributeError):  # not on Windows; elsewhere it is all memory
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_containers() -> Iterator[int]:
    """Yield what the limit of each control group of this process leaves."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for folder, limit, used, cached in LIMITS:
                if folder not in controllers.split(","):
                    continue
                group = CGROUPS / folder
                # A container may show its own group as the root.
                for place in {group / path.lstrip("/"), group}:
                    with suppress(OSError, ValueError):  # no limit is the word "max"
                        allowed = int((place / limit).read_text())
                        stat = dict(row.split() for row in (place / "memory.stat").read_text().splitlines())
                        use = int((place / used).read_text()) - int(stat.get(cached, 0))
                        yield max(allowed - use, 0)
