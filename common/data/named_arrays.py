"""The arrays of a data set by their usual names, as .npz files and functions of one's own give them."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from common.config import RunConfig
from common.data.dataset import Raw
from common.data.text_labels import with_codes
from common.errors import DataError
from common.flat import Array
from common.option import nearest

LISTED = 20
"""Names of arrays that a message lists."""
SETS = ("_val", "_test")
"""What the names of arrays end with that are of a validation or a test set."""
SAMPLE_WEIGHT = "sample_weight"
"""The array of weights that needs no ``--weight``."""


class NamedArrays(Protocol):
    """Arrays that are looked at before they are read."""

    @property
    def names(self) -> list[str]:
        """Return the names of all."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one."""

    def read(self, name: str) -> Array:
        """Return one."""


def check_names(where: str, names: Iterable[str]) -> None:
    """Raise DataError unless features and target of each set are there."""
    have = set(names)
    if not {"X", "y"} <= have or any((f"X{end}" in have) != (f"y{end}" in have) for end in SETS):
        raise DataError(
            f"{where}: holds {_listed(have) or 'nothing'}; it takes X and y, and X_test with y_test, X_val with y_val"
        )


def read_arrays(where: str, name: str, arrays: NamedArrays, config: RunConfig) -> Raw:
    """Read ``X``, ``y`` and, if there, those of a validation and a test set, and weights.

    ``where``: what holds them, for messages. ``--weight``, ``--group`` and ``--time`` name arrays with one number for
    each row of ``X``; those of a validation or test set end with ``_val`` or ``_test``. Raises DataError.
    """
    check_names(where, arrays.names)
    have = set(arrays.names)
    validation, test = ((arrays.read(f"X{end}"), arrays.read(f"y{end}")) if f"X{end}" in have else None for end in SETS)
    weight = config.weight or (SAMPLE_WEIGHT if SAMPLE_WEIGHT in have else "")
    raw = Raw(
        name, arrays.read("X"), arrays.read("y"), test, validation=validation,
        weight=_by_row(where, arrays, "weight", weight),
        group=_by_row(where, arrays, "group", config.group),
        time=_by_row(where, arrays, "time", config.time),
    )  # fmt: skip
    return with_codes(raw)


def _by_row(where: str, arrays: NamedArrays, option: str, name: str) -> Array | None:
    """Return an array of one number a row; with those of the sets that came, if they are there."""
    if not name:
        return None
    have = set(arrays.names)
    if name not in have:
        raise DataError(f"{option}: no array {name!r} in {where}{nearest(name, have)}; it holds {_listed(have)}")
    ends = [end for end in SETS if f"X{end}" in have]
    named = [name + end for end in ends if name + end in have]
    if named and len(named) < len(ends):
        raise DataError(f"{where}: holds {name} and {named[0]}; give one for each set, or for X alone")
    parts = []
    for part, of in zip([name, *named], ["X", *(f"X{end}" for end in ends)], strict=False):
        shape, n = arrays.shape(part), arrays.shape(of)[:1]
        if shape != n:
            raise DataError(f"{where}: {part} has shape {shape}; it takes {n}, one number for each row of {of}")
        parts.append(arrays.read(part))
    return np.concatenate(parts) if named else parts[0]


def _listed(have: set[str]) -> str:
    return ", ".join([name[:80] for name in sorted(have)[:LISTED]] + ["..."] * (len(have) > LISTED))
