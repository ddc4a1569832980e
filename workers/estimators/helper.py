"""The process in which one rank trains for an estimator, fit after fit: ``python -m workers.estimators.helper FD``.

Each line of its input is a job, as JSON; it answers each with a line on the file FD. It ends when its input does.
"""

import contextlib
import json
import os
import select
import signal
import sys
import threading
from types import FrameType
from typing import Any

from common.errors import RankwiseError
from workers.launch.signals import StopRequest

STOP = signal.SIGUSR1


def main() -> None:
    """Train as long as there are jobs."""
    stop, replies = StopRequest(), int(sys.argv[1])

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.signal = number

    signal.signal(STOP, ask)
    threading.Thread(target=_stop_with_parent, args=(replies,), name="parent", daemon=True).start()
    comm: Any = None
    for line in sys.stdin:
        stop.signal = 0
        try:
            if comm is None:
                from workers.launch.mpi import start_mpi

                comm = start_mpi()
            answer = {"code": _run(comm, json.loads(line), stop), "message": ""}
        except RankwiseError as error:
            answer = {"code": error.exit_code, "message": str(error)}
        sys.stdout.flush()
        sys.stderr.flush()
        with contextlib.suppress(BrokenPipeError):
            os.write(replies, json.dumps(answer).encode() + b"\n")


def _run(comm: Any, values: dict[str, Any], stop: StopRequest) -> int:
    from common.config import RunConfig
    from common.option import from_dict
    from workers.estimators.on_ranks import train

    return train(comm, from_dict(RunConfig, values), stop)


def _stop_with_parent(replies: int) -> None:
    """Ask for a stop when nobody is there any more to read the answer."""
    poll = select.poll()
    poll.register(replies, 0)  # errors are always told
    poll.poll()
    os.kill(os.getpid(), STOP)


if __name__ == "__main__":
    main()
