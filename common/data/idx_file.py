"""Reads IDX files, as MNIST and its kin are shipped: images, the labels beside them, and the test set if it is there.

Format: two bytes 0, one of the type, one of the number of dimensions, each dimension as four bytes, most significant
first, then the numbers; or all of that packed by gzip (http://yann.lecun.com/exdb/mnist/).
"""

import math
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common import memory
from common.config import RunConfig
from common.data.dataset import Raw, bytes_beside
from common.data.packed_file import ENDING, most_bytes, open_packed
from common.errors import BrokenFileError, DataError
from common.flat import Array

TYPES = {8: "|u1", 9: "|i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
NAME = re.compile(r".*[-.]idx[0-9]([-.]?(u?byte|u?int|short|long|float|double)[0-9]*)?(\.gz)?", re.IGNORECASE)
MOST_DIMENSIONS = 8
PIECE_BYTES = 1 << 20
TRAIN, TEST = "train", ("t10k", "test")
NAMED = "train-images-idx3-ubyte with train-labels-idx1-ubyte, and t10k-... for the test set, each as it is or with .gz"


def is_idx(data: str) -> bool:
    """Say whether this is the name of an IDX file of images, or a folder with one to train on."""
    path = Path(data)
    try:
        return bool(NAME.fullmatch(path.name)) or (os.path.isdir(path) and bool(images_in(path, TRAIN)))
    except OSError:
        return False


def images_in(folder: Path, *words: str) -> list[Path]:
    """Return the files of images in a folder whose names hold one of these words."""
    return sorted(
        path for path in folder.iterdir()
        if NAME.fullmatch(path.name) and "images" in path.name and any(word in path.name for word in words)
    )  # fmt: skip


def read_idx(data: str, config: RunConfig) -> Raw:
    """Read images as rows of bytes, their labels and the test set. Raises DataError and MemoryLimitError."""
    path = Path(data)
    if os.path.isdir(path):
        found = images_in(path, TRAIN)
        if len({one.name.removesuffix(ENDING) for one in found}) != 1:
            raise DataError(f"{path}: {', '.join(one.name for one in found[:4])}: name the one to train on")
        path = found[0]
    if "images" not in path.name:
        raise DataError(f"data: got {path}; name the file of images: {NAMED}")
    x, y = _pair(path, config)
    alone = TRAIN not in path.name or config.test_data  # which names another, or the same
    test = None if alone else next((other for name in TEST if (other := _there(path, TRAIN, name))), None)
    return Raw(path.name, x, y, _pair(test, config) if test else None)


def _there(path: Path, *changes: str) -> Path | None:
    """Return the file that is named as ``path`` but for some words, packed or not, and with - or . before idx."""
    name = path.name.removesuffix(ENDING)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        name = name.replace(old, new)
    names = {name, name.replace("-idx", ".idx"), name.replace(".idx", "-idx")}
    for one in sorted(names):
        for ending in (path.suffix if path.suffix == ENDING else "", "", ENDING):
            if os.path.exists(other := path.with_name(one + ending)):
                return other
    return None


def labels_beside(path: Path) -> Path:
    """Return the file of the labels of a file of images. Raises DataError if it is not there."""
    labels = _there(path, "images", "labels", "idx3", "idx1", "idx4", "idx1", "idx2", "idx1")
    if labels is None or labels == path:
        raise DataError(f"{path}: its labels are not beside it; {NAMED} lie in one folder")
    return labels


def _pair(path: Path, config: RunConfig) -> tuple[Array, Array]:
    labels = labels_beside(path)
    y = read_array(labels, config, features=False)
    x = read_array(path, config)
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(f"{path}: images of shape {x.shape}, but {labels.name} holds {y.shape}; they take a label each")
    return x.reshape(len(x), -1), y


def read_array(path: Path, config: RunConfig, *, features: bool = True) -> Array:
    """Return the array of an IDX file. Raises DataError, and MemoryLimitError before memory is taken for too much."""
    try:
        most = most_bytes(path)
        with open_packed(path) as file:
            shape, dtype = _header(file, most)
            n_bytes = math.prod(shape) * dtype.itemsize
            beside = bytes_beside(config, shape[0], math.prod(shape[1:]), 0) if features else 3 * n_bytes
            memory.check(f"data {path}", n_bytes, beside)
            return _numbers(file, shape, dtype)
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from error


def layout_of(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return the shape and dtype that an IDX file claims, if it can be as long as that. Raises DataError."""
    try:
        most = most_bytes(path)
        with open_packed(path) as file:
            return _header(file, most)
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from error


def rows_of(path: Path, first: int, last: int, step: int) -> Iterator[Array]:
    """Yield what an IDX file holds from row ``first`` to before ``last``, ``step`` at a time: (n, ...) each.

    What lies before is unpacked, too, if the file is packed, but not kept. Raises DataError.
    """
    try:
        most = most_bytes(path)
        with open_packed(path) as file:
            shape, dtype = _header(file, most)
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            begin = file.tell()
            file.seek(begin + first * row_bytes)
            for start in range(first, last, step):
                n = min(step, last - start)
                data = file.read(n * row_bytes)
                if len(data) < n * row_bytes:
                    raise BrokenFileError(_cut_off(shape, dtype, file.tell() - begin))
                yield np.frombuffer(data, dtype).reshape(n, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)
            if last == shape[0]:
                _require_end(file, shape, dtype)
    except BrokenFileError as error:
        raise DataError(f"{path}: not a readable IDX file ({error})") from error


def _header(file: BinaryIO, most: int) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and dtype. Raises BrokenFileError, also where these are more than ``most`` bytes."""
    magic = file.read(4)
    if not magic:
        raise BrokenFileError("it is empty")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MOST_DIMENSIONS:
        raise BrokenFileError(f"it begins with {magic.hex(' ')}; it takes 00 00, a type 08 to 0e and 01 to 08")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise BrokenFileError("it ends within its header")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if not all(shape):
        raise BrokenFileError(f"its header says {shape}: it holds nothing")
    dtype = np.dtype(TYPES[magic[2]])
    if math.prod(shape) * dtype.itemsize > most:
        raise BrokenFileError(f"its header claims {shape} of {dtype}, more than a file of its size can hold")
    return shape, dtype


def _numbers(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Read the numbers; pages that a lying header makes us ask for are never touched, so they take no memory."""
    with memory.out_of_memory("its array"):
        array = np.empty(math.prod(shape), dtype)
    room, at = array.view(np.uint8).data, 0
    while at < len(room) and (n := file.readinto(room[at : at + PIECE_BYTES])):  # type: ignore[attr-defined]
        at += n
    if at < len(room):
        raise BrokenFileError(_cut_off(shape, dtype, at))
    _require_end(file, shape, dtype)
    return array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _cut_off(shape: tuple[int, ...], dtype: np.dtype[np.generic], there: int) -> str:
    claimed = math.prod(shape) * dtype.itemsize
    return f"its header claims {shape} of {dtype}, {claimed:,} bytes, and {there:,} are there"


def _require_end(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    if file.read(1):
        raise BrokenFileError(f"it goes on after the {shape} of {dtype} that its header claims")
