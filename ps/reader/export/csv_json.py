"""A log as lines: CSV, one for each epoch and rank, or JSON, an object for each record."""

import csv
import json
import math
from collections.abc import Iterator
from typing import Any

from common.wording import printable
from ps.logfile.epoch_fields import EPOCH_FIELDS
from ps.logfile.header import host_names
from ps.logfile.reader import LogReader
from ps.logfile.records import CONTINUATIONS


def csv_lines(reader: LogReader) -> Iterator[str]:
    """Yield a line of names, then the lines of each epoch: what is the same for all ranks, then the rank's own.

    What is undefined is left empty. The hosts are those of the job that the epoch is of. Raises LogError.
    """
    line = csv.writer(_Echo(), lineterminator="\n").writerow
    columns = [field for field in EPOCH_FIELDS if field.column]
    of_epoch = [(field, key) for field in columns if not field.spec.per for key in (field.spec.fields or [""])]
    of_rank = [field for field in columns if field.spec.per == "rank"]
    of_parameter = [field for field in columns if field.spec.per == "parameter"]
    names: list[str] = []
    hosts: dict[int, str] = {}
    for record in reader.records():
        if record["kind"] == "header":
            names = list(record["model"]["parameters"])
            hosts = host_names(record)
            titles = [f"{field.column}_{key}" if key else field.column for field, key in of_epoch]
            titles += ["rank", "host", *(field.column for field in of_rank)]
            yield line([*titles, *(_cell(f"{field.column}_{name}") for name in names for field in of_parameter)])
        elif record["kind"] == "event" and record["what"] in CONTINUATIONS and "nodes" in record:
            hosts = host_names(record)
        elif record["kind"] == "epoch":
            shared = [record[field.name][key] if key else record.get(field.name) for field, key in of_epoch]
            for rank in range(len(record["rows"])):
                own = [record[field.name][rank] if field.name in record else None for field in of_rank]
                own += [record[field.name][name][rank] for name in names for field in of_parameter]
                yield line([*shared, rank, _cell(hosts.get(rank, "")), *own])


def _cell(text: str) -> str:
    """Return a text of the log as a terminal may have it, for CSV has no escapes; and as no spreadsheet's formula."""
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@")) else printable(text)


class _Echo:
    """A file whose ``write`` returns the text, and so does ``writerow`` of a csv writer on it."""

    def write(self, text: str) -> str:
        return text


def json_lines(reader: LogReader) -> Iterator[str]:
    """Yield each record as it is, except for what JSON cannot hold. Raises LogError."""
    for record in reader.records():
        try:
            yield _json(record)
        except (TypeError, ValueError):  # rare: only then is every value looked at
            yield _json(_plain(record))


def _json(record: Any) -> str:
    """Return a line in ASCII. Of the control characters, JSON leaves DEL as it is."""
    return json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f") + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: null for numbers that are not finite, bytes in hexadecimal."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value
