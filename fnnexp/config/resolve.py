"""Turn a job and its data into a trial: what it computes, its name and its params."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from functools import cache
from itertools import groupby
from types import NoneType
from typing import Any, TypeVar

from fnnexp.config.checks import dropout_rates
from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, Template, key_of, make_room
from fnnexp.config.schema import (
    ADDED_LATER,
    CHOICES,
    NODES,
    OF_SWEEPS,
    UNSCIENTIFIC,
    ArchConfig,
    Config,
    DataConfig,
    InitConfig,
    ScheduleConfig,
    keys_of,
)
from fnnexp.config.trial import Trial
from fnnexp.data import sources
from fnnexp.data.datasets import DATASETS, Prepared
from fnnexp.data.labelled import REAL
from fnnexp.data.sources import Reading
from fnnexp.errors import ConfigError, plural
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS, LEAKY_SLOPE
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS, Biases
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.metrics import METRICS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.regularizers import DROPOUT
from fnnexp.nn.pieces.schedules import SCHEDULES, Schedule
from fnnexp.nn.pieces.stopping import Stopping
from fnnexp.nn.training import Recipe
from fnnexp.pieces import registry

T = TypeVar("T")

MOST_PARAMETERS = 1 << 28
"""Maximum number of parameters of a network: 1 GB of float32."""

FILE_ENDING = re.compile(r"\.(npz|[ct]sv(\.gz)?)$", re.IGNORECASE)
"""The ending of a data file, which the name of the data set omits."""

LEAST_COUNTED = 3
"""From so many equal layers in a row on, the label of a network counts them, as in `relu_8x100`."""

COUNTED = r"(?<![0-9])([0-9]{1,4})x([0-9]{1,9})(?![0-9])"
"""Matches counted layers in a label: their number and their width."""

DARK = 128
"""If the brightest pixel is below this, pixels are not on the scale 0..255 but on 0..1, 0..16 or such."""


class _OnDemand(Mapping[str, Any]):
    """A mapping that is computed from a job whenever it is read, and not kept in memory for each trial."""

    __slots__ = ("_args", "_make")

    def __init__(self, make: Callable[..., dict[str, Any]], *args: Any) -> None:
        self._make, self._args = make, args

    def __getitem__(self, key: str) -> Any:
        return self._make(*self._args)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make(*self._args))

    def __len__(self) -> int:
        return len(self._make(*self._args))

    @property
    def job(self) -> Job:
        """The job from which the mapping is made."""
        job: Job = self._args[0]
        return job

    def items(self) -> Any:
        """Return the items. The mapping is computed only once for all of them."""
        return self._make(*self._args).items()

    def without_seed(self) -> Hashable:
        """Return a key that is equal for mappings that differ only in the seed.

        It contains the addresses of objects, so keys can be compared only while both mappings exist.
        """
        job, *others = self._args
        config = {key: value for key, value in vars(job.config).items() if key not in ("seed", *OF_SWEEPS)}
        values = (id(value) if key in NODES else value for key, value in config.items())
        return self._make, id(job.choices), job.changed, *others, *values

    def with_seed(self, seed: int) -> _OnDemand:
        """Return the mapping of the same job with another seed."""
        job, *others = self._args
        return _OnDemand(self._make, replace(job, config=replace(job.config, seed=seed)), *others)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return self._make(*self._args) | dict(other)

    def __repr__(self) -> str:
        return repr(self._make(*self._args))


class ParamsOfTrials(Iterable[Mapping[str, str]]):
    """Yields the params of each trial as texts. Trials that differ only in the seed share the work.

    Parameters
    ----------
    trials
        The trials.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._trials = trials

    def __iter__(self) -> Iterator[Mapping[str, str]]:
        shared: dict[Hashable, dict[str, str]] = {}
        for trial in self._trials:
            params = trial.params
            key = params.without_seed() if isinstance(params, _OnDemand) else id(params)
            if key not in shared:
                make_room(shared)
                shared[key] = {name: str(value) for name, value in params.items()}
            yield {**shared[key], "seed": str(trial.seed)} if "seed" in shared[key] else shared[key]


