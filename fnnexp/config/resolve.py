"""From a job and its data to a trial: what it computes, and what people call it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fnnexp.config.execution import Execution
from fnnexp.config.jobs import Job, key_of
from fnnexp.config.schema import CHOICES, UNSCIENTIFIC, Config, keys_of
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.errors import ConfigError
from fnnexp.nn.network import Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import Batching
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Recipe

MOST_PARAMETERS = 1 << 28
"""As many parameters as a network may have: 1 GB of float32."""


def trial(job: Job, data: Prepared) -> Trial:
    """Return the trial of a job on its prepared data.

    Raises
    ------
    ConfigError
        When the validation rows leave nothing to train on, or the network is too large.
    """
    config = job.config
    if config.data.validation >= data.n_train:
        raise ConfigError(
            f"data.validation={config.data.validation}: {data.name} has {data.n_train} training rows; "
            f"hold out fewer, as in data.validation={data.n_train // 6}"
        )
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
        validation=config.data.validation,
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


def _labels(job: Job) -> dict[str, str]:
    """Return the option of each group. An architecture changed by hand is named by what it is.

    It was changed when an override says so, or when the option's name is another network's.
    """
    labels = {group: job.choices.get(group, "") for group in CHOICES}
    arch = job.config.arch
    changed = any(key_of(override) in _ARCH_KEYS for override in job.overrides)
    if changed or _NETWORK.fullmatch(labels["arch"]):
        labels["arch"] = "_".join([arch.activation, *map(str, arch.hidden)])
    return labels


_NETWORK = re.compile(rf"({'|'.join(ACTIVATIONS)})(_\d+)*")
"""The form of a network's name, as in ``sigmoid_32_32``."""


_ARCH_KEYS = ("arch.hidden", "arch.activation")


def _name(job: Job, labels: Mapping[str, str]) -> str:
    """Return ``arch-init-batching-sSEED`` with any further override behind it."""
    said = {"arch", "init", "batching", "seed", *_ARCH_KEYS}
    further = [
        override
        for override in job.overrides
        if key_of(override) not in said and key_of(override).split(".")[0] not in UNSCIENTIFIC
    ]
    return "-".join([labels["arch"], labels["init"], labels["batching"], f"s{job.config.seed}", *further])


def _params(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the chosen options under their groups, everything else under its dotted key."""
    params: dict[str, Any] = dict(labels)
    if "experiment" in job.choices:
        params["experiment"] = job.choices["experiment"]
    params.update(_flat(_written(job.config)))
    return {key: value for key, value in params.items() if value is not None}


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
