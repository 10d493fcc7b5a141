"""Turn a command into a sweep: its trials, and how they run.

The command line, ``fnnexp.sweep()`` and ``fnnexp reproduce`` all compose here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf, open_dict

from fnnexp.config.commands import Command, grid_name
from fnnexp.config.composition import FULL_ERROR, SEARCH_PATH, composing, hydra_state_restored
from fnnexp.config.execution import AUTO, Budget, Execution, budget_of, recorded
from fnnexp.config.grids import tuned
from fnnexp.config.grids.spaces import Drawn
from fnnexp.config.grids.tuned import Tuned
from fnnexp.config.jobs import Job, key_of
from fnnexp.config.messages import explain
from fnnexp.config.resolve import ParamsOfTrials, data_name, trial, with_seed
from fnnexp.config.schema import (
    CHOICES,
    OF_SWEEPS,
    Config,
    SearchConfig,
    UntilConfig,
    conf_folder,
    sweeps_folder,
)
from fnnexp.config.trial import Trial
from fnnexp.data import datasets
from fnnexp.errors import ConfigError, FnnexpError, did_you_mean, plural
from fnnexp.nn import rows
from fnnexp.nn.engines.base import engine_named
from fnnexp.pieces import files

SMALL_BATCH = 8
"""The last batch of an epoch is small if the other batches have more than this many times as many rows."""

LONGEST_NAME = 200
"""Maximum length of an experiment's name; MLflow allows 500."""

LONGEST_DATA_NAME = 60
"""Maximum length of an experiment's name that is made from the names of data sets."""

TOLD = 500
"""Progress is printed each time that so many more jobs are composed."""

OPTUNA = 5
"""The oldest major version of Optuna that works here."""

PLACES = ("tracking.uri", "execution.address")
"""The keys that name the store of results and the cluster that trains."""


@dataclass(frozen=True)
class Sweep:
    """A composed command: what to train, and how.

    Attributes
    ----------
    command
        The command.
    experiment
        The name of the MLflow experiment for the runs.
    trials
        The trials in the grid's order, without duplicates.
    execution
        How the trials run.
    tracking_uri
        MLflow's store; None is MLflow's own default.
    dry_run
        Whether to show the plan and train nothing.
    notes
        Notes to print before training.
    named_by_files
        Which of ``tracking.uri`` and ``execution.address`` a config file sets, and not the command. Their
        values are printed before anything connects.
    budget
        How much the command may train; None is no limit.
    until
        When the sweep ends. With ``until=settled``, `trials` are those of the first round.
    compare, margin
        The factors that ``until=settled`` compares (all, if empty), and the margin of equivalence.
    search
        How the configurations to train are chosen from the swept values. `trials` are all from which a search
        may choose; with ``search=tpe``, only the first batch.
    drawn
        With ``search=tpe``, the configurations of the first batch.
    tuned
        The tuned comparison that ``compare`` and ``tune`` ask for, or None. If there is one, `trials` are
        those that tune; the trials with fresh seeds are made from their results.
    swept
        The keys with several values, in groups. The keys of a group, joined by ``zip``, take their next
        values together; a key by itself is a group too.
    """

    command: Command
    experiment: str
    trials: tuple[Trial, ...]
    execution: Execution
    tracking_uri: str | None
    dry_run: bool
    notes: tuple[str, ...] = ()
    named_by_files: tuple[str, ...] = ()
    budget: Budget | None = None
    until: UntilConfig = field(default_factory=UntilConfig)
    compare: tuple[str, ...] = ()
    margin: float | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    drawn: Drawn | None = None
    tuned: Tuned | None = None
    swept: tuple[tuple[str, ...], ...] = ()


