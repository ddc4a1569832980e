"""Reads a prepared folder: arrays that are mapped, not read, and meta.json, which says what they are."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.config import RunConfig
from common.data.dataset import BY_ROW, Raw
from common.data.maps import map_array
from common.data.preprocessing import Category, Column, Preprocessing
from common.errors import DataError
from common.files import open_regular, read_small
from common.flat import Array

META_NAME = "meta.json"
FORMAT, VERSION = "rankwise prepared data", 1
MOST_META_BYTES = 256 << 20
ROLES = ("data", "validation", "test")
"""What rows are for, in the order in which they lie."""
DTYPES = {"x": ("float32", "uint8"), "y": ("float64", "int64"), "weight": ("float64",), "group": ("int64",),
          "time": ("float64",)}  # fmt: skip
N_PIECES = 64
"""Of a file, each with an SHA-256 of its own, so that several ranks may read it."""
DIMENSIONS = {"x": (2,), "y": (1, 2)}
"""Of arrays that do not have one alone."""
REMEDY = "prepare it again with python -m workers.prepare"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared folder as its meta.json describes it: ``facts``, checked as far as reading the arrays needs."""

    folder: Path
    facts: Mapping[str, Any]
    preprocessing: Preprocessing

    @classmethod
    def load(cls, folder: Path) -> "Prepared":
        """Raises DataError if the folder was not prepared, by another version, or not as it should be."""
        path = folder / META_NAME
        try:
            facts = json.loads(read_small(path, MOST_META_BYTES))
        except FileNotFoundError as error:
            raise DataError(f"{folder}: not a prepared folder, it has no {META_NAME}; {REMEDY}") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: damaged ({error}); {REMEDY}") from error
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise DataError(f"{folder}: not a prepared folder, its {META_NAME} is of another program; {REMEDY}")
        if facts.get("version") != VERSION:
            raise DataError(
                f"{folder}: prepared data of version {facts.get('version')!r}; this rankwise reads {VERSION}; {REMEDY}"
            )
        try:
            _check(facts)
            preprocessing = Preprocessing.from_dict(facts["preprocessing"])
            if not all(_makes_features(column, len(facts["features"])) for column in preprocessing.columns):
                raise ValueError("columns")
            features = preprocessing.features()
            if len(preprocessing.standardized()) != len(features) or features != facts["features"]:
                raise ValueError("features")
            return cls(folder, facts, preprocessing)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: damaged ({error!r}); {REMEDY}") from error

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return int(self.facts["rows"])

    @property
    def sha256(self) -> str:
        """Of all arrays, as it was when they were written."""
        return str(self.facts["sha256"])

    def rows_of(self, role: str) -> slice:
        """Return the rows of ``data``, ``validation`` or ``test``."""
        parts = {part["role"]: slice(part["first"], part["first"] + part["rows"]) for part in self.facts["parts"]}
        return parts.get(role, slice(0, 0))

    def array(self, name: str) -> Array | None:
        """Return a map of an array, read only; None if there is none. Raises DataError unless it is as described."""
        if name not in self.facts["arrays"]:
            return None
        about = self.facts["arrays"][name]
        path, shape, dtype = self.folder / about["file"], tuple(about["shape"]), np.dtype(about["dtype"])
        try:
            found = map_array(path, remedy=REMEDY)
        except FileNotFoundError as error:
            raise DataError(f"{path}: is not there, though {META_NAME} tells of it; {REMEDY}") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if found.shape != shape or found.dtype != dtype:
            says = f"holds {found.dtype} {found.shape}, where {META_NAME} says {dtype} {shape}"
            raise DataError(f"{path}: {says}; {REMEDY}")
        return found

    def names(self, config: RunConfig | None) -> dict[str, str]:
        """Return the names of the columns that ``weight``, ``group`` and ``time`` are, of those that are there.

        Of groups and times only one if ``config`` says which. Raises DataError if it asks for other columns.
        """
        options = self.facts.get("options", {})
        names = {name: str(options.get(name, "")) for name in BY_ROW if name in self.facts["arrays"]}
        for name, other in (("weight", ""), ("group", "time"), ("time", "group")):
            if config is None or not (asked := getattr(config, name)):
                continue
            if names.get(name) != asked:
                was = f"with --{name} {names[name]}" if name in names else f"without --{name}"
                raise DataError(
                    f"{name}: got {asked!r}, but {self.folder} was prepared {was}; prepare the table again with "
                    f"--{name} {asked}, or leave --{name} out"
                )
            names.pop(other, None)
        return names

    def require_unchanged(self) -> None:
        """Raise DataError if a file that was prepared has changed since, which is still there."""
        for file in self.facts["files"]:
            path = Path(file["path"])
            try:
                now = path.stat()
            except (OSError, ValueError):
                continue  # moved or removed: what was prepared is complete
            if now.st_size == file["size"] and (
                now.st_mtime_ns == file["mtime_ns"] or sha256_of(path) == file["sha256"]
            ):
                continue
            size = f"{now.st_size:,} bytes" if now.st_size != file["size"] else "as long"
            raise DataError(
                f"{path}: has changed since it was prepared in {self.folder} (it had {file['size']:,} bytes, and has "
                f"{size} now, with other content); {REMEDY}, or move the file to use what was prepared"
            )


