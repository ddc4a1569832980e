"""What a cluster has, as sinfo says it, and whether a job can ever run on it."""

import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common import slurm_time
from common.errors import ConfigError, RankwiseError
from common.option import nearest
from common.wording import count, listed, printable
from slurm.options import megabytes

PATIENCE_S = 60.0
"""For an answer of Slurm's: a busy controller may take long."""
FORMAT = "%P|%a|%l|%s|%D|%c|%m"
MOST_SHOWN = 20
CLOSED = ("drain", "inact")
"""States of a partition, as sinfo has them, in which it takes no jobs."""


class SlurmError(RankwiseError):
    """Slurm does not answer, or not as expected."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes of one kind in a partition: how many, and the CPUs and MB of each."""

    number: int
    cpus: int
    mb: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition. ``minutes``: its time limit; ``most``: nodes of one job; both may be infinite.

    ``state``: up, down, drain or inact.
    """

    name: str
    minutes: float
    limit: str
    most: float
    kinds: tuple[Nodes, ...]
    default: bool = False
    state: str = "up"

    @property
    def nodes(self) -> int:
        """How many it has."""
        return sum(kind.number for kind in self.kinds)

    def __str__(self) -> str:
        marks = ", ".join(filter(None, ["default" * self.default, self.state * (self.state != "up")]))
        sizes = [f"{kind.number} x {count(kind.cpus, 'CPU')} {_size(kind.mb)}" for kind in self.kinds]
        most = f", at most {self.most:g} of them a job" * (self.most < self.nodes)
        marked = f" ({marks})" if marks else ""
        return f"{self.name}{marked}: {count(self.nodes, 'node')} ({', '.join(sizes)}){most}, time limit {self.limit}"


def ask(*command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's commands; ``text``: its standard input. Raises ConfigError if there is no Slurm here."""
    if shutil.which(command[0]) is None:
        raise ConfigError(
            f"submit: {command[0]} is not on the PATH, so this is no machine that Slurm's jobs are submitted from; go "
            "to a login node, print the script with --dry-run, or train here: rankwise train"
        )
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"submit: {command[0]} has not answered for {PATIENCE_S:.0f} s; is slurmctld there?") from None


def partitions() -> list[Partition]:
    """Return the partitions that sinfo shows. Raises RankwiseError."""
    answer = ask("sinfo", "--noheader", "--exact", f"--format={FORMAT}")
    if answer.returncode:
        raise SlurmError(f"submit: sinfo ends with {answer.returncode}: {printable(answer.stderr.strip(), 300)}")
    return read(answer.stdout)


def read(text: str) -> list[Partition]:
    """Return the partitions of a text as sinfo prints it."""
    facts: dict[str, tuple[str, str, str]] = {}
    kinds: dict[str, dict[tuple[int, int], int]] = {}
    default = ""
    for line in text.splitlines():
        words = line.strip().split("|")
        if len(words) != len(FORMAT.split("|")):
            continue
        name, available, limit, size, number, cpus, mb = words
        if name.endswith("*"):
            name = default = name[:-1]
        facts[name] = (available, limit, size)
        of_kind, kind = kinds.setdefault(name, {}), (_whole(cpus), _whole(mb))
        of_kind[kind] = of_kind.get(kind, 0) + _whole(number)
    found = []
    for name, (state, limit, size) in facts.items():
        of = tuple(Nodes(number, *kind) for kind, number in kinds[name].items() if number)
        most = _whole(size.rpartition("-")[2]) or math.inf
        found.append(Partition(name, _minutes(limit), limit, most, of, name == default, state))
    return found


def check(wanted: Mapping[str, str], there: Sequence[Partition]) -> None:
    """Raise ConfigError with all that cannot be had, and what can, if there is anything.

    ``wanted``: what the script's lines ask for, by option.
    """
    if not there or wanted.get("clusters"):
        return  # sinfo may hide all partitions, or it is about another cluster; sbatch will say
    names = wanted.get("partition", "").split(",") if wanted.get("partition") else []
    known = {partition.name: partition for partition in there}
    unknown = [name for name in names if name not in known]
    faults = [f"partition: there is no {name!r}{nearest(name, known)}" for name in unknown]
    used = [known[name] for name in names if name in known] or [one for one in there if one.default]
    of_each = [_faults(wanted, partition) for partition in used]
    if of_each and all(of_each):  # it may run in any of those that it names
        faults += of_each[0]
    if faults:
        raise ConfigError(f"submit: {'; '.join(faults)}{shown(there)}")


def shown(there: Sequence[Partition]) -> str:
    """Return the partitions as the end of a message, one a line."""
    if not there:
        return ""
    more = len(there) - MOST_SHOWN
    lines = [str(partition) for partition in there[:MOST_SHOWN]]
    lines += [f"and {count(more, 'more partition')}: sinfo"] if more > 0 else []
    return ". This cluster has:\n  " + "\n  ".join(lines)


def _faults(wanted: Mapping[str, str], partition: Partition) -> list[str]:
    """Return what this partition can never give."""
    nodes, tasks, each = (
        max(1, _whole(wanted.get(name, ""))) for name in ("nodes", "ntasks-per-node", "cpus-per-task")
    )
    name, faults = partition.name, []
    free = bool(wanted.get("qos"))  # which may allow more than the partition does
    if nodes > (most := partition.nodes if free else min(partition.nodes, partition.most)):
        faults.append(f"nodes: got {nodes}; allowed is at most {most:g} in {name}")
    elif partition.kinds:
        enough = [kind for kind in partition.kinds if "overcommit" in wanted or kind.cpus >= tasks * each]
        if (n := sum(kind.number for kind in enough)) < nodes:
            cpus = max(kind.cpus for kind in partition.kinds)
            have = f"only {n} of {partition.nodes} nodes have so many" if n else f"its nodes have {count(cpus, 'CPU')}"
            cpus_each = f" with {count(each, 'CPU')} each" * (each > 1)
            option = "ntasks-per-node" if each <= cpus else "cpus-per-task"
            faults.append(f"{option}: got {count(tasks, 'task')} a node{cpus_each}; in {name} {have}")
        faults += _memory_faults(wanted.get("mem", ""), nodes, partition)
    time = wanted.get("time", "")
    if time and not free and _minutes(time) > partition.minutes:
        faults.append(f"time: got {time}; allowed is at most {partition.limit} in {name}")
    if partition.state in CLOSED:  # one that is down takes jobs, and starts them later
        faults.append(f"partition: {name} takes no jobs now ({partition.state})")
    return faults


def _memory_faults(text: str, nodes: int, partition: Partition) -> list[str]:
    try:
        mb = megabytes(text)
    except ValueError:
        return []
    if sum(kind.number for kind in partition.kinds if kind.mb >= mb) >= nodes:
        return []
    sizes = listed(sorted({_size(kind.mb) for kind in partition.kinds}))
    return [f"mem: got {text}; the nodes of {partition.name} have {sizes}"]


def _size(mb: int) -> str:
    return f"{mb / 1024:.0f} GB" if mb >= 10 * 1024 else f"{mb} MB"


def _minutes(text: str) -> float:
    try:
        return slurm_time.limit(text)
    except ValueError:
        return math.inf


def _whole(text: str) -> int:
    return int(text.rstrip("+")) if text.rstrip("+").isdigit() else 0
