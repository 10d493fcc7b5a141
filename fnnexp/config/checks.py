"""Check a config: values out of range, unknown names, keys that do not go together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from fnnexp.config.execution import (
    ADDRESSES,
    AUTO,
    BACKENDS,
    MOST_WORKERS,
    Execution,
    budget_of,
    bytes_of,
    recorded,
)
from fnnexp.config.messages import OWN_PIECE
from fnnexp.config.schema import (
    DTYPES,
    MOST_MARGIN,
    REDUCTIONS,
    SEARCHES,
    UNTIL,
    ArchConfig,
    Config,
    DataConfig,
    InitConfig,
    LossConfig,
    OptimizerConfig,
    ScheduleConfig,
    SearchConfig,
    StoppingConfig,
    UntilConfig,
)
from fnnexp.data import toys
from fnnexp.errors import ConfigError, DataError, did_you_mean, plural
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.engines.numpy_engine import SCALES
from fnnexp.nn.network import BIASES
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import BIAS_STARTS, INITIALIZERS
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES
from fnnexp.nn.pieces.stopping import METRICS as STOPPING_METRICS
from fnnexp.nn.pieces.table import Table


class MeaninglessError(ConfigError):
    """A value has no meaning with the chosen options, such as a batch size with full batches."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def check(config: Config) -> None:
    """Raise `ConfigError` if a config has a value that is unknown, out of range, or meaningless."""
    _one_of("arch.hidden_bias", config.arch.hidden_bias, BIASES)
    _one_of("arch.output_bias", config.arch.output_bias, BIASES)
    hidden: Any = config.arch.hidden  # OmegaConf checks neither nested lists nor resolved references
    if not isinstance(hidden, list) or not all(isinstance(width, int) for width in hidden):
        raise ConfigError(_no_widths(hidden))
    for width in hidden:
        _at_least("arch.hidden", width, 1, "every width as a whole number ≥ 1, as in arch.hidden=[64,32]")
    _check_activation(config.arch)
    _check_init(config.init, _zero_biases(config.arch))
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
    _check_regularization(config)
    _check_loss(config.loss)
    _check_rows(config.data)
    for key in ("name", "path", "test_path", "label"):
        _printable(f"data.{key}", getattr(config.data, key))
    _check_reading(config.data)
    _check_toy(config.data)
    _one_of("dtype", config.dtype, DTYPES)
    _at_least("epochs", config.epochs, 0, "epochs=10")
    _check_seeds(config)
    _check_schedule(config.schedule, config.epochs)
    _check_stopping(config.stopping, config.epochs)
    _check_execution(config.execution)
    _check_diagnostics(config.diagnostics)
    check_search(config.search, tuned=config.tune is not None)
    _check_end(config)
    _check_uri(config.tracking.uri)


def _check_diagnostics(diagnostics: Any) -> None:
    try:
        recorded(diagnostics)
    except ValueError as error:
        value = "null" if diagnostics is None else diagnostics
        raise ConfigError(f"diagnostics={value}: {error}; write diagnostics=true") from error


def _zero_biases(arch: ArchConfig) -> bool:
    """Return whether ``arch`` gives a layer biases that start at zero, which ``init.bias`` can change."""
    return "zeros" in ([arch.hidden_bias] if arch.hidden else []) + [arch.output_bias]


def _check_init(init: InitConfig, zero_biases: bool) -> None:
    _one_of("init.method", init.method, INITIALIZERS)
    with_std = init.method in ("normal", "truncated_normal")
    _belongs("init.std", init.std, with_std, "init=normal init.std=0.3")
    if init.std is not None:
        _finite("init.std", init.std, 0)
    for key, value in (("init.low", init.low), ("init.high", init.high)):
        _belongs(key, value, init.method == "uniform", "init=uniform init.low=-0.05 init.high=0.05")
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"{key}={value}: must be a finite number; write init.low=-0.05 init.high=0.05")
    if init.low is not None and init.high is not None:
        if not init.low < init.high:
            raise ConfigError(
                f"init.low={init.low} and init.high={init.high}: low must be below high; write "
                "init.low=-0.05 init.high=0.05"
            )
        if not math.isfinite(2 * max(-init.low, init.high)):
            raise ConfigError(
                f"init.low={init.low} and init.high={init.high}: too large; write init.low=-0.05 "
                "init.high=0.05"
            )
    _above_zero("init.gain", init.gain, "init.gain=2")
    _check_largest_weight(init)
    if init.gain != 1 and init.method == "zeros":
        raise MeaninglessError(
            "init.gain", f"init.gain={init.gain} has no meaning with init=zeros; omit it or write init.gain=1"
        )
    _check_biases(init, zero_biases)


