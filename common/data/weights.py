"""What each row counts: checks weights, and scales them so that sums of weights are numbers of rows."""

import numpy as np

from common.data.scaling import Rows, row_numbers
from common.data.split import Given, Splits
from common.errors import DataError
from common.flat import Array
from common.wording import count

MOST = 1e100
"""The largest weight: sums of weights, and of weighted squares, stay far from the end of float64."""
LISTED = 8
"""Classes whose weight a message names."""


def counted(name: str, what: str, weight: Array, given: Given) -> tuple[Array, Rows]:
    """Return (n,) weights, and the rows that count: those whose weight is above 0.

    ``weight``: of all rows, or of those that came without a set of their own; the others count 1. ``what``: names them
    in messages. Raises DataError for what is no weight.
    """
    if weight.dtype.kind not in "fiub":
        raise DataError(f"{name}: {what} holds {weight.dtype}; weights are numbers from 0")
    if weight.shape not in ((given.own,), (given.n,)):
        allowed = f"({given.own},)" if given.own == given.n else f"({given.own},), or ({given.n},) for all sets"
        raise DataError(f"{name}: {what} has shape {weight.shape}; it takes {allowed}, one weight a row")
    wrong = np.flatnonzero(~((weight >= 0) & (weight <= MOST)))
    if len(wrong):
        raise DataError(
            f"{name}: {what} of {given.row(int(wrong[0]))}: got {weight[wrong[0]]:g} ({count(len(wrong), 'row')} like "
            f"that); a weight is a number from 0 to {MOST:g}, and a row of weight 0 is left out"
        )
    if not weight[: given.own].any():
        raise DataError(f"{name}: {what} is 0 in all rows, so there is nothing to train on; check the weights")
    whole = np.ones(given.n)
    whole[: len(weight)] = weight
    return whole, row_numbers(given.n)[whole > 0]


def normalised(n: int, weight: Array | None, splits: Splits, balanced: Array | None) -> Array:
    """Return (n,) float64 weights with mean 1 over the rows of each split.

    So the sum of a split's weights is its number of rows, which every rank knows: weighted sums of losses and gradients
    are divided by rows as others are, whatever rows a step has, and a step of light rows is a small one.
    ``weight``: as it came, of all rows. ``balanced``: (n,), classes of training rows that are to count alike.
    """
    found = np.ones(n) if weight is None else weight.astype(np.float64)
    if balanced is not None:
        y = balanced[splits.train]
        of_class = np.bincount(y, found[splits.train])
        with np.errstate(divide="ignore"):
            found[splits.train] *= (1 / of_class)[y]
    for rows in (splits.train, splits.validation, splits.test):
        if len(rows):
            found[rows] /= found[rows].mean()
    return found


def weight_notes(
    came: Array | None, left_out: int, weight: Array, balanced: Array | None, labels: Array, splits: Splits
) -> list[str]:
    """Return what is to be said of weights. ``came``: as they came; the others: see ``normalised``."""
    notes = []
    if came is not None:
        without = (
            f"; {count(left_out, 'row')} of weight 0 {'is' if left_out == 1 else 'are'} left out" if left_out else ""
        )
        above = came[came > 0]
        notes.append(f"Rows are weighted, from {above.min():.6g} to {above.max():.6g}{without}.")
    if balanced is not None:
        y, w = balanced[splits.train], weight[splits.train]
        each = [(label, w[y == k]) for k, label in enumerate(labels) if (y == k).any()]
        listed = ", ".join(f"{label}: {own.mean():.3g}" for label, own in each[:LISTED])
        more = ", ..." if len(each) > LISTED else ""
        notes.append(
            f"Training rows count by their class ({listed}{more}), because of --class-weight balanced; those of "
            "validation and test do not."
        )
    return notes
