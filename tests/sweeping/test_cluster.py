"""Sweeps on a cluster: real Dask and Ray processes on this machine that can't read the parent's data.

The tests of Ray are skipped unless Ray is installed; `make test-ray` installs it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from mlflow import MlflowClient
from rich.console import Console
from stores import assert_same_results, results

from fnnexp.config.execution import Execution
from fnnexp.data import datasets as data
from fnnexp.nn.layer_stats import has_diagnostics
from fnnexp.sweeping.backends import cluster as cluster_module
from fnnexp.sweeping.backends import dask as on_dask
from fnnexp.sweeping.backends.cluster import (
    ClusterError,
    ClusterLostError,
    connected,
    own_versions,
    refuse_other_versions,
)
from fnnexp.sweeping.executor import Executor, worker_count
from fnnexp.sweeping.loop import run
from fnnexp.sweeping.plan import identical, plan
from fnnexp.sweeping.worker import Trained, train_segment
from fnnexp.tracking.writer import Tracker

LONG = ["arch=relu_98", "init=sqrtmax,he", "batching=mini,full", "seed=0,1", "epochs=100"]

NO_DISK = """
from fnnexp.data import datasets as data
from fnnexp.errors import DataError

def load(prepared):
    raise DataError("this machine shares no disk with the parent")