def compose(
    command: Command,
    begin: Callable[[Config, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Sweep:
    """Turn a command into a sweep: compose its jobs with Hydra, prepare their data, and make the trials.

    Parameters
    ----------
    command
        The command to compose.
    begin
        Called with the first job's config and the number of jobs, as soon as the first job is composed. So
        workers can start while the other jobs are composed.
    tell
        Called from time to time with a line about the progress, as in "composing 100,000 jobs: 45%".

    Raises
    ------
    FnnexpError
        If the command cannot be composed, with what was given, what is allowed and what to write.
    """
    jobs: list[Job] = []
    files.refuse_within_a_file()
    failures = files.load_installed()
    command = replace(command, pieces=tuple(map(files.load, command.pieces)))
    with composing(command) as composition:
        for job in composition.jobs():
            jobs.append(job)
            if begin is not None and len(jobs) == 1:
                begin(job.config, composition.count)
            if tell is not None and len(jobs) % TOLD == 0:
                tell(f"composing {composition.count:,} jobs: {len(jobs) / composition.count:.0%}")
        notes = [*failures, *_notes_of_own_files(command, composition.search_path), *composition.notes()]
        comparison, swept = composition.tuned, composition.swept
    config = _shared_config(jobs)
    _refuse_absent_engine(config.execution.engine)
    if config.search.name == "tpe":
        _refuse_absent_optuna()
    experiment = experiment_name(jobs, command.config_name)
    trials, ids, data_notes = _trials(jobs, tell)
    if config.until.name is not None:
        _refuse_seeds_in_command(command, trials)
    repeated = len(jobs) - len(trials)
    if config.tune is not None:
        comparison, trials = _tuned(config, comparison, trials)
        notes.append(_note_of_tuning(comparison, trials))
        if config.tracking.experiment is None:
            experiment = tuned.experiment_name(experiment, comparison)
    verb = "duplicates another job" if repeated == 1 else "duplicate other jobs"
    duplicates = [f"{repeated} of {len(jobs)} jobs {verb}; each trial runs once"]
    return Sweep(
        command=command,
        experiment=experiment,
        trials=tuple(trials),
        execution=replace(config.execution, diagnostics=recorded(config.diagnostics)),
        tracking_uri=config.tracking.uri,
        dry_run=config.dry_run,
        notes=(*(duplicates if repeated else ()), *notes, *data_notes),
        named_by_files=tuple(_named_by_files(config, command)),
        budget=None if config.budget is None else budget_of(config.budget),
        until=config.until,
        compare=_compared(config, trials),
        margin=config.margin,
        search=config.search,
        drawn=composition.drawn(ids),
        tuned=comparison,
        swept=swept,
    )


def batch(search: Sweep, rows: Sequence[tuple[Any, ...]]) -> Sweep:
    """Return a search's sweep with the trials of its next batch in place of its earlier trials.

    `rows` are the configurations of the batch, each a tuple with the values of the drawn keys. The sweep
    has no trials if ``where`` leaves all of them out.
    """
    with composing(search.command, rows) as composition:
        jobs = list(composition.jobs())
    trials, ids, _ = _trials(jobs)
    return replace(search, trials=tuple(trials), notes=(), drawn=composition.drawn(ids))


def jobs_of(command: Command) -> list[Job]:
    """Return the jobs (composed, checked configs) of a command, without reading data; see :func:`compose`."""
    with composing(command) as composition:
        return list(composition.jobs())


def show(command: Command, part: str, *, package: str | None = None, resolve: bool = False) -> str:
    """Return a composed config as YAML: the output of ``--cfg job``, ``--cfg hydra`` or ``--cfg all``.

    Raises
    ------
    FnnexpError
        If Hydra cannot compose the config, or the config has no part called ``package``.
    """
    with composing(command) as composition:
        composition.refuse_several()
        config = composition.whole()
        with open_dict(config):
            for key in list(config):
                if part != "all" and (key == "hydra") != (part == "hydra"):
                    del config[key]
        selected = config if package in (None, "_global_") else OmegaConf.select(config, str(package))
        if selected is None:
            raise ConfigError(f"--package {package}: the config has no such key; write --package arch")
        if not OmegaConf.is_config(selected):
            return f"{selected}\n"
        if resolve:
            OmegaConf.resolve(selected)
        return ("" if selected is config else f"# @package {package}\n") + OmegaConf.to_yaml(selected)


def let_hydra_answer(command: Command) -> None:
    """Let Hydra handle the flags in ``sys.argv``: ``--info``, ``--hydra-help``, shell completion.

    Raises
    ------
    FnnexpError
        If Hydra cannot compose the command, or its config is more than data. Nothing has run then.
    """
    with composing(command) as composition:
        composition.refuse_several()
    # To complete a line with hydra.searchpath, Hydra would import the packages that the line names.
    if SEARCH_PATH in os.environ.get("COMP_LINE", ""):
        return
    before, argv = os.environ.get(FULL_ERROR), sys.argv
    os.environ[FULL_ERROR] = "1"  # so that Hydra raises errors instead of printing them
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--pieces", action="append")
    sys.argv = [argv[0], *ours.parse_known_args(argv[1:])[1]]
    try:
        with hydra_state_restored():
            hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(print)()
    except Exception as error:
        if before == "1" or isinstance(error, FnnexpError | BrokenPipeError):
            raise
        raise ConfigError(explain(error)) from error
    finally:
        sys.argv = argv
        os.environ.pop(FULL_ERROR) if before is None else os.environ.update({FULL_ERROR: before})


# From jobs to trials


def _notes_of_own_files(command: Command, search_path: Sequence[Path]) -> Iterator[str]:
    """Yield notes on the user's files that have the same names as shipped files.

    As in any Hydra app, the folder of `-cd` takes precedence over the shipped files, and these take
    precedence over the folders of `hydra.searchpath`.
    """
    if command.config_dir is not None and (own := _named_as_shipped(command.config_dir)):
        yield f"{command.config_dir} has files that replace fnnexp's files of the same name: {', '.join(own)}"
    for folder in search_path:
        if unused := _named_as_shipped(folder):
            yield (
                f"ignoring files in {folder} that fnnexp has by the same name: {', '.join(unused)}; to use "
                f"them write -cd {folder}"
            )


def _named_as_shipped(folder: Path) -> list[str]:
    """Return the files in a folder of configs that have the names of shipped files."""
    shipped = [
        path.relative_to(root)
        for root in (conf_folder(), sweeps_folder())
        for path in sorted(root.rglob("*.yaml"))
    ]
    return [path.as_posix() for path in shipped if (folder / path).is_file()]


def _named_by_files(config: Config, command: Command) -> Iterator[str]:
    """Yield ``tracking.uri`` and ``execution.address`` if a config file sets them, and not the command."""
    for key in PLACES:
        node, _, name = key.partition(".")
        in_command = any(
            key_of(override) == key or (key_of(override) == node and f"{name}:" in override)
            for override in command.overrides
        )
        if not in_command and getattr(getattr(config, node), name) is not None:
            yield key


def _shared_config(jobs: Sequence[Job]) -> Config:
    """Return the first job's config, for the keys that all jobs must share, such as ``execution``.

    Raise if the jobs differ in such a key.
    """
    first = jobs[0].config
    for job in jobs:
        for key in ("execution", "tracking", "diagnostics", "dry_run", *OF_SWEEPS):
            if getattr(job.config, key) != getattr(first, key):
                example = {"compare": "compare=[init,arch]", "tune": "tune=[optimizer.lr,optimizer.momentum]"}
                values = f"write a list, as in {example[key]}" if key in example else "write one value"
                raise ConfigError(f"{key} differs between jobs; it must be the same for all trials: {values}")
    return first


def _refuse_seeds_in_command(command: Command, trials: Sequence[Trial]) -> None:
    """Raise if a command with ``until=settled`` sweeps over seeds."""
    seeds = [line for line in command.overrides if key_of(line) == "seed"]
    if seeds and len({trial.seed for trial in trials}) > 1:
        raise ConfigError(
            f"{seeds[-1]}: until=settled adds seeds itself, as many as each question needs; omit "
            f"{seeds[-1]}, or omit until=settled"
        )
    for purpose in ("init", "order", "noise", "split"):
        if len({trial.params.get(f"seed_{purpose}") for trial in trials}) > 1:
            raise ConfigError(
                f"until=settled compares options by `seed`, so seed_{purpose} must not be swept over; write "
                f"one value of seed_{purpose}, or omit until=settled"
            )


def _compared(config: Config, trials: Sequence[Trial]) -> tuple[str, ...]:
    """Return the factors in ``compare`` that ``until=settled`` shall compare; () stands for all factors.

    Raise if one of them does not vary in the sweep, or if nothing varies but the seed.
    """
    if config.until.name is None:
        return ()
    values: dict[str, set[str]] = {}
    for params in ParamsOfTrials(trials):
        for key, value in params.items():
            values.setdefault(key, set()).add(value)
    varied = [key for key, different in values.items() if len(different) > 1 and key != "seed"]
    if not varied:
        raise ConfigError(
            "until=settled compares options, but nothing varies in this sweep except the seed; write several "
            "values, as in -m init=max,he"
        )
    names = config.compare if isinstance(config.compare, list) else [config.compare]
    for name in filter(None, names):
        if name not in varied:
            known = [key for key in varied if key not in CHOICES and key.partition(".")[0] in varied]
            factors = [key for key in varied if key not in known]  # `init`, but not `init.method` of it
            raise ConfigError(
                f"compare={name}: does not vary in this sweep; what varies is {', '.join(factors)}."
                f"{did_you_mean(name, factors)}"
            )
    return tuple(filter(None, dict.fromkeys(names)))


def _tuned(config: Config, asked: Tuned | None, trials: Sequence[Trial]) -> tuple[Tuned, list[Trial]]:
    """Return a tuned comparison with its fresh seeds, and the trials that tune its options.

    `asked` is the comparison that the command asks for. `trials` has one trial for each option and each
    drawn configuration; the returned list has it with each of the tuning seeds.
    """
    if asked is None:
        raise ConfigError(
            f"tune={config.tune}: is for sweeps, and this command runs a single trial; add -m. In a file, "
            "write tune: at the top level, beside hydra:"
        )
    if config.until.name is not None:
        raise ConfigError(
            "until=settled: has no meaning with tune, which compares the options once, on a fixed number of "
            "seeds; omit it, and for more seeds write 'seed=range(12)'"
        )
    params = [*ParamsOfTrials(trials)]
    if len({tuned.level_of(asked, each) for each in params}) < 2:
        names = " and ".join(asked.compare)
        raise ConfigError(
            f"compare={names}: all trials of this sweep have the same {names}; write several values of it"
        )
    comparison = tuned.with_fresh(asked, asked.fresh or (config.seed,))
    return comparison, [with_seed(trial, seed) for trial in trials for seed in tuned.TUNING_SEEDS]


def _note_of_tuning(comparison: Tuned, trials: Sequence[Trial]) -> str:
    """Return the note that says what a tuned comparison trains."""
    counts = Counter(tuned.level_of(comparison, params) for params in ParamsOfTrials(trials))
    drawn = sorted({count // len(tuned.TUNING_SEEDS) for count in counts.values()})
    first, *_, last = comparison.fresh
    fresh = f"seeds {first} to {last}" if [*comparison.fresh] == [*range(first, last + 1)] else "fresh seeds"
    return (
        f"{comparison}: {'–'.join(map(str, drawn[:1] + drawn[1:][-1:]))} "
        f"configuration{'' if drawn == [1] else 's'} of {', '.join(comparison.tune)} for each of "
        f"{plural(len(counts), 'option')}, with seeds {' and '.join(map(str, tuned.TUNING_SEEDS))}; the best "
        f"of each is then compared on {fresh}"
    )


def _refuse_absent_engine(name: str) -> None:
    if name == AUTO:
        return
    try:
        engine_named(name)
    except ImportError as error:
        raise ConfigError(
            f"execution.engine={name} needs a package that can't be imported ({error}); run "
            f'pip install "fnnexp[{name}]", or write execution.engine=auto'
        ) from error


def _refuse_absent_optuna() -> None:
    """Raise if Optuna, which chooses the configurations of ``search=tpe``, is not installed or too old."""
    try:
        version = metadata.version("optuna")
    except metadata.PackageNotFoundError:
        state = "is not installed"
    else:
        if int(version.partition(".")[0]) >= OPTUNA:
            return
        state = f"is installed as version {version}"
    raise ConfigError(
        f"search=tpe needs Optuna {OPTUNA} or newer, which {state}; run "
        'pip install "fnnexp[optuna]", or write search=random'
    )


def _trials(
    jobs: Sequence[Job], tell: Callable[[str], None] | None = None
) -> tuple[list[Trial], list[str], list[str]]:
    """Prepare the jobs' data; return the different trials, each job's trial id, and notes on the data."""
    prepared: dict[tuple[Any, ...], datasets.Prepared] = {}
    trials: dict[str, Trial] = {}
    ids: list[str] = []
    published: set[str] = set()
    for i, job in enumerate(jobs):
        if tell is not None and i % TOLD == TOLD - 1:
            tell(f"preparing {len(jobs):,} trials: {i / len(jobs):.0%}")
        config = job.config.data
        source = (config.name, config.path, config.test_path, config.reading, config.toy)
        if source not in prepared:
            prepared[source] = datasets.prepare(*source)
        new = trial(job, prepared[source])
        ids.append(new.id)
        if trials.setdefault(new.id, new) is new and "experiment" in job.choices:
            published.add(new.id)
    own = [each for each in trials.values() if each.id not in published]
    notes = [
        f"{path or f'data={name}'}: {note}"
        for (name, path, *_), data in prepared.items()
        for note in data.notes
    ]
    return (
        list(trials.values()),
        ids,
        [
            *notes,
            *_notes_of_validation([*trials.values()], own),
            *_notes_of_drawn_rows([*trials.values()]),
            *_notes_of_last_batches(own),
        ],
    )


def _notes_of_validation(trials: Sequence[Trial], own: Sequence[Trial]) -> Iterator[str]:
    """Yield warnings about validation rows: a trial has none, or they lack a class.

    Presets, which are not among the user's `own` trials, are exempt from the first warning: they run as
    published, and nothing is chosen among them.
    """
    unvalidated = [each for each in own if not each.recipe.validation]
    if unvalidated:
        data = unvalidated[0].data
        sixth = unvalidated[0].config["data"]["holdout"] or max(data.n_train // 6, 1)
        yield (
            f"data.validation=0 in {len(unvalidated)} of {plural(len(trials), 'trial')}: "
            f"{'it trains' if len(unvalidated) == 1 else 'they train'} on all rows, so the best "
            "trial is chosen by the test rows, and its accuracy is optimistic; expect worse on new "
            f"rows. To choose by held-out rows of {data.name}, write data.validation={sixth}"
        )
    in_order = (each for each in trials if each.recipe.seed_split is None)
    for data, held_out in dict.fromkeys((each.data, each.recipe.validation) for each in in_order):
        if 0 < held_out < data.last_classes:
            yield (
                f"data.validation={held_out}: validation rows are the last "
                f"{plural(held_out, 'training row')} of {data.name}. They lack a class, so they can't "
                "measure how well that class is learned; shuffle the file's rows"
            )


def _notes_of_drawn_rows(trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a warning if the training or validation rows that a seed chooses lack a class.

    Sweeps over seeds get one warning for each number of rows, and not one for each seed.
    """
    chosen = {
        (each.data, each.recipe.validation, each.recipe.subset, each.recipe.seed_split): each.recipe
        for each in trials
        if each.recipe.subset is not None or each.recipe.seed_split is not None
    }
    warnings: dict[str, None] = {}
    for (data, validation, subset, seed), recipe in chosen.items():
        labels = datasets.load(data).y_train
        train, held_out = rows.numbers(recipe, data.n_train)
        if rows.lacks_a_class(labels[train], data.classes):
            size = plural(count := recipe.rows_to_train(data.n_train), "training row")
            number = f"data.validation={validation}" if subset is None else f"data.subset={subset}"
            mend = "hold out fewer rows" if subset is None else "write a larger subset"
            warnings[
                f"{number}: {size} drawn from {data.name} lack{'s' * (count == 1)} a class, which can't be "
                f"learned; {mend}, or write another seed_split"
            ] = None
        if seed is not None and validation and rows.lacks_a_class(labels[held_out], data.classes):
            size = plural(validation, "validation row")
            warnings[
                f"data.validation={validation}: {size} drawn from {data.name} lack a class, so they can't "
                "measure how well that class is learned; hold out more rows"
            ] = None
    yield from warnings


def _notes_of_last_batches(own: Sequence[Trial]) -> Iterator[str]:
    """Yield a warning for each size of mini-batches that leaves few rows for the last batch of an epoch.

    The gradient of few rows is noisy, but its step is as long as any other, and the results of an epoch are
    measured right after it. Presets are exempt: they run as published.
    """
    sizes = {
        (each.recipe.batching.size, each.recipe.rows_to_train(each.data.n_train)): each
        for each in own
        if each.recipe.batching.mode == "mini" and each.recipe.reduction == "mean"
    }
    for (size, n), each in sizes.items():
        rest = n % size if size else 0
        if size and n > size and 0 < rest < size / SMALL_BATCH:
            yield (
                f"batching.size={size}: the last batch of an epoch has only {plural(rest, 'row')}, as "
                f"{n} rows of {each.data.name} train. Its step is noisy, and the results of an epoch are "
                f"measured right after it; write data.subset={n - rest}, or another batching.size"
            )


def experiment_name(jobs: Sequence[Job], config_name: str) -> str:
    """Return the name of the MLflow experiment that a sweep's runs go into.

    It is ``tracking.experiment`` if that is set, else the grid's name, else the name of the preset that all
    jobs share, else the name of the data. The names of several data sets are joined by ``_`` in alphabetical
    order, so their order in the command does not matter.

    Raises
    ------
    ConfigError
        If ``tracking.experiment`` is empty, too long or has invisible characters.
    """
    presets = {job.choices.get("experiment") for job in jobs}
    preset = presets.pop() if len(presets) == 1 else None
    name = jobs[0].config.tracking.experiment
    if name is None:
        name = grid_name(config_name) or preset or _named_after_data(jobs)
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise ConfigError(
            f"tracking.experiment={name!r}: must be 1 to {LONGEST_NAME} visible characters; "
            "write tracking.experiment=my_sweep"
        )
    return name


def _named_after_data(jobs: Sequence[Job]) -> str:
    """Return the names of the jobs' data sets, joined by ``_``: ``digits_moons``, or ``a_b_and_7_more``."""
    distinct = {(id(job.config.data), id(job.choices), job.changed): job for job in jobs}
    names = sorted({data_name(job) for job in distinct.values()})
    for kept in range(len(names), 0, -1):
        rest = [f"and_{len(names) - kept}_more"] if kept < len(names) else []
        name = "_".join([*names[:kept], *rest])
        if len(name) <= LONGEST_DATA_NAME:
            return name
    return name[:LONGEST_DATA_NAME]
