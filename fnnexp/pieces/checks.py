"""Checks of a piece when it is announced: what it returns, and that it returns the same each time.

Every check calls the user's function with small arrays, and raises a :class:`ConfigError` that says what was
expected and what came.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.errors import ConfigError, raised
from fnnexp.nn.arrays import Array
from fnnexp.nn.engines.numpy_engine import SCALES
from fnnexp.pieces import adapters, registry
from fnnexp.pieces.adapters import is_number

Function = Callable[..., Any]
Floats = NDArray[np.floating[Any]]

DTYPES = (np.float64, np.float32)

LAYERS = ((784, 100), (100, 10), (3, 5), (1, 1))
"""The shapes (n_in, n_out) with which initializers are called."""

STEP, ALLOWED = 1e-6, 1e-5
"""The step of the central differences, and the largest relative difference from a derivative."""

AGAIN = "returned other numbers when it was called again with the same arguments"
ALONE = "gave different numbers to a network trained alone and to the same network trained with another"

STEPS = 20
"""The number of steps with which a schedule is called."""


def initializer(name: str, function: Function) -> None:
    """Check that an initializer returns a standard deviation or weights, and the same when called again."""
    what = f"initializer '{name}'"
    draws = adapters.draws_array(function)
    _takes(what, function, "n_in, n_out, *, rng" if draws else "n_in, n_out", keywords=("rng",))
    for n_in, n_out in LAYERS:
        call = f"n_in={n_in}, n_out={n_out}"
        arguments = [{"rng": np.random.default_rng(0)} if draws else {} for _ in range(2)]
        first, second = (_called(what, call, function, n_in, n_out, **keywords) for keywords in arguments)
        if draws:
            _is_array(what, call, first, (n_in, n_out), "the weights")
        elif not is_number(first) or not np.isfinite(first) or first < 0:
            raise ConfigError(
                f"{what}: returned {_shown(first)} for {call}; it must return a standard deviation, a finite "
                "number of at least 0, or have a keyword rng and return the weights"
            )
        _same(what, first, second, cause="rng" if draws else "its arguments")


def activation(name: str, forward: Function, derivative: Function) -> None:
    """Check an activation: its values, and that its derivative agrees with central differences."""
    what = f"activation '{name}'"
    _takes(what, forward, "Z")
    _takes(f"{what}, its derivative", derivative, "Z", "Z, A")
    for dtype in DTYPES:
        Z = _spread(6, 7).astype(dtype)
        A = _activated(what, forward, Z)
        slope = _differentiated(what, derivative, Z, A)
        _same(what, A, _activated(what, forward, Z))
        _same(what, slope, _differentiated(what, derivative, Z, A))
        for part in (slice(1, 3), slice(4, 5)):
            others = _activated(what, forward, Z[part]), _differentiated(what, derivative, Z[part], A[part])
            if not all(map(_close, (A[part], slope[part]), others)):
                raise ConfigError(
                    f"{what}: gives a row of Z other numbers when other rows are left out; it must act on "
                    "each element alone"
                )
    Z = _spread(6, 7)
    A, slope = (
        _activated(what, forward, Z),
        _differentiated(what, derivative, Z, _activated(what, forward, Z)),
    )
    numeric = (_activated(what, forward, Z + STEP) - _activated(what, forward, Z - STEP)) / (2 * STEP)
    _agree(f"{what}: its derivative", "Z", Z, slope, numeric)
    table = adapters.activation(adapters.Own(what, forward), adapters.Own(what, derivative))
    stack, single = np.stack([Z[:3], Z[3:]]), Z[3:].copy()
    table.forward(stack)
    table.forward(single)
    _same(what, single, stack[1], ALONE)


def optimizer(name: str, function: Function, slots: int, hyper: Mapping[str, float]) -> None:
    """Check that an optimizer gives a network the same parameters with another network as alone.

    Each takes three steps.
    """
    what = f"optimizer '{name}'"
    _takes(what, function, "theta, grad, slots, step, hyper")
    for dtype in DTYPES:
        together, alone = (_after_steps(what, function, slots, hyper, dtype, k) for k in ((0, 1), (1,)))
        for first, second in zip(together, alone, strict=True):
            _same(what, first[-1], second[-1], ALONE)


def numbers(name: str, hyperparameters: Mapping[str, Any]) -> None:
    """Raise if the default of a hyperparameter is not a finite number of at least 0."""
    for key, value in hyperparameters.items():
        if not is_number(value) or not np.isfinite(value) or value < 0:
            raise ConfigError(
                f"optimizer '{name}': {key}={value!r}: must be a finite number of at least 0; write {key}=0.1"
            )


def _after_steps(
    what: str,
    function: Function,
    slots: int,
    hyper: Mapping[str, float],
    dtype: Any,
    lanes: Sequence[int],
) -> list[Array]:
    """Take three steps with a user's optimizer, and return θ and the slots.

    They are those of the networks with the numbers ``lanes``. A network's number decides its parameters at
    the start. ``dtype`` is the dtype of all arrays, and ``hyper`` has the hyperparameters.
    """
    theta = np.stack([_spread(3, 4).ravel() + k for k in lanes]).astype(dtype)
    kept = tuple(np.zeros_like(theta) for _ in range(slots))
    before = theta.copy()
    for step in (1, 2, 3):
        gradient = (theta * 0.1 + 0.01).astype(dtype)
        for k in range(len(lanes)):
            returned = _called(
                what, f"step {step}", function,
                theta[k], gradient[k], tuple(slot[k] for slot in kept), step, dict(hyper),
            )  # fmt: skip
            if returned is not None:
                raise ConfigError(
                    f"{what}: returned {_shown(returned)}; it must change theta in place and return nothing, "
                    "as in theta -= hyper['lr'] * grad"
                )
    if not all(np.isfinite(array).all() for array in (theta, *kept)):
        raise ConfigError(f"{what}: theta or a slot is not finite after three steps with finite gradients")
    if (theta == before).all():
        raise ConfigError(
            f"{what}: theta is unchanged after three steps; change it in place, as in theta -= hyper['lr'] * "
            "grad"
        )
    return [theta, *kept]


def loss(name: str, value: Function, gradient: Function) -> None:
    """Check a loss: its values, and that its gradient agrees with central differences."""
    what = f"loss '{name}'"
    _takes(what, value, "Z, T")
    _takes(f"{what}, its gradient", gradient, "Z, T")
    rows, classes = 6, 4
    T = np.eye(classes)[np.arange(rows) % classes]
    for dtype in DTYPES:
        Z, targets = _spread(rows, classes).astype(dtype), T.astype(dtype)
        losses = _loss(what, value, Z, targets)
        dZ = _called(f"{what}, its gradient", "Z, T", gradient, _locked(Z), _locked(targets))
        _is_array(f"{what}, its gradient", "Z, T", dZ, Z.shape, "dZ")
        if not _close(losses[2:], _loss(what, value, Z[2:], targets[2:])):
            raise ConfigError(
                f"{what}: gives a row another loss when other rows are left out; the loss of a row must "
                "depend on this row alone"
            )
        _same(what, dZ, _called(what, "Z, T", gradient, _locked(Z), _locked(targets)))
    Z = _spread(rows, classes)
    dZ = np.asarray(gradient(_locked(Z), _locked(T)))
    numeric = np.empty_like(Z)
    for c in range(classes):
        step = STEP * (np.arange(classes) == c)
        numeric[:, c] = (_loss(what, value, Z + step, T) - _loss(what, value, Z - step, T)) / (2 * STEP)
    _agree(f"{what}: its gradient", "Z", Z, dZ, numeric)


def schedule(name: str, function: Function) -> None:
    """Check that a schedule returns a factor of at least 0 for each step, and the same when called again."""
    what = f"schedule '{name}'"
    _takes(what, function, "step, steps")
    for step in range(STEPS):
        call = f"step={step}, steps={STEPS}"
        factor = _called(what, call, function, step, STEPS)
        if not is_number(factor) or not np.isfinite(factor) or factor < 0:
            raise ConfigError(
                f"{what}: returned {_shown(factor)} for {call}; it must return a finite number of at least 0"
            )
        _same(what, factor, _called(what, call, function, step, STEPS))


def dataset(name: str, function: Function, scale: str) -> None:
    """Check that a data set's function can be called without arguments, and that its scale is a known one."""
    what = f"dataset '{name}'"
    _takes(what, function, "")
    if scale not in SCALES:
        raise ConfigError(f"{what}: scale={scale!r}: must be one of {', '.join(SCALES)}; write scale='raw'")


