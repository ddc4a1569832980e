"""What was decided about a table, as plain values: what each column becomes, and the target."""

from dataclasses import asdict, dataclass
from typing import Any

from common.data.preprocessing import Preprocessing
from workers.preparation.options import Options

LABELS, NUMBERS = "labels", "numbers"


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """A row of the table of columns. ``distinct``: as text, since of many it is an estimate."""

    name: str
    type: str
    missing: int
    distinct: str
    became: str


@dataclass(frozen=True, slots=True)
class Target:
    """``kind``: labels (codes of texts from 0) or numbers. ``labels``: the texts, sorted."""

    names: tuple[str, ...]
    kind: str = NUMBERS
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """``x_dtype``: float32, or uint8 where all features are bytes. ``time_form``: see ``cells.DATES``.

    ``handed``: columns that a transformer takes, each with its type, see ``typed_frame``; no features are written then.
    """

    preprocessing: Preprocessing
    columns: tuple[ColumnRow, ...]
    target: Target
    notes: tuple[str, ...]
    options: Options
    x_dtype: str = "float32"
    time_form: str = ""
    handed: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "preprocessing": self.preprocessing.as_dict(),
            "columns": [asdict(column) for column in self.columns],
            "target": {"names": [*self.target.names], "kind": self.target.kind, "labels": [*self.target.labels]},
            "notes": [*self.notes],
            "options": asdict(self.options),
            "x_dtype": self.x_dtype,
            "time_form": self.time_form,
            "handed": [[*column] for column in self.handed],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Plan":
        """Return what ``as_dict`` made plain."""
        target = plain["target"]
        return cls(
            Preprocessing.from_dict(plain["preprocessing"]),
            tuple(ColumnRow(**column) for column in plain["columns"]),
            Target(tuple(target["names"]), target["kind"], tuple(target["labels"])),
            tuple(plain["notes"]),
            Options.from_dict(plain["options"]),
            plain["x_dtype"],
            plain["time_form"],
            tuple((name, kind) for name, kind in plain["handed"]),
        )
