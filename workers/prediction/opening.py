"""Which reader a file of new rows has: NumPy's files, a prepared folder, or a table."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from common.errors import EXIT_ERROR, EXIT_USAGE, DataError, RankwiseError
from common.files import require_regular
from common.nn.model_file import ModelFile
from workers.prediction.array_rows import ArrayRows
from workers.prediction.rows import Rows

TABLES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".pq")
ARRAYS = (".npz", ".npy")


@contextlib.contextmanager
def bad_input() -> Iterator[None]:
    """Give what is wrong with a file that the user names the exit code of wrong usage."""
    try:
        yield
    except RankwiseError as error:
        if error.exit_code == EXIT_ERROR:
            error.exit_code = EXIT_USAGE
        raise
    except OSError as error:
        fault = DataError(f"{error.filename}: {error.strerror}")
        fault.exit_code = EXIT_USAGE
        raise fault from error


def require_file(path: Path) -> None:
    """Raise DataError unless there is a regular file of a known kind."""
    try:
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"file: no file {path}") from error
    except OSError as error:
        raise DataError(f"file: {path} cannot be read ({error.strerror})") from error
    if path.suffix.lower() not in (*TABLES, *ARRAYS):
        raise DataError(f"file: got {path}; allowed is a name that ends with {', '.join((*ARRAYS, *TABLES))}")


def open_rows(path: Path, model: ModelFile, *, wants_y: bool = False, weight: str = "") -> Rows:
    """Look at a file, and return what reads it. Raises RankwiseError."""
    require_file(path)
    return ArrayRows.open(path, model, wants_y=wants_y, weight=weight)