def metric(name: str, function: Function) -> None:
    """Check that a metric returns a value for each row, which depends on this row alone.

    It must return the same values when it is called again.
    """
    what = f"metric '{name}'"
    _takes(what, function, "P, labels")
    for dtype in DTYPES:
        P = np.abs(_spread(6, 4)).astype(dtype)
        P = P / P.sum(axis=1, keepdims=True)
        labels = (np.arange(6) % 4).astype(np.uint8)
        values = _called(what, "P, labels", function, _locked(P), _locked(labels))
        if np.shape(values) != (6,):
            raise ConfigError(
                f"{what}: returned {_shown(values)} for 6 rows; it must return a value for each row, and not "
                "their mean"
            )
        _same(what, values, _called(what, "P, labels", function, _locked(P), _locked(labels)))
        part = _called(what, "P, labels", function, _locked(P[2:]), _locked(labels[2:]))
        if not _close(np.asarray(values)[2:], np.asarray(part)):
            raise ConfigError(
                f"{what}: gives a row another value when other rows are left out; the value of a row must "
                "depend on this row alone"
            )


def section(title: str, function: Function) -> None:
    """Check that a section has a title, and that its function can be called with a frame of runs."""
    if not title.strip() or not title.isprintable():
        raise ConfigError(
            f"section {title!r}: the title must have visible characters; write "
            "pieces.section('My section', function)"
        )
    _takes(f"section '{title}'", function, "runs")


