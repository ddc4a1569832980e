"""What a user says of a table's columns, as plain values."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from common.errors import DataError


class TableError(DataError):
    """What is wrong with a table: ``line`` within the block that was read or ``row`` within its frame, both from 0.

    ``place``: what the caller calls the frame; None where no single row is at fault.
    """

    def __init__(self, message: str, *, line: int | None = None, place: Any = None, row: int | None = None) -> None:
        self.line, self.place, self.row = line, place, row
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``target``, ``features``, ``drop``, ``categorical``: names of columns with commas between; the rest is one text.

    ``missing``: texts that stand for a missing cell, beside the usual ones. ``weight``, ``group``, ``time``: a column.
    ``handed``: whether a transformer of the user's own makes the features. ``one_column``: whether there may be one
    alone, as of rows that are predicted.
    """

    target: str = ""
    features: str = ""
    drop: str = ""
    categorical: str = ""
    missing: str = ""
    header: str = "auto"
    index_column: str = "auto"
    weight: str = ""
    group: str = ""
    time: str = ""
    handed: bool = False
    one_column: bool = False

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Options":
        """Return the options among ``plain``; others are ignored."""
        return cls(**{field.name: plain[field.name] for field in fields(cls) if field.name in plain})


def names_in(text: str) -> list[str]:
    """Return the names in a list with commas between; one that holds a comma stands in double quotes."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), []) if name.strip()]
