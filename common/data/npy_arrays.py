"""Reads features and target from .npy files: a pair of them, or a folder of pairs with numbers, one after the other."""

import os
import re
from pathlib import Path

import numpy as np

from common import memory
from common.arrays_file import NUMBERS
from common.config import RunConfig
from common.data.array_names import TEST, TRAIN, VALIDATION, Part, part, parts
from common.data.arrays_check import as_rows
from common.data.dataset import Raw, bytes_beside
from common.data.maps import map_array
from common.data.stacked import Matrix, behind, is_mapped
from common.data.text_labels import KINDS, with_codes
from common.errors import DataError
from common.flat import Array

SUFFIX = ".npy"
NAMES = "X.npy and y.npy, or X_train.npy, y_train.npy, X_test.npy, y_test.npy, or X-000.npy, y-000.npy, X-001.npy, ..."
Pair = tuple[Matrix, Array]


def paths_of(data: str) -> list[Path]:
    """Return the paths that ``X.npy,y.npy`` names, or the one of ``X.npy``; a comma may be part of a name."""
    pieces = re.split(r"(?<=\.npy),", data, flags=re.IGNORECASE)
    return [Path(piece) for piece in pieces]


def is_folder(data: str) -> bool:
    """Say whether this is a folder with .npy files of features."""
    try:
        return os.path.isdir(data) and any(part(path) for path in Path(data).glob(f"*{SUFFIX}"))
    except OSError:
        return False


def read_pair(data: str, config: RunConfig) -> Raw:
    """Read ``X.npy,y.npy``, or ``X.npy`` with what lies beside it. Raises DataError."""
    given = paths_of(data)
    if len(given) == 2:
        return _made(given[0].name, {TRAIN: _opened(*given)}, config)
    named = part(given[0])
    if len(given) > 2 or named is None:
        raise DataError(
            f"data: got {data}; write --data X.npy,y.npy for features and target, or name the first {NAMES}"
        )
    pairs = {named.role: _opened(named.path, _target(named))}
    if named.role == TRAIN and not named.numbered:
        own_files = {TEST: config.test_data, VALIDATION: config.validation_data}  # which may be the same
        for role, some in parts(_beside(named)).items():
            if role != TRAIN and not own_files[role]:
                pairs[role] = _opened(some[0].path, _target(some[0]))
    return _made(given[0].name, {TRAIN: pairs.pop(named.role), **pairs}, config)


def _beside(named: Part) -> list[Path]:
    """Return the files of a folder that are named as this one is, but for the set that they are of."""
    folder = named.path.parent
    others = (part(path) for path in sorted(folder.glob(f"*{SUFFIX}")))
    return [one.path for one in others if one and not one.numbered and one.word == named.word]


def read_folder(folder: Path, config: RunConfig) -> Raw:
    """Read all files of features of a folder, in the order of their numbers. Raises DataError."""
    found = parts(folder.glob(f"*{SUFFIX}"))
    if TRAIN not in found:
        raise DataError(f"data: {folder} holds no files to train on; it takes {NAMES}")
    pairs = {role: _joined(folder, [_opened(one.path, _target(one)) for one in some]) for role, some in found.items()}
    return _made(folder.name, pairs, config)


def _target(named: Part) -> Path:
    """Return the file of the target that goes with one of features. Raises DataError if there is none."""
    for name in named.target_names:
        if os.path.exists(path := named.path.with_name(name)):
            return path
    raise DataError(
        f"data: {named.path} has no {' or '.join(named.target_names)} beside it, its target; put it there, or name "
        f"both: --data {named.path.name},TARGET.npy"
    )


def _opened(x_path: Path, y_path: Path) -> Pair:
    x, y = _mapped(x_path), _mapped(y_path, KINDS)
    if x.ndim != 2:
        raise DataError(f"{x_path}: its shape is {x.shape}; it takes (rows, features){as_rows(x.shape)}")
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise DataError(f"{y_path}: its shape is {y.shape}; it takes ({len(x)},), for {x_path.name} has {len(x)} rows")
    return x, y


def _mapped(path: Path, kinds: str = NUMBERS) -> Array:
    try:
        return map_array(path, kinds)
    except OSError as error:
        raise DataError(f"data: {path} cannot be read ({error.strerror})") from error


def _joined(folder: Path, pairs: list[Pair]) -> Pair:
    """Return features and target of several files behind each other. Raises DataError where they do not fit."""
    x, y = zip(*pairs, strict=True)
    if len(pairs) == 1:
        return pairs[0]
    for name, arrays in (("features", x), ("targets", y)):
        kinds = {(array.shape[1:], array.dtype.str if name == "features" else "") for array in arrays}
        if len(kinds) > 1:
            raise DataError(
                f"{folder}: its files have {name} of several shapes or types: "
                f"{', '.join(sorted(f'(rows, {shape}) of {dtype}' for shape, dtype in kinds)[:4])}; save them alike"
            )
    copied = () if all(is_mapped(own) or not len(own) for own in x) else x
    memory.check(f"data {folder}", sum(array.nbytes for array in (*copied, *y)))
    return behind(x), np.concatenate(y)


def _made(name: str, pairs: dict[str, Pair], config: RunConfig) -> Raw:
    """Return what was read. Raises MemoryLimitError."""
    rows, y_bytes = sum(len(x) for x, _ in pairs.values()), sum(y.nbytes for _, y in pairs.values())
    x, y = pairs[TRAIN]
    memory.check(f"data {name}", 0, bytes_beside(config, rows, x.shape[1], y_bytes, mapped=True))
    return with_codes(Raw(name, x, y, pairs.get(TEST), validation=pairs.get(VALIDATION)))
