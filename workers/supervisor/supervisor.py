"""The loop: start the job, see how it ends, wait, start it again."""

import os
import random
import signal
import sys
import time
from types import FrameType

import workers
from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED, EXIT_USAGE, ConfigError
from workers.launch.signals import ECHO_S, SIGNALS
from workers.supervisor.hosts import Reach, launcher_options
from workers.supervisor.options import SuperviseConfig
from workers.supervisor.policy import AttemptPlan, Outcome, Policy
from workers.supervisor.processes import Attempt, adopt_orphans
from workers.supervisor.run_watch import RunMonitor, without_output

LONGEST_WAIT_S = 60.0


def backoff(first_s: float, restart: int) -> float:
    """Return the seconds before a restart (from 1): doubling, up to a minute, and between half and all of that.

    By chance, so that jobs that died of one cause (a file server, say) do not all come back at once.
    """
    most = min(first_s * 2.0 ** min(restart - 1, 30), LONGEST_WAIT_S)
    return random.uniform(most / 2, most)


def tell(line: str) -> None:
    """Print one line, in one write; training does not depend on a reader."""
    try:
        sys.stdout.write(f"supervise: {line}\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Supervisor:
    """Runs attempts until the job is done, asked to stop, or given up.

    ``asked``: the signal that told this process to stop.
    """

    def __init__(self, options: SuperviseConfig, folder: RunMonitor) -> None:
        """Raises ConfigError."""
        self.options, self.folder = options, folder
        hosts = options.places()
        self.mpirun = options.launcher()
        self.plan = AttemptPlan(options.ranks or sum(host.slots for host in hosts), hosts)
        self.reach = Reach(hosts)
        self.policy = Policy(options.fewest, options.restarts)
        self.sizes: list[int] = []
        self.asked = 0
        self._asked_at = 0.0
        self._killed = 0
        self._attempt: Attempt | None = None

    def run(self) -> int:
        """Return the exit code: the job's last one. Raises ConfigError if it cannot be started at all."""
        adopt_orphans()
        for number in SIGNALS:
            signal.signal(number, self._handle)
        while True:
            outcome = self._once()
            if (code := self._final(outcome)) is not None:
                return code
            before = self.plan
            lost = self.reach.lost(before.hosts, never=outcome.unknown and not outcome.progress)
            plan = self.policy.after(before, outcome, lost)
            if plan is None:
                return self._give_up(outcome)
            self.plan = plan
            delay = backoff(self.options.backoff, len(self.sizes))
            tell(self._restart_line(before, outcome, delay))
            self._pause(delay)
            if self.asked:
                tell(f"stopped on request before the restart; the run is in {self.folder.path}")
                return EXIT_STOPPED

    def _pause(self, seconds: float) -> None:
        """Wait, but not when asked to stop."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))  # a signal's handler runs, but the rest of a sleep is slept all the same

    def _once(self) -> Outcome:
        """Run the job once."""
        self.folder.clear()
        at_start = self.folder.newest()
        self.sizes.append(self.plan.ranks)
        try:
            self._attempt = Attempt(self._command(), self._environment())
        except OSError as error:
            raise ConfigError(f"mpirun: {self.mpirun} cannot be run ({error}); give another with --mpirun") from error
        if self.asked:  # while it was being started
            self._attempt.ask_to_stop()
        code = self._attempt.wait()
        said = self._attempt.message()
        self._attempt = None
        message = self.folder.look() or said
        newest = self.folder.newest()
        return Outcome(code, message, tuple(self.folder.deaths), newest, newest not in ("", at_start))

    def _command(self) -> list[str]:
        arguments = [*without_output(self.options.arguments), "--resume", "auto", "--output", str(self.folder.path)]
        where = launcher_options(self.mpirun, self.plan.hosts)
        run = [sys.executable, "-m", "workers.run", *arguments]
        return [self.mpirun, *where, "-np", str(self.plan.ranks), *run]

    def _environment(self) -> dict[str, str]:
        """Return ours, without the thread limit that importing ``workers`` set: the job sets its own."""
        own = () if workers.THREADS_SET_BY_USER else workers.THREAD_VARIABLES
        return {name: value for name, value in os.environ.items() if name not in own}

    def _final(self, outcome: Outcome) -> int | None:
        """Return the exit code if this was the last attempt, for any reason but that it is given up."""
        if self._killed:
            return 128 + self._killed
        if outcome.code == EXIT_OK or self.folder.done:
            if self.folder.done:
                tell(f"done; {self._summary()}")
            return EXIT_OK
        if outcome.code == EXIT_USAGE:
            return EXIT_USAGE
        if not self.asked:
            return None
        tell(f"stopped on request; {self._summary()}")
        # a signal may end a job that does not listen yet; nothing is lost by that
        return EXIT_ERROR if outcome.code == EXIT_ERROR and outcome.message else EXIT_STOPPED

    def _give_up(self, outcome: Outcome) -> int:
        tell(f"given up; {self._summary()}")
        sys.stderr.write(
            f"rankwise: supervise: gave up after {self.policy.refusal}; last: exit code {outcome.code}, "
            f"{outcome.reason}; to go on, mend the cause and start the same command with --output {self.folder.path}\n"
        )
        return outcome.code

    def _restart_line(self, before: AttemptPlan, outcome: Outcome, delay: float) -> str:
        size = f"{self.plan.ranks} ranks" + (f" ({before.ranks} before)" if self.plan.ranks != before.ranks else "")
        if gone := [host.name for host in before.hosts if host not in self.plan.hosts]:
            size += f" without {', '.join(gone)}"
        place = f"from {outcome.checkpoint}" if outcome.checkpoint else "from the start, for there is no checkpoint"
        progress = ", which is new" if outcome.progress else ", as before" if outcome.checkpoint else ""
        return (
            f"restart {len(self.sizes)} of at most {self.options.restarts} in {delay:.1f} s: exit code {outcome.code}, "
            f"{outcome.reason}; {size}, {place}{progress}"
        )

    def _summary(self) -> str:
        n = len(self.sizes)
        sizes = ", ".join(str(size) for size in self.sizes)
        return f"{n} attempt{'s' if n > 1 else ''} with {sizes} ranks; the run is in {self.folder.path}"

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass the first signal on as a request to stop; end the job at once on a second one."""
        now = time.monotonic()
        if not self.asked:
            self.asked, self._asked_at = number, now
            if self._attempt is not None:
                self._attempt.ask_to_stop()
        elif now - self._asked_at > ECHO_S:  # a launcher may forward what it was sent, too: the same wish
            self._killed = number
            if self._attempt is not None:
                self._attempt.kill()
