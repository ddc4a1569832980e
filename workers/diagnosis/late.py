"""What is said when ranks wait for an answer that does not come: the step, this host's interfaces, what chooses one."""

from common.host import host
from common.standard_streams import complain
from workers.diagnosis import interfaces
from workers.diagnosis.facts import Interface
from workers.diagnosis.finding import FAIL, Finding
from workers.diagnosis.publish import json_object, lines
from workers.diagnosis.remedies import choose_interface

CHECK = "answers"


def finding(step: str, limit_s: float, vendor: str, library_text: str, found: list[Interface]) -> Finding:
    """Return what to say. ``found``: this host's interfaces."""
    usable = [one for one in found if one.up and one.address]
    first = next((one for one in usable if not one.bridge), None)
    shown = ", ".join(f"{one.name} {one.address}{' (bridge)' * one.bridge}" for one in usable) or "none"
    return Finding(
        FAIL,
        f"no answer for {limit_s:g} s in step '{step}': a rank has died or hangs, or messages take a way that leads "
        f"nowhere; interfaces of {host()}: {shown}",
        (f"If the hosts reach each other by {first.name}: " + choose_interface(vendor, library_text, first.name))
        if first
        else "Look whether the hosts reach each other: ping.",
        check=CHECK,
    )


def tell(rank: int, step: str, limit_s: float, *, as_json: bool) -> None:
    """Say it: rank 0 as the result, others, which speak only if rank 0 has not ended the job, as a message."""
    from mpi4py import MPI

    one = finding(step, limit_s, MPI.get_vendor()[0], MPI.Get_library_version(), interfaces.look())
    if rank:
        complain(f"rankwise: rank {rank} on {host()}: no answer for {limit_s:g} s in step '{step}'")
    elif as_json:
        json_object([one], {}, {})
    else:
        lines([one], "")