data.load = load
"""
"""Code that a worker runs first, so that it can train only on data that was sent to it."""


def until(happened, seconds=60):
    """Wait until ``happened()`` is true, and return its value; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)
    return value


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class DaskCluster:
    """A scheduler and workers, each in its own process group; ``stop`` ends them all."""

    def __init__(self, folder, **scheduler_environment):
        self.folder, self.processes = folder, []
        self.address = f"tcp://127.0.0.1:{free_port()}"
        (folder / "no_disk.py").write_text(NO_DISK, "utf-8")
        self.cache = folder / "cache"
        port = self.address.rpartition(":")[2]
        words = ("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-show")
        self.scheduler = self._start(*words, environment=scheduler_environment)

    def worker(self, environment=(), *further):
        """Start a worker with its own cache folder and scratch folder."""
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        places = ("--local-directory", str(self.folder / "scratch"), *further)
        environment = {"FNNEXP_CACHE": str(self.cache), **dict(environment)}
        return self._start("worker", self.address, *words, *places, environment=environment)

    def worker_without_disk(self):
        return self.worker((), "--preload", str(self.folder / "no_disk.py"))

    def answers(self):
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def _start(self, *words, environment):
        log = (self.folder / f"{words[0]}-{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            env={**os.environ, **environment},
            cwd=self.folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def dask(tmp_path):
    """Return ``dask(workers=2, **environment)``, which starts a cluster."""
    started = []

    def start(workers=2, **environment):
        folder = tmp_path / f"dask-{len(started)}"
        folder.mkdir()
        started.append(DaskCluster(folder, **environment))
        for _ in range(workers):
            started[-1].worker_without_disk()
        if workers:
            with Client(started[-1].address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)
        return started[-1]

    yield start
    for cluster in started:
        cluster.stop()


def swept(trials, store, **changed):
    """Run trials as a sweep in this process; return the outcome and the printed text."""
    console = Console(file=io.StringIO(), width=250)
    outcome = run(trials, Tracker("digits", store), Execution(**changed), console)
    return outcome, console.file.getvalue()


@pytest.fixture(scope="module")
def trials(trials_of):
    return trials_of(*LONG)


@pytest.fixture(scope="module")
def on_this_machine(trials, empty_store, tmp_path_factory):
    """Return the results of the same sweep on loky."""
    folder = tmp_path_factory.mktemp("here")
    store = empty_store(folder)
    with contextlib.chdir(folder):
        assert len(swept(trials, store, n_jobs=2)[0].finished) == len(trials)
        return results(store, "digits")


@pytest.mark.parametrize("allowed_failures", [0, 3], ids=["Dask gives up", "Dask retries"])
def test_a_sweep_on_dask_has_the_bits_of_one_machine_even_if_a_worker_is_killed(
    allowed_failures, dask, store, tmp_path, trials, on_this_machine, same_bits
):
    cluster = dask(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=str(allowed_failures))
    first = cluster.processes[1]

    def kill_one():
        until(lambda: list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz")))
        os.kill(first.pid, signal.SIGKILL)
        cluster.worker_without_disk()  # a late worker gets the data too

    killer = threading.Thread(target=kill_one)
    killer.start()
    # Twice as many segments as workers, so that the killed worker is busy.
    outcome, output = swept(
        trials, store, n_jobs=4, backend="dask", address=cluster.address, segment_seconds=0.2
    )
    killer.join()
    assert first.wait() == -signal.SIGKILL
    assert outcome.failed == []
    assert len(outcome.finished) == len(trials) == 8
    assert ("a worker died; retrying a stack" in output) == (allowed_failures == 0)
    assert "left; another worker trains its epochs again" in output
    assert_same_results(results(store, "digits"), on_this_machine, same_bits)
    assert not cluster.cache.exists(), "a worker wrote"


def test_a_cluster_has_a_worker_per_thread_and_sends_each_data_set_once(dask, trials_of, monkeypatch):
    cluster = dask(workers=1)
    cluster.worker((), "--nthreads", "3")
    planned = plan(identical(trials_of("seed=0,1,2,3", "epochs=1")), max_lanes=1, n_jobs=4)
    sent = []
    in_memory = cluster_module.in_memory
    execution = Execution(2, "dask", "numpy", address=cluster.address, diagnostics=True)
    with connected(execution) as backend:
        until(lambda: list(backend.news()) or backend.cores == 4)  # both workers have joined
        monkeypatch.setattr(
            cluster_module, "in_memory", lambda prepared: sent.append(prepared) or in_memory(prepared)
        )
        executor = Executor(execution, backend)
        for stack in planned:
            executor.submit(stack)
        ended = [executor.result() for _ in planned]
        executor.close()
        assert sum(backend._client.nthreads().values()) == 4
    assert all(isinstance(answer, Trained) for _, answer in ended)
    for stack, answer in ended:
        local = train_segment(stack, execution)
        assert answer.stack.theta.tobytes() == local.stack.theta.tobytes()
        assert [record.metrics for record in answer.records] == [record.metrics for record in local.records]
        assert [has_diagnostics(record.metrics) for record in answer.records] == [True, True]
    assert sent == [planned[0].data]
    with connected(Execution(backend="dask", address=cluster.address)) as backend:
        assert worker_count(-1, backend) == 4
        assert worker_count(-2, backend) == 3
        assert worker_count(2, backend) == 2


# --- errors before the sweep starts ---


@pytest.fixture
def refused(invoke, store):
    """Return ``refused(*words)``, which returns the error of a sweep that must start nothing."""

    def complaint(*words):
        ran = invoke("data=digits", "epochs=1", *words)
        assert ran.status == 2
        assert "Traceback" not in ran.err
        client = MlflowClient(store)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        assert client.search_runs(experiments) == []
        return ran.err

    return complaint


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["execution.backend=dask"], "write execution.backend=dask execution.address=tcp://HOST:8786"),
        (["execution.backend=ray"], "write execution.backend=ray execution.address=HOST:6379"),
        (["execution.address=tcp://h:1"], "execution.address=tcp://h:1 has no meaning here"),
        (["execution.backend=dask", "execution.address=h"], "execution.address=h: is not an address of dask"),
        (["execution.backend=dusk"], "Did you mean 'dask'?"),
    ],
    ids=str,
)
def test_a_backend_without_its_address_is_refused(words, answer, refused):
    assert answer in refused(*words)


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(backend, refused, monkeypatch):
    monkeypatch.setattr(cluster_module.importlib.util, "find_spec", lambda name: None)
    address = {"dask": "tcp://127.0.0.1:1", "ray": "127.0.0.1:1"}[backend]
    error = refused(f"execution.backend={backend}", f"execution.address={address}")
    assert f'pip install "fnnexp[{backend}]"' in error


