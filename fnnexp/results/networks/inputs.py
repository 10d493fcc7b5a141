"""Rows that a user passes to a network: checked, and converted as the rows that it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.labelled import LARGEST_VALUE, Numbers, in_bytes
from fnnexp.errors import FnnexpError, plural
from fnnexp.nn.engines.numpy_engine import Scaling

BRIGHTEST = 255


@dataclass(frozen=True, eq=False)
class Inputs:
    """Reads the rows of data that a user gives to a network, as its training data was read.

    Attributes
    ----------
    size
        The number of inputs D.
    scaling
        How rows are scaled before they enter the network.
    real
        Whether the network was trained on rows of real numbers, and not of bytes.
    divided
        Whether the files of the training rows had bytes that were divided by 255.
    is_checked
        Whether the caller has checked and converted the rows, so that :meth:`read` returns them as they are.
    """

    size: int
    scaling: Scaling
    real: bool = False
    divided: bool = False
    is_checked: bool = False

    def read(self, X: Any) -> Numbers:
        """Return rows as a network is trained on them, before scaling: (n, D), uint8 or float32.

        Parameters
        ----------
        X
            (n, D), (n, height, width) or a data frame, with the values that the rows of the training file
            have.

        Raises
        ------
        FnnexpError
            If X does not have this shape, or has values that the training rows cannot have.
        """
        if self.is_checked:
            return np.asarray(X)
        rows = self._flat(X)
        if self.real:
            _refuse_not_finite(rows)
            return rows.astype(np.float32) + np.float32(0)  # turns -0 into 0, as reading a file does
        if rows.dtype == np.uint8:
            return rows
        _refuse_not_finite(rows)
        factor = BRIGHTEST if self.divided and rows.dtype.kind == "f" else 1
        low, high = float(rows.min()), float(rows.max())
        if low < 0 or high * factor > BRIGHTEST + 0.5:
            raise FnnexpError(
                f"X has values from {low:.4g} to {high:.4g}. This network was trained on bytes, and scales "
                f"its inputs itself; write X with values from 0 to {BRIGHTEST // factor}, as they were "
                "before any scaling"
            )
        if (as_bytes := in_bytes(rows, (factor,))) is not None:
            return as_bytes[0]
        if factor == 1 and high <= 1:
            raise FnnexpError(
                f"X has fractions from {low:.4g} to {high:.4g}. This network was trained on bytes, 0 to "
                f"{BRIGHTEST}, and scales its inputs itself; if X was divided by {BRIGHTEST}, write "
                f"np.rint({BRIGHTEST} * X).astype(np.uint8)"
            )
        return (rows * factor).astype(np.float32)

    def _flat(self, X: Any) -> Numbers:
        """Return X as numbers (n, D), each image as a row; raise if its dtype or shape does not fit."""
        rows = _array(X, "X")
        if rows.dtype.kind not in "iuf":
            raise FnnexpError(f"X is of dtype {rows.dtype}; it must have numbers, as in X.astype(np.float32)")
        if rows.ndim < 2 or rows.shape[0] == 0 or math.prod(rows.shape[1:]) != self.size:
            raise FnnexpError(f"X has the shape {rows.shape}; {self._expected(rows)}")
        return np.ascontiguousarray(rows.reshape(len(rows), self.size))

    def _expected(self, rows: Numbers) -> str:
        side = math.isqrt(self.size)
        images = f" or (n, {side}, {side})" if side * side == self.size and not self.real else ""
        text = f"this network has {plural(self.size, 'input')}, so X must be (n, {self.size}){images}"
        if rows.size == self.size:
            return f"{text}; for a single row write X[None]"
        if rows.ndim == 2 and rows.shape[1] == self.size + 1:
            return f"{text}, without the column of labels"
        return f"{text}, with at least one row" if rows.shape[:1] == (0,) else text


def _array(value: Any, name: str) -> Numbers:
    """Convert X or y, as a user gave it, to an array; `name` is its name in the message if this fails."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise FnnexpError(f"{name} cannot be converted to an array: {error}") from error


def _refuse_not_finite(rows: Numbers) -> None:
    if rows.dtype.kind == "f" and not (np.abs(rows) <= np.float64(LARGEST_VALUE)).all():
        raise FnnexpError(
            f"X has values that are NaN, infinite or beyond {LARGEST_VALUE:.1e}; remove these rows, or "
            "replace the values"
        )


def labels_of(y: Any, n: int, classes: int) -> NDArray[np.intp]:
    """Check the labels of n rows, which a user gave, and return them as class numbers (n,).

    Raises
    ------
    FnnexpError
        If there are not n of them, or one is not a class of the network.
    """
    labels = _array(y, "y")
    allowed = f"the class numbers 0 to {classes - 1} of the {plural(n, 'row')} of X"
    if labels.ndim == 2 and labels.shape == (n, classes) and classes > 1:
        raise FnnexpError(f"y has the shape {labels.shape}; write y.argmax(axis=1) for {allowed}")
    if labels.shape not in ((n,), (n, 1)):
        raise FnnexpError(f"y has the shape {labels.shape}; it must be ({n},): {allowed}")
    labels = labels.reshape(n)
    if labels.dtype.kind not in "iuf":
        raise FnnexpError(f"y is of dtype {labels.dtype}; it must have {allowed}")
    wrong = labels[~((labels >= 0) & (labels < classes) & (labels == np.floor(labels)))]
    if len(wrong):
        raise FnnexpError(f"y has the label {wrong[0]}; it must have {allowed}")
    return labels.astype(np.intp)
