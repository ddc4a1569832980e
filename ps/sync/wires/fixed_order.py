"""Products and orthonormal rows with the same bits on every machine: no BLAS, no LAPACK, sums in an order of our own.

Ranks compute these from equal data and must get equal bits, but kernels of BLAS libraries differ between processors.
Single additions and multiplications do not (IEEE 754), and NumPy never fuses two of its operations into one.
"""

import math
from collections.abc import Callable

import numpy as np

from common.flat import BLOCK, Array

LANES = 64
"""So many partial sums of a long one; rows are padded with zeros to a multiple."""
AGAIN = 0.25
"""A row that keeps less than this of its norm beside the rows before it is orthogonalised again, since rounding weighs
more then."""
PASSES = 4
ROUNDING = 16
"""What is less than so many units in the last place of a row is nothing."""

RANGE = 1e-140, 1e140
"""Norms whose squares float64 holds with all their digits: all those of float32."""


class Orthonormaliser:
    """Makes up to ``most_rows`` rows of at most ``longest`` numbers orthonormal, in float64 memory of its own."""

    def __init__(self, most_rows: int, longest: int) -> None:
        padded = -(-longest // LANES) * LANES
        self._rows, self._products = np.zeros((most_rows, padded)), np.empty((most_rows, padded))
        self._lanes = np.empty((most_rows, LANES))

    def __call__(self, rows: Array, draw: Callable[[int], Array]) -> int:
        """Make ``rows``, (r, n) of float32 or float64, orthonormal in place; return how many were drawn anew.

        By classical Gram-Schmidt, repeated where a row loses much. A row that is zero, or of which the rows before it
        leave no more than rounding, is replaced by ``draw(n)`` before it is orthogonalised; it becomes zero if there is
        no room for it (r > n). Rows with a number that is not finite give some that are not.
        """
        (r, n), least, drawn = rows.shape, ROUNDING * float(np.finfo(rows.dtype).eps), 0
        padded = -(-n // LANES) * LANES
        work = self._rows[:r, :padded]
        work[:, n:] = 0
        np.copyto(work[:, :n], rows)
        for j in range(r):
            if not self._normalise(work, j, least):
                work[j, :n] = draw(n)
                drawn += 1
                if not self._normalise(work, j, least):
                    work[j] = 0
        np.copyto(rows, work[:, :n], casting="same_kind")
        return drawn

    def _normalise(self, work: Array, j: int, least: float) -> bool:
        """Make row j orthogonal to those before it, and its norm 1; say whether more than rounding was left of it."""
        row = work[j]
        first = self._norm(row)
        if not RANGE[0] < first < RANGE[1] and (largest := float(np.abs(row).max())) > 0:
            np.divide(row, largest, out=row)  # its square left the range; not finite numbers become NaN
            first = self._norm(row)
        before = first
        for _ in range(PASSES):
            if j:
                product = self._products[0, : row.size]
                for k, along in enumerate(self._dots(work[:j], row)):
                    np.multiply(work[k], along, out=product)
                    np.subtract(row, product, out=row)
            norm = self._norm(row)
            if norm <= least * first:
                return False
            if not norm <= AGAIN * before:  # NaN as well
                np.divide(row, norm, out=row)
                return True
            before = norm
        return False

    def _norm(self, row: Array) -> float:
        return math.sqrt(self._dots(row[None], row)[0])

    def _dots(self, rows: Array, row: Array) -> list[float]:
        """Return the products of ``rows`` (k, n) with a row (n,), n a multiple of ``LANES``."""
        k, n = rows.shape
        products, lanes = self._products[:k, :n], self._lanes[:k]
        np.multiply(rows, row, out=products)
        np.add.reduce(products.reshape(k, -1, LANES), axis=1, out=lanes)  # row after row: lanes are added alike
        return [_exact_sum(line) for line in lanes.tolist()]


def _exact_sum(values: list[float]) -> float:
    """Return the sum, rounded once; NaN where infinities meet or it leaves the range."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return math.nan


def product_blocks(n: int, m: int) -> list[slice]:
    """Return rows of an (n, m) product that stay in the core's cache while they are formed."""
    rows = max(1, BLOCK // m)
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def outer_product(left: Array, right: Array, where: slice, out: Array, scratch: Array) -> None:
    """Write rows ``where`` of left^T right, of (r, n) and (r, m), to ``out``; ``scratch`` is as large and overwritten.

    The r products of a number are added in the order of the rows.
    """
    np.multiply(left[0, where, None], right[0], out=out)
    for k in range(1, len(left)):
        np.multiply(left[k, where, None], right[k], out=scratch)
        np.add(out, scratch, out=out)
