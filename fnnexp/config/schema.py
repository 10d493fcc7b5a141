"""The schema of a config: its keys, their types and defaults, and the folders of the shipped files.

A choice in a config is a name that is looked up in a table. No value names code. ``make reference`` makes the
list of choices in ``fnnexp --help``, the README's tables and docs/reference.md from this schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import II, MISSING

from fnnexp.config import key
from fnnexp.config.execution import BUDGETS, Execution
from fnnexp.data.datasets import DATASETS
from fnnexp.data.sources import HEADERS, Reading, columns_named
from fnnexp.data.toys import DEFAULT_TOY, MOST_ARMS, MOST_NOISE, MOST_ROWS, Toy
from fnnexp.nn.engines.numpy_engine import SCALES
from fnnexp.nn.network import BIASES
from fnnexp.nn.pieces.activations import ACTIVATIONS, LEAKY_SLOPE
from fnnexp.nn.pieces.batching import MODES
from fnnexp.nn.pieces.initializers import BIAS_STARTS, INITIALIZERS
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.pieces.optimizers import OPTIMIZERS
from fnnexp.nn.pieces.schedules import SCHEDULES
from fnnexp.nn.pieces.stopping import METRICS as STOPPING_METRICS

DTYPES = ("float32", "float64")

REDUCTIONS = ("mean", "sum")

UNTIL = ("settled",)

SEARCHES = ("grid", "random", "sobol", "tpe", "halving")


@dataclass
class ArchConfig:
    """The network: its hidden layers, and its biases."""

    hidden: list[int] = key(MISSING, "The widths of the hidden layers; `[]` for none.", least=1)
    activation: Any = key(
        MISSING, "The activation of all hidden layers, or a list with one for each.", names=ACTIVATIONS
    )
    slope: float | None = key(
        None, f"The slope of `leaky_relu` for negative inputs. Null: {LEAKY_SLOPE:g}.", least=0, below=1
    )
    hidden_bias: str = key(
        "zeros", "How the biases of hidden layers start. `normal` draws them like the weights.", names=BIASES
    )
    output_bias: str = key("zeros", "The same for the last layer. `none` means no biases.", names=BIASES)


@dataclass
class InitConfig:
    """How the weights start, and the biases of layers for which `arch` says `zeros`."""

    method: str = key(MISSING, "The method.", names=INITIALIZERS)
    std: float | None = key(None, "The standard deviation of `normal` and `truncated_normal`.", least=0)
    low: float | None = key(None, "The lower bound of the weights of `uniform`.")
    high: float | None = key(None, "The upper bound of the weights of `uniform`, above `init.low`.")
    gain: float = key(1.0, "A factor of all weights.", above=0)
    bias: str | None = key(
        None,
        "How biases start where `arch` says `zeros`: the distribution. Null: they start at zero.",
        names=BIAS_STARTS,
    )
    bias_scale: float | None = key(
        None,
        "Of `init.bias`: the constant, the standard deviation of `normal`, or the bound of `uniform`. Null, "
        "with `uniform` only: 1/√n_in.",
    )


@dataclass
class BatchingConfig:
    """How an epoch is divided into batches."""

    mode: str = key(MISSING, "The mode.", names=MODES)
    size: int | None = key(
        None, "The size of the batches of `mini`. The last of an epoch may be smaller.", unit="rows", least=1
    )
    shuffle: bool = key(False, "Whether each epoch has a new order of the rows, or the order of the file.")


@dataclass
class OptimizerConfig:
    """The update rule, and its hyperparameters."""

    name: str = key(MISSING, "The rule.", names=OPTIMIZERS)
    lr: float = key(MISSING, "The learning rate η. Its default depends on the batching mode.", least=0)
    lr_for: dict[str, float] = key(dict, "The default learning rate of each batching mode.")
    momentum: float | None = key(None, "μ of `momentum` and `nesterov`.", least=0, below=1)
    beta1: float | None = key(None, "β₁ of `adam` and `adamw`.", least=0, below=1)
    beta2: float | None = key(None, "β₂ of `adam` and `adamw`.", least=0, below=1)
    epsilon: float | None = key(
        None,
        "ε, which `adagrad`, `rmsprop`, `adam` and `adamw` add to the root that they divide by.",
        least=0,
    )
    rho: float | None = key(
        None, "ρ of `rmsprop`: the share of the mean square that remains at each step.", least=0, below=1
    )
    weight_decay: float | None = key(
        None, "λ of `adamw`: a step first multiplies the weights, but not the biases, by 1 − η λ.", least=0
    )
    clip_norm: float | None = key(
        None, "A gradient that is longer is scaled to this length. Null: gradients stay as they are.", above=0
    )


@dataclass
class LossConfig:
    """What training minimizes."""

    name: str = key("cross_entropy", "The loss.", names=LOSSES)
    output: str | None = key(None, "The output function of `mse`.", names=LOSSES["mse"])
    label_smoothing: float = key(
        0.0, "The share of the targets that is spread over the classes.", least=0, below=1
    )
    reduction: str = key(
        "mean", "Whether a step uses the mean or the sum of the gradients in a batch.", names=REDUCTIONS
    )
    epsilon: float = key(0.0, "ε in the loss −log(p + ε) of `cross_entropy`.", least=0)


@dataclass
class RegularizationConfig:
    """Penalties on the weights, dropout, and a bound on the weights. Biases are exempt."""

    l2: float = key(0.0, "Adds (l2/2) Σ W² to the mean loss.", least=0)
    l1: float = key(0.0, "Adds l1 Σ |W| to the mean loss.", least=0)
    dropout: Any = key(
        0.0,
        "The dropout rate of all hidden layers, or a list: the rate of the inputs, then of each hidden one.",
        least=0,
        below=1,
    )
    max_norm: float | None = key(
        None, "The greatest length of the incoming weights of a unit. Null: no bound.", above=0
    )


@dataclass
class ScheduleConfig:
    """How the learning rate changes: the factor by which `optimizer.lr` is multiplied at each step."""

    name: str = key("constant", "The schedule.", names=SCHEDULES)
    warmup: float = key(
        0.0,
        "In these epochs the factor rises to 1; then the schedule begins. Below `epochs`.",
        unit="epochs",
        least=0,
    )
    every: float | None = key(
        None,
        "`step` multiplies the factor by γ after every so many epochs. Below `epochs`.",
        unit="epochs",
        above=0,
    )
    gamma: float | None = key(None, "γ of `step` and `exponential`, other than 1.", above=0)
    rate: float | None = key(None, "The rate of `inverse_time`.", above=0)
    peak: float | None = key(None, "The greatest factor of `one_cycle`.", above=1)
    rise: float | None = key(None, "The share of the run in which `one_cycle` rises.", above=0, below=1)
    end: float | None = key(
        None,
        "The multiple of the learning rate at which `linear`, `cosine` and `one_cycle` end. It must not be 1 "
        "for `linear` and `cosine`, and must be below the peak for `one_cycle`.",
        least=0,
    )


@dataclass
class StoppingConfig:
    """Early stopping: a trial ends, and is finished, when a metric no longer improves."""

    patience: int | None = key(
        None,
        "Stop after so many epochs without an improvement. Null: train all epochs.",
        unit="epochs",
        least=1,
    )
    min_delta: float = key(0.0, "An improvement by this much or less does not count.", least=0)
    metric: str = key("val_loss", "The metric that must improve.", names=STOPPING_METRICS)


@dataclass
class DataConfig:
    """The data set, its rows, and how inputs are scaled."""

    name: str = key(MISSING, "The data set.", names=DATASETS)
    path: str | None = key(
        None,
        "The file or folder of the data; `files` needs it. Null: `$FNNEXP_MNIST` (of `mnist`), else the "
        "cache, else a download.",
    )
    test_path: str | None = key(None, "The test CSV of a training CSV.")
    label: str | None = key(
        Reading.label, "The column of labels of a CSV: `first`, `last` or its name. Null: find it."
    )
    drop: Any = key(
        None,
        "The columns of a CSV to leave out: a name, or a list of names. A column without a name is called by "
        "its number, from 1, or `''` if another column has this number as its name. Null: none.",
        kind="name, or list of names",
    )
    header: str = key(
        Reading.header, "Whether the first line of a CSV has the names of the columns.", names=HEADERS
    )
    test_fraction: float = key(
        Reading.test_fraction, "The share of test rows, if a file has none.", above=0, below=1
    )
    transpose: bool = key(Reading.transpose, "Whether images are stored column by column, as in EMNIST.")
    scale: str = key(
        "unit",
        "How inputs are scaled: `unit` divides bytes by 255, `center` subtracts the mean of each input over "
        "the training rows, and `standardize` also divides by its standard deviation.",
        names=SCALES,
    )
    validation: int | None = key(
        II("data.holdout"),
        "How many training rows are held out for validation: the last, or those that `seed_split` draws. "
        "Null: a sixth.",
        unit="rows",
        least=0,
    )
    holdout: int | None = key(None, "The default of `data.validation`, which each data set has.", unit="rows")
    subset: int | None = key(None, "How many of the other rows train. Null: all.", unit="rows", least=1)
    label_noise: float = key(
        0.0,
        "The probability that the label of a training row is replaced by another class.",
        least=0,
        below=1,
    )
    n: int | None = key(
        None, "The training rows of a toy, and as many test rows.", unit="rows", least=10, most=MOST_ROWS
    )
    noise: float | None = key(None, "The standard deviation of the noise of a toy.", least=0, most=MOST_NOISE)
    classes: int | None = key(None, "The number of arms of `spirals`.", unit="arms", least=2, most=MOST_ARMS)

    @property
    def toy(self) -> Toy:
        """The numbers of rows and classes, and the noise, of a generated data set such as `moons`."""
        given = {key: value for key in ("n", "noise", "classes") if (value := getattr(self, key)) is not None}
        return replace(DEFAULT_TOY, **given)

    @property
    def reading(self) -> Reading:
        """The options for reading files. Raises `DataError` for impossible values."""
        columns = columns_named(self.drop)
        return Reading(self.label, self.header.lower(), self.test_fraction, self.transpose, columns)


@dataclass
class TrackingConfig:
    """Where results go."""

    experiment: str | None = key(
        None,
        "The name of the MLflow experiment. Null: that of the grid, else of the preset, else of the data.",
    )
    uri: str | None = key(None, "The store. Null: `MLFLOW_TRACKING_URI`, else MLflow's default.")


@dataclass
class UntilConfig:
    """When a sweep ends. Without this group, it ends when all trials of the grid have ended."""

    name: str | None = key(
        None,
        "`settled`: seeds are added until every question of the sweep is settled. Null: all trials of the "
        "grid are trained.",
        names=UNTIL,
    )
    most_seeds: int = key(30, "The most seeds for an option.", unit="seeds", least=2)


@dataclass
class SearchConfig:
    """Which configurations of the swept values are trained: all, or some that are drawn."""

    name: str = key("grid", "The search.", names=SEARCHES)
    trials: int | None = key(
        None,
        "How many configurations are drawn. Each is trained with every `seed` of the sweep. With `halving`, "
        "null takes all combinations of the values; if there is an interval, it draws 20. `tune` draws 12.",
        unit="configurations",
        least=1,
    )
    eta: int | None = key(
        None,
        "`halving` keeps the best 1/η of the configurations of each batching mode, and trains them for η "
        "times as many epochs.",
        least=2,
    )
    min_epochs: int | None = key(
        None,
        "`halving` trains all configurations for so many epochs.",
        unit="epochs",
        least=1,
    )


@dataclass
class Config:
    """The whole config: its groups, and the keys that are in no group."""

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
    until: UntilConfig = field(default_factory=UntilConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    dtype: str = key("float32", "The type of the numbers in training.", names=DTYPES)
    epochs: int = key(10, "How often training goes through its rows.", unit="epochs", least=0)
    seed: int = key(0, "The seed of every draw.", least=0)
    seed_init: int | None = key(None, "The seed of the initial weights. Null: `seed`.", least=0)
    seed_order: int | None = key(None, "The seed of the order of the rows. Null: `seed`.", least=0)
    seed_noise: int | None = key(None, "The seed of dropout. Null: `seed`.", least=0)
    seed_split: int | None = key(
        None,
        "The seed that chooses subsets, validation rows and noisy labels. Null: a fixed choice, in which the "
        "last rows are the validation rows.",
        least=0,
    )
    diagnostics: Any = key(
        False,
        "Whether to record statistics of each layer's signals and gradients; `full` records their histograms "
        "too. Changes no other result.",
        kind="true, false or full",
    )
    budget: str | None = key(
        None,
        f"The most that a command trains, as {BUDGETS}. Then it ends in order, and the same command "
        "with a larger budget goes on. Null: no limit.",
    )
    compare: Any = key(
        None,
        "With `until=settled` or `tune`: the factor whose options are compared, such as `init`, or a list of "
        "factors. Null: all that vary.",
        kind="name, or list of names",
    )
    tune: Any = key(
        None,
        "With `compare`: the key that is tuned for each option before the options are compared, such as "
        "`optimizer.lr`, or a list of keys. Null: nothing is tuned.",
        kind="name, or list of names",
    )
    margin: float | None = key(
        None,
        "With `until=settled` or `tune`: options whose mean difference is smaller than this are equivalent, "
        "in percentage points. Null: 0.2.",
        above=0,
    )
    dry_run: bool = key(False, "Whether to show what would run, and train nothing.")
    zip: Any = key(
        None,
        "Groups of keys that a sweep changes together: the first value of one key goes with the first of the "
        "others. `zip=[[init,optimizer.lr]]`.",
        kind="list of lists of keys",
    )
    where: Any = key(
        None,
        'Which jobs of a sweep to keep: a sentence, or a list of them. `where="init=he -> '
        'arch.activation=relu"`. [grids.md](grids.md) has its grammar.',
        kind="text, or list of texts",
    )


SCHEMA = "fnnexp_schema"
"""The schema's name in a defaults list. It must be unique, as all Hydra apps of a process share one store."""

