"""Where a prepared table lies for training: in a cache beside the file, or in a temporary folder for one job."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from common.data.prepared_file import META_NAME, VERSION, Prepared
from common.errors import DataError
from common.files import create_new, temporary_name, told
from common.version import VERSION as RANKWISE

BESIDE, OFF, NUMPY = "auto", "off", "numpy"
SUFFIX = ".rankwise-cache"
UNUSED_S = 3600.0
"""Seconds since its last use after which what was prepared of an earlier state of a file is removed."""


def key(files: tuple[tuple[str, str], ...], options: dict[str, Any]) -> str:
    """Return what tells one preparation from others: paths, sizes and times of files, options, and this version.

    Raises DataError.
    """
    facts = []
    for path, role in files:
        found = _facts(Path(path))
        facts.append([os.path.realpath(path), role, *found])
    text = json.dumps([VERSION, RANKWISE, facts, options], sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _facts(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"data: {path} cannot be read ({error.strerror})") from error
    return [found.st_size, found.st_mtime_ns]


def place_of(files: tuple[tuple[str, str], ...], options: dict[str, Any], cache: str) -> Path:
    """Return where the prepared folder of these files lies. ``cache``: ``auto``, or a folder. Raises DataError."""
    first = Path(files[0][0])
    folder = first.parent if cache == BESIDE else Path(os.path.expanduser(cache)).absolute()
    return folder / f"{first.name}{SUFFIX}" / key(files, options)


def temporary_place() -> Path:
    """Return a place for one job, in the system's folder for such."""
    return Path(tempfile.gettempdir()) / temporary_name("rankwise").replace(".part", "")


def fault_in_writing(folder: Path) -> str:
    """Return why nothing can be written into a folder; nothing if it can be, and the folder is there then."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / temporary_name("probe")
        create_new(probe).close()
        probe.unlink()
    except OSError as error:
        return told(error)
    return ""


def note_use(place: Path) -> None:
    """Note that what is prepared there is used."""
    with contextlib.suppress(OSError):
        os.utime(place / META_NAME)


def remove_outdated(place: Path) -> None:
    """Remove what was prepared in the same cache of files that are not what they were, or by another version.

    What was used of late stays.
    """
    for folder in place.parent.iterdir():
        if folder == place or folder.name.startswith("."):
            continue
        with contextlib.suppress(DataError, OSError):
            unused = time.time() - (folder / META_NAME).stat().st_mtime > UNUSED_S
            facts = Prepared.load(folder).facts
            if unused and (facts.get("rankwise") != RANKWISE or any(map(_has_changed, facts["files"]))):
                shutil.rmtree(folder, ignore_errors=True)


def _has_changed(file: dict[str, Any]) -> bool:
    try:
        return _facts(Path(file["path"])) != [file["size"], file["mtime_ns"]]
    except DataError:
        return True
