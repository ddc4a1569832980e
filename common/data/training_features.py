"""From features as read to those that are trained on: ranks look at pieces of them together, then each scales alike."""

import hashlib
from collections.abc import Mapping

import numpy as np

from common.data.dataset import Dataset
from common.data.feature_scaling import Columns, Scaling
from common.data.features import scaled
from common.data.moments import Of, merged, n_pieces, of_piece, own_pieces, piece, usual_values
from common.data.scaling import row_blocks
from common.data.stacked import Matrix, Stacked
from common.errors import DataError
from common.flat import Array


def tables(data: Dataset, rank: int, size: int) -> Array:
    """Return the tables of all pieces, (pieces, fields, columns): zeros but for those that are this rank's.

    So the sum over the ranks is that of all.
    """
    values, n = _values(data), n_pieces(data.x.shape)
    found, usual = np.zeros((n, len(Of), values.shape[1])), usual_values(values, data.train, data.weight)
    counts = np.zeros(len(values), bool if data.weight is None else np.float64)
    counts[data.train] = True if data.weight is None else data.weight[data.train]
    for i in own_pieces(n, rank, size):
        found[i] = of_piece(values, counts, usual, piece(len(values), i, n))
    return found


def digests(data: Dataset, rank: int, size: int) -> bytearray:
    """Return the SHA-256 of each piece of the features, one behind the other: zeros but for this rank's."""
    values, n = _values(data), n_pieces(data.x.shape)
    found = bytearray(n * hashlib.sha256().digest_size)
    for i in own_pieces(n, rank, size):
        rows, digest = piece(len(values), i, n), hashlib.sha256()
        for block in row_blocks(rows.stop - rows.start, values.shape[1]):
            some = values[rows.start + block.start : min(rows.start + block.stop, rows.stop)]
            digest.update(np.ascontiguousarray(some).view(np.uint8).reshape(-1).data)
        found[i * digest.digest_size : (i + 1) * digest.digest_size] = digest.digest()
    return found


def add_digests(data: Dataset, of_pieces: bytes) -> None:
    """Bring the digests of all pieces into ``data.sha256``."""
    values = _values(data)
    facts = f"{values.shape}{values.dtype.str}".encode()
    data.sha256 = hashlib.sha256(facts + of_pieces + bytes.fromhex(data.sha256)).hexdigest()
    data.unread = False


def scale(
    data: Dataset, found: Array, dtype: str, *, standardize: bool, given: Mapping[str, Array] | None = None
) -> None:
    """Replace ``data.x`` by features as a model takes them, in the ``dtype`` of the job.

    ``found``: the tables of all pieces. ``given``: the scaling that the parameters belong to, where a run has some
    already. Raises DataError for numbers that cannot be trained on.
    """
    values = _values(data)
    columns = Columns(
        f"{data.name}: X", merged(found, values.shape[1]), list(data.feature_names),
        data.standardized(), values.dtype == np.uint8,
    )  # fmt: skip
    _check_finite(data, columns)
    if given:
        scaling, notes = Scaling.given(data.name, given, values.shape[1]), list[str]()
    else:
        scaling, notes = columns.fit(usual_values(values, data.train, data.weight), standardize=standardize)
    columns.check(scaling, np.dtype(dtype))
    if not scaling.mean.any():
        notes += columns.note_on_digits(values.dtype, np.dtype(dtype))
    data.notes += tuple(notes)
    data.x_scaling = scaling
    data.x = scaled(
        values, scaling, dtype,
        missing=bool(columns.moments[Of.MISSING].any()), moderate=columns.are_moderate(scaling),
    )  # fmt: skip


def scale_alone(data: Dataset, dtype: str, *, standardize: bool) -> None:
    """Do in one process what the ranks of a job do together."""
    scale(data, tables(data, 0, 1), dtype, standardize=standardize)


def _values(data: Dataset) -> Matrix:
    assert isinstance(data.x, np.ndarray | Stacked)
    return data.x


def _check_finite(data: Dataset, columns: Columns) -> None:
    """Raise DataError for infinity, and for NaN where that does not stand for a missing number."""
    wrong = columns.moments[Of.INFINITE] + (0 if columns.is_table else columns.moments[Of.MISSING])
    if not wrong.any():
        return
    values = _values(data)
    for block in row_blocks(*values.shape):
        some = values[block]
        bad = np.isinf(some) if columns.is_table else ~np.isfinite(some)
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            named = repr(columns.names[column]) if columns.names else column
            where = f"{columns.where}, {data.given.row(block.start + row)}, column {named}"
            raise DataError(f"{where}: got {some[row, column]}; only finite numbers, clean the file")
