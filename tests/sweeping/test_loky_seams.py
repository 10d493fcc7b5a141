"""What we use of loky that it does not promise: each test says what to mend when loky has changed it."""

from __future__ import annotations

import os
import signal
import time

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from fnnexp.sweeping.backends import loky

CHANGED = f"loky of joblib {joblib.__version__} has changed; see fnnexp/sweeping/backends/loky.py: "


def own_pid(_):
    return os.getpid()


pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL and no signal masks")


@pytest.fixture
def pids():
    """Let joblib's pool run in two processes, as a sweep does; return their ids, as the tasks tell them."""
    if loky.pool() is not None:
        loky.pool().shutdown(wait=True, kill_workers=True)
    ran = joblib.Parallel(n_jobs=2, **loky.settings("numpy"))(joblib.delayed(own_pid)(i) for i in range(8))
    yield set(ran)
    loky.pool().shutdown(wait=True, kill_workers=True)


def test_the_pool_is_the_one_that_joblib_uses(pids):
    assert loky.pool() is get_reusable_executor(reuse=True), (
        CHANGED + "reusable_executor._executor is not the pool, so Ctrl-C twice does not end it"
    )


def test_the_pool_tells_its_worker_processes(pids):
    found = {worker.pid for worker in loky.processes()}
    assert pids <= found, (
        CHANGED + "pool._processes does not name them, so a dead worker is not seen, and none is killed"
    )
    assert all(worker.is_alive() for worker in loky.processes())


def test_the_result_pipe_has_a_writer_that_can_be_closed(pids):
    writer = getattr(getattr(loky.pool(), "_result_queue", None), "_writer", None)
    assert callable(getattr(writer, "close", None)), (
        CHANGED + "pool._result_queue._writer can't be closed, so a sweep whose worker is killed while it "
        "sends a result waits for ever"
    )


def test_the_resource_tracker_can_be_started(pids):
    tracker = loky._part_of_loky("backend.resource_tracker")
    assert callable(getattr(tracker, "ensure_running", None)), (
        CHANGED + "backend.resource_tracker.ensure_running is gone, so Ctrl-C may reach worker processes"
    )


def test_killed_workers_are_dead_and_the_next_call_has_others(pids):
    loky.kill_workers()
    killed = time.monotonic()
    while any(worker.is_alive() for worker in loky.processes()):
        assert time.monotonic() - killed < 10, CHANGED + "kill_workers does not end them"
        time.sleep(0.02)


def test_without_what_loky_may_lose_a_sweep_does_as_loky_does_by_itself(pids, monkeypatch):
    class OtherPool:
        """A pool of a later loky, in which nothing has the name that it has today."""

    with monkeypatch.context() as patch:
        patch.setattr(loky, "pool", OtherPool)
        assert loky.processes() == []
        loky.kill_workers()
        loky.Watch().look()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with monkeypatch.context() as patch:
        patch.setattr(loky, "_part_of_loky", lambda name: None)
        assert loky.pool() is None
        loky.shut_down()
        try:
            loky.block_interrupts()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_without_the_pipe_the_watch_still_kills_the_workers(pids, monkeypatch):
    """loky then sees the deaths of all, or waits for ever: that is what the pipe is for."""
    workers = loky.processes()
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[0].join()
    with monkeypatch.context() as patch:
        patch.setattr(loky, "GRACE", -1.0)
        patch.setattr(loky, "processes", lambda: workers)
        patch.setattr(loky, "pool", lambda: None)
        loky.Watch().look()
    for worker in workers:
        worker.join(timeout=10)  # it is dead when the system has taken it away
    assert not any(worker.is_alive() for worker in workers)
