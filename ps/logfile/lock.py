"""The lock that keeps a second job out of a log, and who holds it."""

import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from common.errors import LogError, RankwiseError
from common.files import open_own
from common.host import boot_id, has_ended, host, is_suspended, process_start
from ps.logfile.records import CONTINUATIONS, Record
from ps.logfile.salvage import SalvageReader

PROC = Path("/proc")
GRACE_S = 3.0
"""How long a job that has just ended may keep the lock: its watchdog may still add what it has seen."""
LOOK_S = 0.1
LONGEST_COMMAND = 120
"""Characters of a command line in a message."""


class LogInUseError(RankwiseError):
    """Another process writes to a log; ``who``: which, ``remedy``: what to do."""

    def __init__(self, log: Path, who: str, remedy: str) -> None:
        super().__init__(f"{log}: {who}; {remedy}")
        self.who = who


def lock_file(handle: int, log: Path) -> None:
    """Keep a second job out of an open log, where the file system can. Raises BlockingIOError if there is one."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(error.errno, "another job writes to it", str(log)) from error
    except OSError:
        pass


def refuse_locked(log: Path) -> None:
    """Raise LogInUseError if another job writes to a log, also a moment later; RankwiseError if this one cannot."""
    until = time.monotonic() + GRACE_S
    try:
        file = open_own(log)
    except OSError as error:
        remedy = (
            "put the file itself in its place"
            if log.is_symlink()
            else f"to continue from its checkpoints, {_copy(log)}"
        )
        raise RankwiseError(f"resume: {log} cannot be written ({error.strerror}); {remedy}") from error
    with file:
        while True:
            try:
                lock_file(file.fileno(), log)  # until the file is closed
            except BlockingIOError:
                if time.monotonic() > until:
                    raise in_use(log) from None
                time.sleep(LOOK_S)
            else:
                return


def _copy(log: Path) -> str:
    """Say how to go on with a run whose own log cannot be written."""
    return f"copy the folder and resume the copy: cp -r {shlex.quote(str(log.parent))} COPY"


def in_use(log: Path) -> LogInUseError:
    """Return the error that says which process writes to a log, and what to do."""
    job = _last_job(log)
    where = next((node["host"] for node in job.get("nodes", ()) if isinstance(node, dict) and "host" in node), "")
    writer = job.get("pid")
    copy = f"to continue from its checkpoints meanwhile, {_copy(log)}"
    if where and where != host() and isinstance(writer, int):
        return LogInUseError(
            log,
            f"another job writes to it: process {writer} on {where}{_since(job['t'])}",
            f"wait for it, or end it on that host: kill {writer}, which stops it with a checkpoint; if that process is "
            f"gone (see ps -p {writer}), the file server has yet to notice; {copy}",
        )
    holders = list(_holders(log))
    if not holders:
        look = f"fuser -v {shlex.quote(str(log))}"
        who = f"another job writes to it, on another host or of another user ({look} says which, where it runs)"
        return LogInUseError(log, who, f"wait for it, or end it; {copy}")
    alive = isinstance(writer, int) and writer in holders and not _is_another(job, writer)
    pid = writer if alive and isinstance(writer, int) else holders[0]
    began = job["t"] if alive else _began(pid)
    who = f"process {pid} on {host()}{_since(began)}{_command(pid)}"
    if alive or not job or not _is_gone(job):
        first = ""
        if is_suspended(pid):
            first = (
                "it is suspended (state T); continue it (kill -CONT to its processes, fg, scontrol resume), and then "
            )
        end = f"{first}wait for it, or end it: kill {pid}, which stops it with a checkpoint; {copy}"
        return LogInUseError(log, f"another job writes to it: {who}", end)
    return LogInUseError(
        log,
        f"its job is gone (process {writer}), but {who}, which it left behind, still holds the log open",
        f"end that: kill {pid}, or kill -9 {pid} if it does not react",
    )


def _last_job(log: Path) -> Record:
    """Return the record in which the last job that wrote to a log says of itself; nothing if there is none."""
    found: Record = {}
    with suppress(LogError):
        for record in SalvageReader(log).records():
            if record["kind"] == "header" or (record["kind"] == "event" and record.get("what") in CONTINUATIONS):
                found = record
    return found if isinstance(found.get("nodes"), list) and "rebuilt" not in found else {}


def _holders(log: Path) -> Iterator[int]:
    """Yield the processes of this host that hold a lock on a file, as far as this user may see them."""
    with suppress(OSError):
        found = log.stat()
        inode = f":{found.st_ino} "
        for process in PROC.iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            with suppress(OSError):
                for handle in (process / "fd").iterdir():
                    with suppress(OSError):
                        if not os.path.samestat(handle.stat(), found):
                            continue
                        facts = (process / "fdinfo" / handle.name).read_text(encoding="ascii", errors="replace")
                        if "FLOCK" in facts and inode in facts:
                            yield int(process.name)
                            break


def _is_another(job: Record, pid: int) -> bool:
    """Say whether a process has the id of the one that wrote a record, but began later."""
    pairs = (job.get("boot_id"), boot_id()), (job.get("pid_start"), process_start(pid))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _is_gone(job: Record) -> bool:
    pid = job.get("pid")
    return not isinstance(pid, int) or process_start(pid) is None or has_ended(pid) or _is_another(job, pid)


def _began(pid: int) -> float | None:
    """Return when a process began, as a Unix time; None if the system does not say."""
    start = process_start(pid)
    with suppress(OSError, ValueError, IndexError):
        uptime = float((PROC / "uptime").read_text(encoding="ascii").split()[0])
        if start is not None:
            return time.time() - uptime + start / os.sysconf("SC_CLK_TCK")
    return None


def _since(began: float | None) -> str:
    if began is None:
        return ""
    seconds = max(0.0, time.time() - began)
    units = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, unit = next(pair for pair in units if seconds >= 2 * pair[0] or pair[0] == 1)
    return f", for {seconds / size:.0f} {unit}s"


def _command(pid: int) -> str:
    with suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        text = " ".join(words).strip()
        if text:
            return f" ({text if len(text) <= LONGEST_COMMAND else text[:LONGEST_COMMAND] + '...'})"
    return ""
