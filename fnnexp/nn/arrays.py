"""Type aliases for arrays and their dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""An array of the recipe's dtype, float32 or float64, unless its description says otherwise."""

DType = np.dtype[Any]
"""The dtype of an array."""
