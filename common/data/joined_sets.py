"""Puts the sets that came with data behind each other, once all are known to hold numbers and to fit together."""

from typing import TYPE_CHECKING

import numpy as np

from common.data.arrays_check import check_arrays
from common.data.split import Given
from common.data.stacked import Matrix, behind
from common.errors import DataError
from common.flat import Array

if TYPE_CHECKING:
    from common.data.dataset import Raw


def joined(raw: "Raw") -> tuple[Matrix, Array, Given]:
    """Return checked features and target, with those of sets that came apart behind the others. Raises DataError."""

    def check(x: Matrix, y: Array, suffix: str = "") -> None:
        check_arrays(raw.name, x, y, raw.feature_names, suffix, later=raw.preprocessing is not None)

    check(raw.x, raw.y)
    xs, ys = [raw.x], [raw.y]
    if len(raw.x) == 0:
        raise DataError(f"{raw.name}: X has no rows; there is nothing to train on")
    for pair, suffix in ((raw.validation, "_val"), (raw.test, "_test")):
        if pair is None:
            continue
        x, y = pair
        check(x, y, suffix)
        if len(x) == 0:
            raise DataError(f"{raw.name}: X{suffix} has no rows; leave it out, and rows are held out of X")
        if xs[0].shape[1:] != x.shape[1:] or ys[0].shape[1:] != y.shape[1:]:
            shapes = f"X {raw.x.shape}, y {raw.y.shape} and X{suffix} {x.shape}, y{suffix} {y.shape}"
            raise DataError(f"{raw.name}: {shapes} do not fit together; they take the same columns")
        xs.append(x)
        ys.append(y)
    sizes = (None if pair is None else len(pair[0]) for pair in (raw.validation, raw.test))
    given = Given(sum(map(len, xs)), *sizes)
    return (xs[0], ys[0], given) if len(xs) == 1 else (behind(xs), np.concatenate(ys), given)
