"""A copy of the state of training that is made while a step is computed, for launchers that kill soon after a signal.

Open MPI's ``mpirun`` answers SIGINT, SIGTERM and SIGHUP with SIGCONT to the ranks, SIGTERM 0.25 s later, and SIGKILL
after another 0.25 s; MPICH's kills at a second Ctrl-C. A step of a large model may take longer. Parameters do not
change while gradients are computed: so rank 0 copies them then, and when all ranks are gone, its watchdog writes a
checkpoint of the last step's end.
"""

import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from common.job_signals import STOP_SIGNALS, signal_name
from ps.sync.training_state import TrainingState
from workers.checkpoint.checkpointing import Checkpointing, StepsDone
from workers.training.epoch_totals import StepCount

COPY_S = 10.0
"""How long to try."""
STOP_S = 2.0
"""How long after SIGCONT the request to stop may come: a copy that nobody needs takes memory."""
LOOK_S = 0.002


def is_possible(state: TrainingState, init: str) -> bool:
    """Say whether this rank can copy the whole state by itself, and saves checkpoints."""
    alone = type(state) is TrainingState and state.error is None
    return alone and state.comm.rank == 0 and init == "broadcast"


class EarlyCopy:
    """Makes the copy in a thread of its own when a signal comes.

    ``describe_stop``: gives what the log is to say of a stop, by epoch, step and the signals by rank.
    """

    def __init__(
        self, checkpointing: Checkpointing, steps: StepCount, describe_stop: Callable[..., dict[str, Any]]
    ) -> None:
        self._checkpointing, self._steps, self._describe_stop = checkpointing, steps, describe_stop
        self._asked = threading.Event()
        self._signal = ""
        self._thread = threading.Thread()

    def note(self, number: int) -> None:
        """Take note of a signal, in any thread but the main one, which computes."""
        if number in STOP_SIGNALS:
            self._signal = self._signal or signal_name(number)
            self._asked.set()
        if (number in STOP_SIGNALS or number == signal.SIGCONT) and not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="early copy", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        copied = self._copy()
        if copied is not None and self._asked.wait(STOP_S):
            stop = self._describe_stop(copied.epoch, copied.of_epoch.steps, {"0": self._signal})
            # without ``copying``: the main thread may be at it, and takes its time
            self._checkpointing.held.add(self._checkpointing.steps_in_all(copied), stop=stop)
            return
        with self._checkpointing.copying:
            self._checkpointing.drop_early()

    def _copy(self) -> StepsDone | None:
        """Make the copy; return of which steps, None if there is none."""
        until = time.monotonic() + COPY_S
        while time.monotonic() < until and not self._checkpointing.stopping:
            with self._checkpointing.copying:
                unchanged, done = partial(self._steps.is_unchanged, self._steps.turn), self._steps.done()
                if done is not None and unchanged() and self._checkpointing.copy_early(done, unchanged):
                    return done
            time.sleep(LOOK_S)
        return None
