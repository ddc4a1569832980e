"""What an estimator hands to the ranks: a folder of arrays, which they map instead of copying."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.flat import Array

DATA_NAME = "arrays.npz"


@dataclass(frozen=True, slots=True)
class Arrays:
    """What is trained on. ``x``: (n, n_features); ``y``: (n,) codes of classes, or (n,) or (n, targets) numbers.

    ``weight``: (n,), what each row counts, if they differ. ``names``: of the features, if they have names. ``labels``:
    by code, the texts of all classes, also of those that no row has.
    """

    x: Array
    y: Array
    weight: Array | None = None
    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> str:
        """Write them into a folder; return what ``--data`` takes."""
        path = folder / DATA_NAME
        weight = {} if self.weight is None else {"sample_weight": self.weight}
        np.savez(path, allow_pickle=False, X=self.x, y=self.y, **weight)
        return str(path)
