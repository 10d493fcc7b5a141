"""Check a config: values out of range, unknown names, keys that do not go together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from fnnexp.config.execution import ADDRESSES, BACKENDS, MOST_WORKERS, Execution
from fnnexp.config.schema import Config, DataConfig, OptimizerConfig, ScheduleConfig
from fnnexp.errors import ConfigError, DataError, did_you_mean
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import BIASES
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES


class MeaninglessError(ConfigError):
    """A value has no meaning with the chosen options, such as a batch size with full batches."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def check(config: Config) -> None:
    """Raise `ConfigError` for a value that is unknown, out of range or meaningless."""
    _one_of("arch.activation", config.arch.activation, ACTIVATIONS)
    _one_of("arch.hidden_bias", config.arch.hidden_bias, BIASES)
    _one_of("arch.output_bias", config.arch.output_bias, BIASES)
    hidden: Any = config.arch.hidden  # OmegaConf checks neither nested lists nor resolved references
    if not isinstance(hidden, list) or not all(isinstance(width, int) for width in hidden):
        raise ConfigError(_no_widths(hidden))
    for width in hidden:
        _at_least("arch.hidden", width, 1, "every width as a whole number ≥ 1, as in arch.hidden=[64,32]")
    _one_of("init.method", config.init.method, INITIALIZERS)
    _belongs("init.std", config.init.std, config.init.method == "normal", "init=normal init.std=0.3")
    if config.init.std is not None:
        _finite("init.std", config.init.std, 0)
    _one_of("batching.mode", config.batching.mode, MODES)
    _belongs(
        "batching.size",
        config.batching.size,
        config.batching.mode == "mini",
        "batching=mini batching.size=128",
    )
    if config.batching.size is not None:
        _at_least("batching.size", config.batching.size, 1, "batching.size=128")
    if config.batching.mode == "full" and config.batching.shuffle:
        raise MeaninglessError(
            "batching.shuffle", "batching.shuffle=true, but a full batch has no order; omit batching.shuffle"
        )
    _check_optimizer(config.optimizer)
    for mode in config.optimizer.lr_for:
        _one_of("optimizer.lr_for", str(mode), MODES)
    _one_of("loss.reduction", config.loss.reduction, ("mean", "sum"))
    _finite("loss.epsilon", config.loss.epsilon, 0)
    _one_of("data.scale", config.data.scale, ("unit", "raw"))
    if config.data.validation is not None:
        _at_least("data.validation", config.data.validation, 0, "data.validation=5000")
    for key in ("name", "path", "test_path", "label"):
        _printable(f"data.{key}", getattr(config.data, key))
    _check_reading(config.data)
    _one_of("dtype", config.dtype, ("float32", "float64"))
    _at_least("epochs", config.epochs, 0, "epochs=10")
    _at_least("seed", config.seed, 0, "seed=0")
    _check_schedule(config.schedule, config.epochs)
    _check_execution(config.execution)
    _check_uri(config.tracking.uri)


def _check_reading(data: DataConfig) -> None:
    try:
        _ = data.reading
    except DataError as error:
        raise ConfigError(str(error)) from error


def _no_widths(hidden: Any) -> str:
    text = str(hidden).replace(" ", "")
    problem = f"arch.hidden={text}: must be one list of whole numbers ≥ 1; "
    if isinstance(hidden, list) and hidden and all(isinstance(widths, list) for widths in hidden):
        return f"{problem}write arch.hidden={text[1:-1]}{' with -m' if len(hidden) > 1 else ''}"
    return f"{problem}write arch.hidden=[64,32]"


HYPERPARAMETERS = ("lr", "momentum", "beta1", "beta2", "epsilon", "rho", "weight_decay")


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    _one_of("optimizer.name", optimizer.name, OPTIMIZERS)
    wanted = OPTIMIZERS[optimizer.name].hyperparameters
    for name in HYPERPARAMETERS:
        value, key = getattr(optimizer, name), f"optimizer.{name}"
        _belongs(key, value, name in wanted, _optimizer_with(name))
        if value is not None:
            _finite(key, value, 0)
    for name in ("momentum", "beta1", "beta2", "rho"):
        value = getattr(optimizer, name)
        if value is not None and value >= 1:
            raise ConfigError(f"optimizer.{name}={value}: must be below 1; write optimizer.{name}=0.9")


def _optimizer_with(hyperparameter: str) -> str:
    name = next(name for name, rule in OPTIMIZERS.items() if hyperparameter in rule.hyperparameters)
    return f"optimizer={name} optimizer.{hyperparameter}=…"


