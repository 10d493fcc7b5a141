"""The private parts of loky that we use: each test names what to change if a new loky breaks it."""

from __future__ import annotations

import os
import signal
import time

import joblib
import psutil
import pytest
from joblib.externals.loky import get_reusable_executor

from fnnexp.sweeping.backends import loky

CHANGED = f"loky of joblib {joblib.__version__} has changed; see fnnexp/sweeping/backends/loky.py: "


def own_pid(_):
    return os.getpid()


pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL and no signal masks")


@pytest.fixture
def pids(monkeypatch):
    """Run joblib's pool in two processes, as a sweep does; return their process ids, as tasks report them.

    joblib fails if the path of its temporary folder is not in ASCII.
    """
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", "größe")
    if loky.pool() is not None:
        loky.pool().shutdown(wait=True, kill_workers=True)
    ran = joblib.Parallel(n_jobs=2, **loky.settings())(joblib.delayed(own_pid)(i) for i in range(8))
    yield set(ran)
    loky.pool().shutdown(wait=True, kill_workers=True)


def test_the_pool_is_the_pool_of_joblib(pids):
    assert loky.pool() is get_reusable_executor(reuse=True), (
        CHANGED + "reusable_executor._executor is not the pool, so Ctrl-C twice does not end it"
    )


def test_the_pool_lists_its_worker_processes(pids):
    listed = {worker.pid for worker in loky.processes()}
    assert pids <= listed, CHANGED + "pool._processes does not list the workers, so dead workers go unnoticed"
    assert all(worker.is_alive() for worker in loky.processes())


def test_the_result_pipe_has_a_writer_that_can_be_closed(pids):
    writer = getattr(getattr(loky.pool(), "_result_queue", None), "_writer", None)
    assert callable(getattr(writer, "close", None)), (
        CHANGED + "pool._result_queue._writer can't be closed, so a sweep whose worker is killed while it "
        "sends a result waits forever"
    )


def test_the_resource_tracker_can_be_started(pids):
    tracker = loky._loky_module("backend.resource_tracker")
    assert callable(getattr(tracker, "ensure_running", None)), (
        CHANGED + "backend.resource_tracker.ensure_running is gone, so Ctrl-C may reach worker processes"
    )


def test_killed_workers_are_dead(pids):
    loky.kill_workers()
    killed = time.monotonic()
    while any(worker.is_alive() for worker in loky.processes()):
        assert time.monotonic() - killed < 10, CHANGED + "kill_workers does not end the workers"
        time.sleep(0.02)


def test_nothing_fails_without_the_private_parts_of_loky(pids, monkeypatch):
    class OtherPool:
        """A pool of a later loky without any of the private names of today."""

    with monkeypatch.context() as patch:
        patch.setattr(loky, "pool", OtherPool)
        assert loky.processes() == []
        loky.kill_workers()
        loky.Watch().check()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with monkeypatch.context() as patch:
        patch.setattr(loky, "_loky_module", lambda name: None)
        assert loky.pool() is None
        loky.shut_down()
        try:
            loky.block_interrupts()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_without_the_pipe_the_watch_still_kills_the_workers(pids, monkeypatch):
    """Without a closed pipe, loky notices the deaths of all workers or waits forever."""
    workers = loky.processes()
    watched = [psutil.Process(worker.pid) for worker in workers]
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[0].join()
    with monkeypatch.context() as patch:
        patch.setattr(loky, "GRACE", -1.0)
        patch.setattr(loky, "processes", lambda: workers)
        patch.setattr(loky, "pool", lambda: None)
        loky.Watch().check()
    # If loky's own thread reaps a process first, multiprocessing may say for a moment that it lives.
    _, alive = psutil.wait_procs(watched, timeout=10)
    assert not alive
