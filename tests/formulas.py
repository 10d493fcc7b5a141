"""The design's formulas, written out again: the package's own are compared with these."""

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
"""An initializer's standard deviation from a layer's inputs and outputs."""
