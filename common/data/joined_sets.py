"""Puts the sets that came with data behind each other, once all are known to hold numbers and to fit together."""

from collections.abc import Mapping, Sequence

import numpy as np

from common.data.arrays_check import check_arrays
from common.data.split import Given
from common.data.stacked import Matrix, behind
from common.errors import DataError
from common.flat import Array


def joined(
    name: str, sets: Mapping[str, tuple[Matrix, Array] | None], feature_names: Sequence[str], *, later: bool
) -> tuple[Matrix, Array, Given]:
    """Return checked features and target of all sets.

    ``sets``: by what the names of their arrays end with: of the data, which is ``""``, of a validation and of a test
    set that came apart, None if there is none. ``feature_names``, ``later``: see ``check_arrays``. Raises DataError.
    """
    xs, ys, sizes = list[Matrix](), list[Array](), list[int | None]()
    for suffix, pair in sets.items():
        sizes.append(None if pair is None else len(pair[0]) if pair[0].ndim else 0)
        if pair is None:
            continue
        x, y = pair
        check_arrays(name, x, y, feature_names, suffix, later=later)
        if len(x) == 0:
            otherwise = "leave it out, and rows are held out of X" if suffix else "there is nothing to train on"
            raise DataError(f"{name}: X{suffix} has no rows; {otherwise}")
        if xs and (xs[0].shape[1:] != x.shape[1:] or ys[0].shape[1:] != y.shape[1:]):
            shapes = f"X {xs[0].shape}, y {ys[0].shape} and X{suffix} {x.shape}, y{suffix} {y.shape}"
            raise DataError(f"{name}: {shapes} do not fit together; they take the same columns")
        xs.append(x)
        ys.append(y)
    given = Given(sum(map(len, xs)), *sizes[1:])
    return (xs[0], ys[0], given) if len(xs) == 1 else (behind(xs), np.concatenate(ys), given)
