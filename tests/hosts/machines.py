"""Hosts n1, n2, ... on this machine, each with a network link of its own: ``python -m tests.hosts.machines FOLDER 4``.

A host is a set of namespaces (network, host name, shared memory, mounts): the same files and processors, but an address
10.77.K.i behind a bridge, a /dev/shm and a boot id of its own. Needs root. End of input stops them.
"""

import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.ranks import held

SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
TOOLS = {"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
BRIDGE = re.compile(r"^\d+: rwb(\d+): .*?(?:\n.*?)*?alias (\d+)$", re.MULTILINE)
BURST = "256kb"
"""How much of a link's traffic may go unshaped; with less, a link of 1 Gbit/s carries a quarter of that."""
SETTLE_S = 10

# $1: host name; $2: folder with the files hosts and boot-NAME. A real machine's boot id tells it from others.
HOST = """\
hostname "$1"
mount -t tmpfs -o size=2g tmpfs /dev/shm
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/boot-$1" /proc/sys/kernel/random/boot_id
echo $$ $PPID > "$2/$1.new" && mv "$2/$1.new" "$2/$1.pid"
exec sleep 1000000
"""
# As ssh: options, a host, and words that a shell there puts together and runs.
AGENT = """\
#!/bin/bash
while [[ $1 == -* ]]; do case $1 in -o|-p|-l|-i) shift 2 ;; *) shift ;; esac; done
i=${{1##*.}} && i=${{i#n}} && shift
exec nsenter --target "$(cut -d' ' -f1 {folder}/n$i.pid)" --net --uts --ipc --mount --time --wd=/ -- sh -c "$*"
"""


def missing() -> list[str]:
    """Return what stands in the way."""
    lacking = [f"{tool} ({package})" for tool, package in TOOLS.items() if not shutil.which(tool, path=SEARCH)]
    return lacking if os.geteuid() == 0 else [*lacking, "root"]


def _do(*command: str) -> str:
    """Run a command, return what it prints. Raises RuntimeError with its message."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": SEARCH},
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts that run; numbered from 1. ``number``: K, which tells several sets on one machine apart."""

    folder: Path
    number: int
    count: int

    def name(self, host: int) -> str:
        """Return the host's name."""
        return f"n{host}"

    def address(self, host: int) -> str:
        """Return the host's address; that of the machine outside, on the same network, for host 254."""
        return f"10.77.{self.number}.{host}"

    def command(self, host: int, *command: str, folder: Path = ROOT) -> list[str]:
        """Return the command line that runs ``command`` on a host."""
        process = str(self._holders(host)[0])
        spaces = ["--net", "--uts", "--ipc", "--mount", "--time", f"--wd={folder}"]
        return ["nsenter", "--target", process, *spaces, "--", *command]

    def run(self, host: int, *command: str) -> str:
        """Run a command on a host, return what it prints. Raises RuntimeError."""
        return _do(*self.command(host, *command))

    def environment(self) -> dict[str, str]:
        """Return the variables with which Open MPI's mpirun on a host starts ranks on all of them, over TCP."""
        return {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_plm_ssh_agent": str(self.folder / "agent"),
            "PRTE_MCA_prte_if_include": "eth0",
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl": "tcp,self,sm",
            "OMPI_MCA_btl_tcp_if_include": "eth0",
            "PYTHONPATH": str(ROOT),
            "PRTE_MCA_rmaps_default_mapping_policy": "slot",
        }

    def places(self, *ranks: int) -> str:
        """Return what mpirun's ``--host`` takes, with so many ranks on the first host, the second, ..."""
        return ",".join(f"{self.address(i)}:{n}" for i, n in enumerate(ranks, 1) if n)

    def set_rate(self, rate: str, hosts: Sequence[int] = (), burst: str = BURST) -> None:
        """Shape both directions of the links of these hosts, or all: ``"100mbit"``; ``""`` for no limit."""
        for host in hosts or range(1, self.count + 1):
            ends = [("tc", "-n", self._space(host)), ("tc",)]
            for tc, device in zip(ends, ("eth0", f"rw{self.number}v{host}"), strict=True):
                with contextlib.suppress(RuntimeError):
                    _do(*tc, "qdisc", "del", "dev", device, "root")
                limit = ("root", "tbf", "rate", rate, "burst", burst, "latency", "400ms")
                if rate:
                    _do(*tc, "qdisc", "add", "dev", device, *limit)

    def unplug(self, host: int) -> None:
        """Pull the host's cable: the switch's end of its link goes down, and no packet tells anybody."""
        _do("ip", "link", "set", f"rw{self.number}v{host}", "down")

    def plug(self, host: int) -> None:
        """Put the cable back."""
        _do("ip", "link", "set", f"rw{self.number}v{host}", "up")

    def add_network(self) -> None:
        """Give all hosts a second interface, eth1, with addresses of one network, whose switch is dead."""
        for host in range(1, self.count + 1):
            device, space = f"rwx{self.number}v{host}", self._space(host)
            _do("ip", "link", "add", device, "type", "veth", "peer", "name", "eth1", "netns", space)
            _do("ip", "link", "set", device, "up")
            _do("ip", "-n", space, "addr", "add", f"10.78.{self.number}.{host}/24", "dev", "eth1")
            _do("ip", "-n", space, "link", "set", "eth1", "up")

    def hide(self, host: int, folder: Path) -> None:
        """Give the host an empty folder of its own in this place."""
        self.run(host, "mount", "-t", "tmpfs", "tmpfs", str(folder))

    def show(self, host: int, folder: Path) -> None:
        """Take the host's own folder away again."""
        self.run(host, "umount", "--lazy", str(folder))

    def sent(self, host: int) -> int:
        """Return how many bytes the host's interface has sent."""
        shown = json.loads(_do("ip", "-json", "-s", "-n", self._space(host), "link", "show", "dev", "eth0"))
        return int(shown[0]["stats64"]["tx"]["bytes"])

    def processes(self, host: int) -> list[int]:
        """Return the processes that run on a host, without those that hold it."""
        found = {int(process) for process in _do("ip", "netns", "pids", self._space(host)).split()}
        return sorted(found - set(self._holders(host)))

    def _holders(self, host: int) -> list[int]:
        return [int(process) for process in (self.folder / f"n{host}.pid").read_text().split()]

    def _space(self, host: int) -> str:
        return f"rw{self.number}n{host}"


def _bridges() -> dict[int, int]:
    """Return the number of each set of hosts on this machine, and the process that looks after it."""
    return {
        int(number): int(process)
        for number, process in BRIDGE.findall(_do("ip", "-d", "link", "show", "type", "bridge"))
    }


def start(folder: Path, count: int, rate: str, clocks: Mapping[int, int]) -> Hosts:
    """Start hosts with their files in ``folder``; ``clocks``: by how many seconds a host's monotonic clock is ahead.

    Raises RuntimeError.
    """
    for number, process in _bridges().items():  # of a run that was killed
        if not Path(f"/proc/{process}").exists():
            stop(number)
    devices = _do("ip", "-brief", "link", "show")  # those of a set that ended go a moment later
    for number in (n for n in random.sample(range(1, 250), 40) if f"rw{n}v" not in devices):
        with contextlib.suppress(RuntimeError):  # one of that number is there
            _do("ip", "link", "add", f"rwb{number}", "type", "bridge")
            break
    else:
        raise RuntimeError("no bridge can be made")
    bridge = f"rwb{number}"
    hosts = Hosts(folder, number, count)
    try:
        _do("ip", "link", "set", bridge, "alias", str(os.getpid()))
        _do("ip", "addr", "add", f"{hosts.address(254)}/24", "dev", bridge)
        _do("ip", "link", "set", bridge, "up")
        names = [f"{hosts.address(i)} n{i}\n" for i in range(1, count + 1)]
        text = "".join(["127.0.0.1 localhost\n", f"{hosts.address(254)} {os.uname().nodename} login\n", *names])
        (folder / "hosts").write_text(text)
        (folder / "agent").write_text(AGENT.format(folder=folder))
        (folder / "agent").chmod(0o755)
        for i in range(1, count + 1):
            _start_host(hosts, i, clocks.get(i, 0))
        hosts.set_rate(rate)
        until = time.monotonic() + SETTLE_S
        while not all((folder / f"n{i}.pid").exists() for i in range(1, count + 1)):
            if time.monotonic() > until:
                raise RuntimeError(f"hosts not up after {SETTLE_S} s: {(folder / 'start.log').read_text()}")
            time.sleep(0.02)
    except BaseException:
        stop(number)
        raise
    return hosts


def _start_host(hosts: Hosts, i: int, ahead_s: int) -> None:
    """Make a host's network and start the process that holds its other namespaces."""
    space, device = f"rw{hosts.number}n{i}", f"rw{hosts.number}v{i}"
    _do("ip", "netns", "add", space)
    _do("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", space)
    _do("ip", "link", "set", device, "master", f"rwb{hosts.number}", "up")
    _do("ip", "-n", space, "addr", "add", f"{hosts.address(i)}/24", "dev", "eth0")
    for name in ("eth0", "lo"):
        _do("ip", "-n", space, "link", "set", name, "up")
    (hosts.folder / f"boot-n{i}").write_text(f"{uuid.uuid4()}\n")
    enter = ["ip", "netns", "exec", space, "unshare", "--uts", "--ipc", "--mount", "--time", "--fork"]
    if ahead_s:
        enter += ["--monotonic", str(ahead_s)]
    with (hosts.folder / "start.log").open("a") as log:
        subprocess.Popen(
            [*enter, "sh", "-c", HOST, "sh", f"n{i}", str(hosts.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": SEARCH},
            start_new_session=True,
        )


def stop(number: int) -> None:
    """End what runs on the hosts of this set, and take them away."""
    spaces = [n for n in _do("ip", "netns", "list").split() if re.fullmatch(rf"rw{number}n\d+", n)]
    for _ in range(50):
        left = [int(pid) for space in spaces for pid in _do("ip", "netns", "pids", space).split()]
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.02)
    for space in spaces:
        _do("ip", "netns", "del", space)
    with contextlib.suppress(RuntimeError):
        _do("ip", "link", "del", f"rwb{number}")


@contextlib.contextmanager
def running(folder: Path, count: int, rate: str = "", clocks: Mapping[int, int] | None = None) -> Iterator[Hosts]:
    """Hold hosts in a process of its own, which ends them when the tests end, however they do.

    Raises RuntimeError if they cannot be had.
    """
    ahead = [f"{host}={seconds}" for host, seconds in (clocks or {}).items()]
    with held("tests.hosts.machines", str(folder), str(count), rate, *ahead) as ready:
        yield Hosts(folder, int(ready.split()[0]), count)


def main() -> int:
    """Hold hosts until standard input ends; the first line that is printed begins with their number."""
    folder, count, rate, *ahead = [*sys.argv[1:], ""] if len(sys.argv) == 3 else sys.argv[1:]
    clocks = {int(host): int(seconds) for host, seconds in (one.split("=") for one in ahead)}
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    try:
        hosts = start(Path(folder), int(count), rate, clocks)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        print(hosts.number, " ".join(hosts.address(i) for i in range(1, hosts.count + 1)), flush=True)
        while not select.select([0], [], [])[0] or os.read(0, 4096):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop(hosts.number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
