"""Opens a file or folder of new rows by the reader that it needs, and reads a rank's part of it."""

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from common.errors import EXIT_ERROR, EXIT_STOPPED, EXIT_USAGE, DataError, RankwiseError
from common.files import told
from common.nn.model_file import ModelFile
from ps.comm.agreement import at_root, together
from ps.comm.topology import Topology
from workers.launch.process import Context
from workers.prediction import inputs
from workers.prediction.array_rows import ArrayRows
from workers.prediction.inputs import Input
from workers.prediction.libsvm_rows import LibsvmRows
from workers.prediction.options import AUTO
from workers.prediction.plain_rows import PlainRows
from workers.prediction.rows import Asked, Block, Rows

POLARS = "a table that polars reads"


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


def open_rows(context: Context, topology: Topology, data: str, model: ModelFile, asked: Asked) -> Rows:
    """Look at a file or folder, and return what reads it. Collective; raises JobError."""
    comm = topology.comm

    def look() -> str:
        with bad_input():
            given = inputs.look_at(data)
            check_asked(given, model, asked)
            return POLARS if given.kind == inputs.TABLE and _takes_polars(given.path, model) else given.kind

    kind = at_root(comm, look)
    with bad_input():
        if kind == POLARS:
            from workers.prediction.table_rows import TableRows

            pulse, refuse = context.rank_status.tick, lambda: _refuse_stopped(context)
            return TableRows(topology, Path(data), model, asked, pulse, refuse)
        return together(comm, lambda: open_alone(data, model, asked))


def open_alone(data: str, model: ModelFile, asked: Asked) -> Rows:
    """Return what reads a file or folder without polars. Raises DataError, and MemoryLimitError."""
    given = inputs.look_at(data)
    if given.kind == inputs.TABLE:
        return PlainRows.open(given, model, asked)
    if given.kind == inputs.LIBSVM:
        return LibsvmRows.open(given, model, asked)
    return ArrayRows.open(given, model, asked)


def _takes_polars(path: Path, model: ModelFile) -> bool:
    """Say whether polars reads a table. Raises DataError if it must, and is not installed."""
    if find_spec("polars") is not None:
        return True
    if path.suffix.lower() != ".csv" or model.facts.transformer is not None:
        raise DataError(f"{path}: polars, which reads such files, is not installed; pip install 'rankwise[data]'")
    return False


def check_asked(given: Input, model: ModelFile, asked: Asked) -> None:
    """Raise DataError for options that do not go with a file, and for a file that does not go with the model."""
    path, is_table = given.path, given.kind == inputs.TABLE
    if asked.which != AUTO and given.kind not in inputs.WITH_SETS:
        raise DataError(f"set: {path} is {given.kind}, which holds one set of rows; leave --set out")
    if is_table:
        return
    if model.facts.transformer is not None:
        raise DataError(
            f"{path}: the model makes its features with {model.facts.transformer.name}, which takes the columns of a "
            "table; give a file of one"
        )
    named = {"target": ",".join(asked.targets), "encoding": asked.encoding, "header": asked.header.replace(AUTO, "")}
    for option, got in named.items():
        if got:
            raise DataError(f"{option}: got {got!r}, but {path} is {given.kind}, no table; leave --{option} out")


def blocks_of(rows: Rows, context: Context) -> Iterator[Block]:
    """Yield the rows of this rank. Raises DataError, also once the job is asked to stop."""
    with bad_input():
        for block in rows.blocks(context.comm.rank, context.comm.size):
            _refuse_stopped(context)
            yield block
            context.rank_status.tick()


def _refuse_stopped(context: Context) -> None:
    """Raise DataError once this rank is asked to stop."""
    if context.stop.signal:
        stopped = DataError("stopped before all rows were predicted; nothing came of it")
        stopped.exit_code = EXIT_STOPPED
        raise stopped
