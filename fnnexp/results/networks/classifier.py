"""The estimator for scikit-learn: a network that is trained in this process, without a store."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fnnexp.config import compose, resolve
from fnnexp.config.checks import check
from fnnexp.config.commands import Command
from fnnexp.config.composition import explained
from fnnexp.config.jobs import Job, PlainValues, Template, has_values
from fnnexp.config.schema import UNSCIENTIFIC, every_key
from fnnexp.config.trial import Trial
from fnnexp.data import labelled
from fnnexp.data.datasets import Arrays, Prepared
from fnnexp.data.labelled import Numbers
from fnnexp.errors import ConfigError, DataError, FnnexpError, did_you_mean
from fnnexp.nn.engines.base import ENGINES, engine_named
from fnnexp.nn.network import Parameters
from fnnexp.nn.pieces.losses import LOSSES
from fnnexp.nn.rows import lacks_a_class, splits_of
from fnnexp.nn.stack import End
from fnnexp.pieces.registry import ANNOUNCED
from fnnexp.results.networks import alone
from fnnexp.results.networks.inputs import Inputs
from fnnexp.results.networks.network import Network, TrainingData

T = TypeVar("T")

OPTIONS = ("init", "batching", "optimizer", "loss", "schedule")
"""The arguments that choose an option of the config group of the same name."""

KEYS = {
    "hidden": "arch.hidden",
    "activation": "arch.activation",
    "batch_size": "batching.size",
    "lr": "optimizer.lr",
    "l2": "regularization.l2",
    "dropout": "regularization.dropout",
    "epochs": "epochs",
    "patience": "stopping.patience",
    "validation": "data.validation",
    "scale": "data.scale",
    "dtype": "dtype",
    "seed": "seed",
}
"""The other arguments, and the keys of the config whose values they are. None leaves a key as it is."""

OF_DATA = ("data.subset", "data.label_noise")
"""The keys of the data that :attr:`Classifier.settings` may have."""

MOST_CLASSES = 256


class ParameterError(ConfigError, ValueError):
    """An argument of :class:`Classifier`, or y, is not valid. scikit-learn expects a ValueError."""


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network as an estimator for scikit-learn: `Classifier(hidden=(64,)).fit(X, y).score(X, y)`.

    It is trained in this process and writes to no store. Its weights are bitwise those of the trial of a
    sweep with the same settings on the same rows. Its arguments are keys of a sweep, and its defaults are
    those of a sweep, except for `scale` and `validation`.

    Parameters
    ----------
    hidden
        The widths of the hidden layers (`arch.hidden`); `()` for none.
    activation
        The activation of all hidden layers (`arch.activation`), or a sequence with one for each.
    init, batching, optimizer, loss, schedule
        An option of these groups, such as `init="he"` or `optimizer="adam"`, with its values.
    batch_size
        The rows of a batch (`batching.size`). None: that of the option of `batching`, 128 for `mini`.
    lr
        The learning rate (`optimizer.lr`). None: that of the optimizer for this batching mode.
    l2, dropout
        As `regularization.l2` and `regularization.dropout`.
    epochs
        How often training goes through its rows.
    patience
        With early stopping: stop after so many epochs without an improvement, and keep the weights of the
        best epoch (`stopping.patience`). It needs `validation`. None: train all epochs.
    validation
        How many rows, the last of X, are held out for validation (`data.validation`). A sweep holds out some
        by default.
    scale
        How inputs are scaled (`data.scale`). The default subtracts the mean of each input over the training
        rows, and divides by its standard deviation; `unit`, the default of a sweep, divides bytes by 255.
    dtype
        The type of the numbers in training, `float32` or `float64`.
    seed
        The seed of every draw.
    engine
        `numpy`, or `numba` if that is installed.
    settings
        Values of any other keys that can change a trial: `{"optimizer.momentum": 0.8, "init.gain": 2.0}`.

    Attributes
    ----------
    classes_
        The labels in y (C,), sorted.
    n_features_in_, feature_names_in_
        The number of inputs, and their names if X is a data frame with names.
    network_
        The trained network, whose classes are 0 to C - 1 in the order of `classes_`: `network_.weights` has
        the arrays `W1`, `b1` and so on; see :class:`fnnexp.results.networks.network.Network`.
    history_
        The metrics by name, each a list with a value for each epoch: `train_loss`, `train_accuracy`, and with
        `validation` also `val_loss` and `val_accuracy`.

    Notes
    -----
    X is (n, D). If X is of dtype uint8, its rows are read as bytes, like those of images; `scale="unit"`
    needs this. Otherwise they are read as real numbers (float32). At most 256 classes are possible. Sample
    weights are not supported.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(cross_val_score(Classifier(hidden=(16,), batch_size=16, epochs=30), X, y).mean() > 0.9)
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        init: str = "he_normal",
        batching: str = "mini",
        batch_size: int | None = None,
        optimizer: str = "sgd",
        lr: float | None = None,
        loss: str = "cross_entropy",
        schedule: str = "constant",
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        epochs: int = 10,
        patience: int | None = None,
        validation: int = 0,
        scale: str = "standardize",
        dtype: str = "float32",
        seed: int = 0,
        engine: str = "numpy",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.init = init
        self.batching = batching
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.loss = loss
        self.schedule = schedule
        self.l2 = l2
        self.dropout = dropout
        self.epochs = epochs
        self.patience = patience
        self.validation = validation
        self.scale = scale
        self.dtype = dtype
        self.seed = seed
        self.engine = engine
        self.settings = settings

    def fit(self, X: Any, y: Any) -> Classifier:
        """Train on the rows X (n, D) with the labels y (n,), numbers or texts, and return the estimator.

        Raises
        ------
        ValueError
            If X or y is not valid for any classifier of scikit-learn, or y has one class only.
        FnnexpError
            If an argument is not valid, with what is allowed; or if the training diverges.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if not 2 <= len(self.classes_) <= MOST_CLASSES:
            given = "one class only" if len(self.classes_) < 2 else f"{len(self.classes_)} classes"
            raise ParameterError(f"y has {given}; it must have 2 to {MOST_CLASSES} classes")
        _refuse_absent_engine(self.engine)
        x, labels = _as_trained(X), codes.astype(np.uint8)
        if x.dtype != np.uint8 and (note := labelled.rounded_away(X)):
            warnings.warn(note, stacklevel=2)
        if self.scale == "unit" and x.dtype != np.uint8:
            raise ParameterError(
                f"scale='unit' divides bytes by 255, and X is of dtype {X.dtype}; write X.astype(np.uint8) "
                "if X has bytes, or scale='standardize'"
            )
        described = Prepared("X", "", "", len(x), 1, x.shape[1], len(self.classes_), real=x.dtype != np.uint8)
        trial = self._trial(described)
        trained, held_out = np.split(labels, [len(labels) - trial.recipe.validation])
        if lacks_a_class(trained, len(self.classes_)):
            raise ParameterError(
                f"validation={self.validation} holds out the last rows of X, and all rows of a class are "
                "among them; shuffle the rows, or hold out fewer"
            )
        if len(held_out) and lacks_a_class(held_out, len(self.classes_)):
            warnings.warn(
                f"validation={self.validation} holds out the last rows of X, and no row of a class is among "
                "them; shuffle the rows",
                stacklevel=2,
            )
        # A sweep also evaluates test rows. Here one training row stands for them, which changes no weight.
        data = TrainingData(Arrays(x, labels, x[:1], labels[:1]), trial.recipe, {})
        records, end = alone.train(trial.recipe, trial.lane(), data.arrays, self.engine)
        if end.how == "diverged":
            raise FnnexpError(
                f"training diverged in epoch {end.epoch}: its loss or its weights are not finite; write a "
                f"smaller lr than {dict(trial.hyper)['lr']:g}"
            )
        texts = tuple(str(label) for label in self.classes_)
        self.network_ = _network(trial, end, data, self.engine, () if labelled.are_numbers(texts) else texts)
        names = [name for name in records[-1].metrics if not name.startswith("test_")] if records else []
        self.history_ = {name: [record.metrics.get(name, math.nan) for record in records] for name in names}
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predicted label of each row (n,), one of `classes_`."""
        network = self._fitted()
        labels: NDArray[Any] = self.classes_[network.predict(self._checked(X))]
        return labels

    @available_if(lambda self: self._has_probabilities())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class (n, C), in the order of `classes_`; each row sums to 1.

        It is not available if the outputs of the network are not those of softmax.
        """
        network = self._fitted()
        return network.predict_proba(self._checked(X))

    def _has_probabilities(self) -> bool:
        default = next(iter(LOSSES.get(self.loss, ())), None)
        return (dict(self.settings or {}).get("loss.output") or default) == "softmax"

    def _fitted(self) -> Network:
        check_is_fitted(self)
        network: Network = self.network_
        return network

    def _checked(self, X: Any) -> Numbers:
        return _as_trained(validate_data(self, X, reset=False))

    def _trial(self, data: Prepared) -> Trial:
        """Return the trial that this estimator stands for, if its data is as `data` describes."""
        try:
            job = _template(tuple(f"{name}={_option(name, getattr(self, name))}" for name in OPTIONS))
            config = Template(job).config(self._values())
            check(config)
            return resolve.trial(Job(config, job.choices, ()), data)
        except ConfigError as error:
            raise ParameterError(_in_python(str(error))) from error

    def _values(self) -> dict[str, Any]:
        """Return the values of the config's keys that the arguments give, as OmegaConf converts them."""
        settings = dict(self.settings or {})
        for key in settings:
            _refuse_key(key)
        if not isinstance(self.hidden, Sequence | np.ndarray) or isinstance(self.hidden, str):
            raise ParameterError(f"hidden={self.hidden!r}: must be a sequence of widths; write hidden=(100,)")
        given = {key: value for name, key in KEYS.items() if (value := getattr(self, name)) is not None}
        plain = PlainValues()
        return {key: _converted(plain, key, _plain(value)) for key, value in (given | settings).items()}


