"""Hydra's schema, and from a composed config to a Trial: the only reader of OmegaConf.

A value in a config names a choice that is looked up in a table; no value names code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fnnexp.config.execution import ADDRESSES, BACKENDS, MOST_WORKERS, Execution
from fnnexp.config.trial import Trial
from fnnexp.data.datasets import Prepared
from fnnexp.errors import ConfigError, did_you_mean
from fnnexp.nn.engines.base import ENGINES
from fnnexp.nn.network import BIASES, Architecture
from fnnexp.nn.pieces.activations import ACTIVATIONS
from fnnexp.nn.pieces.batching import MODES, Batching
from fnnexp.nn.pieces.initializers import INITIALIZERS
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.training import Recipe


@dataclass
class ArchConfig:
    """A network: the widths of its hidden layers, and what they compute."""

    hidden: list[int] = MISSING
    activation: str = MISSING
    hidden_bias: str = "zeros"
    output_bias: str = "zeros"


@dataclass
class InitConfig:
    """How weights start."""

    method: str = MISSING
    std: float | None = None


@dataclass
class BatchingConfig:
    """How an epoch is cut."""

    mode: str = MISSING
    size: int | None = None
    shuffle: bool = False


@dataclass
class OptimizerConfig:
    """The update rule; ``lr_for`` holds the default step of each batching mode."""

    name: str = MISSING
    lr: float = MISSING
    lr_for: dict[str, float] = field(default_factory=dict)
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None


@dataclass
class LossConfig:
    """Cross-entropy −log(p + epsilon), its gradient averaged or summed over the batch."""

    reduction: str = "mean"
    epsilon: float = 0.0


@dataclass
class DataConfig:
    """The data set; ``holdout`` is what the grids in sweeps/ use for ``validation``."""

    name: str = MISSING
    path: str | None = None
    test_path: str | None = None
    scale: str = "unit"
    validation: int = 0
    holdout: int = 0


@dataclass
class TrackingConfig:
    """Where results go."""

    experiment: str | None = None
    uri: str | None = None


@dataclass
class Config:
    """Everything."""

    arch: ArchConfig = field(default_factory=ArchConfig)
    init: InitConfig = field(default_factory=InitConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    execution: Execution = field(default_factory=Execution)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dtype: str = "float32"
    epochs: int = 10
    seed: int = 0
    diagnostics: bool = False
    dry_run: bool = False


ConfigStore.instance().store(name="schema", node=Config, provider="fnnexp")

CHOICES = ("arch", "init", "batching", "optimizer", "data")
"""The groups whose chosen option is a trial's parameter."""

UNSCIENTIFIC = ("execution", "tracking", "hydra", "diagnostics", "dry_run")
"""What does not change a number and is no parameter."""

MOST_REFERENCES = 32
"""As many ``${…}`` as a config may hold: references to strings of references grow exponentially."""

MOST_PARAMETERS = 1 << 28
"""As many parameters as a network may have: 1 GB of float32."""


def conf_folder() -> Path:
    """Return the folder of ``config.yaml``: inside an installed package, beside it in a checkout."""
    return _shipped("conf")


