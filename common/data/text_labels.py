"""Gives codes to a target of texts, as arrays may hold it; which text a code stands for is kept."""

from collections.abc import Sequence

import numpy as np

from common.arrays_file import NUMBERS
from common.data.dataset import Raw
from common.data.stacked import Matrix
from common.errors import DataError
from common.flat import Array

KINDS = NUMBERS + "U"
"""Of the dtypes that a target may have."""


def with_same_codes(raws: Sequence[Raw]) -> None:
    """Give the same texts the same codes in data of several files. Raises DataError if only some have texts."""
    with_texts = [raw for raw in raws if raw.label_names]
    if not with_texts:
        return
    if plain := next((raw for raw in raws if not raw.label_names), None):
        raise DataError(
            f"{plain.name}: its target is numbers, and that of {with_texts[0].name} is texts; save both alike"
        )
    texts = sorted({text for raw in raws for text in raw.label_names})
    for raw in raws:
        codes = np.searchsorted(texts, raw.label_names)
        raw.y = codes[raw.y]
        raw.validation, raw.test = (pair and (pair[0], codes[pair[1]]) for pair in (raw.validation, raw.test))
        raw.label_names = texts


def with_codes(raw: Raw) -> Raw:
    """Replace a target of texts by codes from 0, in the order of the sorted texts of all sets. Raises DataError."""
    targets = [raw.y, *(pair[1] for pair in (raw.validation, raw.test) if pair)]
    if all(y.dtype.kind != "U" for y in targets):
        return raw
    if any(y.dtype.kind != "U" or y.ndim not in (1, 2) or y.shape[1:] not in ((), (1,)) for y in targets):
        raise DataError(
            f"{raw.name}: a target of texts takes one column, (rows,), in each set; got "
            f"{', '.join(f'{y.shape} of {y.dtype}' for y in targets)}"
        )
    texts, codes = np.unique(np.concatenate([y.reshape(-1) for y in targets]), return_inverse=True)
    raw.label_names = texts.tolist()
    parts = np.split(codes.astype(np.int64), np.cumsum([len(y) for y in targets])[:-1])
    raw.y = parts.pop(0)
    raw.validation = _paired(raw.validation, parts)
    raw.test = _paired(raw.test, parts)
    return raw


def _paired(pair: tuple[Matrix, Array] | None, parts: list[Array]) -> tuple[Matrix, Array] | None:
    return (pair[0], parts.pop(0)) if pair else None