def _check_largest_weight(init: InitConfig) -> None:
    """Raise if the gain makes the standard deviation or the mean of the weights overflow."""
    largest = max(LARGEST_STD, *(abs(number or 0) for number in (init.std, init.low, init.high)))
    if not math.isfinite(2 * largest * init.gain):
        raise ConfigError(f"init.gain={init.gain}: makes the weights infinite; write init.gain=2")


LARGEST_STD = 2.0
"""The largest standard deviation that a formula gives: that of ``he`` for one input."""


def _check_biases(init: InitConfig, zero_biases: bool) -> None:
    if init.bias is not None:
        _one_of("init.bias", init.bias, BIAS_STARTS)
        _belongs_if_given(
            "init.bias", init.bias, zero_biases, "arch.hidden_bias=zeros or arch.output_bias=zeros"
        )
    example = f"init.bias={init.bias or 'constant'} init.bias_scale=0.1"
    if init.bias_scale is None and init.bias in ("constant", "normal"):
        raise ConfigError(f"init.bias_scale has no value; write {example}")
    _belongs_if_given("init.bias_scale", init.bias_scale, init.bias is not None, example)
    if init.bias_scale is None:
        return
    if init.bias != "constant":
        _above_zero("init.bias_scale", init.bias_scale, "init.bias_scale=0.1")
    elif not math.isfinite(init.bias_scale):
        raise ConfigError(
            f"init.bias_scale={init.bias_scale}: must be a finite number; write init.bias_scale=0.1"
        )


def _check_seeds(config: Config) -> None:
    """Raise for a seed below 0, and for one that draws nothing, such as ``seed_order`` without shuffling."""
    for name in ("seed", "seed_init", "seed_order", "seed_noise", "seed_split"):
        seed = getattr(config, name)
        if seed is not None:
            _at_least(name, seed, 0, f"{name}=0")
    drawn_biases = config.init.bias in ("normal", "uniform")
    weights = config.init.method != "zeros"
    _belongs_if_given(
        "seed_init", config.seed_init, weights or drawn_biases, "a drawn start, such as init=he"
    )
    _belongs_if_given("seed_order", config.seed_order, config.batching.shuffle, "batching.shuffle=true")
    rates = config.regularization.dropout
    dropout = any(rates) if isinstance(rates, list) else bool(rates)
    _belongs_if_given("seed_noise", config.seed_noise, dropout, "regularization.dropout=0.5")


def _check_rows(data: DataConfig) -> None:
    _one_of("data.scale", data.scale, SCALES)
    if data.validation is not None:
        _at_least("data.validation", data.validation, 0, "data.validation=5000")
    if data.subset is not None:
        _at_least("data.subset", data.subset, 1, "data.subset=1000")
    if not 0 <= data.label_noise < 1:
        raise ConfigError(
            f"data.label_noise={data.label_noise}: must be a number from 0 to below 1, the share of wrong "
            "labels; write data.label_noise=0.1"
        )


def _check_reading(data: DataConfig) -> None:
    try:
        reading = data.reading
    except DataError as error:
        raise ConfigError(str(error)) from error
    for name in reading.drop:
        _printable("data.drop", name)


