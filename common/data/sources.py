"""Readers of data: built-in sets, .npz and .csv files; each returns arrays and checks nothing but the file."""

from pathlib import Path

from common.config import BUILT_IN_DATA, RunConfig, file_kind, nearest
from common.data.csv_file import read_csv
from common.data.dataset import Raw
from common.data.digits import read_digits
from common.data.npz_file import read_npz
from common.data.reference import draw_ranks
from common.errors import DataError


def read(config: RunConfig, rank: int, size: int) -> Raw:
    """Read the configured data on this rank.

    Raises DataError if the file is missing, broken or of no known kind.
    """
    if config.data == "digits":
        return read_digits()
    if config.data == "reference":
        return draw_ranks(rank, size)
    path, kind = Path(config.data), file_kind(config.data)
    if not kind:
        raise DataError(
            f"data: unknown set {config.data!r} {nearest(config.data, BUILT_IN_DATA)}; "
            f"choose {' or '.join(BUILT_IN_DATA)}, or give the path of an .npz or .csv file".replace(" ;", ";")
        )
    if not path.is_file():
        raise DataError(f"data: no file {path}; the path is taken from where the job was started")
    return read_npz(path) if kind == ".npz" else read_csv(path, config.target)
