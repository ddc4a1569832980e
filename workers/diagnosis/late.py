"""What is said when ranks wait for an answer that does not come: the step, this host's interfaces, what chooses one."""

import contextlib
import itertools
from functools import partial

from common import start_guard
from common.host import host
from common.shadowed import launcher_rank
from common.standard_streams import complain
from workers.diagnosis import interfaces
from workers.diagnosis.deadline import Deadline
from workers.diagnosis.facts import Interface
from workers.diagnosis.finding import FAIL, Finding
from workers.diagnosis.networks import MOST_SHOWN
from workers.diagnosis.options import STALL_S
from workers.diagnosis.publish import json_object, lines
from workers.diagnosis.remedies import choose_interface

CHECK = "answers"
FIREWALL = (
    "A firewall may keep closed what MPI's ranks listen to: allow TCP from each host to the others, on all ports above "
    "1023, or those that the library is told to use."
)


def finding(step: str, limit_s: float, vendor: str, library_text: str, found: list[Interface]) -> Finding:
    """Return what to say. ``found``: this host's interfaces."""
    usable = [one for one in found if one.up and one.address]
    first = next((one for one in usable if not one.bridge), None)
    texts = [f"{one.name} {one.address}{' (bridge)' * one.bridge}" for one in usable]
    more = f" and {len(texts) - MOST_SHOWN} more" if len(texts) > MOST_SHOWN else ""
    shown = f"{', '.join(texts[:MOST_SHOWN])}{more}" or "none"
    remedy = "Look whether the hosts reach each other: ping."
    if first:
        remedy = f"If the hosts reach each other by {first.name}:" if len(usable) > 1 else FIREWALL
    return Finding(
        FAIL,
        f"no answer for {limit_s:g} s in step '{step}': a rank has died or hangs, or messages take a way that leads "
        f"nowhere; interfaces of {host()}: {shown}",
        remedy,
        check=CHECK,
        command=choose_interface(vendor, library_text, first.name) if first and len(usable) > 1 else "",
    )


def begin(arguments: list[str]) -> Deadline:
    """Start the clock, before MPI: Open MPI may wait for ever in its first collective call.

    ``arguments``: of the command line, which no rank has checked yet.
    """
    late = partial(tell, as_json="--json" in arguments)
    return Deadline(launcher_rank(), _limit_s(arguments), late)


def _limit_s(arguments: list[str]) -> float:
    """Return what the command line says, as far as that can be read here."""
    words = [part for word in arguments for part in word.split("=", 1)]
    for name, value in itertools.pairwise(words):
        if name == "--stall-seconds":
            with contextlib.suppress(ValueError):
                return max(1.0, float(value))
    return STALL_S


def tell(rank: int, step: str, limit_s: float, *, as_json: bool) -> None:
    """Say it: rank 0 as the result, others, which speak only if rank 0 has not ended the job, as a message."""
    from mpi4py import MPI

    start_guard.over()  # if MPI has not started: it would tell of the end of this process, too
    one = finding(step, limit_s, MPI.get_vendor()[0], MPI.Get_library_version(), interfaces.look())
    if rank:
        complain(f"rankwise: rank {rank} on {host()}: no answer for {limit_s:g} s in step '{step}'")
    elif as_json:
        json_object([one], {}, {})
    else:
        lines([one], "")
