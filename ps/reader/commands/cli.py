"""The command line of ``python -m ps.log``."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from common.errors import EXIT_ERROR, EXIT_USAGE, RankwiseError

LATEST = Path("runs/latest")
Run = Annotated[Path, Parameter(help="a run folder, its name under runs/, or its coordinator.msgpack")]

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
    from ps.reader.commands.show import show as command

    return command(run, epoch, every=every)


@app.command
def watch(run: Run = LATEST, /) -> int:
    """Follow a running job until it ends or dies: a live picture in a terminal, else a line for each record."""
    from ps.reader.commands.watch import watch as command

    return command(run)


@app.command
def export(
    run: Run = LATEST,
    /,
    *,
    csv: bool = False,
    jsonl: bool = False,
    markdown: bool = False,
    tensorboard: Path | None = None,
    output: Path | None = None,
) -> int:
    """Write the log in another format: choose one.

    Parameters
    ----------
    csv: one line per epoch and rank.
    jsonl: one JSON object per record.
    markdown: tables for a report.
    tensorboard: event files in this folder, which `tensorboard --logdir` shows (extra tensorboard).
    output: the file to write; standard output if not given.
    """
    from ps.reader.export.export import export as command

    return command(run, csv=csv, jsonl=jsonl, markdown=markdown, tensorboard=tensorboard, output=output)


@app.command
def report(
    run: Run = LATEST, /, *more: Run, output: Annotated[Path, Parameter(alias="-o")] = Path("report.html")
) -> int:
    """Write one page with charts and verdicts that opens without a network (extra report); several runs side by side.

    Parameters
    ----------
    output: the file to write.
    """
    from ps.reader.commands.report import report as command

    return command([run, *more], output)


@app.command
def plot(run: Run = LATEST, /, *, output: Path | None = None) -> int:
    """Write PNG pictures of loss, sync time and each rank's contribution (extra report).

    Parameters
    ----------
    output: the folder to write to; the run folder if not given.
    """
    from ps.reader.commands.plot import plot as command

    return command(run, output)


@app.command
def trace(run: Run = LATEST, /, *, output: Annotated[Path, Parameter(alias="-o")] = Path("trace.json")) -> int:
    """Write a Chrome trace of the sampled steps, which ui.perfetto.dev opens: one row a rank, grouped by node.

    Parameters
    ----------
    output: the file to write.
    """
    from ps.reader.commands.trace import trace as command

    return command(run, output)


@app.command(name="list")
def list_runs(folder: Annotated[Path, Parameter(help="a folder of runs")] = Path("runs"), /) -> int:
    """List the runs of a folder: when, mode, ranks, state, best metric."""
    from ps.reader.commands.list_runs import list_runs as command

    return command(folder)


@app.command
def whatif(run: Run = LATEST, /, *, other: Path | None = None) -> int:
    """Say what an epoch would take without its straggler, with rows dealt by speed, or with another mode.

    Parameters
    ----------
    other: a run of another mode, or a comparison, whose measured transfer is put in the place of this run's.
    """
    from ps.reader.commands.whatif import whatif as command

    return command(run, other)


@app.command
def compare(first: Path, second: Path, /, *more: Path) -> int:
    """Put runs side by side: loss, time to the same loss, sync, parameters."""
    from ps.reader.commands.compare import compare as command

    return command([first, second, *more])


def main() -> None:
    """Run a command; bad usage, a damaged log and a full disk end with one message each."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a folder's name need not be of the terminal's characters
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has seen enough
        _drop_output()
        code = 0
    except OSError as error:
        _drop_output()
        code = _complain(f"output: cannot be written ({error.strerror})", EXIT_ERROR)
    sys.exit(code)


def _run() -> int:
    try:
        return app(exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), EXIT_USAGE)
    except RankwiseError as error:
        return _complain(str(error), error.exit_code)
    except RecursionError:
        return _complain("a record of this log is nested too deeply", EXIT_ERROR)


def _complain(message: str, code: int) -> int:
    sys.stdout.flush()  # what was found before the fault comes first
    sys.stderr.write(f"rankwise: {message}\n")
    return code


def _drop_output() -> None:
    """Send nowhere what is still to be written, so that Python's flush at its end does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
