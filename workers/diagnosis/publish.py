"""Prints findings: lines for people, or the object for programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from common.status_line import launcher_width
from common.wording import printable
from ps.text.layout import NO_LIMIT, output_width
from workers.diagnosis.facts import Facts, HostFacts, cpu_list
from workers.diagnosis.finding import Finding, as_object, closing_line
from workers.diagnosis.transfer import bound_of


def lines(findings: Sequence[Finding], next_command: str) -> None:
    """Print a line for each finding, and one that sums them up, in one write."""
    width = _width()
    _write([*(line for one in findings for line in one.lines(width)), closing_line(findings, next_command)])


def line(finding: Finding) -> None:
    """Print one of them."""
    _write(finding.lines(_width()))


def last_line(findings: Sequence[Finding], next_command: str) -> None:
    """Print the line that sums them up."""
    _write([closing_line(findings, next_command)])


def _width() -> int:
    """Return how many columns people see; nothing is folded that goes to a file or a program.

    It is the launcher's terminal that counts: Open MPI gives rank 0 one, wherever its own output goes.
    """
    return output_width() if launcher_width() else NO_LIMIT


def _write(texts: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{printable(text)}\n" for text in texts))
    sys.stdout.flush()


def json_object(findings: Sequence[Finding], job: dict[str, Any], measured: dict[str, Any]) -> None:
    """Print the object in one line."""
    sys.stdout.write(f"{json.dumps(as_object(findings, job, measured))}\n")
    sys.stdout.flush()


def job_of(facts: Facts) -> dict[str, Any]:
    """Return ``job`` of the object: what ran where."""
    return {
        "ranks": len(facts.ranks),
        "library": facts.ranks[0].library,
        "launcher": facts.launcher,
        "thread_level": facts.thread_level,
        "hosts": [_host(facts, host) for host in facts.hosts],
    }


def _host(facts: Facts, host: HostFacts) -> dict[str, Any]:
    ranks = facts.of_host(host)
    return {
        "host": host.host,
        "ranks": [rank.rank for rank in ranks],
        "affinity": [cpu_list(rank.cores) for rank in ranks],
        "threads": [rank.threads for rank in ranks],
        "cores": host.physical,
        "may_use": cpu_list(host.may_use),
        "quota": host.quota,
        "machine": host.machine,
        "processor": host.processor,
        "blas": host.blas,
        "blas_kernels": host.blas_kernels,
        "shm_free": host.shm_free,
        "shm_total": host.shm_total,
        "interfaces": [asdict(one) for one in host.interfaces],
        "folder": asdict(host.folder) if host.folder else None,
    }


def measured_of(facts: Facts) -> dict[str, Any]:
    """Return ``measured`` of the object: messages, sums, BLAS, files, clocks."""
    folder = facts.hosts[0].folder
    return {
        "pairs": [asdict(pair) for pair in facts.pairs],
        "sums": [{**asdict(one), "bound_s": bound_of(facts, one)} for one in facts.sums],
        "blas_gflops": facts.kernel_rates,
        "write_bytes_per_s": folder.write_rate if folder else 0.0,
        "clocks_s": [host.clock_s for host in facts.hosts],
    }