def sweeps_folder() -> Path:
    """Return the folder of the grids."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


@dataclass(frozen=True)
class Job:
    """One composed config: its values, the options chosen, and the overrides that led to it."""

    config: Config
    choices: Mapping[str, str]
    overrides: tuple[str, ...]


def read(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Job:
    """Return a composed config as a checked Job.

    The schema has refused unknown keys and wrong types already, while Hydra composed it.

    Raises
    ------
    ConfigError
        With what was given, what is allowed and what to write, when a value is missing or not allowed.
    """
    values = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(values, dict)
    missing = _first_missing(values)
    if missing:
        group = missing.partition(".")[0]
        if group in CHOICES and any(_key(override) == group and override[0] == "~" for override in overrides):
            raise ConfigError(
                f"~{group} takes away what every trial needs, and {missing} has no value; leave "
                f"~{group} out, or write another option, as in {group}={default_options()[group]}"
            )
        raise ConfigError(f"{missing} has no value; write {missing}=…")
    if few_references(values):
        resolved = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(resolved, dict)
        values = resolved
    _known_keys("", values, Config)
    for key, node in _NODES.items():
        if not isinstance(values.get(key), dict):
            raise ConfigError(
                f"{key} has no keys below it; a config of your own starts with 'defaults: [config, _self_]'"
            )
        _known_keys(f"{key}.", values[key], node)
    config = Config(**{str(key): _NODES[key](**v) if key in _NODES else v for key, v in values.items()})
    check(config)
    return Job(config, {key: str(value) for key, value in choices.items() if value}, tuple(overrides))


def from_artifact(content: bytes) -> Job:
    """Return the checked Job of a run's ``config.yaml``: plain values, all of them given, nothing composed.

    Raises
    ------
    ConfigError
        When it is no such file.
    """
    import yaml

    try:
        text = content.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) or "${" in text:
            raise ConfigError("it holds references; a run's config.yaml holds values")
        merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(yaml.safe_load(text)))
        return read(merged, {}, ())  # type: ignore[arg-type]
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"it is not the config of a run: {str(error).partition(chr(10))[0]}") from error


_NODES: dict[Any, Any] = {
    "arch": ArchConfig,
    "init": InitConfig,
    "batching": BatchingConfig,
    "optimizer": OptimizerConfig,
    "loss": LossConfig,
    "data": DataConfig,
    "execution": Execution,
    "tracking": TrackingConfig,
}


LISTS = frozenset(
    f"{key}.{field.name}"
    for key, node in _NODES.items()
    for field in fields(node)
    if str(field.type).startswith("list")
)
"""The keys whose value is a list."""


def _known_keys(prefix: str, values: Mapping[Any, Any], node: Any) -> None:
    """Refuse a key that the schema lacks: ``+foo=1``, ``+data._target_=…``."""
    known = [prefix + name for name in _keys(node)]
    for key in (f"{prefix}{key}" for key in values):
        if key not in known:
            raise ConfigError(
                f"{key}: there is no such key; there are {', '.join(known)}.{did_you_mean(key, known)}"
            )


def _keys(node: Any) -> list[str]:
    """Return the keys that a node of the schema has in a config."""
    return [field.name for field in fields(node) if not field.metadata.get("omegaconf_ignore")]


def _first_missing(values: Any, key: str = "") -> str | None:
    """Return the key of the first value that is still to be given, or None."""
    if isinstance(values, dict):
        inner = [(f"{key}.{name}" if key else str(name), value) for name, value in values.items()]
    elif isinstance(values, list):
        inner = [(f"{key}[{i}]", value) for i, value in enumerate(values)]
    else:
        return key if values == "???" else None
    return next((missing for name, value in inner if (missing := _first_missing(value, name))), None)


def few_references(values: Any) -> int:
    """Count the references in a config's values; refuse more than any experiment needs, still unresolved."""

    def count(value: Any) -> int:
        if isinstance(value, str):
            return value.count("${")
        if isinstance(value, (dict, list)):
            return sum(map(count, value.values() if isinstance(value, dict) else value))
        return 0

    found = count(values)
    if found > MOST_REFERENCES:
        raise ConfigError(
            f"the config holds {found} references (${{…}}); there may be {MOST_REFERENCES}: write values"
        )
    return found


def check(config: Config) -> None:
    """Refuse what no experiment can mean; see :func:`read`."""
    _one_of("arch.activation", config.arch.activation, ACTIVATIONS)
    _one_of("arch.hidden_bias", config.arch.hidden_bias, BIASES)
    _one_of("arch.output_bias", config.arch.output_bias, BIASES)
    hidden: Any = config.arch.hidden  # OmegaConf looks neither at a list's lists nor behind a reference
    if not isinstance(hidden, list) or not all(isinstance(width, int) for width in hidden):
        raise ConfigError(_no_widths(hidden))
    for width in hidden:
        _at_least("arch.hidden", width, 1, "every width a whole number ≥ 1, as in arch.hidden=[64,32]")
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
        raise ConfigError("batching.shuffle=true, but a full batch has no order; leave it out")
    _check_optimizer(config.optimizer)
    for mode in config.optimizer.lr_for:
        _one_of("optimizer.lr_for", str(mode), MODES)
    _one_of("loss.reduction", config.loss.reduction, ("mean", "sum"))
    _finite("loss.epsilon", config.loss.epsilon, 0)
    _one_of("data.scale", config.data.scale, ("unit", "raw"))
    _at_least("data.validation", config.data.validation, 0, "data.validation=5000")
    for key in ("name", "path", "test_path"):
        _printable(f"data.{key}", getattr(config.data, key))
    _one_of("dtype", config.dtype, ("float32", "float64"))
    _at_least("epochs", config.epochs, 0, "epochs=10")
    _at_least("seed", config.seed, 0, "seed=0")
    _check_execution(config.execution)
    _printable("tracking.uri", config.tracking.uri)


