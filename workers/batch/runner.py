"""Runs the program of a batch job, passes signals on to it, and queues the job again near its time limit."""

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from common.errors import EXIT_OK, EXIT_STOPPED, ConfigError
from common.standard_streams import complain
from workers.batch.batch_id import BatchId
from workers.batch.run_end import RunEnd
from workers.launch import answer

TIME_LIMIT = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGURG)
"""What Slurm sends ahead of a time limit, or in the place of which a site sends something else."""
OTHERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""These ask for a stop, too, after which the job is not queued again."""
MOST_RESTARTS = 100
"""So that a job whose time limit is too short to get on does not come back for ever."""
END_S = 30.0
"""How long Slurm may take to end a job that it queues again."""
ANSWER_S = 20.0
NOT_LISTENING = (128 + signal.SIGUSR1, 128 + signal.SIGTERM)
"""How a program ends that is asked before it listens: by the request itself, or since srun -K1 ends the other ranks."""


class Runner:
    """Runs a program once; ``requeue`` says whether to queue the job again when it has stopped near its time limit.

    It listens to signals from when it is made.
    """

    def __init__(self, batch: BatchId, *, requeue: bool) -> None:
        self.batch, self.requeue = batch, requeue
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = self._near_limit = self._to_stay = False
        for number in (*TIME_LIMIT, *OTHERS):
            signal.signal(number, self._handle)

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> int:
        """Return the exit code, 128 + n for a signal. Raises ConfigError if the program cannot be started."""
        end = RunEnd(command)
        if self._asked:
            sys.stdout.write("Asked to stop before anything was started.\n")
            sys.stdout.flush()
            code = EXIT_STOPPED
        else:
            code = self._run(command, variables)
        if code == EXIT_OK and end.is_stopped():  # as Open MPI's launcher ends whose daemons a signal has killed
            code = EXIT_STOPPED
        if self._near_limit and self.requeue and code in (EXIT_STOPPED, *NOT_LISTENING) and not self._is_cancelled():
            self._queue_again()
        return code

    def _run(self, command: Sequence[str], variables: Mapping[str, str]) -> int:
        sys.stdout.write(f"Starting: {shlex.join(command)}\n")
        sys.stdout.flush()
        try:
            self._process = subprocess.Popen(command, env=dict(variables))
        except OSError as error:
            raise ConfigError(f"batch job: {command[0]} cannot be run ({error.strerror})") from error
        if self._asked:  # while it was being started
            self._pass_on()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Ask the program for a stop, once: a second request would end it at once."""
        self._near_limit |= number in TIME_LIMIT
        self._to_stay |= number in OTHERS
        if not self._asked:
            self._asked = True
            self._pass_on()

    def _pass_on(self) -> None:
        """Send SIGUSR1, which srun and every mpirun hand to all ranks; after others some of them kill at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGUSR1)

    def _is_cancelled(self) -> bool:
        """Say whether somebody wants this job to stay stopped: Slurm sends the same signal at a time limit."""
        if not self._to_stay:
            return False
        asked = answer.ask(["scontrol", "--oneliner", "show", "job", self.batch.job], ANSWER_S)
        # the state of both is COMPLETING while the script runs, and a cancelled job can be queued again, too
        reason = re.search(r" JobState=\w+ Reason=(\w+)", asked.stdout) if asked else None
        return reason is not None and reason[1] != "TimeLimit"

    def _queue_again(self) -> None:
        """Queue this job, or this one task of an array, and wait to be ended by that."""
        if self.batch.restarts >= MOST_RESTARTS:
            complain(
                f"rankwise: not queued again after {MOST_RESTARTS} restarts, which is the limit; if the run does not "
                "get on, give it a longer --time; to continue it, submit it again with its run folder as --output"
            )
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which Slurm ends this start of the job
        try:
            code = subprocess.run(["scontrol", "requeue", self.batch.job], check=False).returncode
        except OSError:
            code = 127
        if code:
            complain(
                f"rankwise: not queued again: scontrol requeue {self.batch.job} ended with {code}; to continue the "
                "run, submit it again with its run folder as --output"
            )
            return
        time.sleep(END_S)