def test_a_missing_scheduler_is_reported(refused, monkeypatch):
    monkeypatch.setattr(on_dask, "PATIENCE", 1.0)
    address = f"tcp://127.0.0.1:{free_port()}"
    error = refused("execution.backend=dask", f"execution.address={address}")
    assert f"execution.address={address}: no Dask scheduler answers" in error
    assert "`dask scheduler`" in error


def test_a_scheduler_without_workers_is_reported(dask, refused, monkeypatch):
    cluster = dask(workers=0)
    until(cluster.answers)
    monkeypatch.setattr(on_dask, "PATIENCE", 3.0)
    error = refused("execution.backend=dask", f"execution.address={cluster.address}")
    assert f"`dask worker {cluster.address} --nthreads 1" in error


@pytest.fixture
def other_versions(tmp_path):
    """Return an environment in which numpy and cloudpickle report other versions."""
    folder = tmp_path / "other"
    for name in ("numpy", "cloudpickle"):
        info = folder / f"{name}-0.9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.9\n", "utf-8")
    return {"PYTHONPATH": str(folder)}


def test_workers_with_other_versions_are_reported_with_all_differences(dask, refused, other_versions):
    cluster = dask(workers=0)
    cluster.worker(other_versions)
    error = refused("execution.backend=dask", f"execution.address={cluster.address}")
    assert f"numpy 0.9 (here {np.__version__}), cloudpickle 0.9 (here" in error
    assert "scipy" not in error
    assert "tcp://127.0.0.1:" in error


def test_a_late_worker_with_other_versions_ends_the_sweep(dask, other_versions):
    cluster = dask(workers=1)
    with connected(Execution(backend="dask", address=cluster.address)) as backend:
        assert list(backend.news()) == []
        cluster.worker(other_versions)
        with pytest.raises(ClusterLostError, match=r"joined during the sweep is unusable: .*\n.* numpy 0\.9"):
            until(lambda: list(backend.news()))


def test_a_lost_scheduler_ends_the_sweep_and_fails_no_trial(dask, store, tmp_path, trials):
    cluster = dask(workers=1)

    def kill():
        until(lambda: list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz")))
        cluster.stop()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ClusterLostError, match="start the same command again"):
        swept(trials, store, backend="dask", address=cluster.address, segment_seconds=0.2)
    killer.join()
    client = MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert {run.data.tags["fnnexp.status"] for run in runs} <= {"running", "interrupted", "finished"}
    assert len(runs) > 0


def test_only_versions_that_may_change_results_are_compared():
    own = own_versions()
    assert {"python", "fnnexp", "numpy", "scipy", "cloudpickle", "threadpoolctl"} <= own.keys()
    refuse_other_versions({"a": own, "b": {**own, "python": own["python"] + ".99", "pandas": "0.1"}})
    with pytest.raises(ClusterError) as error:
        refuse_other_versions({"a": own, "b": {**own, "python": "2.7.1", "fnnexp": None}})
    assert "b: python 2.7.1 (here" in str(error.value)
    assert "fnnexp missing (here" in str(error.value)
    assert "a:" not in str(error.value)


def test_different_kernels_are_reported_once(trials_of, monkeypatch):
    messages = []
    executor = Executor(Execution(1, "sequential", "numpy"), say=messages.append)
    for kernel in ("openblas Zen", "openblas Zen", "openblas SkylakeX", "openblas Zen"):
        executor._compare_kernels(kernel)
    executor.close()
    assert messages == [
        "workers compute with openblas SkylakeX and openblas Zen: results agree to rounding, not bit by bit"
    ]


