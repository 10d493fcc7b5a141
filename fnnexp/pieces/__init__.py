"""Pieces of your own: initializers, activations, optimizers, losses, schedules, data sets, metrics, sections.

A piece is a function. The functions of this module announce it, as decorators or as calls::

    from fnnexp import pieces

    @pieces.initializer
    def mine(n_in, n_out):
        return (3 / (n_in + n_out)) ** 0.5

    pieces.activation("bent", lambda Z: Z + Z**2 / 2, lambda Z: 1 + Z)

Then ``init=mine`` and ``arch.activation=bent`` are choices like those of fnnexp. On the command line,
``--pieces FILE`` runs such a file first. In Python, announce the pieces and call :func:`fnnexp.sweep`, or
pass ``pieces="FILE"`` to it.

A piece is checked when it is announced: its shapes, its dtype, its derivative against finite differences, and
that the same arguments give the same numbers. The id of a trial that uses a piece depends on the checksum of
the piece's whole file, so an edited piece is another experiment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fnnexp.data import datasets
from fnnexp.errors import ConfigError
from fnnexp.pieces import adapters, checks, registry
from fnnexp.pieces.files import load
from fnnexp.pieces.registry import Piece

__all__ = [
    "activation",
    "dataset",
    "initializer",
    "load",
    "loss",
    "metric",
    "optimizer",
    "schedule",
    "section",
]

F = TypeVar("F", bound=Callable[..., Any])

HYPERPARAMETERS = ("lr", "momentum", "beta1", "beta2", "epsilon", "rho")
"""The names that the hyperparameters of an optimizer can have: keys of ``optimizer``."""

LONGEST_NAME = 40

RESERVED = ("null", "true", "false", "nan", "inf")
"""Words that have a meaning in Hydra's grammar."""


def initializer(name: str | F | None = None, function: F | None = None) -> Any:
    """Announce a function as an initializer, which ``init=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default the function's.
    function
        ``function(n_in, n_out)`` returns the standard deviation of a layer's weights, which are then drawn
        from a normal distribution. With a keyword ``rng``, a NumPy generator, it returns the weights (n_in,
        n_out) themselves. All its draws must be from ``rng``.

    Raises
    ------
    ConfigError
        If the function fails a check.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        checks.initializer(what, function)
        piece = _piece("initializer", what, function)
        own, also = adapters.Own(str(piece), function), {}
        if adapters.draws_array(function):
            also = {"distribution": partial(adapters.weights, own)}
        _announce(piece, adapters.initializer(own, piece.exact), also, {"method": what})

    return _decorate("initializer", name, function, announce)


def activation(
    name: str | F | None = None,
    forward: F | None = None,
    derivative: Callable[..., Any] | None = None,
) -> Any:
    """Announce two functions as an activation, which ``arch.activation=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default that of ``forward``.
    forward
        ``forward(Z)`` returns A = f(Z) for Z (B, H): an array of the same shape and dtype. It acts on each
        element alone, and does not change Z.
    derivative
        ``derivative(Z)`` or ``derivative(Z, A)`` returns f′(Z): an array of the same shape, or a number.

    Raises
    ------
    ConfigError
        If a function fails a check, or the derivative differs from finite differences.
    """

    def announce(what: str, forward: Callable[..., Any]) -> None:
        if derivative is None:
            raise ConfigError(
                f"activation '{what}': has no derivative; write pieces.activation('{what}', forward, "
                "derivative)"
            )
        checks.activation(what, forward, derivative)
        piece = _piece("activation", what, forward, derivative)
        functions = adapters.Own(str(piece), forward), adapters.Own(f"{piece}, its derivative", derivative)
        _announce(piece, adapters.activation(*functions))

    return _decorate("activation", name, forward, announce)


def optimizer(
    name: str | F | None = None, function: F | None = None, *, slots: int = 0, **hyperparameters: float
) -> Any:
    """Announce a function as an optimizer, which ``optimizer=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default the function's.
    function
        ``function(theta, grad, slots, step, hyper)`` changes the parameters ``theta`` (P,) in place, by the
        gradient ``grad`` (P,), which it may overwrite. ``slots`` is a tuple of arrays (P,) that keep their
        values between steps and start at zero. ``step`` counts from 1. ``hyper`` has the hyperparameters, as
        floats; ``hyper["lr"]`` already contains the factor of a schedule.
    slots
        The number of slots.
    hyperparameters
        The default of each hyperparameter: ``lr``, and any of :data:`HYPERPARAMETERS`.

    Raises
    ------
    ConfigError
        If the function fails a check, or a hyperparameter has an unknown name.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        unknown = [key for key in hyperparameters if key not in HYPERPARAMETERS]
        if unknown or "lr" not in hyperparameters:
            problem = f"{unknown[0]} is not a known hyperparameter" if unknown else "has no lr"
            raise ConfigError(
                f"optimizer '{what}': {problem}; a hyperparameter must be one of "
                f"{', '.join(HYPERPARAMETERS)}, and lr must have a default; write "
                f"pieces.optimizer('{what}', function, slots=1, lr=0.01, momentum=0.9)"
            )
        if not isinstance(slots, int) or not 0 <= slots <= 8:
            raise ConfigError(
                f"optimizer '{what}': slots={slots!r}: must be a whole number from 0 to 8; write slots=1"
            )
        checks.numbers(what, hyperparameters)
        numbers = {key: float(value) for key, value in hyperparameters.items()}
        checks.optimizer(what, function, slots, numbers)
        piece = _piece("optimizer", what, function)
        entry = adapters.optimizer(adapters.Own(str(piece), function), slots, tuple(numbers))
        _announce(piece, entry, {}, {"name": what, **numbers})

    return _decorate("optimizer", name, function, announce)