def sent(what: str, values: Any) -> Any:
    """Return copies of a piece's functions, as worker processes get them; raise if they cannot be sent."""
    try:
        return registry.unpickled(registry.pickled(values))
    except Exception as error:
        raise ConfigError(
            f"{what}: cannot be sent to workers ({type(error).__name__}: {error}); it must not use open "
            "files, locks or the like from outside the function"
        ) from error


# --- what the checks share ----------------------------------------------------------------------------------


def _spread(rows: int, columns: int) -> Floats:
    """Return unsorted numbers (rows, columns) between −3 and 3, none of them near a whole or half number.

    A function that has kinks only at whole and half numbers has a derivative at every number returned.
    """
    fractions = np.arange(1, rows * columns + 1) * 0.6180339887498949 % 1
    halves = np.arange(rows * columns) * 7 % 12 - 6
    values: Floats = (halves / 2 + 0.05 + 0.4 * fractions).reshape(rows, columns)
    return values


def _takes(what: str, function: Function, *signatures: str, keywords: Sequence[str] = ()) -> None:
    """Raise if a function cannot be called as one of the signatures says.

    A signature is a text, such as "n_in, n_out, *, rng". The names in ``keywords`` are passed as keywords,
    and the others by position. ``what`` names the function in messages, here and in the functions below.
    """
    wanted = " or ".join(f"({signature})" for signature in signatures)
    if not callable(function):
        raise ConfigError(f"{what}: {function!r} is not a function; write a function of {wanted}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: {function!r} has no signature; write a function of {wanted}") from error
    for each in signatures:
        names = [name for name in each.replace("*, ", "").split(", ") if name]
        named = {name: None for name in names if name in keywords}
        try:
            signature.bind(*(name for name in names if name not in named), **named)
        except TypeError:
            continue
        return
    raise ConfigError(f"{what}: has the parameters {signature}, but must be a function of {wanted}")


def _locked(array: Array) -> Array:
    return adapters.read_only(array)


