"""The options of ``rankwise train``, ``bench`` and ``compare`` that say how ranks are started."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.errors import ConfigError
from common.host import usable_cores
from common.option import RANKS, Option, check_options, option, options_of
from common.wording import count
from workers.launch.hosts import LaunchHost, read_hosts

UNSAID = -1
SHORT_RANKS = re.compile(r"-np?=?(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfig:
    """How ranks are started; checked when made."""

    ranks: int = option(
        UNSAID,
        "ranks to start; default: one for each core that this process may use, in a Slurm job one for each task",
        flags=("--ranks", "-n", "-np"),
        low=1,
        group=RANKS,
        command_line_only=True,
    )
    hosts: str = option(
        "",
        "where to start them: a,b,c or a:4,b:4 with the slots of each",
        listed=True,
        group=RANKS,
        command_line_only=True,
    )
    hostfile: str = option(
        "", "the same in a file, a host a line: a, a:4 or a slots=4", group=RANKS, command_line_only=True
    )
    mpirun: str = option(
        "", "the launcher; default: that of the MPI library in use", group=RANKS, command_line_only=True
    )
    launcher_args: str = option(
        "",
        "more options for the launcher, as one text: --launcher-args='-bind-to core'",
        group=RANKS,
        command_line_only=True,
    )
    dry_run: bool = option(False, "only print the command that would start them", group=RANKS, command_line_only=True)

    def __post_init__(self) -> None:
        if self.ranks != UNSAID:
            check_options(self)
        if self.hosts and self.hostfile:
            raise ConfigError("hosts and hostfile: exclude each other; give one of them")
        _ = self.more

    @property
    def more(self) -> list[str]:
        """``launcher_args`` as words. Raises ConfigError."""
        try:
            return shlex.split(self.launcher_args)
        except ValueError as error:
            raise ConfigError(
                f"launcher_args: got {self.launcher_args[:80]!r}, which a shell cannot split ({error})"
            ) from error

    def places(self) -> tuple[LaunchHost, ...]:
        """Return the hosts with their slots; none if the launcher chooses. Raises ConfigError."""
        return read_hosts(self.hosts, self.hostfile, max(self.ranks, 0))


OPTIONS = options_of(LaunchConfig)
FLAGS: dict[str, Option] = {
    flag: option for name, option in OPTIONS.items() for flag in option.flags or (f"--{name.replace('_', '-')}",)
}


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments that say how ranks are started, and those of the program; what follows ``--`` is its own."""
    own: list[str] = []
    others: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            return own, others + left
        if short := SHORT_RANKS.fullmatch(word):
            own += ["--ranks", short[1]]
            continue
        name, equals, value = word.partition("=")
        name = "--ranks" if name == "--np" else name.replace("_", "-")
        option = FLAGS.get(name)
        if option is None:
            others.append(word)
        elif equals:
            own.append(f"{name}={value}")
        elif option.type is bool:
            own.append(name)
        else:
            own += _with_values(name, option, left)
    return own, others


def _with_values(name: str, option: Option, left: list[str]) -> list[str]:
    """Return a flag with the words that are its value, which are taken from ``left``."""
    is_number = option.type is int and left and re.fullmatch(r"-\d+", left[0])
    if left and (option.name == "launcher_args" or is_number):  # values that begin with a dash
        return [f"{name}={left.pop(0)}"]
    words = [name]
    while left and not left[0].startswith("-") and (option.listed or len(words) == 1):
        words.append(left.pop(0))
    return words


def number_of_ranks(options: LaunchConfig, environment: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Return how many ranks to start, and why so many where nobody said it. Raises ConfigError."""
    if options.ranks != UNSAID:
        return options.ranks, ""
    if hosts := options.places():
        n = sum(host.slots for host in hosts)
        return n, f"one for each slot of {count(len(hosts), 'host')}"
    if "SLURM_JOB_ID" in environment:
        if (n := _whole(environment.get("SLURM_NTASKS", ""))) > 0:
            return n, "one for each task of this Slurm job"
        per_task = max(1, _whole(environment.get("SLURM_CPUS_PER_TASK", "")))
        if (n := slurm_cpus(environment.get("SLURM_JOB_CPUS_PER_NODE", "")) // per_task) > 0:
            return n, "as many as the CPUs of this Slurm job allow"
    n = usable_cores()
    return n, "one for each core that this process may use" if n > 1 else "for this process may use one core"


def slurm_cpus(text: str) -> int:
    """Return the sum of Slurm's ``16(x2),8``: CPUs of the nodes of a job; 0 for anything else."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in text.split(",")]
    return sum(int(part[1]) * int(part[2] or 1) for part in parts if part) if all(parts) else 0


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0