def _check_toy(data: DataConfig) -> None:
    toy = data.name in toys.TOYS
    _belongs("data.n", data.n, toy, "data=moons data.n=1000")
    _belongs("data.noise", data.noise, toy, "data=moons data.noise=0.1")
    _belongs("data.classes", data.classes, data.name == "spirals", "data=spirals data.classes=2")
    ranges: tuple[tuple[str, float, float, Any], ...] = (
        ("n", 10, toys.MOST_ROWS, 1000),
        ("noise", 0, toys.MOST_NOISE, 0.1),
        ("classes", 2, toys.MOST_ARMS, 2),
    )
    for key, least, most, example in ranges:
        value = getattr(data, key)
        if value is not None and not least <= value <= most:
            raise ConfigError(
                f"data.{key}={value}: must be from {least} to {most:g}; write data.{key}={example}"
            )


def _no_widths(hidden: Any) -> str:
    text = str(hidden).replace(" ", "")
    problem = f"arch.hidden={text}: must be one list of whole numbers ≥ 1"
    if isinstance(hidden, list) and hidden and all(isinstance(widths, list) for widths in hidden):
        return f"{problem}; write arch.hidden={text[1:-1]}{' with -m' if len(hidden) > 1 else ''}"
    return f"{problem}; write arch.hidden=[64,32]"


def _check_activation(arch: ArchConfig) -> None:
    given: Any = arch.activation
    names = given if isinstance(given, list) else [given]
    text = str(given).replace(" ", "").replace("'", "").replace("None", "null")
    problem = f"arch.activation={text}: must be one name, or a list with one for each hidden layer"
    if not names or not all(isinstance(name, str) for name in names):
        if names and all(isinstance(name, (str, list)) for name in names):
            raise ConfigError(f"{problem}; write arch.activation={text[1:-1]}{' with -m' * (len(names) > 1)}")
        raise ConfigError(f"{problem}; write arch.activation=relu")
    for name in names:
        _one_of("arch.activation", name, ACTIVATIONS)
    if isinstance(given, list) and len(given) != len(arch.hidden):
        widths = str(arch.hidden).replace(" ", "")
        sweep = f"{text[1:-1]} with -m, for one trial per name" if len(given) > 1 else text[1:-1]
        raise ConfigError(
            f"{problem}; it has {plural(len(given), 'name')}, and arch.hidden={widths} has "
            f"{plural(len(arch.hidden), 'layer')}; write arch.activation={sweep}"
        )
    if "leaky_relu" not in names or not arch.hidden:
        hidden = "" if arch.hidden else "arch.hidden=[64] "
        _belongs("arch.slope", arch.slope, False, f"{hidden}arch.activation=leaky_relu arch.slope=0.1")
    elif arch.slope is not None and not 0 <= arch.slope < 1:
        raise ConfigError(
            f"arch.slope={arch.slope}: must be a number from 0 to below 1; write arch.slope=0.1"
        )


HYPERPARAMETERS = ("lr", "momentum", "beta1", "beta2", "epsilon", "rho", "weight_decay")


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    _one_of("optimizer.name", optimizer.name, OPTIMIZERS)
    wanted = OPTIMIZERS[optimizer.name].hyperparameters
    for name in HYPERPARAMETERS:
        value, key = getattr(optimizer, name), f"optimizer.{name}"
        _belongs(key, value, name in wanted, _optimizer_with(name, optimizer.name))
        if value is not None:
            _finite(key, value, 0)
    for name in ("momentum", "beta1", "beta2", "rho"):
        value = getattr(optimizer, name)
        if value is not None and value >= 1:
            raise ConfigError(f"optimizer.{name}={value}: must be below 1; write optimizer.{name}=0.9")


def dropout_rates(dropout: Any, hidden: int) -> list[float]:
    """Return the dropout rate of the inputs and of each hidden layer.

    >>> dropout_rates(0.5, 2), dropout_rates([0.2, 0.5, 0.5], 2)
    ([0.0, 0.5, 0.5], [0.2, 0.5, 0.5])
    """
    return list(dropout) if isinstance(dropout, list) else [0.0] + [dropout] * hidden


