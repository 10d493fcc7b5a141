"""The memory that is left: the machine's, and what the limits of containers leave of it."""

from __future__ import annotations

import pytest

from fnnexp.data import room
from fnnexp.data.room import available_memory  # before conftest.py replaces it


def tree(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


VERSION_2 = {
    "proc/self/cgroup": "0::/a/b\n",
    "sys/fs/cgroup/a/b/memory.max": "max\n",
    "sys/fs/cgroup/a/b/memory.current": "100\n",
    "sys/fs/cgroup/a/b/memory.stat": "anon 5\ninactive_file 40\n",
    "sys/fs/cgroup/a/memory.max": "1000\n",
    "sys/fs/cgroup/a/memory.current": "300\n",
    "sys/fs/cgroup/a/memory.stat": "anon 5\ninactive_file 50\n",
}
VERSION_1 = {  # a container that sees its own group as the outermost
    "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/1f\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
}


@pytest.mark.parametrize(
    ("files", "left"), [(VERSION_2, [1000 - 300 + 50]), (VERSION_1, [2000 - 1500 + 500]), ({}, [])]
)
def test_a_container_leaves_its_limit_without_its_usage(files, left, tmp_path):
    """File pages that can be given back at once are not counted as used."""
    tree(tmp_path, files)
    assert list(room._left_in_containers(tmp_path)) == left


def test_macos_leaves_the_pages_that_are_free_or_can_be_taken():
    text = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10.
Pages active:                            999.
Pages inactive:                           20.
Pages speculative:                         3.
"""
    assert room.left_on_macos(text) == 33 * 16384


def test_this_machine_says_what_it_has_left():
    assert 10**7 < available_memory() < 10**14
