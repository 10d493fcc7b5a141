"""The types of arrays and of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""An array: of float32 or float64 like its recipe, unless its description says otherwise."""

DType = np.dtype[Any]
"""What one of its numbers is."""
