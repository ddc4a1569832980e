"""Makes of a prepared folder's features those of a model: a table that was prepared apart has other texts and flags."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from common.data.prepared_file import Prepared
from common.data.preprocessing import MISSING, UNKNOWN, Category, Column, Date, Number, Preprocessing
from common.errors import DataError
from common.flat import Array
from common.nn.model_file import ModelFile
from workers.prediction.rows import named

Convert = Callable[[Array], tuple[Array, dict[str, int]]]
"""Takes features in float64 and returns those of the model, and by column how many cells hold an unknown text."""
Fill = Callable[[Array, Array], int]
"""Takes the features of a column and writes those of the model's column; returns how many cells are unknown."""


def converter(prepared: Prepared, model: ModelFile) -> Convert:
    """Return what makes features of a folder those of a model. Raises DataError where that cannot be."""
    own, columns = prepared.preprocessing, _columns_of(model, prepared.preprocessing)
    files = named([str(file["path"]) for file in prepared.facts["files"]])
    remedy = f"give the table itself ({files})"
    if prepared.facts.get("handed"):
        raise DataError(f"{prepared.folder}: was prepared for a transformer (--prepare), without features; {remedy}")
    if own == Preprocessing(columns):
        return lambda x: (x, {})
    places = dict(zip([column.name for column in own.columns], _places(own.columns), strict=True))
    if absent := [column.name for column in columns if column.name not in places]:
        raise DataError(
            f"{prepared.folder}: has no column {named(absent)}, which the model was trained on; what is the same in "
            f"all rows is left out of a folder, and so is what --drop names; {remedy}"
        )
    try:
        fills = [(places[column.name], *_fill(own.columns, column), column) for column in columns]
    except ValueError as error:
        raise DataError(f"{prepared.folder}: column {error} than for the model; {remedy}") from error
    n_features = len(Preprocessing(columns).features())
    if n_features != model.n_features:
        raise DataError(f"{prepared.folder}: has {n_features} columns, but the model takes {model.n_features} features")

    def convert(x: Array) -> tuple[Array, dict[str, int]]:
        out, first, unknown = np.empty((len(x), n_features)), 0, {}
        for place, width, fill, column in fills:
            last = first + len(column.features())
            if n := fill(x[:, place : place + width], out[:, first:last]):
                unknown[column.name] = n
            first = last
        return out, unknown

    return convert


def _columns_of(model: ModelFile, own: Preprocessing) -> tuple[Column, ...]:
    """Return the columns of a model; one that was trained on arrays without names takes numbers in their order."""
    facts = model.facts
    if facts.preprocessing is not None:
        return facts.preprocessing.columns
    if facts.features:
        return tuple(map(Number, facts.features))
    return tuple(Number(column.name) for column in own.columns)


def _places(columns: Sequence[Column]) -> Iterator[int]:
    at = 0
    for column in columns:
        yield at
        at += len(column.features())


def _fill(columns: Sequence[Column], wanted: Column) -> tuple[int, Fill]:
    """Return how many features a column has in a folder, and what makes those of the model of them.

    Raises ValueError if nothing can.
    """
    own = next(column for column in columns if column.name == wanted.name)
    width = len(own.features())
    if isinstance(own, Number) and isinstance(wanted, Number):
        return width, lambda x, out: _of_number(own, wanted, x, out)
    if isinstance(own, Category) and isinstance(wanted, Category) and (own.values or own.buckets == wanted.buckets):
        return width, lambda x, out: _of_texts(own, wanted, x, out)
    if isinstance(own, Date) and isinstance(wanted, Date) and set(wanted.parts) <= set(own.parts):
        return width, lambda x, out: _of_date(own, wanted, x, out)
    raise ValueError(f"{own.name!r} became other features ({own.kind})")


def _of_number(own: Number, wanted: Number, x: Array, out: Array) -> int:
    wanted.encode(x[:, 0] + own.offset, out)
    return 0


def _of_texts(own: Category, wanted: Category, x: Array, out: Array) -> int:
    n = len(own.values) or own.buckets
    codes = wanted.codes(own.values) if own.values else np.arange(n)
    known, none = x[:, :n].any(axis=1), MISSING if own.missing else UNKNOWN
    cells = np.where(known, codes[x[:, :n].argmax(axis=1)], none)
    wanted.encode(cells, out)
    return int((cells == UNKNOWN).sum())


def _of_date(own: Date, wanted: Date, x: Array, out: Array) -> int:
    for i, part in enumerate(wanted.parts):
        out[:, i] = x[:, own.parts.index(part)]
    if wanted.missing:
        out[:, -1] = np.isnan(x[:, 0])
    return 0