def _called(what: str, call: str, function: Function, *arguments: Any, **keywords: Any) -> Any:
    """Call a user's function and return what it returns; raise ConfigError if it raises an exception.

    ``call`` describes the arguments in the message.
    """
    try:
        with np.errstate(all="ignore"):
            return function(*arguments, **keywords)
    except (Exception, SystemExit) as error:
        hint = ""
        if "read-only" in str(error):
            hint = "; it must return a new array and not change its arguments"
        raise ConfigError(f"{what}: raised {raised(error)} for {call}{hint}") from error


def _activated(what: str, forward: Function, Z: Array) -> Floats:
    A = _called(what, f"Z of shape {Z.shape}", forward, _locked(Z))
    return _is_array(what, f"Z of shape {Z.shape}", A, Z.shape, "A", Z.dtype)


def _differentiated(what: str, derivative: Function, Z: Array, A: Array) -> Floats:
    arguments = [_locked(Z), _locked(A)][: 2 if len(adapters.parameters_of(derivative)) > 1 else 1]
    call, named = f"Z of shape {Z.shape}", f"{what}, its derivative"
    slope = _called(named, call, derivative, *arguments)
    if is_number(slope):
        slope = np.full(Z.shape, slope, Z.dtype)  # the derivative is the same everywhere
    if isinstance(slope, np.ndarray) and slope.dtype.kind in "bi":
        slope = slope.astype(Z.dtype)  # such as the booleans of Z > 0
    return _is_array(named, call, slope, Z.shape, "f′")


def _loss(what: str, value: Function, Z: Array, T: Array) -> Floats:
    losses = _called(what, f"Z of shape {Z.shape}", value, _locked(Z), _locked(T))
    return _is_array(what, f"Z of shape {Z.shape}", losses, Z.shape[:1], "the loss of each row")


def _is_array(
    what: str, call: str, returned: Any, shape: tuple[int, ...], meaning: str, dtype: Any = None
) -> Floats:
    """Return the array that a user's function returned; raise if it is anything else than the array expected.

    It must have this shape, this dtype (None for any floats), and only finite numbers. ``call`` describes the
    arguments of the function, and ``meaning`` the array, in the message.
    """
    is_array = isinstance(returned, np.ndarray) and returned.dtype.kind == "f"
    kind = "floats" if dtype is None else str(dtype)
    if not is_array or returned.shape != shape or (dtype is not None and returned.dtype != dtype):
        hint = ""
        if is_array and returned.shape == shape:
            hint = "; write constants as Python numbers, which keep the dtype"
        raise ConfigError(
            f"{what}: returned {_shown(returned)} for {call}; it must return {meaning}, an array of {kind} "
            f"of shape {shape}{hint}"
        )
    if not np.isfinite(returned).all():
        raise ConfigError(f"{what}: returned numbers that are not finite for {call}")
    array: Floats = returned
    return array


def _same(what: str, first: Any, second: Any, problem: str = AGAIN, cause: str = "its arguments") -> None:
    """Raise if two calls returned different numbers, although they must return the same.

    ``problem`` and ``cause`` are parts of the message: what is wrong, and what the numbers may depend on.
    """
    if not np.array_equal(first, second, equal_nan=True):
        raise ConfigError(f"{what}: {problem}; the numbers must depend on {cause} alone")


def _close(first: Array, second: Array) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-4, atol=1e-6))


def _agree(what: str, argument: str, at: Array, returned: Array, numeric: Array) -> None:
    """Raise if a derivative differs from central differences; the message shows where they differ most.

    Parameters
    ----------
    what, argument
        The names of the derivative and of its argument, for the message.
    at, returned, numeric
        The argument, the derivative that the user's function returned, and the central differences.
    """
    error = np.abs(returned - numeric) / np.maximum(1, np.abs(numeric))
    if error.max() > ALLOWED:
        worst = np.unravel_index(error.argmax(), error.shape)
        raise ConfigError(
            f"{what} is {returned[worst]:.6g} at {argument}={at[worst]:.6g}, where finite differences give "
            f"{numeric[worst]:.6g}; check its formula"
        )


def _shown(value: Any) -> str:
    """Return how messages show a value that a function returned: an array by its dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