def loss(
    name: str | F | None = None,
    value: F | None = None,
    gradient: Callable[..., Any] | None = None,
    *,
    output: str = "softmax",
) -> Any:
    """Announce two functions as a loss, which ``loss=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default that of ``value``.
    value
        ``value(Z, T)`` returns the loss of each row (B,). Z (B, C) are the logits, the last layer's values
        before any output function; T (B, C) are the targets, 1 for the row's class and 0 elsewhere.
    gradient
        ``gradient(Z, T)`` returns the gradient of each row's loss with respect to Z, (B, C).
    output
        The network's output function, for metrics and predictions: softmax, sigmoid or identity. It is not
        applied to the Z that ``value`` and ``gradient`` get.

    Raises
    ------
    ConfigError
        If a function fails a check, or the gradient differs from finite differences.
    """

    def announce(what: str, value: Callable[..., Any]) -> None:
        if gradient is None:
            raise ConfigError(f"loss '{what}': has no gradient; write pieces.loss('{what}', value, gradient)")
        if output not in adapters.OUTPUTS:
            raise ConfigError(
                f"loss '{what}': output={output!r}: must be one of {', '.join(adapters.OUTPUTS)}; write "
                "output='softmax'"
            )
        checks.loss(what, value, gradient)
        piece = _piece("loss", what, value, gradient)
        functions = adapters.Own(str(piece), value), adapters.Own(f"{piece}, its gradient", gradient)
        _announce(piece, adapters.loss(*functions, output), {}, {"name": what})

    return _decorate("loss", name, value, announce)


def schedule(name: str | F | None = None, function: F | None = None) -> Any:
    """Announce a function as a schedule of the learning rate, which ``schedule=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default the function's.
    function
        ``function(step, steps)`` returns the factor of the learning rate, a number of at least 0, at a step
        that is counted from 0, of a run with ``steps`` steps. With a warmup, both count from its end.

    Raises
    ------
    ConfigError
        If the function fails a check.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        checks.schedule(what, function)
        piece = _piece("schedule", what, function)
        _announce(piece, adapters.schedule(adapters.Own(str(piece), function)), {}, {"name": what})

    return _decorate("schedule", name, function, announce)


def dataset(name: str | F | None = None, function: F | None = None, *, scale: str = "unit") -> Any:
    """Announce a function that makes a data set, which ``data=NAME`` then chooses.

    Parameters
    ----------
    name
        Its name; by default the function's.
    function
        ``function()`` returns ``x_train, y_train, x_test, y_test``: inputs (n, …) as bytes or real numbers,
        and classes (n,) as whole numbers from 0, or as words, which become the names of the classes. It is
        called when the data set is first used, twice, and must return the same arrays each time. They are
        kept in the cache.
    scale
        The default of ``data.scale``: ``unit`` for bytes; ``raw``, ``center`` or ``standardize`` for others.

    Raises
    ------
    ConfigError
        If the name or the scale is not allowed. A later use raises `DataError` if the function fails.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        checks.dataset(what, function, scale)
        piece = _piece("dataset", what, function)
        prepare = partial(datasets.from_function, what, function, piece.source.sha256)
        _announce(piece, prepare, {}, {"name": what, "scale": scale})

    return _decorate("dataset", name, function, announce)


