"""A log as CSV: one line per epoch and rank."""

import csv
from collections.abc import Iterator
from typing import Any

from ps.logfile.epoch_fields import EPOCH_FIELDS, EpochField
from ps.logfile.header import host_names
from ps.logfile.reader import LogReader
from ps.logfile.records import CONTINUATIONS, Record


def csv_lines(reader: LogReader) -> Iterator[str]:
    """Yield a line of names, then the lines of each epoch: what is the same for all ranks, then the rank's own.

    What is undefined is left empty. The hosts are those of the job that the epoch is of. Raises LogError.
    """
    line = csv.writer(_Echo(), lineterminator="\n").writerow
    columns = [field for field in EPOCH_FIELDS if field.column]
    of_epoch = [field for field in columns if not field.spec.per]
    of_rank = [field for field in columns if field.spec.per == "rank"]
    of_parameter = [field for field in columns if field.spec.per == "parameter"]
    names: list[str] = []
    hosts: dict[int, str] = {}
    for record in reader.records():
        if record["kind"] == "header":
            names = list(record["model"]["parameters"])
            hosts = host_names(record)
            titles = [title for field in of_epoch for title in _titles(field)]
            titles += ["rank", "host", *(field.column for field in of_rank)]
            yield line([*titles, *(f"{field.column}_{name}" for name in names for field in of_parameter)])
        elif record["kind"] == "event" and record["what"] in CONTINUATIONS and "nodes" in record:
            hosts = host_names(record)
        elif record["kind"] == "epoch":
            shared = [value for field in of_epoch for value in _values(field, record)]
            for rank in range(len(record["rows"])):
                own = [record[field.name][rank] if field.name in record else None for field in of_rank]
                own += [record[field.name][name][rank] for name in names for field in of_parameter]
                yield line([*shared, rank, hosts.get(rank, ""), *own])


def _titles(field: EpochField) -> list[str]:
    """Return a column, or one for each key of a map."""
    return [f"{field.column}_{key}" for key in field.spec.fields] or [field.column]


def _values(field: EpochField, record: Record) -> list[Any]:
    value: Any = record.get(field.name)
    return [value[key] for key in field.spec.fields] or [value]


class _Echo:
    """A file whose ``write`` returns the text, and so does ``writerow`` of a csv writer on it."""

    def write(self, text: str) -> str:
        return text
