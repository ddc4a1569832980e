"""The folder that runs are written to: file system, room, speed, and whether all hosts see the same one."""

import contextlib
import errno
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common.ranges import named_hosts
from workers.diagnosis.facts import Facts, FolderFacts, HostFacts, grouped
from workers.diagnosis.finding import FAIL, NOTE, OK, WARN, Finding, size

SAMPLE = 32 << 20
"""Bytes that are written to see how fast that is, in pieces, until it has taken LIMIT_S."""
PIECE = 1 << 20
LIMIT_S = 1.0
LEAST = 1 << 16
"""Bytes that there must be room for: a small run writes as much."""
NONCE, KILLED_S = ".rankwise-doctor-", 600
"""The name of rank 0's file before its random digits, and seconds after which no doctor needs it any more."""
SEEN_S = 5.0
"""How long a host waits for rank 0's file: NFS clients keep what a folder held for some seconds."""
MOST_S = 60.0
"""What a slow disk may take to keep the sample: 0.5 MB/s."""
ROOM = 1 << 30
SLOW = 20e6
"""Bytes/s: below that checkpoints take long."""
NETWORK = {"nfs": "NFS", "nfs4": "NFS", "lustre": "Lustre", "gpfs": "GPFS", "beegfs": "BeeGFS", "ceph": "CephFS",
           "cifs": "SMB", "smb3": "SMB", "9p": "9p", "fuse.sshfs": "sshfs", "fuse.glusterfs": "GlusterFS", "afs": "AFS",
           "wekafs": "Weka", "panfs": "PanFS", "orangefs": "OrangeFS"}  # fmt: skip
"""File systems that several hosts may share, as the kernel names them."""
LOST = {"tmpfs": "memory", "ramfs": "memory", "overlay": "a container's layer"}
"""Those whose files go with the host or the container."""


def nearest_folder(output: str) -> Path:
    """Return the folder itself, or the nearest above it that exists."""
    path = Path(output).expanduser().absolute()
    return next(place for place in (path, *path.parents) if os.path.isdir(place))


def file_system(path: Path, mounts: str = "/proc/self/mountinfo") -> tuple[str, str]:
    """Return kind and source of the file system that holds a path, as the kernel names them."""
    best, found = -1, ("", "")
    real = os.path.realpath(path)
    with contextlib.suppress(OSError):
        for line in Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            fields, names = before.split(), after.split()
            if len(fields) < 5 or len(names) < 2:
                continue
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[4])
            inside = real == place or real.startswith(f"{place.rstrip('/')}/")
            if inside and len(place) >= best:  # of two mounts on one place the later one counts
                best, found = len(place), (names[0], names[1])
    return found


def look(output: str) -> FolderFacts:
    """Return what this host sees of the folder."""
    path = nearest_folder(output)
    kind, source = file_system(path)
    fault, free = "", 0
    if os.path.lexists(output) and not os.path.isdir(output):
        fault = "it is a link to nothing" if os.path.islink(output) else "it is a file"
        return FolderFacts(path=output, output=output, kind=kind, source=source, fault=fault)
    try:
        free = shutil.disk_usage(path).free
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:  # which may also be made where nothing has room
            if file.write(bytes(LEAST)) < LEAST:
                fault = os.strerror(errno.ENOSPC)
    except OSError as error:
        fault = error.strerror or str(error)
    return FolderFacts(path=str(path), output=output, kind=kind, source=source, free=free, fault=fault)


def write_rate(path: str) -> float:
    """Return bytes/s of writing a file there and having the disk keep it; 0 if it cannot be written."""
    piece, written = os.urandom(PIECE), 0  # which no file system compresses
    try:
        with tempfile.TemporaryFile(dir=path, buffering=0) as file:
            begin = time.perf_counter()
            while written < SAMPLE and time.perf_counter() - begin < LIMIT_S:
                written += file.write(piece)
            os.fsync(file.fileno())
            return written / (time.perf_counter() - begin)
    except OSError:
        return 0.0


