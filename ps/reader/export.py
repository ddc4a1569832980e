"""``python -m ps.log export``: the log as CSV or as JSON lines."""

import csv as csv_module
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from common.files import write_atomic
from ps.log import LogReader, Record, log_path
from ps.reader.schema import Check

SHARED = ("epoch", "steps", "learning_rate", "elapsed_s", "loss", "validation_loss", "validation_metric")
BY_RANK = ("rows", "compute_s", "wait_s", "transfer_s", "sync_s", "sent_bytes", "share_all")
BY_PARAMETER = ("gradient_mean", "norm_ratio", "share")


def export(run: Path, *, csv: bool, jsonl: bool, output: Path | None) -> int:
    """Write the log as text; return the exit code. Raises ConfigError or LogError."""
    if csv == jsonl:
        raise ConfigError("export: choose one of --csv and --jsonl")
    # JSON takes any intact record as it is: the way to see what is in a log that the tables refuse
    reader = LogReader(log_path(run), Check() if csv else None)
    lines = _csv(reader) if csv else (_json(record) + "\n" for record in reader.records())
    if output is None:
        for line in lines:
            sys.stdout.write(line)
    else:
        try:
            write_atomic(output, lambda file: file.writelines(line.encode() for line in lines))
        except OSError as error:
            raise ConfigError(f"output: cannot write {output} ({error.strerror})") from error
    if reader.torn:
        sys.stderr.write(f"rankwise: the last {reader.torn} bytes are an unfinished record, left out\n")
    return 0


def _csv(reader: LogReader) -> Iterator[str]:
    """Yield one line per epoch and rank: what is the same for all ranks, then the rank's own."""
    line = _Line()
    names: list[str] = []
    for record in reader.records():
        if record["kind"] == "header":
            names = list(record["model"]["parameters"])
            columns = [f"{key}_{name}" for name in names for key in BY_PARAMETER]
            yield line.of([*SHARED, "rank", "rank_loss", *BY_RANK, *columns])
        elif record["kind"] == "epoch":
            for rank in range(len(record["rows"])):
                yield line.of(_values(record, rank, names))


def _values(record: Record, rank: int, names: list[str]) -> list[Any]:
    shared = [record[key] for key in SHARED]
    own = [rank, record["loss_by_rank"][rank], *(record[key][rank] for key in BY_RANK)]
    return shared + own + [record[key][name][rank] for name in names for key in BY_PARAMETER]


def _json(record: Record) -> str:
    try:
        return json.dumps(record, allow_nan=False)
    except (TypeError, ValueError):  # rare, so that only then every value is looked at
        return json.dumps(_plain(record), allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: null for numbers that are not finite, bytes in hexadecimal."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Line:
    """A csv writer that returns its lines."""

    def __init__(self) -> None:
        self.text = ""
        self.writer = csv_module.writer(self, lineterminator="\n")

    def write(self, text: str) -> None:
        self.text = text

    def of(self, values: list[Any]) -> str:
        self.writer.writerow(values)
        return self.text
