"""The frame of a command that runs in one process: errors become one message, and the exit code says how it went."""

import contextlib
from collections.abc import Callable

from common import start_guard
from common.errors import EXIT_INTERRUPTED, RankwiseError
from common.packages import needed
from common.standard_streams import as_result, complain, flush, open_closed


def run(act: Callable[[], int], *, result: bool = True) -> int:
    """Do a command's work, and return its exit code.

    ``act`` imports what it needs: packages that are missing are named. ``result``: what it prints is what the command
    is for, so it ends quietly when nobody reads on.
    """
    start_guard.over()
    open_closed()
    try:
        with needed(), as_result() if result else contextlib.nullcontext():
            return act()
    except RankwiseError as error:
        complain(f"rankwise: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    finally:
        flush()
