"""Types of the numpy arrays that several packages pass around."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
"""Row numbers of a table, most often of a space's configs."""