def _check_regularization(config: Config) -> None:
    regularization, hidden = config.regularization, len(config.arch.hidden)
    for name in ("l2", "l1"):
        _finite(f"regularization.{name}", getattr(regularization, name), 0, "0.0001")
    dropout, key = regularization.dropout, "regularization.dropout"
    text = str([dropout])[1:-1].replace(" ", "").replace("None", "null")  # in a list, strings have quotes
    example = "[0.2" + ",0.5" * max(hidden, 1) + "]"
    rates = dropout if isinstance(dropout, list) else [dropout]
    if not all(type(rate) in (int, float) for rate in rates):
        raise ConfigError(
            f"{key}={text}: must be one number, or a list of numbers; write {key}=0.5 or {key}={example}"
        )
    if not all(0 <= rate < 1 for rate in rates):
        raise ConfigError(f"{key}={text}: a rate must be at least 0 and below 1; write {key}=0.5")
    if isinstance(dropout, list) and len(dropout) != 1 + hidden:
        raise ConfigError(
            f"{key}={text}: has {plural(len(dropout), 'rate')}, but {1 + hidden} are needed: one for the "
            f"inputs and one for each hidden layer ({hidden}); write "
            f"{key}={example if hidden else '[0.2]'}"
        )
    if dropout and not isinstance(dropout, list) and not hidden:
        raise MeaninglessError(
            key,
            f"{key}={text} has no meaning here: there is no hidden layer; omit it, or write "
            f"{key}=[{text}] to drop inputs",
        )
    for key, value in (
        ("regularization.max_norm", regularization.max_norm),
        ("optimizer.clip_norm", config.optimizer.clip_norm),
    ):
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{key}={value}: must be a finite number > 0; write {key}=3.0, or omit it")


def _optimizer_with(hyperparameter: str, chosen: str) -> str:
    """Return an example that sets a hyperparameter, as in ``optimizer=momentum optimizer.momentum=…``.

    It names the chosen optimizer or, if that does not have this hyperparameter, another optimizer that
    has it.
    """
    having = [name for name, rule in OPTIMIZERS.items() if hyperparameter in rule.hyperparameters]
    name = chosen if chosen in having else having[0]
    return f"optimizer={name} optimizer.{hyperparameter}=…"


def _check_loss(loss: LossConfig) -> None:
    _one_of("loss.name", loss.name, LOSSES)
    outputs = LOSSES[loss.name]
    example, *others = LOSSES["mse"]
    _belongs(
        "loss.output",
        loss.output,
        len(outputs) > 1,
        f"loss=mse loss.output={example}, or {' or '.join(others)}",
    )
    if loss.output is not None:
        _one_of("loss.output", loss.output, outputs)
    _one_of("loss.reduction", loss.reduction, REDUCTIONS)
    _finite("loss.epsilon", loss.epsilon, 0)
    if loss.epsilon and loss.name != "cross_entropy":
        raise MeaninglessError(
            "loss.epsilon",
            f"loss.epsilon={loss.epsilon} has no meaning with loss={loss.name}; it goes with "
            "loss=cross_entropy; omit it, or if a file sets it write loss.epsilon=0",
        )
    _finite("loss.label_smoothing", loss.label_smoothing, 0)
    if loss.label_smoothing >= 1:
        raise ConfigError(
            f"loss.label_smoothing={loss.label_smoothing}: must be below 1; write loss.label_smoothing=0.1"
        )


def _check_stopping(stopping: StoppingConfig, epochs: int) -> None:
    if stopping.metric.startswith("test_"):
        raise ConfigError(
            f"stopping.metric={stopping.metric}: test rows must not decide when training stops; "
            f"write stopping.metric={stopping.metric.replace('test', 'val', 1)}"
        )
    _one_of("stopping.metric", stopping.metric, STOPPING_METRICS)
    _finite("stopping.min_delta", stopping.min_delta, 0)
    if stopping.patience is not None:
        _at_least("stopping.patience", stopping.patience, 1, "stopping.patience=5")
        if epochs == 0:
            raise MeaninglessError(
                "stopping.patience",
                f"stopping.patience={stopping.patience} has no meaning with epochs=0, which trains nothing; "
                "omit it, or if a file sets it write stopping.patience=null",
            )
        return
    for key in ("min_delta", "metric"):
        value, default = getattr(stopping, key), getattr(StoppingConfig(), key)
        if value != default:
            raise MeaninglessError(
                f"stopping.{key}",
                f"stopping.{key}={value} has no meaning without early stopping; it goes with "
                f"stopping.patience=5; omit it, or if a file sets it write stopping.{key}={default}",
            )


