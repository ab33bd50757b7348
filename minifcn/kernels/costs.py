"""What the elementary steps of the kernels cost: constants by which `minifcn.kernels.choosing` estimates
times.

They are printed by `benchmarks/calibrate.py` and committed here, so that the choice of an algorithm, and with
it every bit of a result, is the same on all machines. They need not be exact anywhere: only the order of the
estimates matters.
"""

import operator
from typing import NamedTuple

CORES = 2
"""Cores among which estimates divide the work. The choice does not depend on those that there are."""


class Work(NamedTuple):
    """What a computation does, counted along the busiest of `CORES` cores.

    Attributes:
        products: Multiplications in matrix products.
        operands: Elements of the matrices that are multiplied, and of the results.
        copied: Elements copied or added.
        runs: Contiguous runs of these elements.
        strided: Elements copied or added that do not lie side by side.
        calls: Calls of NumPy.
        maps: Calls of `parallel_map`.
    """

    products: float = 0
    operands: float = 0
    copied: float = 0
    runs: float = 0
    strided: float = 0
    calls: float = 0
    maps: float = 0

    # Sums and multiples by component, where a tuple would be joined or repeated: hence the two ignores.
    def __add__(self, other: "Work") -> "Work":  # type: ignore[override]
        return Work(*map(operator.add, self, other))

    def __mul__(self, factor: float) -> "Work":  # type: ignore[override]
        return Work(*(factor * count for count in self))


NANOSECONDS = {
    "float32": Work(
        products=0.024, operands=0.15, copied=0.17, runs=0.0, strided=0.64, calls=700, maps=34000
    ),
    "float64": Work(
        products=0.048, operands=0.26, copied=0.27, runs=1.3, strided=0.86, calls=560, maps=38000
    ),
}
"""Nanoseconds for one of each."""


def matmul(rows: int, inner: int, cols: int, batch: int = 1) -> Work:
    """Return the work of (rows, inner) @ (inner, cols), so many times.

    Example:
        >>> matmul(2, 3, 4)
        Work(products=24, operands=26, copied=0, runs=0, strided=0, calls=1, maps=0)
    """
    operands = batch * (rows * inner + inner * cols + rows * cols)
    return Work(products=batch * rows * inner * cols, operands=operands, calls=1)


def copy(elements: float, run: float) -> Work:
    """Return the work of copying elements in contiguous runs of this length; of 1 where they are strided."""
    if run <= 1:
        return Work(strided=elements, calls=1)
    return Work(copied=elements, runs=elements / run, calls=1)
