"""From a job and its data to a trial: what it computes, and what people call it."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, key_of
from fnnexp.config.schema import CHOICES, UNSCIENTIFIC, Config, DataConfig, keys_of
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import DATASETS, Prepared
from fnnexp.data.sources import Reading
from fnnexp.errors import ConfigError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Recipe

MOST_PARAMETERS = 1 << 28
"""As many parameters as a network may have: 1 GB of float32."""

DARK = 128
"""Where no pixel is as bright as this, pixels are not 0..255 but on another scale, as 0..1 or 0..16."""


def trial(job: Job, data: Prepared) -> Trial:
    """Return the trial of a job on its prepared data.

    Raises
    ------
    ConfigError
        When the validation rows leave nothing to train on, or a class without training rows, the pixels are
        not on the scale that the config says, or the network is too large.
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
            f"arch.hidden has {architecture.parameter_count} parameters on {data.name}; there may be "
            f"{MOST_PARAMETERS}: write smaller widths, as in arch.hidden=[64,32]"
        )
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
    )


def _held_out(config: DataConfig, data: Prepared) -> int:
    """Return how many training rows are held out; refuse what can't be meant with this data."""
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
            f"data.validation={validation}: of some class no row is left to train on, for it has none "
            f"among the first {training} rows of {data.name}; shuffle the file's rows, or write at most "
            f"data.validation={data.n_train - data.all_classes}"
        )
    if config.scale == "unit" and data.brightest < DARK:
        raise ConfigError(
            f"data.scale=unit divides pixels by 255, and those of {data.name} go to {data.brightest} only; "
            "write data.scale=raw"
        )
    return validation


def _labels(job: Job) -> dict[str, str]:
    """Return what each group is called: its option, where the config has what the option says.

    Otherwise, as after ``init=he init.method=normal``, it is called what it is: ``normal``.
    """
    labels = kinds(job.config)
    for group in CHOICES:
        option = job.choices.get(group, "")
        if option and group not in job.changed and not is_kind(group, option):
            labels[group] = option
    return labels


def kinds(config: Config) -> dict[str, str]:
    """Return what each group is by its values: a network's activation and widths, a method's name."""
    return {
        "arch": "_".join([config.arch.activation, *map(str, config.arch.hidden)]),
        "init": config.init.method,
        "batching": config.batching.mode,
        "optimizer": config.optimizer.name,
        "data": config.data.name,
    }


def is_kind(group: str, option: str) -> bool:
    """Whether an option is called as :func:`kinds` calls things, and so says no more than that.

    >>> is_kind("arch", "sigmoid_32_32"), is_kind("init", "he"), is_kind("init", "mine")
    (True, True, False)
    """
    return (re.sub(r"(_\d+)+$", "", option) if group == "arch" else option) in _KINDS[group]


_KINDS: Mapping[str, Container[str]] = {
    "arch": ACTIVATIONS,
    "init": INITIALIZERS,
    "batching": MODES,
    "optimizer": OPTIMIZERS,
    "data": DATASETS,
}

_SAID = ("seed", "arch.hidden", "arch.activation", "init.method", "batching.mode")
"""The keys that are in the first part of a trial's name."""


def _name(job: Job, labels: Mapping[str, str]) -> str:
    """Return ``arch-init-batching-sSEED`` with any further override behind it."""
    first = [labels["arch"], labels["init"], labels["batching"], f"s{job.config.seed}"]
    last = {key_of(override): override for override in job.overrides}
    return "-".join([*first, *(override for key, override in last.items() if _tells(key, override, labels))])


def _tells(key: str, override: str, labels: Mapping[str, str]) -> bool:
    """Whether an override says more than the first part of a trial's name, and is true."""
    if key in _SAID or key.split(".")[0] in UNSCIENTIFIC:
        return False
    option = override.partition("=")[2].removesuffix(".yaml")
    if option == labels.get(key):
        return key in ("optimizer", "data")
    return key not in labels or not is_kind(key, option)


def _params(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the chosen options under their groups, everything else under its dotted key.

    How files are read is a param only where it is told, so that earlier runs on the same data have no others.
    """
    params: dict[str, Any] = dict(labels)
    if "experiment" in job.choices:
        params["experiment"] = job.choices["experiment"]
    params.update(_flat(_written(job.config)))
    untold = {f"data.{each.name}": each.default for each in fields(Reading)}
    return {key: value for key, value in params.items() if value is not None and value != untold.get(key)}


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is scientific of a config under its dotted keys."""
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
    """Return a config as nested dictionaries, as ``config.yaml`` holds it."""
    values = asdict(config)
    values["execution"] = {key: values["execution"][key] for key in keys_of(Execution)}
    return values
