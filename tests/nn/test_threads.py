"""Test teams of threads: results are added in the order of the parts, and errors reach the caller."""

import threading
import time

import numpy as np
import pytest

from fnnexp.nn.engines.threads import Team


@pytest.mark.parametrize("size", [1, 2, 4])
def test_results_are_added_in_the_order_of_the_parts(size):
    added, threads = [], set()

    def compute(thread, part):
        threads.add((thread, threading.get_ident()))
        time.sleep(0.001 * (part % 3))  # later parts are often ready first
        return part**2

    with Team(size) as team:
        for _ in range(2):
            team.in_order(iter(range(20)), compute, added.append)
        team.in_order(range(5), compute, added.append, size=1)
    assert added == [part**2 for part in (*range(20), *range(20), *range(5))]
    assert {thread for thread, _ in threads} <= set(range(size))


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("where", ["parts", "compute", "add"])
def test_an_error_reaches_the_caller_and_later_parts_are_not_added(where, size):
    added = []

    def fail_at_5(place, part):
        if place == where and part == 5:
            raise ValueError(f"{place} {part}")
        return part

    with Team(size) as team:
        with pytest.raises(ValueError, match=f"{where} 5"):
            team.in_order(
                (fail_at_5("parts", part) for part in range(20)),
                lambda thread, part: fail_at_5("compute", part),
                lambda result: added.append(fail_at_5("add", result)),
            )
        assert added == sorted(added)
        assert not {*added} & set(range(5, 20))
        team.in_order(range(3), lambda thread, part: part, added.append)
    assert added[-3:] == [0, 1, 2]


def test_threads_compute_with_the_floating_point_settings_of_the_caller():
    both = threading.Barrier(2)

    def compute(thread, part):
        both.wait(timeout=10)
        return np.geterr()

    found = []
    with np.errstate(all="ignore"), Team(2) as team:
        team.in_order(range(2), compute, found.append)
    assert found == [dict.fromkeys(("divide", "over", "under", "invalid"), "ignore")] * 2
