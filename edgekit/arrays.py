"""The types of arrays by what their elements are, for annotations.

Only type checkers read them: importing `numpy.typing` takes about a millisecond, which start-up on a board feels, and
results and errors are named without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]
    Uint8 = NDArray[np.uint8]
else:
    Array = Float32 = Float64 = Int64 = Uint8 = Any