def _check_schedule(schedule: ScheduleConfig, epochs: int) -> None:
    _one_of("schedule.name", schedule.name, SCHEDULES)
    wanted = SCHEDULES[schedule.name].parameters
    for name in ("every", "gamma", "rate", "peak", "rise", "end"):
        value = getattr(schedule, name)
        _belongs(f"schedule.{name}", value, name in wanted, _schedule_with(name, schedule.name))
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
    """Raise if a parameter of a schedule is not a finite number above 0, or if its value has no effect.

    `unchanged` is the value without effect: usually 1, a factor that leaves the learning rate constant.
    """
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
    """Raise if the config has a schedule although nothing trains, since ``epochs=0``."""
    meaningless = "has no meaning with epochs=0, which trains nothing; omit it"
    if schedule.name != "constant":
        raise MeaninglessError("schedule.name", f"schedule={schedule.name} {meaningless}")
    if schedule.warmup:
        raise MeaninglessError("schedule.warmup", f"schedule.warmup={schedule.warmup:g} {meaningless}")


def _schedule_with(parameter: str, chosen: str) -> str:
    """Return an example that sets a parameter, as in ``schedule=step schedule.factor=…``.

    It names the chosen schedule or, if that does not have this parameter, another schedule that has it.
    """
    having = [name for name, rule in SCHEDULES.items() if parameter in rule.parameters]
    name = chosen if chosen in having else having[0]
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
    _one_of("execution.engine", execution.engine, (AUTO, *ENGINES))
    if execution.max_lanes is not None:
        _at_least("execution.max_lanes", execution.max_lanes, 1, "execution.max_lanes=12")
    if execution.memory is not None:
        _size("execution.memory", execution.memory, "execution.memory=4GB")
    if execution.keep_states not in (None, "0"):
        keep = "execution.keep_states"
        _size(keep, str(execution.keep_states), f"{keep}=4GB, or {keep}=0 to keep none")
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


def check_search(search: SearchConfig, *, tuned: bool = False) -> None:
    """Raise `ConfigError` for an unknown search, or an impossible number of configurations.

    `tuned` says that the config has ``tune``. Then every search draws configurations, and their number has a
    default.
    """
    _one_of("search.name", search.name, SEARCHES)
    is_halving = search.name == "halving"
    example = "search=tpe search.trials=60" if search.name == "tpe" else "search=random search.trials=20"
    has_default = tuned or is_halving  # halving can draw configurations, or take all
    if search.trials is not None or not has_default:
        _belongs("search.trials", search.trials, has_default or search.name != "grid", example)
    if search.trials is not None:
        _at_least("search.trials", search.trials, 1, "search.trials=20")
    _belongs("search.eta", search.eta, is_halving, "search=halving search.eta=3")
    _belongs("search.min_epochs", search.min_epochs, is_halving, "search=halving search.min_epochs=1")
    if is_halving:
        assert search.eta is not None
        assert search.min_epochs is not None
        _at_least("search.eta", search.eta, 2, "search.eta=3")
        _at_least("search.min_epochs", search.min_epochs, 1, "search.min_epochs=1")


