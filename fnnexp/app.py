"""The Hydra application: from composed configs to trials, and on to a dry run or the sweep."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from fnnexp.config import compose as composing
from fnnexp.config.compose import as_written
from fnnexp.config.execution import Execution
from fnnexp.config.messages import explain
from fnnexp.config.safety import guarded, values_by_key
from fnnexp.config.schema import Config, Job, conf_folder, read, trial
from fnnexp.data import datasets as data
from fnnexp.errors import ConfigError, FnnexpError
from fnnexp.nn.engines.base import engine_named
from fnnexp.tracking import collector
from fnnexp.tracking.views import report_command

if TYPE_CHECKING:
    from fnnexp.config.trial import Trial
    from fnnexp.data.datasets import Prepared
    from fnnexp.sweeping.loop import Outcome


LONGEST_NAME = 200
"""Characters of an experiment's name; MLflow takes 500."""

COMMAND: ContextVar[str | None] = ContextVar("COMMAND", default=None)
"""The command line as it was typed, which Hydra does not hand on; None: there was none."""


class TrialsFailedError(FnnexpError):
    """Some trials failed; the others are done."""

    exit_status = 1


class InterruptedSweepError(FnnexpError):
    """Ctrl-C: what was trained is saved."""

    exit_status = 130


class Raised(BaseException):
    """Carries an exception of ours past Hydra, which would print a headline of its own over it.

    What comes from Hydra uncarried is a complaint about the input: Hydra was composing it.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def _past_hydra() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Raised(error) from error


def train(composed: DictConfig) -> None:
    """Run one composed config: Hydra's task function."""
    node = HydraConfig.get()
    with _past_hydra():
        note = _passed_over(node)
        job = read(composed, node.runtime.choices, node.overrides.task)
        run_jobs([job], str(node.job.config_name), note)


def _passed_over(node: Any) -> str | None:
    """Return what is to be said of a grid that one trial is run instead of, or None where there is none."""
    if not node.sweeper.params:
        return None
    params: Any = OmegaConf.to_container(node.sweeper.params, resolve=False)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    try:
        grid = parser.parse_overrides([f"{key}={value}" for key, value in params.items()])
    except HydraException as error:
        raise ConfigError(explain(error)) from error
    said = {one.get_key_element() for one in parser.parse_overrides(as_written(node.overrides.task))}
    counts = values_by_key(one for one in grid if one.get_key_element() not in said)
    if not counts:
        return None
    trials, name = math.prod(counts.values()), grid_name(str(node.job.config_name))
    or_for_good = "" if name is None else f", or hydra.mode: MULTIRUN in {name}.yaml,"
    return f"hydra.sweeper.params is passed over: one trial runs; -m{or_for_good} runs the grid of {trials}"


def many(loader: Any, master: DictConfig, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
    """Run all jobs of a multirun as one sweep: what our launcher calls."""
    jobs: list[Job] = []
    with ExitStack() as stack:
        try:
            for job in composing.jobs(loader, master, job_overrides):
                jobs.append(job)
                if len(jobs) == 1 and len(job_overrides) > 1:
                    stack.enter_context(_workers_for(job.config))
        except FnnexpError as error:
            raise Raised(error) from error
        with _past_hydra():
            run_jobs(jobs, str(master.hydra.job.config_name))
    return [JobReturn(overrides=overrides, status=JobStatus.COMPLETED) for overrides in job_overrides]


@contextmanager
def _workers_for(config: Config) -> Iterator[None]:
    """Have the worker processes of a sweep start, of whose jobs one is composed."""
    if config.dry_run:
        yield
        return
    from fnnexp.sweeping.executor import begun_early

    execution = config.execution
    with begun_early(execution.n_jobs, execution.backend, execution.engine):
        yield


train.many = many  # type: ignore[attr-defined]


def main(words: Sequence[str]) -> None:
    """Compose and run what the command line says; `words` are what was typed behind ``fnnexp``."""
    COMMAND.set(shlex.join(["fnnexp", *words]))
    with guarded():
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(train)()


def jobs_of(config_name: str, words: Sequence[str], config_dir: Path | None = None) -> list[Job]:
    """Return the checked jobs of a grid, composed by Hydra as for the command line.

    Raises
    ------
    FnnexpError
        When the words name no experiment.
    """
    jobs: list[Job] = []
    search_path = create_config_search_path(str(conf_folder()))
    if config_dir is not None:
        search_path.prepend("command-line", f"file://{config_dir.as_posix()}", anchor="schema")

    def task(config: DictConfig) -> None:
        """Stand for the task function, which a launcher of ours never calls."""

    def many(loader: Any, master: DictConfig, job_overrides: Sequence[Sequence[str]]) -> list[JobReturn]:
        jobs.extend(composing.jobs(loader, master, job_overrides))
        return [JobReturn(overrides=list(each), status=JobStatus.COMPLETED) for each in job_overrides]

    task.many = many  # type: ignore[attr-defined]
    try:
        with guarded():
            version.setbase("1.3")
            application = Hydra("fnnexp", ConfigLoaderImpl(search_path))
            application.multirun(config_name, task, list(words), with_log_configuration=False)
    except FnnexpError:
        raise
    except Exception as error:  # whatever Hydra fails with while it composes, it is the input's doing
        raise FnnexpError(explain(error)) from error
    return jobs


def run_jobs(jobs: Sequence[Job], config_name: str, note: str | None = None) -> None:
    """Run checked jobs as one sweep, or show what would run; say the note, if there is one, before.

    Raises
    ------
    FnnexpError
        Before anything trains, when an input is bad; TrialsFailedError and Interrupted at the end.
    """
    first = alike(jobs)
    name = experiment_name(jobs, config_name)
    console = Console(width=None if sys.stdout.isatty() else 120)
    trials = trials_of(jobs, console)
    if note is not None:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if first.dry_run:
        from fnnexp.sweeping.dry_run import show

        show(trials, name, first.tracking.uri, _execution(first), console)
        return
    outcome = sweep(trials, name, first, console, opened=collector.past_start_up)
    seen = outcome.page or "fnnexp ui"
    told = f"compare them: {report_command(name)}\nlook at them: {seen}"
    console.print(told, highlight=False, soft_wrap=True, markup=False)
    if outcome.failed:
        raise TrialsFailedError(_failures(outcome, len(trials)))


def trials_of(jobs: Sequence[Job], console: Console) -> list[Trial]:
    """Return the jobs' trials, each once, their data prepared."""
    prepared: dict[tuple[Any, ...], Prepared] = {}
    trials: dict[str, Trial] = {}
    for job in jobs:
        source = (job.config.data.name, job.config.data.path, job.config.data.test_path)
        if source not in prepared:
            prepared[source] = data.prepare(*source)
        one = trial(job, prepared[source])
        trials.setdefault(one.id, one)
    if len(trials) < len(jobs):
        console.print(
            f"{len(jobs) - len(trials)} of {len(jobs)} jobs name a trial already named; each runs once"
        )
    return list(trials.values())


def alike(jobs: Sequence[Job]) -> Any:
    """Return the first config; what is not scientific must be the same in all."""
    first = jobs[0].config
    for job in jobs:
        for key in ("execution", "tracking", "diagnostics", "dry_run"):
            if getattr(job.config, key) != getattr(first, key):
                raise ConfigError(
                    f"{key} differs within the sweep; it is one for all trials: write one value"
                )
    return first


def experiment_name(jobs: Sequence[Job], config_name: str) -> str:
    """Return the MLflow experiment of a sweep: as told, or the grid's name, or the preset's, or fnnexp.

    Raises
    ------
    ConfigError
        When it is no name that MLflow takes and a terminal shows.
    """
    presets = {job.choices.get("experiment") for job in jobs}
    preset = presets.pop() if len(presets) == 1 else None
    grid = grid_name(config_name)
    told = jobs[0].config.tracking.experiment
    name = grid or preset or "fnnexp" if told is None else told
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"tracking.experiment={name!r}: must be 1 to {LONGEST_NAME} characters that can be seen; "
            "write tracking.experiment=my_sweep"
        )
    return name


