"""Turn a job and its data into a trial: what it computes, its name and its params."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Mapping
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, key_of
from fnnexp.config.schema import (
    ADDED_LATER,
    CHOICES,
    UNSCIENTIFIC,
    Config,
    DataConfig,
    ScheduleConfig,
    keys_of,
)
from fnnexp.config.trial import Trial
from fnnexp.data import sources
from fnnexp.data.datasets import DATASETS, Prepared
from fnnexp.data.sources import Reading
from fnnexp.errors import ConfigError, plural
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES, Schedule
from fnnexp.nn.training import Recipe

MOST_PARAMETERS = 1 << 28
"""Maximum number of parameters of a network: 1 GB of float32."""

FILE_ENDING = re.compile(r"\.(npz|[ct]sv(\.gz)?)$", re.IGNORECASE)
"""The ending of a data file, which the name of the data set omits."""

DARK = 128
"""If the brightest pixel is below this, pixels are not on the scale 0..255 but on 0..1, 0..16 or such."""


def trial(job: Job, data: Prepared) -> Trial:
    """Return the trial of a job on its prepared data.

    Raises
    ------
    ConfigError
        If the validation rows leave no training rows, or none of some class; if the pixels are not on the
        scale that the config says; or if the network is too large.
    """
    validation = _held_out(job.config.data, data)
    job = replace(job, config=replace(job.config, data=replace(job.config.data, validation=validation)))
    config = job.config
    optimizer = OPTIMIZERS[config.optimizer.name]
    architecture = Architecture(
        data.input_size,
        tuple(config.arch.hidden),
        data.classes,
        config.arch.activation,
        config.arch.hidden_bias,
        config.arch.output_bias,
    )
    if architecture.parameter_count > MOST_PARAMETERS:
        raise ConfigError(
            f"arch.hidden gives a network of {architecture.parameter_count} parameters on {data.name}; "
            f"at most {MOST_PARAMETERS} are allowed: write smaller widths, as in arch.hidden=[64,32]"
        )
    schedule = schedule_of(config.schedule)
    recipe = Recipe(
        architecture=architecture,
        batching=Batching(config.batching.mode, config.batching.size, config.batching.shuffle),
        optimizer=config.optimizer.name,
        epochs=config.epochs,
        reduction=config.loss.reduction,
        epsilon=config.loss.epsilon,
        scale=config.data.scale,
        validation=validation,
        dtype=config.dtype,
        options=() if schedule is None else ("schedule",),
    )
    hyper = tuple((name, float(getattr(config.optimizer, name))) for name in optimizer.hyperparameters)
    labels = _labels(job)
    return Trial(
        recipe=recipe,
        data=data,
        method=config.init.method,
        std=config.init.std,
        hyper=hyper,
        seed=config.seed,
        name=_name(job, labels),
        params=_params(job, labels),
        config=_written(config),
        schedule=schedule,
    )


def schedule_of(config: ScheduleConfig) -> Schedule | None:
    """Return the schedule of a checked config, or None if the learning rate is constant."""
    if config.name == "constant" and not config.warmup:
        return None
    parameters = tuple((name, float(getattr(config, name))) for name in SCHEDULES[config.name].parameters)
    return Schedule(config.name, parameters, float(config.warmup))


def _held_out(config: DataConfig, data: Prepared) -> int:
    """Return how many training rows to hold out; raise if the number or the scale does not fit the data."""
    sixth = data.n_train // 6
    validation = sixth if config.validation is None else config.validation
    training = data.n_train - validation
    if training <= 0:
        raise ConfigError(
            f"data.validation={validation}: {data.name} has {data.n_train} training rows; "
            f"hold out fewer, as in data.validation={sixth}"
        )
    if training < data.all_classes:
        raise ConfigError(
            f"data.validation={validation}: {plural(training, 'row')} of {data.name} would remain for "
            "training, and they lack a class; shuffle the file's rows, or write at most "
            f"data.validation={data.n_train - data.all_classes}"
        )
    if config.scale == "unit" and data.brightest < DARK:
        raise ConfigError(
            f"data.scale=unit divides pixels by 255, but the largest pixel of {data.name} is "
            f"{data.brightest}; write data.scale=raw"
        )
    return validation


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
    """Return a label for each group from its values: a network's activation and widths, a method's name."""
    return {
        "arch": "_".join([config.arch.activation, *map(str, config.arch.hidden)]),
        "init": config.init.method,
        "batching": config.batching.mode,
        "optimizer": config.optimizer.name,
        "data": config.data.name,
        "loss": config.loss.name,
        "schedule": config.schedule.name,
    }


def is_label_from_values(group: str, option: str) -> bool:
    """Return whether the name of an option says no more than :func:`labels_from_values` would.

    >>> is_label_from_values("arch", "sigmoid_32_32"), is_label_from_values("init", "mine")
    (True, False)
    """
    return (re.sub(r"(_\d+)+$", "", option) if group == "arch" else option) in _NAMES_OF_VALUES[group]


_NAMES_OF_VALUES: Mapping[str, Container[str]] = {
    "arch": ACTIVATIONS,
    "init": INITIALIZERS,
    "batching": MODES,
    "optimizer": OPTIMIZERS,
    "data": DATASETS,
    "loss": ("cross_entropy", "binary_cross_entropy", "mse"),
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
            *(override for key, override in last.items() if _adds_to_name(key, override, labels)),
        ]
    )


def _adds_to_name(key: str, override: str, labels: Mapping[str, str]) -> bool:
    """Return whether an override holds in the config and says more than the first part of the name."""
    if key in _KEYS_IN_PREFIX or key.split(".")[0] in UNSCIENTIFIC:
        return False
    option = override.partition("=")[2].removesuffix(".yaml")
    if option == labels.get(key):
        return key in ("optimizer", "data", "schedule")
    return key not in labels or not is_label_from_values(key, option)


def _params(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a trial's params: the label of each group, and every other value under its dotted key.

    An option for reading files, or a key of :data:`ADDED_LATER`, is a param only if it is not the default. So
    runs recorded before there were such keys have the same params.
    """
    params: dict[str, Any] = dict(labels)
    if "experiment" in job.choices:
        params["experiment"] = job.choices["experiment"]
    params.update(_flat(_written(job.config)))
    defaults = {f"data.{option.name}": option.default for option in fields(Reading)} | later_defaults()
    return {key: value for key, value in params.items() if value is not None and value != defaults.get(key)}


@cache
def later_defaults() -> Mapping[str, Any]:
    """Return the default of each key in :data:`ADDED_LATER`, and the default option of such a group."""
    flat = labels_from_values(Config()) | _flat(asdict(Config()))
    groups = tuple(key for key in ADDED_LATER if key.endswith("."))
    return {key: value for key, value in flat.items() if key in ADDED_LATER or key.startswith(groups)}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scientific values of a config by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in UNSCIENTIFIC:
            continue
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": v for name, v in value.items() if name not in ("lr_for", "holdout")}
        else:
            flat[key] = value
    return flat


def _written(config: Config) -> dict[str, Any]:
    """Return a config as nested dictionaries, as in a run's ``config.yaml``."""
    values = asdict(config)
    values["execution"] = {key: values["execution"][key] for key in keys_of(Execution)}
    return values
