"""The schema of a config: its keys, their types and defaults, and the folders of the shipped files.

A choice in a config is a name that is looked up in a table. No value names code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import II, MISSING

from fnnexp.config.execution import Execution
from fnnexp.data.sources import Reading


@dataclass
class ArchConfig:
    """The network: the widths of its hidden layers, their activation, and how biases start."""

    hidden: list[int] = MISSING
    activation: str = MISSING
    hidden_bias: str = "zeros"
    output_bias: str = "zeros"


@dataclass
class InitConfig:
    """The initializer of the weights, and the standard deviation of ``normal``."""

    method: str = MISSING
    std: float | None = None


@dataclass
class BatchingConfig:
    """How an epoch is divided into batches."""

    mode: str = MISSING
    size: int | None = None
    shuffle: bool = False


@dataclass
class OptimizerConfig:
    """The update rule. ``lr_for`` has the default learning rate of each batching mode."""

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
    """The data set.

    The last ``validation`` training rows are held out. The default is ``holdout`` rows or, without
    ``holdout``, a sixth of the training rows.
    """

    name: str = MISSING
    path: str | None = None
    test_path: str | None = None
    label: str | None = Reading.label
    header: str = Reading.header
    test_fraction: float = Reading.test_fraction
    transpose: bool = Reading.transpose
    scale: str = "unit"
    validation: int | None = II("data.holdout")
    holdout: int | None = None

    @property
    def reading(self) -> Reading:
        """The options for reading files. Raises `DataError` for impossible values."""
        return Reading(self.label, self.header.lower(), self.test_fraction, self.transpose)


@dataclass
class TrackingConfig:
    """Where results go.

    ``experiment`` names the MLflow experiment. Without it, the grid names the experiment; without a grid, the
    preset; without a preset, the data.
    """

    experiment: str | None = None
    uri: str | None = None


@dataclass
class Config:
    """The whole config of a trial."""

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


SCHEMA = "fnnexp_schema"
"""The schema's name in a defaults list. It must be unique, as all Hydra apps of a process share one store."""

ConfigStore.instance().store(name=SCHEMA, node=Config, provider="fnnexp")

CHOICES = ("arch", "init", "batching", "optimizer", "data")
"""The groups whose chosen option is a param of a trial."""

UNSCIENTIFIC = ("execution", "tracking", "hydra", "diagnostics", "dry_run")
"""The top-level keys that change no result, so they are not params."""


def conf_folder() -> Path:
    """Return the folder of ``config.yaml``: inside an installed package, or next to it in a checkout."""
    return _shipped("conf")


def sweeps_folder() -> Path:
    """Return the folder of the shipped grids."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).resolve().parent.parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


NODES: dict[str, Any] = {
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
    for key, node in NODES.items()
    for field in fields(node)
    if str(field.type).startswith("list")
)
"""The keys whose value is a list."""


def keys_of(node: Any) -> list[str]:
    """Return the names of the keys of a node of the schema."""
    return [field.name for field in fields(node) if not field.metadata.get("omegaconf_ignore")]


def node_named(name: str) -> Any:
    """Return the class of a node by the name in Hydra's messages; None if the schema has no such node."""
    return next((node for node in (Config, *NODES.values()) if node.__name__ == name), None)


def every_key() -> list[str]:
    """Return every key of a config in full, such as ``optimizer.lr``, and the names of its nodes."""
    top = keys_of(Config)
    return [*top, *(f"{name}.{key}" for name, node in NODES.items() for key in keys_of(node))]