def trial(job: Job, data: Prepared) -> Trial:
    """Return the trial of a job on its prepared data.

    Raises
    ------
    ConfigError
        If the validation rows leave no training rows, or none of some class; if the subset has more rows than
        remain; if early stopping needs validation rows and there are none; if the pixels are not on the scale
        that the config says; or if the network is too large.
    """
    validation = _held_out(job.config, data)
    check_scale(job.config.data, data)
    architecture = _architecture(job.config.arch, data)
    job = _resolved(job, data, validation, architecture)
    config = job.config
    every_row = config.data.subset == data.n_train - validation
    optimizer = OPTIMIZERS[config.optimizer.name]
    if architecture.parameter_count > MOST_PARAMETERS:
        raise ConfigError(
            f"arch.hidden gives a network of {architecture.parameter_count} parameters on {data.name}; "
            f"at most {MOST_PARAMETERS} are allowed: write smaller widths, as in arch.hidden=[64,32]"
        )
    options, schedule = _options(config), schedule_of(config.schedule)
    recipe = _same(
        Recipe(
            architecture=replace(architecture, activation=_exact(architecture.activation)),
            batching=Batching(config.batching.mode, config.batching.size, config.batching.shuffle),
            optimizer=OPTIMIZERS.exact(config.optimizer.name),
            epochs=config.epochs,
            reduction=config.loss.reduction,
            epsilon=config.loss.epsilon,
            scale=config.data.scale,
            validation=validation,
            dtype=config.dtype,
            loss=LOSSES.exact(config.loss.name),
            output=config.loss.output,
            options=tuple(sorted([*options, *(["schedule"] if schedule else [])])),
            stopping=_stopping(config, data),
            seed_split=config.seed_split
            if validation
            else config.seed_split or None,  # without validation rows, None chooses the same rows as seed 0
            subset=None if every_row else config.data.subset,
            label_noise=float(config.data.label_noise),
            metrics=tuple(sorted(METRICS.own.values())),
        )
    )
    pieces = _files_of_pieces(config)  # now, since a file may change and be loaded again
    hyper = {name: float(getattr(config.optimizer, name)) for name in optimizer.hyperparameters} | options
    return Trial(
        recipe=recipe,
        data=data,
        method=INITIALIZERS.exact(config.init.method),
        std=config.init.std,
        hyper=_same(tuple(hyper.items())),
        seed=config.seed,
        name=_name(job, _labels(job)),
        params=_OnDemand(_params, job, pieces),
        config=_OnDemand(_written, job),
        gain=config.init.gain,
        bounds=_bounds(config.init),
        biases=_biases(config.init),
        seeds=_seeds(config),
        schedule=schedule,
    )


def with_seed(trial: Trial, seed: int) -> Trial:
    """Return the same trial with another seed."""
    params, config = trial.params, trial.config
    if not isinstance(params, _OnDemand) or not isinstance(config, _OnDemand):
        raise TypeError("with_seed needs a trial that fnnexp.config.resolve.trial made")
    params, config = params.with_seed(seed), config.with_seed(seed)
    job = params.job
    return replace(
        trial,
        seed=seed,
        name=_name(job, _labels(job)),
        params=params,
        config=config,
        seeds=_seeds(job.config),
    )


def with_values(base: Trial, values: Mapping[str, Any]) -> Trial:
    """Return the same trial with other values of some keys, as in `{"epochs": 3}`."""
    if not isinstance(base.params, _OnDemand):
        raise TypeError("with_values needs a trial that fnnexp.config.resolve.trial made")
    job = base.params.job
    overrides = (*job.overrides, *(f"{key}={value}" for key, value in values.items()))
    changed = job.changed | {key.partition(".")[0] for key in values}
    return trial(Job(Template(job).config(values), job.choices, overrides, changed), base.data)


