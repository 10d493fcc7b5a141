"""Two-dimensional toy data sets: points near curves in the plane. A decision boundary can be drawn there.

There is a curve for each class. The functions :func:`moons`, :func:`circles` and :func:`spirals` return
points (n, 2) on these curves: point i is on the curve of the class y[i], at the position u[i], from 0 at the
curve's start to 1 at its end. :func:`draw` adds normal noise to both coordinates. The classes take turns: row
i has class i mod C. So any part of the rows has all classes in equal shares, and a larger toy begins with the
rows of a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fnnexp.data.labelled import Numbers

SEED = 0
"""The seed of all points. Changing it changes the ids of all trials on toys."""

TURNS, RADIUS = 1.5, 2.0
"""The turns of a spiral, and the distance of its end from the origin."""

INNER = 0.5
"""The radius of the inner circle; the radius of the outer circle is 1."""

MOST_ROWS, MOST_NOISE, MOST_ARMS = 1_000_000, 10.0, 10
"""The largest `n`, `noise` and `classes` of a :class:`Toy`."""


@dataclass(frozen=True)
class Toy:
    """The settings of a toy data set: the keys ``data.n``, ``data.noise`` and ``data.classes``.

    `n` is the number of training rows, and of test rows. `noise` is the standard deviation of the noise.
    `classes` is the number of arms of `spirals`; the other toys have two classes.
    """

    n: int = 1000
    noise: float = 0.1
    classes: int = 2


DEFAULT_TOY = Toy()
"""The size and noise of a toy if the command says nothing about them."""

Points = NDArray[np.float64]
Curves = Callable[[Points, NDArray[np.intp], int], Points]
"""A function from positions u (n,), classes y (n,) and the number of classes to the points (n, 2)."""


def moons(u: Points, y: NDArray[np.intp], classes: int) -> Points:
    """Return points on two interleaved half circles, as scikit-learn's ``make_moons``.

    For positions u from 0 to 1, class 0 is (cos πu, sin πu), and class 1 is (1 − cos πu, ½ − sin πu).
    """
    x = np.c_[np.cos(np.pi * u), np.sin(np.pi * u)]
    points: Points = np.where(y[:, None] == 0, x, [1, 0.5] - x)
    return points


def circles(u: Points, y: NDArray[np.intp], classes: int) -> Points:
    """Return points on two concentric circles, as scikit-learn's ``make_circles`` with ``factor=0.5``.

    Class 0 has the radius 1, class 1 the radius ½. The angle is 2πu for positions u from 0 to 1.
    """
    radius = np.where(y == 0, 1, INNER)
    points: Points = radius[:, None] * np.c_[np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)]
    return points


def spirals(u: Points, y: NDArray[np.intp], classes: int) -> Points:
    """Return points on Archimedean spirals, an arm for each class, which start at the origin.

    The point at position u has the radius 2t and the angle 3πt + 2πy/C, where t = √u, and C is the number of
    classes. The root makes the points about equally dense along the arm.

    The problem of two spirals is from K. J. Lang and M. J. Witbrock, "Learning to tell two spirals apart",
    Connectionist Models Summer School, 1988. Their spirals have three turns.
    """
    t = np.sqrt(u)
    angle = 2 * np.pi * (TURNS * t + y / classes)
    points: Points = RADIUS * t[:, None] * np.c_[np.cos(angle), np.sin(angle)]
    return points


TOYS: dict[str, Curves] = {"moons": moons, "circles": circles, "spirals": spirals}

CLASS_NAMES = {"moons": ("upper moon", "lower moon"), "circles": ("outer circle", "inner circle")}
"""The names of the classes of toys; the arms of spirals have none."""


def draw(name: str, toy: Toy) -> dict[str, Numbers]:
    """Return the four arrays of a toy: inputs (n, 2) float32 and labels (n,) uint8, for train and for test.

    The draws come from the raw output of PCG64, which NumPy promises never to change; the noise is normal by
    the transformation of Box and Muller (1958): √(−2 ln v) (cos 2πw, sin 2πw) for uniform v and w.

    >>> arrays = draw("moons", Toy(n=4))
    >>> arrays["x_train"].shape, arrays["x_train"].dtype, arrays["y_train"]
    ((4, 2), dtype('float32'), array([0, 1, 0, 1], dtype=uint8))
    """
    arrays: dict[str, Numbers] = {}
    for number, split in enumerate(("train", "test")):
        y = np.arange(toy.n) % toy.classes
        raw = np.random.PCG64(np.random.SeedSequence((SEED, number))).random_raw(3 * toy.n)
        u, v, w = ((raw.reshape(-1, 3) >> np.uint64(11)) + 0.5).T / 2**53
        noise = np.sqrt(-2 * np.log(v))[:, None] * np.c_[np.cos(2 * np.pi * w), np.sin(2 * np.pi * w)]
        points = TOYS[name](u, y, toy.classes) + toy.noise * noise
        arrays |= {f"x_{split}": points.astype(np.float32), f"y_{split}": y.astype(np.uint8)}
    return arrays
