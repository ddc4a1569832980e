"""What columns of numbers become: the stand-in for the table's own functions, with the same signatures."""

import csv
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from common.data.preprocessing import Number, Preprocessing
from common.errors import DataError
from common.flat import Array


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text file of a table is written; ``first_row``: the byte where rows begin."""

    names: tuple[str, ...]
    first_row: int


def find_dialect(head: bytes) -> Dialect:
    """Return the dialect of a file that begins so."""
    line, newline, _ = head.partition(b"\n")
    names = next(csv.reader([line.decode("utf-8-sig")]), [])
    return Dialect(tuple(name.strip() for name in names), len(line) + len(newline))


def read(block: bytes, dialect: Dialect) -> Any:
    """Return whole records as a polars DataFrame of texts."""
    import polars as pl

    try:
        return pl.read_csv(block, has_header=False, infer_schema=False, new_columns=list(dialect.names))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"a line that is no row ({str(error).splitlines()[0]})") from error


@dataclass(frozen=True, slots=True)
class Analysis:
    """Statistics of columns that can be merged: rows, and of each column how many cells are missing."""

    rows: int
    missing: dict[str, int]
    bytes_only: bool

    def merge(self, other: "Analysis") -> "Analysis":
        """Return those of these rows and of the others behind them."""
        missing = {name: n + other.missing[name] for name, n in self.missing.items()}
        return Analysis(self.rows + other.rows, missing, self.bytes_only and other.bytes_only)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def _numbers(frame: Any) -> Any:
    import polars as pl

    return frame.select(pl.all().str.strip_chars().cast(pl.Float64, strict=False))


def analyse(frame: Any) -> Analysis:
    """Return the statistics of a frame."""
    numbers = _numbers(frame)
    missing = {name: int(numbers[name].null_count()) for name in numbers.columns}
    return Analysis(len(frame), missing, False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided: plain values but for ``preprocessing``."""

    preprocessing: Preprocessing
    target: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "preprocessing": self.preprocessing.as_dict(),
            "target": {"names": [self.target], "kind": "numbers", "labels": []},
            "columns": [],
            "notes": [],
            "arrays": {"x": [[len(self.preprocessing.features())], "float32"], "y": [[1], "float64"]},
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Plan":
        """Return what ``as_dict`` made plain."""
        return cls(Preprocessing.from_dict(plain["preprocessing"]), plain["target"]["names"][0])


def decide(analysis: Analysis, target: str) -> Plan:
    """Decide what columns become."""
    columns = (Number(name, missing=n > 0) for name, n in analysis.missing.items() if name != target)
    return Plan(Preprocessing(tuple(columns)), target)


def encode(frame: Any, plan: Plan) -> dict[str, Array]:
    """Return the arrays of a frame's rows."""
    cells = {series.name: series.to_numpy() for series in _numbers(frame).fill_null(float("nan"))}
    return {"x": plan.preprocessing.encode(cells, "float32"), "y": np.asarray(cells[plan.target][:, None])}
