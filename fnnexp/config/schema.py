"""The schema of a config: its keys, their types and defaults, and the folders of the shipped files.

A choice in a config is a name that is looked up in a table. No value names code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import II, MISSING

from fnnexp.config.execution import Execution
from fnnexp.data.sources import Reading
from fnnexp.data.toys import DEFAULT_TOY, Toy


@dataclass
class ArchConfig:
    """The network: the widths of its hidden layers, their activation, and how biases start.

    ``activation`` is the name of one activation for all hidden layers, or a list with one for each. ``slope``
    is the slope of ``leaky_relu`` for negative inputs, by default 0.01.
    """

    hidden: list[int] = MISSING
    activation: Any = MISSING
    slope: float | None = None
    hidden_bias: str = "zeros"
    output_bias: str = "zeros"


@dataclass
class InitConfig:
    """The initializer of the weights, and how biases start.

    ``std`` is the standard deviation of ``normal`` and ``truncated_normal``. ``low`` and ``high`` are the
    bounds of ``uniform``. ``gain`` multiplies the weights. ``bias`` is null (zeros), ``constant``, ``normal``
    or ``uniform``; ``bias_scale`` is the constant, the standard deviation or the bound (null: 1/√inputs). It
    applies to the layers whose bias is ``zeros`` in ``arch``.
    """

    method: str = MISSING
    std: float | None = None
    low: float | None = None
    high: float | None = None
    gain: float = 1.0
    bias: str | None = None
    bias_scale: float | None = None


@dataclass
class BatchingConfig:
    """How an epoch is divided into batches."""

    mode: str = MISSING
    size: int | None = None
    shuffle: bool = False


@dataclass
class OptimizerConfig:
    """The update rule. ``lr_for`` has the default learning rate of each batching mode.

    ``momentum`` is the μ of ``momentum`` and ``nesterov``; ``beta1`` and ``beta2`` are the β₁ and β₂ of
    ``adam`` and ``adamw``; ``rho`` is the ρ of ``rmsprop``; ``epsilon`` is added to the root by which these,
    except the first two, and ``adagrad`` divide. A step of ``adamw`` multiplies the weights, but not the
    biases, by 1 − ``lr`` · ``weight_decay``; see :mod:`fnnexp.nn.pieces.optimizers`.

    If a lane's gradient is longer than ``clip_norm``, it is scaled to this length.
    """

    name: str = MISSING
    lr: float = MISSING
    lr_for: dict[str, float] = field(default_factory=dict)
    momentum: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    rho: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None


@dataclass
class LossConfig:
    """The loss, and whether a step uses the mean or the sum of its gradients in a batch.

    ``output`` is the output function of ``mse``. ``label_smoothing`` is the share of the targets that is
    spread over the classes. ``epsilon`` is the ε in the cross-entropy −log(p + ε).
    """

    name: str = "cross_entropy"
    output: str | None = None
    label_smoothing: float = 0.0
    reduction: str = "mean"
    epsilon: float = 0.0


@dataclass
class RegularizationConfig:
    """Penalties on the weights, dropout rates, and a bound on the weights of each unit.

    ``dropout`` is one rate for all hidden layers, or a list: the inputs' rate, then each hidden layer's.
    """

    l2: float = 0.0
    l1: float = 0.0
    dropout: Any = 0.0
    max_norm: float | None = None


@dataclass
class ScheduleConfig:
    """How the learning rate changes during training: the factor by which ``optimizer.lr`` is multiplied.

    ``warmup`` and ``every`` are numbers of epochs. In ``warmup`` the factor rises to 1; then the schedule
    begins. ``gamma`` multiplies the factor, after ``every`` so many epochs (``step``) or gradually in each
    epoch (``exponential``). ``rate`` is the r in 1/(1 + r · epochs) of ``inverse_time``. ``end`` is the last
    factor of ``linear``, ``cosine`` and ``one_cycle``; ``one_cycle`` first rises to ``peak``, during the
    share ``rise`` of the run. See :mod:`fnnexp.nn.pieces.schedules`.
    """

    name: str = "constant"
    warmup: float = 0.0
    every: float | None = None
    gamma: float | None = None
    rate: float | None = None
    peak: float | None = None
    rise: float | None = None
    end: float | None = None


@dataclass
class StoppingConfig:
    """Early stopping: stop after ``patience`` epochs in which ``metric`` did not improve.

    An improvement by ``min_delta`` or less does not count. ``metric`` is one of
    :data:`fnnexp.nn.pieces.stopping.METRICS`. With ``patience`` null, all epochs are trained.
    """

    patience: int | None = None
    min_delta: float = 0.0
    metric: str = "val_loss"


@dataclass
class DataConfig:
    """The data set.

    ``scale`` is ``unit`` (bytes divided by 255), ``raw``, ``center`` (minus the mean of each input over the
    training rows) or ``standardize`` (also divided by its standard deviation).

    The last ``validation`` training rows are held out, or rows that ``seed_split`` draws. The default is
    ``holdout`` rows or, without ``holdout``, a sixth of the training rows. ``subset`` is how many of the
    other rows train, null for all. ``label_noise`` is the probability with which the label of a training row
    is replaced by another class.

    ``n``, ``noise`` and ``classes`` are for toys: their number of training rows, which is also that of their
    test rows; the standard deviation of their noise; and the number of arms of ``spirals``.
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
    subset: int | None = None
    label_noise: float = 0.0
    n: int | None = None
    noise: float | None = None
    classes: int | None = None

    @property
    def toy(self) -> Toy:
        """The size and noise of a toy; the default for other data sets."""
        given = {key: value for key in ("n", "noise", "classes") if (value := getattr(self, key)) is not None}
        return replace(DEFAULT_TOY, **given)

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
    regularization: RegularizationConfig = field(default_factory=RegularizationConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    execution: Execution = field(default_factory=Execution)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    dtype: str = "float32"
    epochs: int = 10
    seed: int = 0
    seed_init: int | None = None
    seed_order: int | None = None
    seed_noise: int | None = None
    seed_split: int | None = None
    diagnostics: bool = False
    dry_run: bool = False


SCHEMA = "fnnexp_schema"
"""The schema's name in a defaults list. It must be unique, as all Hydra apps of a process share one store."""

ConfigStore.instance().store(name=SCHEMA, node=Config, provider="fnnexp")

CHOICES = ("arch", "init", "batching", "optimizer", "data", "loss", "schedule")
"""The groups whose chosen option is a param of a trial."""

ADDED_LATER = (
    "loss", "loss.name", "loss.output", "loss.label_smoothing", "schedule", "schedule.", "regularization.",
    "stopping.", "arch.slope", "init.low", "init.high", "init.gain", "init.bias", "init.bias_scale",
    "optimizer.rho", "optimizer.weight_decay", "optimizer.clip_norm", "data.subset", "data.label_noise",
    "seed_init", "seed_order", "seed_noise", "seed_split",
)  # fmt: skip
"""The keys that are params only where they differ from their default; a final dot stands for a whole group.

Runs recorded before there were such keys have the same params.
"""

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
    "regularization": RegularizationConfig,
    "schedule": ScheduleConfig,
    "stopping": StoppingConfig,
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

LISTS_OR_VALUES = frozenset(
    f"{key}.{field.name}" for key, node in NODES.items() for field in fields(node) if field.type == "Any"
)
"""The keys whose value is a list with one value for each layer, or one value for all layers."""


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