def _as_trained(X: Numbers) -> Numbers:
    """Return rows in the form in which a network is trained on them: bytes, or float32 without -0.

    Raise a ParameterError if a number is not finite.
    """
    if X.dtype == np.uint8:
        return np.ascontiguousarray(X)
    try:
        labelled.check_finite(X, "X")
    except DataError as error:
        raise ParameterError(str(error)) from error
    return np.ascontiguousarray(labelled.as_real(X))


def _network(
    trial: Trial, end: End, data: TrainingData, engine: str, class_names: tuple[str, ...]
) -> Network:
    """Return the network that training gave: with early stopping, that of the best epoch, else the last."""
    architecture = trial.recipe.architecture
    theta = end.theta if end.best_theta is None else end.best_theta
    train = splits_of(trial.recipe, data.arrays)["train"]
    inputs = Inputs(architecture.inputs, train.scaling, is_checked=True)
    return Network(
        trial.name,
        trial.id,
        "",
        Parameters(architecture, theta[None].copy()).named(0),
        dict(trial.config.items()),
        trial.recipe,
        trial.lane(),
        engine,
        partial(_same, inputs),
        _no_data,
        partial(_same, class_names),
    )


def _same(value: T) -> T:
    """Return the value. A partial call of this is used instead of a lambda, since it can be pickled."""
    return value