ConfigStore.instance().store(name=SCHEMA, node=Config, provider="fnnexp")

OF_GRIDS = ("zip", "where")
"""The keys that say which jobs a grid has."""

MOST_MARGIN = 1e9
"""Margins must be below this: a larger margin would make all options equivalent."""

OF_SWEEPS = ("search", "until", "budget", "compare", "tune", "margin", *OF_GRIDS)
"""The top-level keys that say which trials a sweep trains, and that belong to no trial."""

SEEDS = ("seed", "seed_init", "seed_order", "seed_noise", "seed_split")
"""The keys of seeds. A search draws configurations, and trains each with all of its seeds."""

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

UNSCIENTIFIC = ("execution", "tracking", "hydra", "diagnostics", "dry_run", *OF_SWEEPS)
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
    "until": UntilConfig,
    "search": SearchConfig,
}


LISTS = frozenset(
    f"{key}.{field.name}"
    for key, node in NODES.items()
    for field in fields(node)
    if str(field.type).startswith("list")
)
"""The keys whose value is a list."""

WHOLE = frozenset({"compare", "tune"})
"""The keys with a single value for a whole sweep. This value may be a list."""

LISTS_OR_VALUES = frozenset(
    f"{key}.{field.name}" for key, node in NODES.items() for field in fields(node) if field.type == "Any"
)
"""The keys whose value is one value or a list, such as one activation for all layers, or one for each."""


def keys_of(node: Any) -> list[str]:
    """Return the names of the keys of a node of the schema, such as that of ``optimizer``."""
    return [field.name for field in fields(node) if not field.metadata.get("omegaconf_ignore")]


def node_named(name: str) -> Any:
    """Return the class of a node by the name in Hydra's messages; None if the schema has no such node."""
    return next((node for node in (Config, *NODES.values()) if node.__name__ == name), None)


def every_key() -> list[str]:
    """Return every key of a config in full, such as ``optimizer.lr``, and the names of its nodes."""
    top = keys_of(Config)
    return [*top, *(f"{name}.{key}" for name, node in NODES.items() for key in keys_of(node))]
