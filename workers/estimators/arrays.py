"""What an estimator hands to the ranks, written as maps that all of a node share."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.data import handed_over
from common.flat import Array
from workers.estimators.frames import Encoding

WHOLE = 2**53
"""Labels within these bounds are kept as numbers; others, like texts, as codes with names."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """What is trained on. ``x``: (n, n_features); ``y``: (n,) codes of classes, or (n,) or (n, targets) numbers.

    ``weight``: (n,), what each row counts, if they differ. ``names``: of the features, if they have names.
    ``classes``: by code, all labels, also those that no row has; None for a regression. ``encoding``: how ``x`` came
    from the columns of a frame, if that held more than numbers.
    """

    x: Array
    y: Array
    weight: Array | None = None
    names: list[str] = field(default_factory=list)
    classes: Array | None = None
    encoding: Encoding | None = None

    def write(self, folder: Path) -> str:
        """Write them into a folder; return what ``--data`` takes."""
        y, labels, texts = self.y, None, list[str]()
        if self.classes is not None:
            labels, texts = _labels(self.classes)
            y = labels[self.y]
        arrays = {"x": self.x, "y": y, "weight": self.weight, "labels": labels}
        plain = None if self.encoding is None else self.encoding.preprocessing.as_dict()
        columns = [] if self.encoding is None else self.encoding.columns
        about = {"features": self.names, "labels": texts, "preprocessing": plain, "columns": columns}
        return handed_over.write(folder / "data", arrays, about)


def _labels(classes: Array) -> tuple[Array, list[str]]:
    """Return labels as whole numbers, and where they are something else, the texts that these numbers stand for."""
    if classes.dtype.kind in "iuf" and (np.abs(classes.astype(float)) < WHOLE).all():
        return classes.astype(np.int64), []
    return np.arange(len(classes)), list(map(str, classes.tolist()))
