"""A log as an event file of TensorBoard's."""

import itertools
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ConfigError, RankwiseError
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.reader.downsample import MOST_RANKS
from ps.reader.output import library, save
from ps.reader.run_view import RunView

PREFIX = "events.out.tfevents."
OF_EPOCH = ("loss", "validation_loss", "learning_rate", "noise_scale")
BY_RANK = {"compute_s": "compute_s", "wait_s": "wait_s", "transfer_s": "transfer_s", "share_all": "share"}
"""Field of an epoch's record, and its series in TensorBoard."""


def write_events(reader: LogReader, folder: Path) -> None:
    """Write all epochs to ``folder``: step is the epoch, wall time that of the record.

    Exporting a run again replaces its file. Raises LogError, ConfigError if the folder holds events of another run or
    cannot be written, and RankwiseError without tensorboardX or without an epoch.
    """
    encoder = _Encoder()
    records = reader.records()
    header = next(records, None)
    first = next((record for record in records if record["kind"] == "epoch"), None)
    if header is None or first is None:
        raise RankwiseError(f"{reader.path}: no epoch in this log, so there is nothing to export")
    path = folder / f"{PREFIX}{int(header['t']):010d}.rankwise"
    _make(folder, path.name)
    metric, most = RunView(reader.path, header).metric, header["world"]

    def chunks() -> Iterator[bytes]:
        nonlocal most
        yield encoder.event(header["t"], file_version="brain.Event:2")
        for record in itertools.chain([first], records):
            if record["kind"] == "epoch":
                most = max(most, len(record["rows"]))
                yield encoder.scalars(record, _scalars(record, metric))

    save(path, lambda file: file.writelines(chunks()))
    sys.stdout.write(f"{path}\n")
    if most > MOST_RANKS:
        sys.stdout.write(f"Series by rank are those of the first {MOST_RANKS} of {most} ranks.\n")


def _make(folder: Path, name: str) -> None:
    """Make the folder. TensorBoard would draw all event files in it as one run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"tensorboard: cannot make {folder} ({error.strerror}); choose another folder") from error
    others = [path.name for path in folder.glob(f"{PREFIX}*") if path.name != name]
    if others:
        raise ConfigError(
            f"tensorboard: {folder} holds {others[0]}, with which TensorBoard would mix this run; give each run a "
            f"folder of its own, such as {folder / 'run1'}"
        )


def _scalars(record: Record, metric: str) -> dict[str, float]:
    """Return the series' values of an epoch; what is undefined is left out."""
    values: dict[str, float | None] = {key: record[key] for key in OF_EPOCH}
    values[f"validation_{metric}"] = record["validation_metric"]
    values |= {f"efficiency/{key}": value for key, value in record["efficiency"].items()}
    for key, series in BY_RANK.items():
        values |= {f"{series}/rank_{rank}": value for rank, value in enumerate(record[key][:MOST_RANKS])}
    return {tag: value for tag, value in values.items() if value is not None}


class _Encoder:
    """Packs events as records of a TFRecord file.

    tensorboardX's own SummaryWriter hands events to a thread, which hangs the program when the disk is full.
    """

    def __init__(self) -> None:
        """Raises RankwiseError without tensorboardX."""
        with library("tensorboard", "tensorboard"):
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.proto.summary_pb2 import Summary
            from tensorboardX.record_writer import masked_crc32c
        self._event: Any = Event
        self._summary: Any = Summary
        self._crc: Any = masked_crc32c

    def event(self, t: float, **fields: Any) -> bytes:
        """Return the record of an event."""
        data: bytes = self._event(wall_time=t, **fields).SerializeToString()
        length = struct.pack("<Q", len(data))
        return length + struct.pack("<I", self._crc(length)) + data + struct.pack("<I", self._crc(data))

    def scalars(self, record: Record, values: dict[str, float]) -> bytes:
        """Return the record of an epoch's values by series."""
        entries = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        return self.event(record["t"], step=record["epoch"], summary=self._summary(value=entries))
