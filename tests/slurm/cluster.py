"""A real Slurm of three nodes on this machine: ``python -m tests.slurm.cluster [HOSTS NUMBER [pmix]]``.

With the folder and the number of hosts that ``tests.hosts.machines`` holds, each node is one of these; without, all
three are daemons on this host. Hosts see Debian's PMIx with ``pmix`` only: without, ranks are started the same way
whether it is installed or not. End of input stops them.
"""

import ctypes
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hosts.machines import Hosts

NODES = 3
PR_SET_CHILD_SUBREAPER = 36
START_S = 30
SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
"""Daemons are not on the PATH of a plain user."""

# cred_expire: a requeued job waits so many seconds, 120 if nothing is said
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}({controller})
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
MpiDefault=none
FirstJobId={first_job}
ReturnToService=1
KillWait=5
SlurmdTimeout=20
{nodes}
PartitionName=debug Nodes=n[1-3] Default=YES MaxTime=INFINITE State=UP
"""


PMIX = Path("/usr/lib/x86_64-linux-gnu/pmix2")
"""Where Debian's Slurm looks for PMIx: libpmix-dev has it there."""


def find(daemon: str) -> str | None:
    """Return the path of a daemon."""
    return shutil.which(daemon, path=SEARCH)


def missing() -> list[str]:
    """Return what has to be installed first."""
    return [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not find(name)]


def free_ports(n: int) -> list[int]:
    """Return ports nobody listens on, below those the system hands out itself; random, so two runs do not meet."""
    found: list[int] = []
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == n:
            return found
    raise OSError("no free ports")


def mount_control_groups(hosts: Hosts, node: int) -> None:
    """Mount on a host what is mounted here: slurmd does not start without, and a network of its own hides it."""
    for line in Path("/proc/mounts").read_text().splitlines():
        device, place, kind, options = line.split()[:4]
        if not place.startswith("/sys/fs/cgroup"):
            continue
        own = [o for o in options.split(",") if o not in ("rw", "ro", "relatime", "nosuid", "nodev", "noexec")]
        hosts.run(node, "mkdir", "-p", place)
        hosts.run(node, "mount", "-t", kind, *(("-o", ",".join(own)) if own else ()), device, place)


def start(folder: Path, hosts: Hosts | None, *, pmix: bool = False) -> None:
    """Start all daemons with their files in ``folder``; return when all nodes take jobs. Raises RuntimeError."""
    (folder / "state").mkdir()
    numbers = range(1, NODES + 1)
    for i in numbers:
        (folder / f"spool-n{i}").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    # MPICH names shared memory after the job's number: the same one in two clusters at a time hung both jobs
    first_job = random.randrange(1, 50_000_000)
    host, ports = socket.gethostname().split(".")[0], free_ports(1 + NODES)
    controller = hosts.address(254) if hosts else "127.0.0.1"
    nodes = [
        f"NodeName=n{i} NodeHostname={f'n{i}' if hosts else host} NodeAddr={hosts.address(i) if hosts else controller} "
        f"Port={ports[i]} CPUs=2"
        for i in numbers
    ]
    text = CONFIGURATION.format(
        folder=folder, ports=ports, first_job=first_job, host=host, controller=controller, user=os.getuid(),
        nodes="\n".join(nodes),
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = {"socket": "munge.sock", "key-file": key.name, "pid-file": "munged.pid", "log-file": "munged.log"}
    options = [f"--{option}={folder / name}" for option, name in {**munge, "seed-file": "munge.seed"}.items()]
    daemons = [(0, ["munged", "--force", *options]), (0, ["slurmctld", "-c"])]
    daemons += [(i, ["slurmd", "-N", f"n{i}"]) for i in numbers]
    if hosts:
        for i in numbers:
            mount_control_groups(hosts, i)
            if not pmix and PMIX.exists():
                hosts.hide(i, PMIX)
    if pmix:  # each host has files of its own there alone
        (folder / "mpi.conf").write_text("PMIxCliTmpDirBase=/dev/shm\n")
    with (folder / "start.log").open("w") as output:
        for node, (name, *arguments) in daemons:
            command = [find(name) or name, *arguments]
            command = hosts.command(node, *command) if hosts and node else command
            if subprocess.run(command, input="", env=environment, stdout=output, stderr=output, check=False).returncode:
                raise RuntimeError(f"{name} does not start")
    deadline = time.monotonic() + START_S
    states: list[str] = []
    while time.monotonic() < deadline:
        asked = subprocess.run(
            ["sinfo", "-hN", "-o%N %t"], env=environment, capture_output=True, text=True, check=False
        )
        states = sorted(set(asked.stdout.splitlines()))
        if states == [f"n{i} idle" for i in numbers]:
            return
        time.sleep(0.1)
    raise RuntimeError(f"nodes not ready after {START_S} s: {states}")


def descendants() -> list[int]:
    """Return the processes that come from this one."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:  # gone meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, new = [], children.get(os.getpid(), [])
    while new:
        found += new
        new = [child for process in new for child in children.get(process, [])]
    return found


def reap() -> bool:
    """Take notice of ended children; return whether there are any others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def stop() -> None:
    """Kill all processes that come from this one: daemons, and jobs that still run."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while reap():
        for process in descendants():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def main() -> int:
    """Run the cluster until standard input ends, which it also does when the process that started us dies."""
    # daemons and job steps leave their parents; this makes them ours again, so that none can be forgotten
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    hosts = Hosts(Path(sys.argv[1]), int(sys.argv[2]), NODES) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        try:
            start(Path(name), hosts, pmix=sys.argv[3:] == ["pmix"])
            print(f"export SLURM_CONF={name}/slurm.conf", flush=True)
            while not select.select([0], [], [], 0.5)[0] or os.read(0, 4096):
                reap()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            for log in sorted(Path(name).glob("*.log")):
                sys.stderr.write(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
            sys.stderr.write(f"tests.slurm.cluster: {error}\n")
            return 1
        finally:
            stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