def put_nonce(path: str, nonce: str) -> str:
    """Write a file that the other hosts look for; return its path, nothing if it cannot be written.

    Those of doctors that were killed meanwhile are removed.
    """
    for old in Path(path).glob(f"{NONCE}*"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > KILLED_S:
                old.unlink()
    place = os.path.join(path, NONCE + nonce)
    try:
        with open(place, "x", encoding="ascii") as file:
            file.write(nonce)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return ""
    return place


def sees(place: str, nonce: str, wait_s: float = SEEN_S) -> bool:
    """Say whether this host reads there what rank 0 wrote, at last within ``wait_s``."""
    until = time.monotonic() + wait_s
    while True:
        with contextlib.suppress(OSError, ValueError):
            if Path(place).read_text(encoding="ascii") == nonce:
                return True
        if time.monotonic() > until:
            return False
        with contextlib.suppress(OSError):
            os.listdir(os.path.dirname(place))  # has a client of NFS look again
        time.sleep(0.2)


def run_folder(facts: Facts) -> Iterator[Finding]:
    """Say where runs go, and what is in the way."""
    first = facts.hosts[0]
    folder = first.folder
    if folder is None:
        return
    if folder.fault:
        yield Finding(
            FAIL,
            f"{folder.path} on {first.host} cannot be written to: {folder.fault}",
            "Give --output FOLDER; this shows which file systems have room:",
            command=f"df -hT {shlex.quote(folder.path)} ~ /tmp",
        )
        return
    kind = NETWORK.get(folder.kind) or LOST.get(folder.kind) or folder.kind or "unknown"
    speed = f", written at {folder.write_rate / 1e6:,.0f} MB/s" if folder.write_rate else ""
    asked = Path(folder.output or folder.path).expanduser().absolute()
    where = folder.path if asked == Path(folder.path) else f"{asked}, which will be made in {folder.path}"
    yield Finding(OK, f"runs go to {where}: {kind}, {size(folder.free)} free{speed}")
    if folder.free < ROOM:
        yield Finding(
            WARN,
            f"{size(folder.free)} are free in {folder.path}: checkpoints of large models do not fit",
            "Make room there, or give --output FOLDER on another disk; this shows what takes it:",
            command=f"du -xah --max-depth=2 {shlex.quote(folder.path)} | sort -h | tail",
        )
    if 0 < folder.write_rate < SLOW:
        yield Finding(
            WARN,
            f"{folder.path} is written at {folder.write_rate / 1e6:.1f} MB/s: checkpoints take long",
            "Give --output FOLDER on another file system, or --checkpoint-every with more epochs between.",
        )
    if folder.kind in LOST:
        yield Finding(
            NOTE,
            f"{folder.path} is in {LOST[folder.kind]}: runs go with the {'host' if kind == 'memory' else 'container'}",
            "Give --output FOLDER on a disk, or mount one: docker run -v /data/runs:/data/runs.",
        )
    yield from _seen_by_all(facts, first, folder)


def _seen_by_all(facts: Facts, first: HostFacts, folder: FolderFacts) -> Iterator[Finding]:
    if len(facts.hosts) == 1:
        return
    locked = grouped((host.host, host.folder.fault) for host in facts.hosts if host.folder and host.folder.nonce)
    for fault, hosts in locked.items():
        if fault:
            yield Finding(
                WARN,
                f"{named_hosts(hosts)} cannot write to {folder.path} ({fault}): why a rank failed may be lost",
                "Have it mounted there as on the other hosts; this shows how it is:",
                about=named_hosts(hosts),
                command=f"df -hT {shlex.quote(folder.path)}",
            )
    without = [host for host in facts.hosts if host.folder and not host.folder.nonce]
    if not without:
        yield Finding(OK, f"all hosts see the same files in {folder.path}")
        return
    names = named_hosts(host.host for host in without)
    kinds = grouped((host.host, host.folder.kind if host.folder else "") for host in without)
    seen = ", ".join(kind or "unknown" for kind in kinds)
    yield Finding(
        FAIL,
        f"{names} {'does' if len(without) == 1 else 'do'} not see what {first.host} wrote to {folder.path} (there: "
        f"{seen}): checkpoints cannot be resumed from there, and a dead rank may not be named",
        "Give --output FOLDER on a file system that all hosts share; this shows some of them:",
        about=names,
        command="df -hT",
    )