def grid_name(config_name: str) -> str | None:
    """Return the name of a grid's file, which may be given with its extension; None where there is none.

    >>> grid_name("card_grid"), grid_name("mine/card_grid.yaml"), grid_name("config")
    ('card_grid', 'card_grid', None)
    """
    name = Path(config_name).name.removesuffix(".yaml")
    return None if name == "config" else name


def _execution(config: Config) -> Execution:
    _engine_at_hand(config.execution.engine)
    return replace(config.execution, diagnostics=config.diagnostics)


def _engine_at_hand(name: str) -> None:
    """Refuse an engine that can't compute here.

    Raises
    ------
    ConfigError
        When what it needs is not installed.
    """
    try:
        engine_named(name)
    except ImportError as error:
        raise ConfigError(
            f"execution.engine={name} needs a package that can't be imported here ({error}); write: "
            f'pip install "fnnexp[{name}]", or execution.engine=numpy'
        ) from error


def sweep(
    trials: Sequence[Trial],
    name: str,
    config: Any,
    console: Console,
    opened: Callable[[], None] | None = None,
) -> Outcome:
    """Train what is not done of the trials and say what became of them; `opened` is told of the store.

    Raises
    ------
    FnnexpError
        When there was nothing to do but what another sweep is doing; InterruptedSweepError after Ctrl-C.
    """
    from fnnexp.sweeping.dry_run import say_identical
    from fnnexp.sweeping.loop import run
    from fnnexp.tracking.views import About
    from fnnexp.tracking.writer import Tracker

    say_identical(trials, console)
    params = [{key: str(value) for key, value in trial.params.items()} for trial in trials]
    validated = all(trial.recipe.validation for trial in trials)
    tracker = Tracker(name, config.tracking.uri, About(name, params, validated, COMMAND.get()), opened)
    outcome = run(trials, tracker, _execution(config), console)
    outcome.page = tracker.page
    _say(outcome, console)
    if outcome.elsewhere and len(outcome.elsewhere) + outcome.done_before == len(trials):
        raise FnnexpError(
            f"another sweep ({outcome.elsewhere[0][1]}) is training {len(outcome.elsewhere)} of these trials "
            "into this experiment, and nothing else is left to do; wait for it, or write "
            "tracking.experiment=NAME for an experiment of your own"
        )
    if outcome.interrupted:
        raise InterruptedSweepError("interrupted; start the same command again and it goes on where it was")
    return outcome


def _failures(outcome: Outcome, trials: int) -> str:
    stopped = ", and execution.fail_fast=true stopped the sweep" if outcome.stopped else ""
    listed = "\n".join(f"  {name}: {reason}" for name, reason in outcome.failed)
    return f"{len(outcome.failed)} of {trials} trials failed{stopped}:\n{listed}"


def _say(outcome: Outcome, console: Console) -> None:
    parts = [f"{len(outcome.finished)} trials finished"]
    if outcome.done_before:
        parts.append(f"{outcome.done_before} were done before")
    if outcome.elsewhere:
        parts.append(f"{len(outcome.elsewhere)} are left to another sweep ({outcome.elsewhere[0][1]})")
    if outcome.diverged:
        parts.append(f"{len(outcome.diverged)} diverged")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed")
    console.print(f"{', '.join(parts)} in {outcome.seconds:.1f} s", highlight=False)
