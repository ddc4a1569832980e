"""The supervisor's loop: start the job, see how it ends, wait, start it again."""

import os
import random
import signal
import sys
import time
from types import FrameType

import workers
from common.errors import EXIT_ERROR, EXIT_OK, EXIT_STOPPED, EXIT_USAGE, ConfigError
from common.standard_streams import complain, drop
from common.start_words import SUPERVISED
from common.wording import MOST_CHARACTERS, MOST_LINES, printable
from workers.launch.hosts import HostProbe, launcher_options
from workers.launch.run_arguments import take_option
from workers.launch.signals import OUR_STOP_SIGNALS, StopRequests
from workers.supervisor.options import SuperviseConfig
from workers.supervisor.patience import Patience
from workers.supervisor.policy import AttemptPlan, Outcome, Policy
from workers.supervisor.processes import Attempt, adopt_orphans
from workers.supervisor.run_monitor import RunMonitor

LONGEST_WAIT_S = 60.0


def backoff(first_s: float, restart: int) -> float:
    """Return the seconds before a restart (from 1): doubling, up to a minute, and between half and all of that.

    By chance, so that jobs that died of one cause (a file server, say) do not all come back at once.
    """
    most = min(first_s * 2.0 ** min(restart - 1, 30), LONGEST_WAIT_S)
    return random.uniform(most / 2, most)


def say(line: str) -> None:
    """Print one line, in one write; training does not depend on a reader."""
    try:
        sys.stdout.write(f"supervise: {printable(line, MOST_CHARACTERS, MOST_LINES)}\n")
        sys.stdout.flush()
    except OSError:
        drop(sys.stdout)


class Supervisor:
    """Runs attempts until the job is done, stopped on request, or given up."""

    def __init__(self, options: SuperviseConfig, run_monitor: RunMonitor) -> None:
        """Raises ConfigError."""
        self.options, self.run_monitor = options, run_monitor
        hosts = options.places()
        self.mpirun = options.launcher()
        self.plan = AttemptPlan(options.ranks or sum(host.slots for host in hosts), hosts)
        self.probe = HostProbe(hosts)
        self.policy = Policy(options.fewest, options.restarts)
        self.sizes: list[int] = []
        """The number of ranks of each attempt."""
        self._stop_asked = False
        self._stop_requests = StopRequests()
        self._killed_by = 0
        self._attempt: Attempt | None = None

    def run(self) -> int:
        """Return the exit code: the job's last one. Raises ConfigError if it cannot be started at all."""
        adopt_orphans()
        for number in OUR_STOP_SIGNALS:
            signal.signal(number, self._handle)
        while True:
            outcome = self._run_once()
            if (code := self._final_code(outcome)) is not None:
                return code
            before = self.plan
            lost = self.probe.lost(before.hosts, never=outcome.unknown and not outcome.progress)
            plan = self.policy.after(before, outcome, lost)
            if plan is None:
                return self._give_up(outcome)
            self.plan = plan
            delay = backoff(self.options.backoff, len(self.sizes))
            say(self._restart_line(before, outcome, delay))
            end = time.monotonic() + delay
            while not self._stop_asked and (left := end - time.monotonic()) > 0:
                time.sleep(min(left, 0.1))  # a signal's handler does not shorten a sleep
            if self._stop_asked:
                say(f"stopped on request before the restart; the run is in {self.run_monitor.path}")
                return EXIT_STOPPED

    def _run_once(self) -> Outcome:
        """Run the job once."""
        self.run_monitor.clear()
        command = [
            self.mpirun, *launcher_options(self.mpirun, self.plan.hosts), "-np", str(self.plan.ranks),
            sys.executable, "-X", SUPERVISED, *["-P"] * sys.flags.safe_path, "-m", "workers.run",
            *take_option("output", self.options.arguments)[1],
            "--resume", "auto", "--output", str(self.run_monitor.path),
        ]  # fmt: skip
        # without the thread limit that importing ``workers`` set here: the job sets its own
        own = () if workers.THREADS_SET_BY_USER else workers.THREAD_VARIABLES
        self.sizes.append(self.plan.ranks)
        patience = Patience(
            self.run_monitor.path,
            self.plan.hosts,
            self.probe.lost,
            started=lambda: self._attempt is not None and self._attempt.started,
        )
        try:
            self._attempt = Attempt(command, {name: v for name, v in os.environ.items() if name not in own})
        except OSError as error:
            patience.over()
            raise ConfigError(f"mpirun: {self.mpirun} cannot be run ({error}); give another with --mpirun") from error
        if self._stop_asked:  # while it was being started
            self._attempt.ask_to_stop()
        code = self._attempt.wait(patience.overdue)
        patience.over()
        outcome = self.run_monitor.outcome(code, patience.reason or self._attempt.message())
        self._attempt = None
        return outcome

    def _final_code(self, outcome: Outcome) -> int | None:
        """Return the exit code if this was the last attempt, for any reason but that the job is given up."""
        if self._killed_by:
            return 128 + self._killed_by
        if outcome.code == EXIT_OK or self.run_monitor.done:
            if self.run_monitor.done:
                say(f"done; {self._summary()}")
            return EXIT_OK
        if outcome.code == EXIT_USAGE:
            return EXIT_USAGE
        if not self._stop_asked:
            return None
        say(f"stopped on request; {self._summary()}")
        # a signal may end a job that does not listen yet; nothing is lost by that
        return EXIT_ERROR if outcome.code == EXIT_ERROR and outcome.message else EXIT_STOPPED

    def _give_up(self, outcome: Outcome) -> int:
        say(f"given up; {self._summary()}")
        complain(
            f"rankwise: supervise: gave up after {self.policy.refusal}; last: exit code {outcome.code}, "
            f"{outcome.reason}; fix the cause, then repeat the command with --output {self.run_monitor.path}"
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
        attempts = f"{len(self.sizes)} attempt{'s' if len(self.sizes) > 1 else ''}"
        return f"{attempts} with {', '.join(map(str, self.sizes))} ranks; the run is in {self.run_monitor.path}"

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass the first signal on as a request to stop; end the job at once if the same one comes again."""
        insist = self._stop_requests.insist(number, time.monotonic())
        if not self._stop_asked:
            self._stop_asked = True
            if self._attempt is not None:
                self._attempt.ask_to_stop()
        elif insist:
            self._killed_by = number
            if self._attempt is not None:
                self._attempt.kill()