def test_received_data_is_read_only_and_used_without_a_cache(trials_of, monkeypatch):
    from fnnexp.errors import DataError
    from fnnexp.sweeping import worker

    (planned,) = plan(identical(trials_of("epochs=1")), max_lanes=1, n_jobs=1)
    expected = train_segment(planned, Execution(engine="numpy"))
    arrays = cluster_module.in_memory(planned.data)

    def nothing(prepared):
        raise DataError("no disk")

    monkeypatch.setattr(data, "load", nothing)
    monkeypatch.setattr(worker, "_RECEIVED", {})
    assert "no disk" in train_segment(planned, Execution(engine="numpy")).reason
    worker.receive(planned.data, arrays)
    assert not arrays.x_train.flags.writeable
    assert (
        train_segment(planned, Execution(engine="numpy")).stack.theta.tobytes()
        == expected.stack.theta.tobytes()
    )


# --- Ray ---


class RayNode:
    """A head node that also trains, in its own session; ``stop`` ends it."""

    def __init__(self, folder, *, processors=2):
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        (folder / "sitecustomize.py").write_text(NO_DISK, "utf-8")
        words = ("start", "--head", "--block", "--port", str(self.port), "--node-ip-address", "127.0.0.1")
        limits = ("--num-cpus", str(processors), "--object-store-memory", "100000000")
        quiet = ("--include-dashboard=false", "--disable-usage-stats", "--temp-dir", str(folder / "ray"))
        with (folder / "ray.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", *words, *limits, *quiet],
                env={**os.environ, "PYTHONPATH": str(folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: "This command will now block" in (folder / "ray.log").read_text("utf-8"))

    def session(self):
        """Return the commands of all processes of this node by process id."""
        commands = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if os.getsid(int(entry.name)) == self.process.pid:
                    commands[int(entry.name)] = (entry / "cmdline").read_text("utf-8").replace("\0", " ")
        return commands

    def stop(self):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        for pid in self.session():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def ray_node():
    """Return ``ray_node(processors=2)``, which starts a node; Ray's sockets need a short path."""
    pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` does it")
    started = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:

        def start(**how):
            started.append(RayNode(Path(folder), **how))
            return started[-1]

        yield start
        for node in started:
            node.stop()


def test_a_sweep_on_ray_has_the_bits_of_one_machine_even_if_a_worker_is_killed(
    ray_node, store, tmp_path, trials, on_this_machine, same_bits
):
    node = ray_node()

    def kill_one():
        until(lambda: list((tmp_path / ".fnnexp" / "checkpoints").glob("*.npz")))
        busy = until(
            lambda: [pid for pid, words in node.session().items() if "ray::_train_with_data" in words]
        )
        os.kill(busy[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcome, output = swept(trials, store, backend="ray", address=node.address, segment_seconds=0.5)
    killer.join()
    assert outcome.failed == []
    assert len(outcome.finished) == len(trials) == 8
    assert "a worker died; retrying a stack of" in output
    assert_same_results(results(store, "digits"), on_this_machine, same_bits)


def test_a_missing_ray_cluster_is_reported(refused):
    pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` does it")
    address = f"127.0.0.1:{free_port()}"
    error = refused("execution.backend=ray", f"execution.address={address}")
    assert f"execution.address={address}: no cluster of Ray" in error
    assert "`ray start --head`" in error


def test_a_ray_cluster_without_processors_is_reported(ray_node, refused):
    node = ray_node(processors=0)
    error = refused("execution.backend=ray", f"execution.address={node.address}")
    assert f"`ray start --address={node.address}`" in error


def test_ray_machines_with_other_versions_are_reported(ray_node, refused, monkeypatch):
    node = ray_node()
    own = own_versions()
    monkeypatch.setattr(cluster_module, "own_versions", lambda _: {**own, "numpy": "0.9"})
    error = refused("execution.backend=ray", f"execution.address={node.address}")
    assert f": numpy {own['numpy']} (here 0.9)" in error
