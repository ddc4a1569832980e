"""The command line of ``python -m ps.log``."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from common.errors import EXIT_USAGE, RankwiseError

LATEST = Path("runs/latest")
Run = Annotated[Path, Parameter(help="a run folder or its coordinator.msgpack")]

app = App(
    name="python -m ps.log",
    help="Read the central log of a run, finished or running.",
    result_action="return_value",
)


@app.command
def show(run: Run = LATEST, /, *, epoch: int = 0, every: bool = False) -> int:
    """Print header, epochs, what every rank did, and the end.

    Parameters
    ----------
    epoch: the epoch of the table by rank; the last one if not given.
    every: print every epoch; otherwise a long run is thinned out.
    """
    from ps.reader.show import show as command

    return command(run, epoch, every=every)


@app.command
def watch(run: Run = LATEST, /) -> int:
    """Follow a running job until it ends or dies."""
    from ps.reader.watch import watch as command

    return command(run)


@app.command
def export(run: Run = LATEST, /, *, csv: bool = False, jsonl: bool = False, output: Path | None = None) -> int:
    """Write the log as text: --csv one line per epoch and rank, --jsonl one object per record.

    Parameters
    ----------
    output: the file to write; standard output if not given.
    """
    from ps.reader.export import export as command

    return command(run, csv=csv, jsonl=jsonl, output=output)


@app.command
def compare(first: Path, second: Path, /, *more: Path) -> int:
    """Put runs side by side: loss, time to the same loss, sync, parameters."""
    from ps.reader.compare import compare as command

    return command([first, second, *more])


def main() -> None:
    """Run a command; bad usage and a damaged log end with one message each."""
    try:
        code = app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        sys.stderr.write(f"rankwise: {' '.join(str(error).split())}\n")
        sys.exit(EXIT_USAGE)
    except RankwiseError as error:
        sys.stdout.flush()
        sys.stderr.write(f"rankwise: {error}\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code or 0)
