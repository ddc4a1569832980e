"""Columns of a text that are read as numbers at once, without texts in between, as long as all cells are numbers."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from workers.preparation.cells import MISSING
from workers.preparation.options import Options, names_in

LARGEST = float(np.finfo(np.float32).max)
MOST_SPELLINGS = 8
"""Of a missing cell, each of which is compared with every cell."""


@dataclass(frozen=True, slots=True)
class NumberColumns:
    """``names``: of the columns. ``missing``: texts that stand for a missing cell in them, beside an empty one."""

    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def only(self, names: Collection[str]) -> "NumberColumns":
        """Return those of some names."""
        return NumberColumns(tuple(name for name in self.names if name in names), self.missing)

    def schema(self, names: Collection[str]) -> dict[str, type[pl.DataType]]:
        """Return the types of all columns of a text."""
        own = {*self.names}
        return {name: pl.Float64 if name in own else pl.String for name in names}

    def fit(self, frame: pl.DataFrame) -> bool:
        """Say whether those of a frame, read as numbers, are finite and within float32, but for missing ones."""
        return all(frame.select((pl.col(self.names).abs() <= LARGEST).all()).row(0))

    def of_texts(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with those columns of texts as numbers in which nothing else stands."""
        found = []
        for name in self.names:
            if frame[name].dtype != pl.String:
                continue
            numbers = frame[name].cast(pl.Float64, strict=False)
            known = (numbers.abs() <= LARGEST).fill_null(value=False) | frame[name].is_in(["", *self.missing])
            if known.all():
                found.append(numbers)
        return frame.with_columns(found)


NONE = NumberColumns()


def number_columns(frame: pl.DataFrame, options: Options) -> NumberColumns:
    """Return the columns that hold numbers alone in a file's first rows, and shall not be taken for anything else."""
    own = names_in(options.missing)
    others = {*names_in(options.categorical), *names_in(options.group)}
    if pl.Series(own, dtype=pl.String).cast(pl.Float64, strict=False).is_not_null().any():
        return NumberColumns()  # 9 is missing then, and so may be 9.0
    texts = frame.select(pl.col(pl.String))
    plain = np.abs(texts.select(pl.all().cast(pl.Float64, strict=False)).to_numpy()) <= LARGEST
    names = {name for name, kind in frame.schema.items() if kind.is_numeric()}
    missing = set[str]()
    for column, known in zip(texts.iter_columns(), plain.T, strict=True):
        if column.name in others:
            continue
        odd = set[str]() if known.all() else {*column.filter(pl.Series(~known)).unique().to_list()} - {""}
        if known.any() and odd <= {*MISSING, *own} and len(missing | odd) <= MOST_SPELLINGS:
            names.add(column.name)
            missing |= odd
    return NumberColumns(
        tuple(name for name in frame.columns if name in names and name not in others), tuple(sorted(missing))
    )
