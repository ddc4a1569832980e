"""Whose launcher a program is, and of which version, by what it says itself."""

import re
from dataclasses import dataclass

from workers.launch.answer import ask

ANSWER_S = 20.0
OPEN_MPI, MPICH, INTEL = "Open MPI", "MPICH", "Intel MPI"
OPEN_MPI_NAMES = (OPEN_MPI, "OpenRTE", "PRRTE")
"""What Open MPI's launcher calls itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a launcher says that it is; ``vendor`` is empty if it is none that is known."""

    vendor: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.vendor or 'no launcher that is known'} {'.'.join(map(str, self.version))}".strip()


def kind_of(launcher: str) -> Kind:
    """Ask a launcher what it is."""
    asked = ask([launcher, "--version"], ANSWER_S)
    return read_kind(asked.stdout + asked.stderr) if asked else Kind("", ())


def read_kind(text: str) -> Kind:
    """Return what a launcher's ``--version`` says."""
    vendor = ""
    if any(name in text for name in OPEN_MPI_NAMES):
        vendor = OPEN_MPI
    elif "Intel(R) MPI" in text:
        vendor = INTEL
    elif "HYDRA" in text.upper():
        vendor = MPICH
    number = re.search(r"\d+(?:\.\d+)+", text)
    return Kind(vendor, tuple(map(int, number[0].split("."))) if number and vendor else ())