def _check_schedule(schedule: ScheduleConfig, epochs: int) -> None:
    _one_of("schedule.name", schedule.name, SCHEDULES)
    wanted = SCHEDULES[schedule.name].parameters
    for name in ("every", "gamma", "rate", "peak", "rise", "end"):
        value = getattr(schedule, name)
        _belongs(f"schedule.{name}", value, name in wanted, _schedule_with(name))
    _finite("schedule.warmup", schedule.warmup, 0)
    if epochs == 0:
        _untrained(schedule)
        return
    if schedule.warmup >= epochs:
        raise ConfigError(
            f"schedule.warmup={schedule.warmup:g}: must be below epochs={epochs}; "
            f"write schedule.warmup={epochs / 10:g}"
        )
    _factor_other_than_1("gamma", schedule.gamma, 0.5)
    _factor_other_than_1("rate", schedule.rate, 0.1, unchanged=0)
    if schedule.every is not None:
        left = epochs - schedule.warmup
        if not 0 < schedule.every < left:
            raise ConfigError(
                f"schedule.every={schedule.every:g}: must be above 0 and below {left:g}, the epochs"
                f"{' after the warmup' if schedule.warmup else ''}, or the rate would never change; "
                f"write schedule.every={left / 2:g}"
            )
    if schedule.peak is not None and not 1 < schedule.peak < math.inf:
        raise ConfigError(
            f"schedule.peak={schedule.peak:g}: must be above 1 and finite; write schedule.peak=10"
        )
    if schedule.rise is not None and not 0 < schedule.rise < 1:
        raise ConfigError(
            f"schedule.rise={schedule.rise:g}: must be between 0 and 1; write schedule.rise=0.3"
        )
    if schedule.end is not None:
        _finite("schedule.end", schedule.end, 0)
        if schedule.peak is None and schedule.end == 1:
            raise ConfigError("schedule.end=1: changes nothing; write schedule=constant or schedule.end=0.01")
        if schedule.peak is not None and schedule.end >= schedule.peak:
            raise ConfigError(
                f"schedule.end={schedule.end:g}: must be below schedule.peak={schedule.peak:g}; "
                "write schedule.end=0.01"
            )


def _factor_other_than_1(name: str, value: float | None, example: float, unchanged: float = 1) -> None:
    """Raise if a parameter is not a finite number above 0, or if it is the value that changes nothing."""
    if value is None:
        return
    if value == unchanged:
        raise ConfigError(
            f"schedule.{name}={value:g}: changes nothing; write schedule=constant, "
            f"or schedule.{name}={example}"
        )
    if not 0 < value < math.inf:
        raise ConfigError(
            f"schedule.{name}={value:g}: must be a finite number above 0; write schedule.{name}={example}"
        )


def _untrained(schedule: ScheduleConfig) -> None:
    """Raise if there is a schedule although nothing trains."""
    meaningless = "has no meaning with epochs=0, which trains nothing; omit it"
    if schedule.name != "constant":
        raise MeaninglessError("schedule.name", f"schedule={schedule.name} {meaningless}")
    if schedule.warmup:
        raise MeaninglessError("schedule.warmup", f"schedule.warmup={schedule.warmup:g} {meaningless}")


def _schedule_with(parameter: str) -> str:
    name = next(name for name, rule in SCHEDULES.items() if parameter in rule.parameters)
    return f"schedule={name} schedule.{parameter}=…"


def _check_execution(execution: Execution) -> None:
    if execution.n_jobs == 0:
        raise ConfigError(
            "execution.n_jobs=0: must be 1 or more, or -1 for one per core; write execution.n_jobs=2"
        )
    if abs(execution.n_jobs) > MOST_WORKERS:
        raise ConfigError(
            f"execution.n_jobs={execution.n_jobs}: must be {MOST_WORKERS} or less; write execution.n_jobs=2"
        )
    _one_of("execution.backend", execution.backend, BACKENDS)
    _one_of("execution.engine", execution.engine, ENGINES)
    if execution.max_lanes is not None:
        _at_least("execution.max_lanes", execution.max_lanes, 1, "execution.max_lanes=12")
    _finite("execution.segment_seconds", execution.segment_seconds, 0)
    _at_least("execution.retries", execution.retries, 0, "execution.retries=1")
    pattern, address = ADDRESSES.get(execution.backend, (None, "tcp://HOST:8786"))
    backend = execution.backend if pattern else "dask"
    example = f"execution.backend={backend} execution.address={address}"
    _belongs("execution.address", execution.address, pattern is not None, example)
    if pattern and not re.fullmatch(pattern, str(execution.address)):
        raise ConfigError(
            f"execution.address={execution.address}: is not an address of {backend}; write {example}"
        )


def _check_uri(uri: str | None) -> None:
    _printable("tracking.uri", uri)
    if uri is not None and re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        raise ConfigError(f"tracking.uri={uri}: lacks the protocol; write tracking.uri=http://{uri}")
    if uri is not None and "://" not in uri and uri.endswith((".db", ".sqlite")):
        raise ConfigError(f"tracking.uri={uri}: lacks the scheme; write tracking.uri=sqlite:///{uri}")


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        names = list(allowed)
        raise ConfigError(f"{key}={value}: must be one of {', '.join(names)}.{did_you_mean(value, names)}")


def _at_least(key: str, value: int, least: int, example: str) -> None:
    if value < least:
        raise ConfigError(f"{key}={value}: must be {least} or more; write {example}")
    if value >= 2**63:
        raise ConfigError(f"{key}={value}: must be below 2**63; write {example}")


def _finite(key: str, value: float, least: float) -> None:
    if not math.isfinite(value) or value < least:
        raise ConfigError(f"{key}={value}: must be a finite number ≥ {least:g}; write {key}=0.1")


def _printable(key: str, value: str | None) -> None:
    if value is not None and not value.isprintable():
        raise ConfigError(f"{key}={value!r}: contains an invisible character; write it without")


def _belongs(key: str, value: Any, wanted: bool, example: str) -> None:
    """Raise if a value is missing although it is wanted, or given although it has no meaning."""
    if value is None and wanted:
        raise ConfigError(f"{key} has no value; write {example}")
    if value is not None and not wanted:
        raise MeaninglessError(
            key,
            f"{key}={value} has no meaning here; it goes with {example}; omit it, or if a file sets it write "
            f"{key}=null",
        )