def _no_widths(hidden: Any) -> str:
    given = str(hidden).replace(" ", "")
    said = f"arch.hidden={given}: must be one list of whole numbers ≥ 1; "
    if isinstance(hidden, list) and hidden and all(isinstance(each, list) for each in hidden):
        return f"{said}write arch.hidden={given[1:-1]}{' with -m' if len(hidden) > 1 else ''}"
    return f"{said}write arch.hidden=[64,32]"


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    _one_of("optimizer.name", optimizer.name, OPTIMIZERS)
    wanted = OPTIMIZERS[optimizer.name].hyperparameters
    for name in ("lr", "momentum", "beta1", "beta2", "epsilon"):
        value, key = getattr(optimizer, name), f"optimizer.{name}"
        _belongs(key, value, name in wanted, _optimizer_with(name))
        if value is not None:
            _finite(key, value, 0)
    for name in ("momentum", "beta1", "beta2"):
        value = getattr(optimizer, name)
        if value is not None and value >= 1:
            raise ConfigError(f"optimizer.{name}={value}: must be below 1; write optimizer.{name}=0.9")


def _optimizer_with(hyperparameter: str) -> str:
    name = next(name for name, rule in OPTIMIZERS.items() if hyperparameter in rule.hyperparameters)
    return f"optimizer={name} optimizer.{hyperparameter}=…"


def _check_execution(execution: Execution) -> None:
    if execution.n_jobs == 0:
        raise ConfigError(
            "execution.n_jobs=0: must be 1 or more, or -1 for one a core; write execution.n_jobs=2"
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
    wanted, example = ADDRESSES.get(execution.backend, (None, "tcp://HOST:8786"))
    backend = execution.backend if wanted else "dask"
    written = f"execution.backend={backend} execution.address={example}"
    _belongs("execution.address", execution.address, wanted is not None, written)
    if wanted and not re.fullmatch(wanted, str(execution.address)):
        raise ConfigError(
            f"execution.address={execution.address}: is no address of {backend}; write {written}"
        )


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
        raise ConfigError(f"{key}={value!r}: holds a character that cannot be seen; write it without")


def _belongs(key: str, value: Any, wanted: bool, example: str) -> None:
    """Refuse a value where it has no meaning, and its absence where it is needed."""
    if value is None and wanted:
        raise ConfigError(f"{key} has no value; write {example}")
    if value is not None and not wanted:
        raise ConfigError(f"{key}={value} has no meaning here; it goes with {example}")


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
    changed = any(_key(override) in _ARCH_KEYS for override in job.overrides)
    if changed or _NETWORK.fullmatch(labels["arch"]):
        labels["arch"] = "_".join([arch.activation, *map(str, arch.hidden)])
    return labels


_NETWORK = re.compile(rf"({'|'.join(ACTIVATIONS)})(_\d+)*")
"""The form of a network's name, as in ``sigmoid_32_32``."""


_ARCH_KEYS = ("arch.hidden", "arch.activation")


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def _name(job: Job, labels: Mapping[str, str]) -> str:
    """Return ``arch-init-batching-sSEED`` with any further override behind it."""
    said = {"arch", "init", "batching", "seed", *_ARCH_KEYS}
    further = [
        override
        for override in job.overrides
        if _key(override) not in said and _key(override).split(".")[0] not in UNSCIENTIFIC
    ]
    return "-".join([labels["arch"], labels["init"], labels["batching"], f"s{job.config.seed}", *further])


def _params(job: Job, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the chosen options under their groups, everything else under its dotted key."""
    params: dict[str, Any] = dict(labels)
    if "experiment" in job.choices:
        params["experiment"] = job.choices["experiment"]
    params.update(_flat(_written(job.config)))
    return {key: value for key, value in params.items() if value is not None}


def _written(config: Config) -> dict[str, Any]:
    """Return a config as nested dictionaries, as ``config.yaml`` holds it."""
    values = asdict(config)
    values["execution"] = {key: values["execution"][key] for key in _keys(Execution)}
    return values


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


PLAIN = r"(?!(null|true|false|nan|inf)$|\.\d)[A-Za-z_./][\w./-]*"
"""A text that Hydra's override grammar reads as itself."""


def quoted(text: str) -> str:
    r"""Return a text as Hydra's override grammar reads it back: in quotes where it is not plain.

    >>> [quoted(text) for text in ("he", "a/b.npz", "a b", "True", ".5")]
    ['he', 'a/b.npz', "'a b'", "'True'", "'.5'"]
    """
    if re.fullmatch(PLAIN, text, re.ASCII | re.IGNORECASE):
        return text
    # Hydra's grammar: a backslash escapes a quote, and itself only before one or at the end.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), text)
    return f"'{escaped}'"


@cache
def default_options() -> Mapping[str, str]:
    """Return the option of each group that nobody has chosen."""
    content = OmegaConf.to_container(OmegaConf.load(conf_folder() / "config.yaml"), resolve=False)
    assert isinstance(content, dict)
    chosen = [default for default in content["defaults"] if isinstance(default, dict)]
    return {group: str(default[group]) for group in CHOICES for default in chosen if group in default}
