"""A log as an event file of TensorBoard's."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ConfigError, RankwiseError
from common.limits import DRAWN_RANKS
from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.reader.console import write
from ps.reader.output import library, make_folder, save
from ps.reader.run_view import RunView

PREFIX = "events.out.tfevents."
OF_EPOCH = ("loss", "validation_loss", "learning_rate", "noise_scale")
BY_RANK = ("compute_s", "wait_s", "transfer_s", "share_all")


def write_events(reader: LogReader, folder: Path) -> None:
    """Write all epochs to ``folder``: the step is the epoch, the wall time that of the record.

    Exporting a run again replaces its file. Raises LogError, ConfigError if the folder holds events of another run or
    cannot be written, and RankwiseError without tensorboardX or without an epoch.
    """
    with library("tensorboard", "tensorboard"):
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.record_writer import masked_crc32c
    records = reader.records()
    header = next(records, None)
    first = next((record for record in records if record["kind"] == "epoch"), None)
    if header is None or first is None:
        raise RankwiseError(f"{reader.path}: no epoch in this log, so there is nothing to export")
    path = folder / f"{PREFIX}{int(header['t']):010d}.rankwise"
    make_folder("tensorboard", folder)
    others = [other.name for other in folder.glob(f"{PREFIX}*") if other != path]
    if others:  # TensorBoard would draw all event files of a folder as one run
        raise ConfigError(
            f"tensorboard: {folder} holds {others[0]}, with which TensorBoard would mix this run; give each run a "
            f"folder of its own, such as {folder / 'run1'}"
        )
    metric, most = RunView(reader.path, header=header).metric, header["world"]

    def event(t: float, **fields: Any) -> bytes:
        """Return an event as a TFRecord. tensorboardX's own writer hands it to a thread, which hangs on a full disk."""
        data = Event(wall_time=t, **fields).SerializeToString()
        length = struct.pack("<Q", len(data))
        return b"".join(part + struct.pack("<I", masked_crc32c(part)) for part in (length, data))

    def events() -> Iterator[bytes]:
        nonlocal most
        yield event(header["t"], file_version="brain.Event:2")
        for record in itertools.chain([first], records):
            if record["kind"] == "epoch":
                most = max(most, len(record["rows"]))
                values = [Summary.Value(tag=tag, simple_value=v) for tag, v in _scalars(record, metric).items()]
                yield event(record["t"], step=record["epoch"], summary=Summary(value=values))

    save(path, lambda file: file.writelines(events()))
    write(f"{path}")
    if most > DRAWN_RANKS:
        write(f"Series by rank are those of the first {DRAWN_RANKS} of {most} ranks.")


def _scalars(record: Record, metric: str) -> dict[str, float]:
    """Return an epoch's values by series; undefined ones are left out."""
    values: dict[str, float | None] = {key: record[key] for key in OF_EPOCH}
    values[f"validation_{metric}"] = record["validation_metric"]
    values |= {f"efficiency/{key}": value for key, value in record["efficiency"].items()}
    for key in BY_RANK:
        by_rank = enumerate(record[key][:DRAWN_RANKS])
        values |= {f"{key.removesuffix('_all')}/rank_{rank}": value for rank, value in by_rank}
    return {tag: value for tag, value in values.items() if value is not None}