def _seeds(config: Config) -> tuple[tuple[str, int], ...]:
    """Return ``seed_init``, ``seed_noise`` and ``seed_order`` where they differ from ``seed``.

    They are pairs such as ``("init", 7)``.
    """
    return tuple(
        (purpose, seed)
        for purpose in ("init", "noise", "order")
        if (seed := getattr(config, f"seed_{purpose}")) not in (None, config.seed)
    )


MOST_SHARED = 4096
"""Maximum number of values that are kept to share them among trials."""

_shared: dict[str, Any] = {}


def _same(value: T) -> T:
    """Return one object for all values with the same ``repr``, so that trials share it and memory is saved.

    Values may be equal and have another ``repr``: 0.0 and -0.0 differ in a bit, and so do the ids of
    their trials.
    """
    if len(_shared) >= MOST_SHARED:
        _shared.clear()
    same: T = _shared.setdefault(repr(value), value)
    return same


def _resolved(job: Job, data: Prepared, validation: int, architecture: Architecture) -> Job:
    """Return a job whose config has the values that are trained, also where they depend on the data.

    Examples are the number of validation rows, and one name for a list of equal activations. Nodes of the
    config that do not change stay the same objects.
    """
    config = job.config
    arch, rows = _canonical(config.arch, architecture), config.data
    if rows.validation != validation:
        rows = replace(rows, validation=validation)
    if rows.drop is not None and rows.drop != (drop := _canonical_columns(rows.reading.drop)):
        rows = replace(rows, drop=drop)
    split = config.seed_split if _uses_split(config, data, validation) else None
    if arch is config.arch and rows is config.data and split == config.seed_split:
        return job
    return replace(job, config=replace(config, arch=arch, data=rows, seed_split=split))


def schedule_of(config: ScheduleConfig) -> Schedule | None:
    """Return the schedule of a checked config, or None if the learning rate is constant."""
    if config.name == "constant" and not config.warmup:
        return None
    numbers = ((name, float(getattr(config, name))) for name in SCHEDULES[config.name].parameters)
    parameters = tuple((name, number + 0.0) for name, number in numbers)  # no -0.0 in ids
    return Schedule(SCHEDULES.exact(config.name), parameters, float(config.warmup))


def _options(config: Config) -> dict[str, float]:
    """Return the strengths of penalties, dropout, clipping and label smoothing by name, if they are not 0.

    So a trial with ``loss.label_smoothing=0`` is the same as the trial without that key.
    """
    rates = dropout_rates(config.regularization.dropout, len(config.arch.hidden))
    numbers: dict[str, float | None] = {
        "l2": config.regularization.l2,
        "l1": config.regularization.l1,
        **{f"{DROPOUT}{layer}": rate for layer, rate in enumerate(rates)},
        "max_norm": config.regularization.max_norm,
        "clip_norm": config.optimizer.clip_norm,
        "label_smoothing": config.loss.label_smoothing,
    }
    return {name: float(number) for name, number in sorted(numbers.items()) if number}


def _architecture(arch: ArchConfig, data: Prepared) -> Architecture:
    """Return the architecture of a network on a data set."""
    activation = arch.activation
    return Architecture(
        data.input_size,
        tuple(arch.hidden),
        data.classes,
        tuple(activation) if isinstance(activation, list) else activation,
        arch.hidden_bias,
        arch.output_bias,
        LEAKY_SLOPE if arch.slope is None else arch.slope,
    )


