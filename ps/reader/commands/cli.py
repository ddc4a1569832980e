"""The command line of ``python -m ps.log``.

Each command is a function in a module of its own, which is imported when the command is called. Its signature becomes
its options and their help.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from common.errors import EXIT_ERROR, EXIT_USAGE, RankwiseError

LATEST = Path("runs/latest")
Run = Annotated[Path, Parameter(help="a run folder, its name under runs/, or its coordinator.msgpack")]
Output = Annotated[Path, Parameter(alias="-o", help="the file to write")]

app = App(
    name="python -m ps.log",
    help="Read the central log of a run, finished or running.",
    result_action="return_value",
)
COMMANDS = {
    "show": "Print header, epochs, what every rank did, and the end.",
    "watch": "Follow a running job until it ends or dies: a live picture in a terminal, else a line for each record.",
    "export": "Write the log in another format: choose one.",
    "report": "Write one page with charts and verdicts that opens without a network (extra report); several runs side "
    "by side.",
    "plot": "Write PNG pictures of loss, sync time and each rank's contribution (extra report).",
    "trace": "Write a Chrome trace of the sampled steps, which ui.perfetto.dev opens: one row a rank, grouped by node.",
    "list_runs": "List the runs of a folder: when, mode, ranks, state, best metric.",
    "whatif": "Say what an epoch would take without its straggler, with rows dealt by speed, or with another mode.",
    "compare": "Put runs side by side: loss, time to the same loss, sync, parameters.",
}
for _name, _help in COMMANDS.items():
    app.command(f"ps.reader.commands.{_name}:{_name}", name=_name.removesuffix("_runs"), help=_help)


def main() -> None:
    """Run a command; bad usage, a damaged log and a full disk end with one message each."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a folder's name
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
