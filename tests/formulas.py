"""The formulas of the initializers, written out independently of the package to compare with."""

import math

STDS = {
    "max": lambda n_in, n_out: 1 / max(n_in, n_out),
    "sqrtmax": lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out)),
    "xavier": lambda n_in, n_out: 1 / math.sqrt(n_in),
    "he": lambda n_in, n_out: 2 / math.sqrt(n_in),
    "he2": lambda n_in, n_out: 2 / math.sqrt(n_in + n_out),
    "normal": lambda n_in, n_out: 1.0,
    "glorot_normal": lambda n_in, n_out: math.sqrt(2 / (n_in + n_out)),
    "he_normal": lambda n_in, n_out: math.sqrt(2 / n_in),
}
"""Formulas from a layer's numbers of inputs and units to the standard deviation of its weights."""
