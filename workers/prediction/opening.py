"""Opens a file of new rows by the reader that it needs, for NumPy's files or a table, and reads a rank's part of it."""

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from common.errors import EXIT_ERROR, EXIT_STOPPED, EXIT_USAGE, DataError, RankwiseError
from common.files import require_regular, told
from common.nn.model_file import ModelFile
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from workers.launch.process import Context
from workers.prediction.array_rows import ArrayRows
from workers.prediction.plain_rows import PlainRows
from workers.prediction.rows import Asked, Block, Rows

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
        raise DataError(told(error)) from error


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


def open_rows(topology: Topology, path: Path, model: ModelFile, asked: Asked, pulse: Callable[[], object]) -> Rows:
    """Look at a file, and return what reads it. Collective; raises JobError."""
    comm = topology.comm

    def look() -> str:
        with bad_input():
            require_file(path)
            has_polars = find_spec("polars") is not None
            if path.suffix.lower() in ARRAYS:
                if model.facts.transformer is not None:
                    raise DataError(
                        f"{path}: the model makes its features with {model.facts.transformer.name}, which takes the "
                        "columns of a table; give a file of one"
                    )
                return "arrays"
            if not has_polars and (path.suffix.lower() != ".csv" or model.facts.transformer is not None):
                raise DataError(
                    f"{path}: polars, which reads such files, is not installed; pip install 'rankwise[data]'"
                )
            return "table" if has_polars else "plain"

    kind = at_root(comm, look)
    with bad_input():
        if kind == "table":
            from workers.prediction.table_rows import TableRows

            return TableRows(topology, path, model, asked, pulse)
        reader = ArrayRows if kind == "arrays" else PlainRows

        def open_here() -> Rows:
            require_file(path)
            return reader.open(path, model, asked)

        return together(comm, open_here)


def blocks_of(rows: Rows, context: Context) -> Iterator[Block]:
    """Yield the rows of this rank. Raises DataError, also once the job is asked to stop."""
    with bad_input():
        for block in rows.blocks(context.comm.rank, context.comm.size):
            if context.stop.signal:
                stopped = DataError("stopped before all rows were predicted; nothing came of it")
                stopped.exit_code = EXIT_STOPPED
                raise stopped
            yield block
            context.rank_status.tick()
