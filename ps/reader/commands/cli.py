"""The command line of ``python -m ps.log``.

Each command is a function in a module of its own, which is imported when the command is called. Its signature becomes
its options and their help.
"""

import io
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from common.errors import EXIT_ERROR, EXIT_USAGE, RankwiseError
from common.standard_streams import as_result, complain, flush, open_closed

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
    open_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal may lack characters of a folder's name
    code = _run()
    flush()
    sys.exit(code)


def _run() -> int:
    code = 0
    try:
        with as_result():
            code = app(exit_on_error=False, print_error=False) or 0
    except SystemExit:  # rich's way to say that nobody reads the help any more
        return 0
    except CycloptsError as error:
        return _complain(" ".join(str(error).split()), EXIT_USAGE)
    except RankwiseError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}", EXIT_ERROR)
    except RecursionError:
        return _complain("a record of this log is nested too deeply", EXIT_ERROR)
    return code


def _complain(message: str, code: int) -> int:
    flush()  # what was found before the fault comes first
    complain(f"rankwise: {message}")
    return code