def metric(name: str | F | None = None, function: F | None = None) -> Any:
    """Announce a function as a metric, which every trial then records as ``train_NAME``, ``test_NAME``, ….

    Parameters
    ----------
    name
        Its name; by default the function's.
    function
        ``function(P, labels)`` returns a value for each row (B,), of which the mean is recorded. P (B, C) are
        the network's outputs and ``labels`` (B,) the classes. The value of a row must depend on this row
        alone.

    Raises
    ------
    ConfigError
        If the function fails a check.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        checks.metric(what, function)
        piece = _piece("metric", what, function)
        _announce(piece, partial(adapters.measure, adapters.Own(str(piece), function)))

    return _decorate("metric", name, function, announce)


def section(title: str | F | None = None, function: F | None = None) -> Any:
    """Announce a function that makes a section of every report.

    Parameters
    ----------
    title
        Its title; by default the function's name.
    function
        ``function(runs)`` gets the frame of :func:`fnnexp.runs` and returns a text, a pandas frame, a
        Matplotlib figure, or a list of these.
    """

    def announce(what: str, function: Callable[..., Any]) -> None:
        checks.section(what, function)
        registry.announce(replace(_piece("section", what, function), value=function))

    return _decorate("section", title, function, announce)


def _decorate(
    kind: str, name: Any, function: Any, announce: Callable[[str, Callable[..., Any]], None]
) -> Any:
    """Call ``announce(name, function)`` and return the function; without a function, return a decorator.

    So the public functions of this module work as ``@initializer``, as ``@initializer("mine")`` and as
    ``initializer("mine", function)``.
    """
    if callable(name) and function is None:
        name, function = None, name
    if function is None and isinstance(name, str | None):
        return lambda decorated: _decorate(kind, name, decorated, announce)
    if not callable(function) or not isinstance(name, str | None):
        raise ConfigError(
            f"pieces.{kind}({name!r}, {function!r}): must be called with a name and a function; write "
            f"pieces.{kind}('mine', function)"
        )
    given = getattr(function, "__name__", "") if name is None else name
    if kind == "section" and name is None:
        given = given.replace("_", " ").capitalize()
    elif kind != "section":
        _check_name(kind, given)
    with registry.world_as_it_was():
        announce(given, function)
    return function


def _check_name(kind: str, name: str) -> None:
    """Raise if commands could not choose a piece by this name, as in ``init=NAME``."""
    if name in RESERVED:
        raise ConfigError(
            f"{kind} '{name}': {name} has another meaning in commands; write pieces.{kind}('mine', …)"
        )
    # Labels of networks end in an activation and widths, as in relu_100 or relu_3x8.
    numbered = kind == "activation" and re.search(r"_(\d+x)?\d+$", name)
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or len(name) > LONGEST_NAME or numbered:
        ending = ", and not end like _3 or _3x8" if kind == "activation" else ""
        raise ConfigError(
            f"{kind} '{name}': a name must consist of at most {LONGEST_NAME} small letters, digits and _, "
            f"begin with a letter{ending}; write pieces.{kind}('mine', …)"
        )


def _piece(kind: str, name: str, *functions: Callable[..., Any]) -> Piece:
    """Return a piece with the file or notebook cell that its functions are from, and without its table entry.

    Their modules are noted, so that worker processes get the functions as code.
    """
    source = registry.source_of(f"{kind} '{name}'", *functions)
    for function in functions:
        registry.remember_module(function)
    return Piece(kind, name, source, None)


def _announce(
    piece: Piece, value: Any, also: dict[str, Any] | None = None, option: dict[str, Any] | None = None
) -> None:
    """Enter a piece in fnnexp's tables, with copies of its functions, as worker processes get them.

    So the piece stays the same if a variable that its functions use is changed later. The parameters are
    attributes of :class:`fnnexp.pieces.registry.Piece`.
    """
    value, also = checks.sent(str(piece), (value, also or {}))
    registry.announce(replace(piece, value=value, also=also, option=option or {}))
