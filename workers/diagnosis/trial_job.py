"""A job that examines itself, started by a doctor that no launcher has started: what it found, or how it ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

from common.wording import count
from workers.diagnosis.finding import FAIL, FORMAT, Finding
from workers.launch.launcher import shown

CHECK = "job"
KEPT_LINES = 6
MOST_CHARACTERS = 600
MORE = "To see more:"
END_S = 3.0
"""How long a launcher has to end its ranks, before it is killed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job found. ``job`` and ``measured``: as in the object that it printed; empty if it printed none."""

    findings: list[Finding]
    job: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)


def run(
    command: list[str], settings: Mapping[str, str], environment: Mapping[str, str], ranks: int, limit_s: float
) -> Outcome:
    """Start a command whose rank 0 prints the object, and wait for its end, at most ``limit_s``."""
    again = shown(command, settings)
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env=dict(environment), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return failure(f"{command[0]} cannot be run ({error.strerror})", "Give another with --mpirun.")
    try:
        with _leaving_on_signals():
            out, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        text = f"{count(ranks, 'rank')} did not end within {limit_s:.0f} s"
        return failure(text, "They may wait for a network. To see more:", again)
    except BaseException:  # a signal: the job is in a session of its own, and does not hear it
        _end(process)
        raise
    if found := result(out):
        return read(found, ranks, again)
    if process.returncode:
        said = (errors.strip() or out.strip()).splitlines()[:KEPT_LINES]
        words = " | ".join(said)[:MOST_CHARACTERS]
        return failure(f"{count(ranks, 'rank')} ended with exit code {process.returncode}: {words}", MORE, again)
    return failure(f"{count(ranks, 'rank')} started, but none answered", MORE, again)


@contextlib.contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Leave on a signal that would end this process as Python does, so that the job can be ended first."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, _leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    sys.exit(128 + number)


def _end(process: "subprocess.Popen[str]") -> None:
    """End a launcher with all that it has started; asked first, for its ranks may be in sessions of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=END_S)
            return


def failure(text: str, remedy: str, command: str = "") -> Outcome:
    """Return the outcome of a job that did not tell any."""
    return Outcome([Finding(FAIL, text, remedy, check=CHECK, command=command)])


def result(out: str) -> dict[str, Any]:
    """Return the object among the lines that a job printed; nothing if there is none."""
    for line in out.splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and found.get("format") == FORMAT:
                return found
    return {}


def read(found: Mapping[str, Any], ranks: int, again: str) -> Outcome:
    """Return the outcome that an object tells."""
    findings = [Finding(**one) for one in found["findings"]]
    answered = found["job"].get("ranks", ranks)
    if answered != ranks:
        findings += failure(f"{count(ranks, 'rank')} started, but {answered} answered", MORE, again).findings
    return Outcome(findings, found["job"], found["measured"])