def _check_end(config: Config) -> None:
    """Raise for impossible values of ``until``, ``compare``, ``tune``, ``margin`` and ``budget``."""
    until, settled = config.until, "until=settled"
    if until.name is not None:
        _one_of("until.name", until.name, UNTIL)
        _at_least("until.most_seeds", until.most_seeds, 2, "until.most_seeds=30")
        if config.search.name == "tpe":
            raise ConfigError(
                "search=tpe chooses each configuration by the results before it, but until=settled must know "
                "all configurations from the start; omit until=settled, or write search=random"
            )
        if config.search.name == "halving":
            raise ConfigError(
                f"{settled}: adds seeds to options, but search=halving drops options; run a sweep with "
                f"search=halving, and then another with {settled} for the few options that are left"
            )
    elif until != UntilConfig():
        raise ConfigError(
            f"until.most_seeds={until.most_seeds} has no meaning without {settled}; write {settled}"
        )
    compares = until.name is not None or config.tune is not None
    _belongs_if_given("compare", config.compare, compares, f"{settled} or tune=optimizer.lr")
    _belongs_if_given("margin", config.margin, compares, f"{settled} or tune=optimizer.lr")
    names = config.compare if isinstance(config.compare, list) else [config.compare]
    if config.compare is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ConfigError(
            f"compare={config.compare}: must be a factor or a list of factors; write compare=init"
        )
    if config.tune is not None and config.compare is None:
        raise ConfigError(
            f"tune={config.tune}: tunes a key for each option of a factor; write the factor too, as in "
            "compare=init tune=optimizer.lr"
        )
    if config.margin is not None:
        _above_zero("margin", config.margin, "margin=0.2")
        if config.margin >= MOST_MARGIN:
            raise ConfigError(f"margin={config.margin}: must be below {MOST_MARGIN:g}; write margin=0.2")
    if config.budget is not None:
        try:
            budget_of(config.budget)
        except ValueError as error:
            raise ConfigError(str(error)) from error


def _size(key: str, text: str, example: str) -> None:
    try:
        bytes_of(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text}: {error}; write {example}") from error


def _check_uri(uri: str | None) -> None:
    _printable("tracking.uri", uri)
    if uri is not None and re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri):
        raise ConfigError(f"tracking.uri={uri}: lacks the protocol; write tracking.uri=http://{uri}")
    if uri is not None and "://" not in uri and uri.endswith((".db", ".sqlite")):
        raise ConfigError(f"tracking.uri={uri}: lacks the scheme; write tracking.uri=sqlite:///{uri}")


def _one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        names = list(allowed)
        hint = did_you_mean(value, names) or (OWN_PIECE if isinstance(allowed, Table) else "")
        raise ConfigError(f"{key}={value}: must be one of {', '.join(names)}.{hint}")


def _at_least(key: str, value: int, least: int, example: str) -> None:
    if value < least:
        raise ConfigError(f"{key}={value}: must be {least} or more; write {example}")
    if value >= 2**63:
        raise ConfigError(f"{key}={value}: must be below 2**63; write {example}")


def _finite(key: str, value: float, least: float, example: str = "0.1") -> None:
    if not math.isfinite(value) or value < least:
        raise ConfigError(f"{key}={value}: must be a finite number ≥ {least:g}; write {key}={example}")


def _above_zero(key: str, value: float, example: str) -> None:
    if not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{key}={value}: must be a finite number above 0; write {example}")


def _printable(key: str, value: str | None) -> None:
    if value is not None and not value.isprintable():
        raise ConfigError(f"{key}={value!r}: contains an invisible character; write the value without it")


def _belongs(key: str, value: Any, wanted: bool, example: str) -> None:
    """Raise if a key has no value although the chosen options need one, or has a value that they do not use.

    `wanted` says whether the chosen options use the key. `example` shows options that do.
    """
    if value is None and wanted:
        raise ConfigError(f"{key} has no value; write {example}")
    _belongs_if_given(key, value, wanted, example)


def _belongs_if_given(key: str, value: Any, meaningful: bool, example: str) -> None:
    """Raise if a key has a value that the chosen options do not use. Having no value is always allowed.

    `meaningful` says whether the chosen options use the key. `example` shows options that do.
    """
    if value is not None and not meaningful:
        raise MeaninglessError(
            key,
            f"{key}={value} has no meaning here; it goes with {example}; omit it, or if a file sets it write "
            f"{key}=null",
        )
