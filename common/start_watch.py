"""What the guard of a rank's start does in its own process: it looks at the ranks of its node until all are there.

Nothing is written for others to find: ranks are the processes below their launcher, as /proc shows them, and the name
of a guard's process says how far its rank is.
"""

import os
import select
import signal
import time
from contextlib import suppress

from common.job_signals import STOP_SIGNALS
from common.launcher_place import LauncherPlace
from common.node_ranks import NodeRanks
from common.process_table import (
    Process,
    children_of,
    exists,
    find_launcher,
    how_ended,
    read_process,
    variables,
)
from common.start_state import ENDING, GUARD, READY, STARTING, guard_of, in_words, ranks, state_of, stopped, what
from common.start_words import DEFAULT_LIMIT_S, FAILED, FAILING, LIMIT, MESSAGE_FIRST_S, WAITS, read_limit

AT_MOST = 10
"""A rank that shows signs of life has so many times the limit."""
OWN_START = 3
"""Ranks of other nodes have so many times as long as those of this node took, if that is more than the limit."""
OTHERS_FIRST_S = 5.0
"""Who knows only that others are missing speaks so much later: a guard elsewhere may know which, and why."""
FIRST_LOOK_S, LOOK_S = 3.0, 1.0
"""Most starts are over before the first look."""
SAME_S = 0.2
"""How long a rank that fails waits for others that fail with it."""
GONE_S, ABSENT_S = 2.0, 3.0
"""How long a rank that was there may be gone, and one that never was not there yet, before the others say so: a dead
rank's own guard comes first, and a launcher takes time to start many."""
PAUSE_S, ABORT_S = 0.05, 1.5
"""How long a launcher has to end the job before this node's ranks are killed."""
USAGE = 2
"""``common.errors.EXIT_USAGE``, which loads more than may be loaded here: of what most likely all ranks find out."""
NO_ROOM = "; MPI may lack room in /dev/shm: df -h /dev/shm"
"""Of a rank that died of SIGBUS: the kernel's way to say that memory in a file cannot be had."""
UNREACHED = ": a firewall, or a network that leads nowhere, which rankwise doctor finds"
SIGNALLED = 128
"""An exit code above is this and a signal's number."""


def run(pipe: int, rank: int, place: LauncherPlace) -> None:
    """Watch until the rank sends this process away or the job ends. ``rank``: a pidfd of it."""
    for number in STOP_SIGNALS:  # sent to all processes of the job; this one acts on what its rank hears
        signal.signal(number, signal.SIG_IGN)
    StartWatch(pipe, rank, place).run()