def _exact(activation: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Return the names of activations as they enter a trial's id.

    The name of an activation from a user's file then ends in the checksum of that file.
    """
    if isinstance(activation, str):
        return ACTIVATIONS.exact(activation)
    return tuple(map(ACTIVATIONS.exact, activation))


def _canonical(arch: ArchConfig, architecture: Architecture) -> ArchConfig:
    """Return the network's config in one form for all ways to write the same network.

    A list of equal activations becomes one name. The slope is the default if it is not given, and None if
    no layer is a leaky ReLU.
    """
    activation = architecture.activation
    names = [activation] if isinstance(activation, str) else list(activation)
    canonical = activation if isinstance(activation, str) else names
    slope = architecture.slope if "leaky_relu" in names else None
    if (canonical, slope) == (arch.activation, arch.slope):
        return arch
    return replace(arch, activation=canonical, slope=slope)


def _canonical_columns(names: Sequence[str]) -> str | list[str] | None:
    """Return names of columns in one form for all ways to write them: a name, a list of several, or None."""
    return list(names) if len(names) > 1 else names[0] if names else None


def _bounds(init: InitConfig) -> tuple[float, float] | None:
    """Return the bounds of the initializer ``uniform``; None for other initializers."""
    return None if init.low is None or init.high is None else (init.low + 0.0, init.high + 0.0)


def _biases(init: InitConfig) -> Biases | None:
    """Return how biases start; None for zeros, also if the config writes zeros as a constant."""
    if init.bias is None or (init.bias == "constant" and init.bias_scale == 0):
        return None
    return Biases(init.bias, init.bias_scale)


def _held_out(config: Config, data: Prepared) -> int:
    """Return how many training rows to hold out; raise if this number or the subset does not fit the data."""
    sixth, subset = data.n_train // 6, config.data.subset
    validation = sixth if config.data.validation is None else config.data.validation
    training = data.n_train - validation
    if training <= 0:
        raise ConfigError(
            f"data.validation={validation}: {data.name} has {data.n_train} training rows; "
            f"hold out fewer, as in data.validation={sixth}"
        )
    if subset is not None and subset > training:
        held_out = f", and data.validation={validation} holds out some" if validation else ""
        raise ConfigError(
            f"data.subset={subset}: {data.name} has {data.n_train} training rows{held_out}; "
            f"write at most data.subset={training}"
        )
    if config.seed_split is None and training < data.all_classes:
        raise ConfigError(
            f"data.validation={validation}: {plural(training, 'row')} of {data.name} would remain for "
            "training, and they lack some of the classes; shuffle the file's rows, or write at most "
            f"data.validation={data.n_train - data.all_classes}"
        )
    return validation


def check_scale(config: DataConfig, data: Prepared) -> None:
    """Raise if ``data.scale=unit``, which divides pixels by 255, does not fit the data."""
    if config.scale != "unit":
        return
    if data.real:
        why = next((note for note in data.notes if note.startswith(REAL)), REAL)
        raise ConfigError(
            f"data.scale=unit divides bytes 0..255 by 255, but {data.name} has no bytes; {why}; write "
            "data.scale=raw to train on them as they are, or data.scale=standardize"
        )
    if data.brightest < DARK:
        raise ConfigError(
            f"data.scale=unit divides pixels by 255, but the largest pixel of {data.name} is "
            f"{data.brightest}; write data.scale=raw"
        )


def _uses_split(config: Config, data: Prepared, validation: int) -> bool:
    """Return whether ``seed_split`` chooses anything: validation rows, a subset or noisy labels."""
    has_subset = config.data.subset not in (None, data.n_train - validation)
    return validation > 0 or has_subset or config.data.label_noise > 0


def _stopping(config: Config, data: Prepared) -> Stopping | None:
    """Return the rule of early stopping, or None; raise if it needs validation rows and there are none."""
    patience, metric = config.stopping.patience, config.stopping.metric
    if patience is None:
        return None
    if metric.startswith("val_") and not config.data.validation:
        rows = config.data.holdout or max(data.n_train // 6, 1)
        raise ConfigError(
            f"stopping.patience={patience} with stopping.metric={metric} needs validation rows, but "
            f"data.validation=0; write data.validation={rows}, or "
            f"stopping.metric={metric.replace('val', 'train', 1)}"
        )
    return Stopping(patience, config.stopping.min_delta + 0.0, metric)  # + 0.0, since -0.0 has other bits


def _labels(job: Job) -> dict[str, str]:
    """Return a label for each group: its chosen option, if the config has the option's values.

    Otherwise, as after ``init=he init.method=normal``, the label is made from the values: ``normal``.
    """
    labels = labels_from_values(job.config)
    for group in CHOICES:
        option = job.choices.get(group, "")
        if option and group not in job.changed and not is_label_from_values(group, option):
            labels[group] = option
    return labels


def data_name(job: Job) -> str:
    """Return the name of a job's data set, made of letters, digits, ``_``, ``-`` and ``.`` only.

    It is the label of the data, as runs show it: ``mnist``, ``digits``, or an option from the user's folder.
    For ``data=files`` it is the name of the file without its ending, or the name of the folder.
    """
    label = _labels(job)["data"]
    if label == "files" and job.config.data.path:
        label = FILE_ENDING.sub("", sources.place(job.config.data.path).absolute().name)
    plain = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", label))
    return plain.strip("._-") or "files"


def labels_from_values(config: Config) -> dict[str, str]:
    """Return a label for each group from its values: a network's activation and widths, a method's name.

    A network with different activations gets a label such as ``relu+tanh_64_32``. Three or more equal layers
    in a row are counted: ``relu_8x100``, ``relu_784_3x500_10``, and for activations ``7xrelu+tanh_8x100``.
    """
    activation = config.arch.activation
    activations = activation if isinstance(activation, list) else [activation]
    return {
        "arch": _joined(activations, list(map(str, config.arch.hidden))),
        "init": config.init.method,
        "batching": config.batching.mode,
        "optimizer": config.optimizer.name,
        "data": config.data.name,
        "loss": config.loss.name,
        "schedule": config.schedule.name,
    }


def is_label_from_values(group: str, option: str) -> bool:
    """Return whether an option is merely named after its values, as the network ``tanh_128`` is.

    >>> is_label_from_values("arch", "sigmoid_3x32"), is_label_from_values("init", "mine")
    (True, False)
    """
    if group == "arch":
        activations, _ = _parted(option)
        names = [re.sub("^[0-9]+x", "", name) for name in activations]
    else:
        names = [option]
    return all(name in _NAMES_OF_VALUES[group] for name in names)


def label_now(arch: str) -> str:
    """Return the label of a network as new runs have it: equal layers are counted.

    Runs of earlier versions have labels such as ``relu_8_8_8``. The name of a user's option is unchanged.

    >>> label_now("relu_8_8_8"), label_now("relu_4x8"), label_now("sigmoid_32_32"), label_now("mine_8_8_8")
    ('relu_3x8', 'relu_4x8', 'sigmoid_32_32', 'mine_8_8_8')
    """
    return _joined(*_parted(arch)) if is_label_from_values("arch", arch) else arch


def label_in_full(arch: str) -> str:
    """Return the label of a network with each of its layers, as runs of earlier versions have it.

    >>> label_in_full("relu_3x8"), label_in_full("tanh_128")
    ('relu_8_8_8', 'tanh_128')
    """
    return re.sub(COUNTED, lambda match: "_".join([match[2]] * int(match[1])), arch)


def _joined(activations: Sequence[str], widths: Sequence[str]) -> str:
    """Return the label of a network. Equal activations and equal layers in a row are counted."""
    return "_".join(["+".join(_counted(activations)), *_counted(widths)])


def _counted(words: Sequence[str]) -> list[str]:
    """Return the words, with :data:`LEAST_COUNTED` or more equal words in a row written once, as ``3x500``.

    >>> _counted(["784", "500", "500", "500", "10"]), _counted(["32", "32"])
    (['784', '3x500', '10'], ['32', '32'])
    """
    counts = [(word, len([*equal])) for word, equal in groupby(words)]
    return [text for word, n in counts for text in ([f"{n}x{word}"] if n >= LEAST_COUNTED else [word] * n)]


def _parted(arch: str) -> tuple[list[str], list[str]]:
    """Return the activations and the widths in the label of a network."""
    widths = re.search(r"(_([0-9]+x)?[0-9]+)*\Z", arch)
    assert widths  # the pattern matches the empty text
    start = widths.start()
    return arch[:start].split("+"), arch[start:].split("_")[1:]


_NAMES_OF_VALUES: Mapping[str, Container[str]] = {
    "arch": ACTIVATIONS,
    "init": INITIALIZERS,
    "batching": MODES,
    "optimizer": OPTIMIZERS,
    "data": DATASETS,
    "loss": LOSSES,
    "schedule": SCHEDULES,
}

_KEYS_IN_PREFIX = ("seed", "arch.hidden", "arch.activation", "init.method", "batching.mode")
"""The keys whose values are in the first part of a trial's name."""


def _name(job: Job, labels: Mapping[str, str]) -> str:
    """Return a trial's name: ``arch-init-batching-sSEED``, followed by the other overrides."""
    prefix = [labels["arch"], labels["init"], labels["batching"], f"s{job.config.seed}"]
    last = {key_of(override): override for override in job.overrides}
    return "-".join(
        [
            *prefix,
            *(
                override
                for key, override in last.items()
                if _adds_to_name(key, override, labels)
                and not (key == "seed_split" and job.config.seed_split is None)
            ),
        ]
    )


def _adds_to_name(key: str, override: str, labels: Mapping[str, str]) -> bool:
    """Return whether a trial's name must show an override, since the name does not say it otherwise."""
    if key in _KEYS_IN_PREFIX or key.split(".")[0] in UNSCIENTIFIC:
        return False
    option = override.partition("=")[2].removesuffix(".yaml")
    if option == labels.get(key):
        return key in ("optimizer", "data", "loss", "schedule")
    return key not in labels or not is_label_from_values(key, option)


def _params(job: Job, pieces: str | None) -> dict[str, Any]:
    """Return a trial's params: the label of each group, and every other value under its dotted key.

    An option for reading files, or a key of :data:`ADDED_LATER`, is a param only if it is not the default. So
    runs recorded before there were such keys have the same params.
    """
    params: dict[str, Any] = dict(_labels(job))
    if "experiment" in job.choices:
        params["experiment"] = job.choices["experiment"]
    params.update(_flat(_written(job)))
    params["pieces"] = pieces
    reading = {f"data.{option.name}": option.default for option in fields(Reading)}
    defaults = {**reading, **later_defaults()}
    return {key: value for key, value in params.items() if value is not None and value != defaults.get(key)}


def _files_of_pieces(config: Config) -> str | None:
    """Return the files of the user's pieces (an initializer, a loss …) that a trial uses; None if none."""
    activation = config.arch.activation
    return registry.files_of(
        {
            "initializer": [config.init.method],
            "activation": activation if isinstance(activation, list) else [activation],
            "optimizer": [config.optimizer.name],
            "loss": [config.loss.name],
            "schedule": [config.schedule.name],
            "dataset": [config.data.name],
        }
    )


@cache
def later_defaults() -> Mapping[str, Any]:
    """Return the defaults of the keys in :data:`ADDED_LATER`, and the default options of its groups."""
    flat = labels_from_values(Config()) | _flat(asdict(Config()))
    groups = tuple(key for key in ADDED_LATER if key.endswith("."))
    return {key: value for key, value in flat.items() if key in ADDED_LATER or key.startswith(groups)}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config that can change results, by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in UNSCIENTIFIC:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": v for name, v in value.items() if name not in ("lr_for", "holdout")}
        else:
            flat[key] = value
    return flat


def _written(job: Job) -> dict[str, Any]:
    """Return a job's config as nested dictionaries, as in a run's ``config.yaml``."""
    values = _as_dict(job.config)
    values["execution"] = {key: values["execution"][key] for key in keys_of(Execution)}
    for key in OF_SWEEPS:
        del values[key]
    return values


def _as_dict(node: Any) -> dict[str, Any]:
    """Return a dataclass as nested dictionaries, like ``asdict``, but ten times as fast.

    ``asdict`` calls ``deepcopy`` for every number and text. A sweep of many tiny trials would feel that.
    """
    copied = dict(vars(node))
    for key, value in copied.items():
        if not isinstance(value, _PLAIN):
            copied[key] = _as_dict(value) if is_dataclass(value) else deepcopy(value)
    return copied


_PLAIN = (str, int, float, NoneType)
