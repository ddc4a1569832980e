"""Reads the folder in which a program hands its arrays to the ranks: .npy files, which are mapped, and their names."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.data.dataset import Raw
from common.data.maps import map_array
from common.data.preprocessing import Preprocessing
from common.errors import DataError
from common.files import read_small
from common.flat import Array

SUFFIX = ".arrays"
"""Of such a folder."""
ABOUT = "about.json"
FILES = ("x", "y", "weight", "labels")
"""Arrays that it may hold: ``labels`` are all that there are, (n_classes,) int64, also those that no row has."""
MOST_BYTES = 64 << 20
"""Of names: a million of them."""


def write(folder: Path, arrays: Mapping[str, Array | None], **about: Any) -> str:
    """Write arrays into a new folder; return its path. Raises OSError.

    ``about``: names of ``features`` and ``labels``, and ``preprocessing`` as plain values, or None.
    """
    folder = folder.with_suffix(SUFFIX)
    folder.mkdir()
    for name, array in arrays.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    return str(folder)


def is_folder(data: str) -> bool:
    """Say whether a path is that of such a folder."""
    return data.endswith(SUFFIX) and os.path.isfile(Path(data) / ABOUT)


def read(folder: Path) -> Raw:
    """Return what a folder holds, as maps. Raises DataError."""
    try:
        about: dict[str, Any] = json.loads(read_small(folder / ABOUT, MOST_BYTES))
        x, y, weight, labels = (_map(folder / f"{name}.npy") for name in FILES)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a folder of arrays that a program handed over ({error})") from error
    if x is None or y is None:
        raise DataError(f"{folder}: not a folder of arrays that a program handed over (x.npy or y.npy is not there)")
    names, texts = list(about["features"]), list(about["labels"])
    plain = about["preprocessing"]
    return Raw(
        "arrays", x, y, feature_names=names, weight=weight, labels=labels, label_names=texts,
        preprocessing=None if plain is None else Preprocessing.from_dict(plain),
    )  # fmt: skip


def _map(path: Path) -> Array | None:
    return map_array(path) if os.path.exists(path) else None
