"""The memory that is left: the machine's, and what the limits of containers leave of it."""

from __future__ import annotations

import sys

import psutil
import pytest

from fnnexp.data import room


def test_the_available_memory_is_at_most_that_of_the_machine():
    available = room.available_memory()
    assert available is None or 0 < available <= psutil.virtual_memory().total


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups belong to Linux")
@pytest.mark.parametrize(
    ("limit", "left"), [("5000000", 5000000 - 3000000 + 1000000), ("1", 0), ("max", None), ("none", None)]
)
def test_the_limit_of_a_container_is_kept_without_counting_cached_files(limit, left, tmp_path, monkeypatch):
    without_limit = room.available_memory()
    monkeypatch.setattr(room, "CGROUPS", tmp_path)
    for folder, maximum, used, cached in room.LIMITS:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / maximum).write_text(f"{limit}\n")
        (tmp_path / folder / used).write_text("3000000\n")
        (tmp_path / folder / "memory.stat").write_text(f"anon 2000000\n{cached} 1000000\n")
    available = room.available_memory()
    assert available == left if left is not None else available > without_limit / 2
