"""The hosts of a job: read from a list or a file, asked whether they answer, and named to the launcher."""

import errno
import os
import re
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError
from common.files import read_small
from workers.launch.answer import ask
from workers.launch.launcher_kind import OPEN_MPI, kind_of

SSH_PORT = 22
ANSWER_S = 5.0
ASKED_AT_ONCE = 32
SLURM_S = 20.0
BROKEN = re.compile(r"(?:down|fail|unk|boot|pow|no_resp)\w*[*~#!%$@^-]*|\w+\*")
"""States of a node, as sinfo has them, on which no rank can be started; the star: it does not respond."""
LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,255})(?::(?P<colon>\d{1,6})|\s+slots\s*=\s*(?P<slots>\d{1,6}).*)?")


@dataclass(frozen=True, slots=True)
class LaunchHost:
    """A machine by the name the launcher knows, and how many ranks it takes."""

    name: str
    slots: int

    def is_called(self, name: str) -> bool:
        """Whether a rank that gives its host this name runs here: one name may have the domain that the other lacks."""
        if name == self.name or re.fullmatch(r"[\d.]+", self.name):  # a dot in an address begins no domain
            return name == self.name
        return name.partition(".")[0] == self.name.partition(".")[0]


def read_hosts(listed: str, file: str, ranks: int) -> tuple[LaunchHost, ...]:
    """Return the hosts of ``listed`` (a,b:2) or of a file; without slots they share ``ranks`` evenly.

    Raises ConfigError.
    """
    lines = listed.split(",") if listed else []
    if file:
        try:
            lines = read_small(Path(file).expanduser()).decode().splitlines()
        except OSError as error:
            raise ConfigError(f"hostfile: {file} cannot be read ({error.strerror})") from error
        except (UnicodeDecodeError, RuntimeError) as error:
            raise ConfigError(f"hostfile: {file} cannot be read ({error})") from error
        lines = [line for line in (line.partition("#")[0] for line in lines) if line.strip()]
        if not lines:
            raise ConfigError(f"hostfile: {file} names no host")
    slots: Counter[str] = Counter()
    even = -(-ranks // len(lines)) if lines and ranks else 1
    for line in lines:
        match = LINE.fullmatch(line.strip())
        n = int(match["colon"] or match["slots"] or even) if match else 0
        if match is None or n == 0:
            raise ConfigError(f"hosts: got {line.strip()[:80]!r}; allowed is a name, or a name with slots such as a:4")
        slots[match["name"]] += n  # as launchers do with a host that is named twice
    if slots and ranks > slots.total():
        raise ConfigError(
            f"ranks: got {ranks}; the hosts have {slots.total()} slots in all; start fewer ranks, or add slots"
        )
    return tuple(LaunchHost(name, n) for name, n in slots.items())


def answers(name: str) -> bool:
    """Say whether a host can be reached: a port that refuses is an answer, too."""
    try:
        socket.create_connection((name, SSH_PORT), timeout=ANSWER_S).close()
    except OSError as error:
        return error.errno == errno.ECONNREFUSED
    return True


def broken_nodes(hosts: Sequence[LaunchHost]) -> set[LaunchHost]:
    """Return the hosts that Slurm, in one of its jobs, holds for down or unresponsive: it starts nothing there."""
    if "SLURM_JOB_ID" not in os.environ or not hosts:
        return set()
    names = ",".join(host.name for host in hosts)
    command = ["sinfo", "--noheader", "--Node", "--format=%N %t", f"--nodes={names}"]
    asked = ask(command, SLURM_S)
    if asked is None:
        return set()
    states = dict(line.split() for line in asked.stdout.splitlines() if len(line.split()) == 2)
    return {host for host in hosts if BROKEN.fullmatch(states.get(host.name, ""))}


class HostProbe:
    """Finds hosts that are lost, by comparison with those that answered before the first attempt.

    Silence alone says little, for a firewall may drop what is sent.
    """

    def __init__(
        self,
        hosts: Sequence[LaunchHost],
        ask: Callable[[str], bool] = answers,
        broken: Callable[[Sequence[LaunchHost]], set[LaunchHost]] = broken_nodes,
    ) -> None:
        self._ask, self._broken = ask, broken
        self._known = self._answering(hosts)

    def lost(self, hosts: Sequence[LaunchHost], *, never: bool) -> list[LaunchHost]:
        """Return the hosts that no longer answer; with ``never`` also those that never did, if any host answers.

        A batch system needs no answer from them to start ranks, so there only the first ones count, and those that it
        calls broken; unless it says that of all.
        """
        never = never and "SLURM_JOB_ID" not in os.environ
        answering, broken = self._answering(hosts), self._broken(hosts)
        lost = [h for h in hosts if h in broken or (answering and h not in answering and (never or h in self._known))]
        return lost if len(lost) < len(hosts) else []

    def _answering(self, hosts: Sequence[LaunchHost]) -> set[LaunchHost]:
        """Return the hosts that answer; a single one cannot be left out, so it is not asked."""
        if len(hosts) < 2:
            return set()
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            replies = pool.map(self._ask, [host.name for host in hosts])
            return {host for host, reply in zip(hosts, replies, strict=True) if reply}


def launcher_options(mpirun: str, hosts: Sequence[LaunchHost]) -> list[str]:
    """Return the options that tell the launcher where to start ranks; Open MPI has its own."""
    if not hosts:
        return []
    option = "--host" if kind_of(mpirun).vendor == OPEN_MPI else "-hosts"
    return [option, ",".join(f"{host.name}:{host.slots}" for host in hosts)]