def _no_data() -> TrainingData:
    raise FnnexpError("a Classifier does not keep the rows that it was trained on; pass X and y")


def _option(name: str, value: Any) -> str:
    """Return the name of an option, such as "he"; raise if it has other characters than names have.

    Hydra would parse these characters as its grammar.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[\w-]+", value):
        raise ParameterError(
            f"{name}={value!r}: must be the name of an option, as in init='he' or optimizer='adam'"
        )
    return value


@cache
def _composed(options: tuple[str, ...], pieces: tuple[str, ...]) -> Job:
    """Return the config that Hydra composes from these options, such as `init=he`. Results are cached.

    `pieces` are the names, with versions, of the functions that the user has added, such as activations. They
    are part of the cache's key, since an option may name one of them.
    """
    (job,) = compose.jobs_of(Command(overrides=("data=files", *options)))
    return job


def _template(options: tuple[str, ...]) -> Job:
    return _composed(options, tuple(piece.exact for piece in ANNOUNCED.values()))


def _refuse_key(key: Any) -> None:
    """Raise if a key is not allowed in `settings`; the message says what to write instead."""
    text = str(key)
    if (name := next((name for name, own in KEYS.items() if own == text), None)) is not None:
        raise ParameterError(f"settings has {text}, which is an argument of its own; write {name}=…")
    group, _, name = text.partition(".")
    if group in OPTIONS and name in ("", "name", "method", "mode"):
        raise ParameterError(f"settings has {text}, which is an argument of its own; write {group}='…'")
    if group in UNSCIENTIFIC or (group == "data" and text not in OF_DATA):
        raise ParameterError(
            f"settings has {text}, which has no meaning for a Classifier; of the data it may have "
            f"{' and '.join(OF_DATA)}"
        )
    if not has_values(text):
        known = [key for key in every_key() if has_values(key)]
        raise ParameterError(
            f"settings has {text}, which is not a key of the config; write a key such as "
            f"optimizer.momentum.{did_you_mean(text, known)}"
        )


def _converted(plain: PlainValues, key: str, value: Any) -> Any:
    """Convert a value as Hydra's config does; raise an error that names the key if it is not allowed."""
    try:
        with explained(OmegaConfBaseException):
            return plain.converted(key, value)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if key in text else f"{key}={value!r}: {text}") from error


def _plain(value: Any) -> Any:
    """Return a value of NumPy as a value of Python, and a sequence as a list."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _in_python(message: str) -> str:
    """Return an error message about a config in terms of arguments: `lr=` in place of `optimizer.lr=`."""
    for name, key in KEYS.items():
        message = message.replace(f"{key}=", f"{name}=")
    return message.replace("=null", "=None")


def _refuse_absent_engine(engine: Any) -> None:
    if engine not in ENGINES:
        raise ParameterError(f"engine={engine!r}: must be one of {', '.join(ENGINES)}")
    try:
        engine_named(engine)
    except ImportError as error:
        raise ParameterError(
            f"engine={engine!r} needs a package that can't be imported ({error}); run pip install "
            f'"fnnexp[{engine}]", or write engine="numpy"'
        ) from error