def _check(facts: Mapping[str, Any]) -> None:
    """Raise one of several errors unless the facts that reading needs are there and fit together."""
    arrays, rows, first = facts["arrays"], facts["rows"], 0
    for part in facts["parts"]:
        if part["role"] not in ROLES or part["first"] != first or not _is_count(part["rows"]):
            raise ValueError("parts")
        first += part["rows"]
    if first != rows or not {"x", "y"} <= arrays.keys():
        raise ValueError("rows")
    for name, about in arrays.items():
        if (
            about["dtype"] not in DTYPES[name]
            or len(about["shape"]) not in DIMENSIONS.get(name, (1,))
            or not all(map(_is_count, about["shape"]))
            or about["shape"][0] != rows
            or about["file"] != f"{name}.npy"
        ):
            raise ValueError(name)
    if len(facts["features"]) != arrays["x"]["shape"][1]:
        raise ValueError("features")
    for file in facts["files"]:
        _ = file["size"] + file["mtime_ns"]
    of_files = (file[name] for file in facts["files"] for name in ("path", "sha256"))
    texts = (
        *of_files,
        *(facts.get("options", {}).get(name, "") for name in BY_ROW),
        *facts["target"]["names"],
        *facts["target"]["labels"],
        *facts["notes"],
        *facts["features"],
        facts["sha256"],
    )
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("texts")
    for column in facts.get("columns", []):
        texts = (column["name"], column["type"], column["distinct"], column["became"])
        if not _is_count(column["missing"]) or not all(isinstance(text, str) for text in texts):
            raise TypeError("columns")


def _makes_features(column: Column, most: int) -> bool:
    """Say whether a column can be asked for its features, of which it has no more than there are."""
    return isinstance(column.missing, bool) and (not isinstance(column, Category) or column.buckets in range(most + 1))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class FileDigest:
    """The SHA-256 of a file, made of those of 64 pieces of its bytes; told one part after the other."""

    def __init__(self, size: int) -> None:
        self._ends = [size * i // N_PIECES for i in range(1, N_PIECES + 1)]
        self._merged, self._piece, self._at = hashlib.sha256(), hashlib.sha256(), 0

    def update(self, data: bytes) -> None:
        """Add the bytes that come next."""
        view = memoryview(data)
        while self._ends and self._at + len(view) >= self._ends[0]:
            rest = self._ends.pop(0) - self._at
            self._piece.update(view[:rest])
            self._merged.update(self._piece.digest())
            self._piece, self._at, view = hashlib.sha256(), self._at + rest, view[rest:]
        self._piece.update(view)
        self._at += len(view)

    def hexdigest(self) -> str:
        """Return it in hexadecimal digits, once all bytes are added."""
        self.update(b"")  # of a file without any
        return self._merged.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as it is merged of 64 pieces. Raises OSError."""
    with open_regular(path) as file:
        digest = FileDigest(os.fstat(file.fileno()).st_size)
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def is_prepared(folder: Path) -> bool:
    """Say whether a folder holds what ``workers.prepare`` has made, of whatever version."""
    try:
        return stat.S_ISREG((folder / META_NAME).stat().st_mode)
    except PermissionError:
        return os.path.isdir(folder)  # whoever reads it says what is wrong
    except (OSError, ValueError):
        return False


def read_prepared(folder: Path, config: RunConfig | None = None) -> Raw:
    """Return what a prepared folder holds; ``x`` and all else that has a row for each are maps. Raises DataError.

    Rows of a validation and a test set lie behind the others in the same maps: ``weight``, ``group`` and ``time`` have
    theirs, too. ``config``: what it says of these must be what was said when they were prepared.
    """
    prepared = Prepared.load(folder)
    names = prepared.names(config)
    prepared.require_unchanged()
    facts, arrays = prepared.facts, {name: prepared.array(name) for name in DTYPES if name not in BY_ROW}
    of_rows = {name: prepared.array(name) for name in names}
    x, y = arrays["x"], arrays["y"]
    assert x is not None
    assert y is not None
    handed = bool(facts.get("handed"))
    if handed:  # a transformer makes the features, once it is known which rows train
        x = np.zeros((prepared.rows, 1), np.float32)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    labels = list(facts["target"]["labels"])
    if labels and len(y) and (y.ndim > 1 or y.dtype.kind != "i" or y.min() < 0 or y.max() >= len(labels)):
        raise DataError(f"{folder}: damaged, y.npy has other labels than {META_NAME} tells of; {REMEDY}")

    def part(role: str) -> tuple[Array, Array] | None:
        rows = prepared.rows_of(role)
        return (x[rows], y[rows]) if rows.stop > rows.start else None

    own = prepared.rows_of("data")
    return Raw(
        folder.name,
        x[own],
        y[own],
        part("test"),
        list(facts["features"]),
        notes=list(facts["notes"]),
        validation=part("validation"),
        weight=of_rows.get("weight"),
        group=of_rows.get("group"),
        time=of_rows.get("time"),
        names=names,
        label_names=labels,
        target_names=list(facts["target"]["names"]),
        preprocessing=None if handed else prepared.preprocessing,
        columns=list(facts.get("columns", [])),
        sha256=prepared.sha256,
    )
