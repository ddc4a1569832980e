"""A new log in the place of a damaged one: every whole record, and an event that says what is lost."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from common.errors import LogError
from common.files import copy_with_holes, create_new, open_regular, sync_folder, temporary_name, write_atomic
from common.run_files import DAMAGED_LOG_NAME
from ps.logfile.damage import Damage
from ps.logfile.rebuilt import REMEDY
from ps.logfile.records import Record, encode
from ps.logfile.salvage import SalvageReader

MODE = 0o644
"""Permissions of a log."""


@dataclass(frozen=True, slots=True)
class Mended:
    """A log that was mended: its file, still open, how many records and bytes it has, its header, and what to say."""

    file: BinaryIO
    seq: int
    size: int
    header: Record
    message: str


def mend(
    log: Path, lock: Callable[[int], object], header: Callable[[Path], Record] | None, later: Iterable[Record] = ()
) -> Mended:
    """Write all whole records of a log to a new one, numbered anew, which takes its place; keep the original aside.

    The caller holds the lock on it; ``lock`` locks the new file. ``header``: makes one where it is lost. ``later``:
    records that followed those in the file, from which some bytes are gone. Raises OSError, and LogError if the header
    is lost and cannot be made; the log is then as it was.
    """
    reader = SalvageReader(log, header=header)
    temporary = log.with_name(temporary_name(log.name))
    file, aside = create_new(temporary, MODE, append=True), ""
    try:
        lock(file.fileno())
        first, seq = _copy(_records(reader, header, later), file)
        if not first:
            raise LogError(log, 0, REMEDY)
        aside = _keep(log) if reader.damage.bytes else ""
        message = _message(reader.damage, aside, rebuilt="rebuilt" in first)
        event = {"what": "salvage", "original": aside, "header_rebuilt": "rebuilt" in first, **reader.damage.facts()}
        file.write(encode({"kind": "event", "seq": seq, "t": time.time(), **event, "message": message}))
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(log)
    except BaseException as error:
        with contextlib.suppress(OSError):  # what could not be written still waits to be
            file.close()
        temporary.unlink(missing_ok=True)
        if aside:
            log.with_name(aside).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(log)
        raise
    sync_folder(log.parent)
    return Mended(file, seq + 1, file.tell(), first, f"{log}: {message}")


def _records(
    reader: SalvageReader, header: Callable[[Path], Record] | None, later: Iterable[Record]
) -> Iterator[Record]:
    """Yield what the new log is to hold, a header first if there can be one."""
    found = reader.records()
    begin = next(found, None)
    if begin is None and header is not None:
        begin = header(reader.path)
    if begin is None or begin["kind"] != "header":
        return
    yield begin
    yield from found
    seq = max(reader.next_seq, 1)
    for one in later:
        if one["seq"] >= seq:
            if one["seq"] > seq:
                reader.damage.miss(reader.offset, one["seq"] - seq)
            seq = one["seq"] + 1
            yield one


def _copy(records: Iterator[Record], file: BinaryIO) -> tuple[Record, int]:
    """Write records, numbered anew; return the first one, and how many there were."""
    first: Record = {}
    n = 0
    for n, record in enumerate(records, 1):
        first = first or record
        plain = {name: value for name, value in record.items() if name != "crc"}
        file.write(encode({"kind": plain.pop("kind"), **plain, "seq": n - 1}))
    return first, n


def _keep(log: Path) -> str:
    """Copy a log to the next free name beside it, and return that.

    A copy, not another name of the file: the log is there at every moment, whatever happens meanwhile.
    """
    names = map(DAMAGED_LOG_NAME.format, itertools.count(1))
    name = next(name for name in names if not os.path.lexists(log.with_name(name)))
    with open_regular(log) as original:
        write_atomic(log.with_name(name), partial(copy_with_holes, original))
    return name


def _message(damage: Damage, aside: str, *, rebuilt: bool) -> str:
    """Say what was lost and where the original lies."""
    texts = [f"was {damage}" if damage else "was empty or gone"]
    texts += ["its header is made of what the run folder and later records say"] * rebuilt
    texts += [f"the original is kept as {aside}"] * bool(aside)
    return "; ".join(texts)
