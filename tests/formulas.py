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
    "lecun_normal": lambda n_in, n_out: 1 / math.sqrt(n_in),
    "truncated_normal": lambda n_in, n_out: 0.05,
    "zeros": lambda n_in, n_out: 0.0,
    "orthogonal": lambda n_in, n_out: 1 / math.sqrt(max(n_in, n_out)),
}
"""Formulas from a layer's numbers of inputs and units to the standard deviation of its weights."""

BOUNDS = {
    "glorot_uniform": lambda n_in, n_out: math.sqrt(6 / (n_in + n_out)),
    "he_uniform": lambda n_in, n_out: math.sqrt(6 / n_in),
    "lecun_uniform": lambda n_in, n_out: math.sqrt(3 / n_in),
    "uniform": lambda n_in, n_out: 0.05,
}
"""Formulas for the bound of uniform weights."""

STDS |= {
    name: lambda n_in, n_out, bound=bound: bound(n_in, n_out) / math.sqrt(3) for name, bound in BOUNDS.items()
}
