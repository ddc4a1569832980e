"""What is known of a transformer of the user's own (``--prepare``), whose file lies beside the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Transformer:
    """A fitted transformer of a table's columns.

    ``name``: package.module:name. ``sha256``: of its file. ``columns``: of the table that it takes, each with its type.
    ``types``: those in the file that skops does not know. ``content``: of the file, at rank 0 of a job that trains.
    """

    name: str
    sha256: str
    columns: tuple[tuple[str, str], ...]
    types: tuple[str, ...] = ()
    content: bytes = b""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, without the content."""
        return {
            "name": self.name, "sha256": self.sha256, "columns": [[*column] for column in self.columns],
            "types": [*self.types],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], content: bytes = b"") -> "Transformer":
        """Return what ``as_dict`` made plain. Raises KeyError, TypeError and ValueError for what cannot be that."""
        columns = tuple((str(name), str(kind)) for name, kind in plain["columns"])
        return cls(str(plain["name"]), str(plain["sha256"]), columns, tuple(map(str, plain["types"])), content)
