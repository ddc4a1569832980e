"""The command line of ``python -m ps.log``.

Each command is a function in a module of its own, which is imported when the command is called. Its signature becomes
its options and their help.
"""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError

from common import start_guard, synonyms
from common.errors import EXIT_ERROR, EXIT_USAGE, ConfigError, LogError, RankwiseError
from common.files import told
from common.given_paths import given_folder, given_path
from common.option import usage_fault
from common.standard_streams import as_result, complain, flush, open_closed
from common.version import version_line
from ps.reader.output import STANDARD_OUTPUT

LATEST = Path("runs/latest")
WRITTEN = ("output", "tensorboard")
"""Parameters that name what is made."""
Run = Annotated[Path, Parameter(help="a run folder, its name under runs/, or its coordinator.msgpack")]
OtherRun = Annotated[Path, Parameter(help="another run, beside the first")]
Salvage = Annotated[bool, Parameter(help="read what is whole of a damaged log, and say what is missing")]
Output = Annotated[Path, Parameter(alias="-o", help="the file to write; - for standard output")]

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
NAME = "python -m ps.log"
MENDING = "; with --salvage what is whole is read, and training with --resume mends the log"
"""What to do about a damaged log."""
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command as Ctrl-C does: without a word, and without the file that it has not finished."""


def make(name: str = NAME) -> App:
    """Return the command line, under the name by which it was called."""
    app = App(
        name=name,
        help="Read the central log of a run, finished or running.",
        help_format="plaintext",  # others take <...> for markup, and leave it out
        version=version_line,
        result_action="return_value",
        default_parameter=Parameter(negative=(), show_default=_default_text),
        suppress_keyboard_interrupt=False,  # it would end with 0
    )
    for command, text in COMMANDS.items():
        app.command(f"ps.reader.commands.{command}:{command}", name=command.removesuffix("_runs"), help=text)
    return app


def _default_text(value: Any) -> str | None:
    """Return how the help shows a default; what is off or not given needs no words."""
    return str(value) if value else None


def main(arguments: list[str] | None = None, name: str = NAME) -> None:
    """Run a command; bad usage, a damaged log and a full disk end with one message each.

    ``arguments``: those of this process, if not given. ``name``: what the help calls this command.
    """
    start_guard.over()
    open_closed()
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _interrupt)
    try:
        code = _run(make(name), _plain(sys.argv[1:] if arguments is None else arguments))
    except (KeyboardInterrupt, Interrupted) as error:
        flush()
        by = error.number if isinstance(error, Interrupted) else int(signal.SIGINT)
        signal.signal(by, signal.SIG_DFL)
        os.kill(os.getpid(), by)  # a shell then sees what has ended it
        code = 128 + by
    flush()
    sys.exit(code)


class Interrupted(BaseException):
    """A signal has come that ends this process, once it has tidied up what it was writing."""

    def __init__(self, number: int) -> None:
        self.number = number


def _interrupt(number: int, _: Any) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # or a second one would end the tidying up
    raise Interrupted(number)


def _plain(arguments: list[str]) -> list[str]:
    """Return the arguments with a name for the standard output that ``-`` means, which would be taken for an option."""
    pairs = itertools.pairwise(["", *arguments])
    return [str(STANDARD_OUTPUT) if pair in (("-o", "-"), ("--output", "-")) else pair[1] for pair in pairs]


def _run(app: App, arguments: list[str]) -> int:
    code = 0
    try:
        with as_result():
            command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
            if not all(arguments):
                raise ConfigError("command line: got an empty word; allowed is the path of a run or a file")
            bound.arguments = {name: _looked_at(name, value) for name, value in bound.arguments.items()}
            code = command(*bound.args, **bound.kwargs) or 0
    except SystemExit:  # rich's way to say that nobody reads the help any more
        return 0
    except CycloptsError as error:
        return _complain(_told(error), EXIT_USAGE)
    except LogError as error:
        return _complain(f"{error}{MENDING * error.damaged}", error.exit_code)
    except RankwiseError as error:
        return _complain(str(error), error.exit_code)
    except OSError as error:
        return _complain(told(error), EXIT_ERROR)
    except RecursionError:
        return _complain("a record of this log is nested too deeply", EXIT_ERROR)
    return code


def _looked_at(name: str, value: Any) -> Any:
    """Return a value that a command is called with; if it is a path, or several, look at them. Raises ConfigError."""
    if isinstance(value, Path):
        look = given_folder if name in WRITTEN else given_path
        return Path(look(name, str(value)))
    return tuple(_looked_at(name, one) for one in value) if isinstance(value, tuple) else value


def _told(error: CycloptsError) -> str:
    """Return what is wrong with a command line, with the option that was meant."""
    if isinstance(error, UnknownOptionError):
        got = error.token.keyword or error.token.value
        return f"Unknown option: {got[:80]}. {_meant(got, error)}"
    return usage_fault(error)


def _meant(got: str, error: UnknownOptionError) -> str:
    """Return what to write instead of an option that there is not."""
    flags = [flag for argument in error.argument_collection for flag in argument.names if flag.startswith("--")]
    known = {synonyms.plain(flag): flag for flag in flags}
    if synonyms.plain(got) in ("run", "runs", "log", "folder") and "output" not in known:
        return "A run is named without an option, as in show runs/latest."
    return synonyms.advice(got, known, known.__getitem__) or "--help lists all options."


def _complain(message: str, code: int) -> int:
    flush()  # what was found before the fault comes first
    complain(f"rankwise: {message}")
    return code