class StartWatch:
    """Sees the ranks of one node start, beside one of them.

    Times are counted in looks, so that a suspended job's clock stands still.
    """

    def __init__(self, pipe: int, rank: int, place: LauncherPlace) -> None:
        self.pipe, self.pidfd, self.place, self.parent = pipe, rank, place, os.getppid()
        self.launcher, complete = find_launcher(self.parent)
        self.node = NodeRanks(self.launcher, place, complete=complete)
        self.limit_s = DEFAULT_LIMIT_S
        with suppress(ValueError):  # rank 0 refuses it when it reads the options
            self.limit_s = read_limit(os.environ.get(LIMIT, str(DEFAULT_LIMIT_S)))
        self.state = STARTING
        self._idle_s: dict[int, float] = {}
        self._activity: dict[int, int] = {}
        self._gone_s = self._absent_s = self._waited_s = self._started_s = self._own_start_s = 0.0
        self._n_present = self._speaker = 0
        self._set_state(STARTING)

    def run(self) -> None:
        """Listen to the rank, and look at the others once a second, or at the guard that does that for the node."""
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        looked_at, pause_s = time.monotonic(), FIRST_LOOK_S
        while True:
            if poll.poll(1000 * max(0.0, looked_at + pause_s - time.monotonic())):
                if not self._hear(os.read(self.pipe, 4096)):
                    return
                continue
            now = time.monotonic()
            if self.state != ENDING:
                self._look(min(now - looked_at, 2 * pause_s))
            looked_at = time.monotonic()
            pause_s = max(LOOK_S, 100 * (looked_at - now))

    def _set_state(self, state: str) -> None:
        self.state = state
        with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(state)

    def _hear(self, message: bytes) -> bool:
        """Act on what the rank says, or on its end; return whether to go on."""
        if not message:
            self._rank_ended()
            return False
        if message == WAITS:
            self._own_start_s = self._started_s
            self._set_state(READY)
        elif message == FAILING:
            self._set_state(ENDING)
        elif message.startswith(FAILED):
            self._rank_failed(message[len(FAILED) + 1 :].decode(errors="replace"), message[len(FAILED)])
            return False
        else:  # a signal's number: Python writes it there, in C
            self._end_by_signal(message[0])
            return False
        return True

    # What the rank does

    def _rank_ended(self) -> None:
        """Say of what the rank died, unless the launcher is gone as well, or a lower rank ends too."""
        if not self._rank_is_gone(LOOK_S):  # it became another program
            return
        cause, code = how_ended(self.pidfd, self.parent)
        if code is not None and code > SIGNALLED:  # it ended itself at a signal
            self._abort(code)
        elif exists(self.launcher) and not self._lower_one_ends():
            hint = NO_ROOM if "SIGBUS" in cause else self._network_hint() if cause.startswith("ended") else ""
            self._end_with(f"rank {self.place.rank} on {self.place.host} {cause} before the job had started{hint}", 1)

    def _network_hint(self) -> str:
        """Return what to look at where MPI ended the rank in its first messages to other nodes."""
        from common.start_network import network_hint

        in_mpi, several = self.state == READY, 0 < self.place.local_size < self.place.size
        return network_hint(self.place.host) if in_mpi and several else ""

    def _rank_failed(self, text: str, code: int) -> None:
        """Say why the rank fails, unless a lower one ends too: for the same reason, most likely."""
        self._set_state(ENDING)
        time.sleep(SAME_S)
        if self.place.local_rank != self.place.rank:  # rank 0, on another node, comes first
            time.sleep(MESSAGE_FIRST_S)
        if not self._lower_one_ends() and not self._rank_is_gone():  # else it was ended for the reason of others
            self._end_with(text, code)

    def _rank_is_gone(self, wait_s: float = 0.0) -> bool:
        """Say whether the rank's process has ended; one that ends closes its files a little earlier."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(1000 * wait_s))

    def _lower_one_ends(self) -> bool:
        """Say whether a rank below this one, on this node, is gone or fails: its guard speaks for both."""
        present = self.node.present()
        lower = [rank for rank in {*self.node.known, *self.node.expected()} if rank < self.place.rank]
        return any(rank not in present or state_of(present[rank]) == ENDING for rank in lower)

    # What the others do

    def _look(self, seconds: float) -> None:
        """Look at all ranks of this node once, ``seconds`` after the last look; end the job if it cannot start."""
        if os.getppid() != self.parent:  # that is heard in a moment
            return
        if self._another_looks():
            self._started_s += seconds
            return
        present = self.node.present()
        if not present or any(state_of(tree) == ENDING for tree in present.values()):
            return
        if all(stopped(tree) for tree in present.values()):  # the job is suspended
            return
        self._started_s += seconds
        self._note(present, seconds)
        message = self._missing(present, seconds) or self._late(present, seconds)
        guards = {rank: guard for rank, tree in present.items() if (guard := guard_of(tree)) and not guard.stopped}
        speaker = min(guards, default=self.place.rank)
        if speaker != self.place.rank:
            self._speaker = guards[speaker].pid
        elif message:
            self._end_with(message, 1)

    def _another_looks(self) -> bool:
        """Say whether a lower rank's guard is still there to look at the ranks of this node: one of them is enough."""
        guard = read_process(self._speaker or self._first_guard())
        self._speaker = guard.pid if guard else 0
        able = guard is not None and guard.name.startswith(GUARD) and not guard.ended and not guard.stopped
        self._speaker = self._speaker if able else 0
        return able

    def _first_guard(self) -> int:
        """Return the guard of the rank that was started first on this node, if its number is lower; else 0.

        So few look at all ranks for the first time, where each would, at the same moment.
        """
        rank = next(iter(children_of(self.launcher)), 0) if self.node.complete else 0
        if not rank or rank == self.parent or LauncherPlace(variables(rank)).kind != self.place.kind:
            return 0
        if LauncherPlace(variables(rank)).rank >= self.place.rank:
            return 0
        found = (child for child in map(read_process, children_of(rank)) if child and child.name.startswith(GUARD))
        return next((guard.pid for guard in found), 0)

    def _note(self, present: dict[int, list[Process]], seconds: float) -> None:
        """Note for how long each rank has shown no sign of life."""
        for rank, tree in present.items():
            activity = sum(process.activity for process in tree if not process.name.startswith(GUARD))
            idle = stopped(tree) or (self._activity.get(rank) == activity and state_of(tree) != READY)
            self._idle_s[rank] = self._idle_s.get(rank, 0.0) + seconds if idle else 0.0
            self._activity[rank] = activity

    def _missing(self, present: dict[int, list[Process]], seconds: float) -> str:
        """Return what to say of ranks that are not there, once they have had their time; else nothing."""
        gone = sorted(self.node.known.keys() - present.keys())
        seen = len(present) + len(gone) + self.node.strange
        absent = max(0, self.place.local_size - seen) if self.node.complete else 0
        self._gone_s = self._gone_s + seconds if gone else 0.0
        self._absent_s = self._absent_s + seconds if absent and len(present) == self._n_present else 0.0
        self._n_present = len(present)
        if self._gone_s < GONE_S and self._absent_s < ABSENT_S:
            return ""
        named = sorted(self.node.expected() - present.keys())
        n = absent + len(gone)
        who = ranks(named) if len(named) == n else f"{n} of {self.place.local_size} ranks"
        its = "its process has" if n == 1 else "their processes have"
        return (
            f"{who} on {self.place.host} did not start: {its} ended, or never began; look at the command there, its "
            "Python and its environment"
        )

    def _late(self, present: dict[int, list[Process]], seconds: float) -> str:
        """Return what to say of ranks that are there and do not come, once they have had their time; else nothing."""
        if not self.limit_s:
            return ""
        not_ready = {rank for rank, tree in present.items() if state_of(tree) != READY}
        late = {rank for rank in present if self._idle_s[rank] >= self.limit_s}
        if self._started_s >= AT_MOST * self.limit_s:
            late |= not_ready
        limit = f"{LIMIT}={self.limit_s:g} sets how many seconds that may take"
        if late:
            told = in_words([f"rank {rank} ({what(present[rank])})" for rank in sorted(late)])
            return f"{told} on {self.place.host} did not start in time; {limit}"
        self._waited_s = 0.0 if not_ready else self._waited_s + seconds
        later_s = OTHERS_FIRST_S if 0 in present else OTHERS_FIRST_S + MESSAGE_FIRST_S  # one message is enough
        if self._waited_s < max(self.limit_s, OWN_START * self._own_start_s) + later_s:
            return ""
        waited = f"{ranks(sorted(present))} on {self.place.host} waited {self._waited_s:.0f} s"
        others = sorted(set(range(self.place.size)) - present.keys())
        if others:
            where = " on other nodes" * self.node.complete
            return f"{waited} for {ranks(others)}{where}, not all of which came, or can be reached{UNREACHED}; {limit}"
        return f"{waited} in MPI_Init, though all ranks are there; {limit}"

    # The end of the job

    def _end_with(self, message: str, code: int) -> None:
        """Say why the job ends, and end it: by its launcher if that can be, else by what is on this node."""
        from common.launcher_output import wait_until_read
        from common.wording import printable

        self._set_state(ENDING)
        with suppress(OSError):
            os.write(2, f"rankwise: {printable(message)}\n".encode(errors="replace"))
        wait_until_read(2, ABORT_S)
        self._abort(code)
        os.close(self.pipe)  # a rank that fails leaves now, with its code
        until, present = time.monotonic() + ABORT_S, {}
        while time.monotonic() < until and (present := self._others()):
            time.sleep(PAUSE_S)
        if self.place.step and (present or self.place.local_size < self.place.size):
            if code == USAGE and all(state_of(tree) == ENDING for tree in present.values()):
                self._cancel("--signal=TERM")  # at which ranks that fail for this reason, too, end with this code
                until = time.monotonic() + ABORT_S
                while (present := self._others()) and time.monotonic() < until:
                    time.sleep(PAUSE_S)
            self._cancel()
        for process in [process for tree in present.values() for process in tree]:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)

    def _cancel(self, *options: str) -> None:
        """Have Slurm end the ranks of all nodes."""
        from subprocess import DEVNULL, SubprocessError, run

        command = ["scancel", *options, self.place.step]
        with suppress(OSError, SubprocessError):
            run(command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, timeout=5, check=False)

    def _others(self) -> dict[int, list[Process]]:
        """Return the other ranks of this node that are there."""
        return {rank: tree for rank, tree in self.node.present().items() if rank != self.place.rank}

    def _end_by_signal(self, number: int) -> None:
        """End the job without a word, with 128 + the number; the rank ends itself unless it hangs in MPI."""
        self._set_state(ENDING)
        self._abort(128 + number)
        time.sleep(ABORT_S)
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _abort(self, code: int) -> None:
        """Ask MPICH's launcher to end the job with an exit code, in its own words: MPI need not have started."""
        if self.place.pmi >= 0:
            with suppress(OSError):
                os.write(self.place.pmi, f"cmd=abort exitcode={code}\n".encode())
