"""Algorithms by which the MPI library sums a vector over a communicator: its own choice, or one that we name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from common.flat import Array
from ps.comm.control_variables import ControlVariable, find

LIBRARY, RING, RABENSEIFNER = "library", "ring", "rabenseifner"
ALGORITHMS = (LIBRARY, RING, RABENSEIFNER)
OPEN_MPI = {RING: "ring", RABENSEIFNER: "rabenseifner"}
OPEN_MPI_NUMBERS = {RING: 4, RABENSEIFNER: 6}
"""Its names for the algorithms, and its numbers where the variable's values have no names."""
MPICH = {RING: 8, RABENSEIFNER: 5}
MPICH_VERSIONS = (4, 3), (5, 0)
"""Its numbers for ``ring`` and ``reduce_scatter_allgather``, which it does not tell, and versions that have these."""


def shared_out(n_bytes: int, leaders: Sequence[int], rank: int) -> int:
    """Return what a rank sends to other nodes in a sum by the MPI library; ``leaders``: see Topology.

    As much as any algorithm for long vectors sends over each of K links, 2 (K-1)/K m, by the ranks of a node in equal
    parts.
    """
    nodes = len(set(leaders))
    return round(2 * (nodes - 1) / nodes * n_bytes / leaders.count(leaders[rank]))


class Wire:
    """Sums vectors in place over a communicator, as the MPI library does by itself."""

    def __init__(self, comm: MPI.Comm, algorithm: str = LIBRARY) -> None:
        self.comm, self.algorithm = comm, algorithm

    def sum(self, vector: Array) -> None:
        """Sum on all ranks."""
        self.comm.Allreduce(MPI.IN_PLACE, vector)

    def between_bytes(self, n_bytes: int, leaders: Sequence[int]) -> int:
        """Return what this rank sends to other nodes in a sum of so many bytes; ``leaders``: see Topology.

        In a ring a rank sends to the next one alone; else see ``shared_out``.
        """
        rank, size = self.comm.rank, self.comm.size
        if self.algorithm != RING:
            return shared_out(n_bytes, leaders, rank)
        leaves = leaders[(rank + 1) % size] != leaders[rank]
        return round(2 * (size - 1) / size * n_bytes) if leaves else 0

    def close(self) -> None:
        """Give back what this holds. Collective."""


class OpenMpiWire(Wire):
    """By an algorithm of Open MPI's component ``tuned``, which a communicator keeps from when it is made."""

    def __init__(self, comm: MPI.Comm, algorithm: str, settings: Mapping[ControlVariable, int]) -> None:
        before = {variable: variable.read() for variable in settings}
        info = MPI.Info.Create()
        info.Set("ompi_comm_coll_preference", "tuned,^han")  # else han, which is for several nodes, comes first
        try:
            for variable, value in settings.items():
                variable.write(value)
            super().__init__(comm.Dup(info), algorithm)
        finally:
            info.Free()
            for variable, value in before.items():
                variable.write(value)

    def close(self) -> None:
        """See Wire."""
        self.comm.Free()


class MpichWire(Wire):
    """By an algorithm that MPICH looks up at each call: set for the sum alone, since small messages need another."""

    def __init__(self, comm: MPI.Comm, algorithm: str, settings: Mapping[ControlVariable, int]) -> None:
        super().__init__(comm, algorithm)
        self._settings = [(variable, variable.read(), value) for variable, value in settings.items()]

    def sum(self, vector: Array) -> None:
        """See Wire."""
        for variable, _, value in self._settings:
            variable.write(value)
        try:
            self.comm.Allreduce(MPI.IN_PLACE, vector)
        finally:  # a rank may have died (--elastic)
            for variable, before, _ in self._settings:
                variable.write(before)


def _settings(algorithm: str) -> tuple[type[Any], dict[ControlVariable, int]] | None:
    """Return how this MPI library is set to an algorithm; None if it cannot be."""
    vendor, version = MPI.get_vendor()
    try:
        if vendor == "Open MPI":
            dynamic, number = find("coll_tuned_use_dynamic_rules"), find("coll_tuned_allreduce_algorithm")
            if dynamic is None or number is None:
                return None
            named = number.named_values()
            value = named.get(OPEN_MPI[algorithm]) if named else OPEN_MPI_NUMBERS[algorithm]
            return None if value is None or not _may_write(dynamic) else (OpenMpiWire, {dynamic: 1, number: value})
        if vendor == "MPICH" and version[:2] in MPICH_VERSIONS:
            variable = find("MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM")
            return None if variable is None or not _may_write(variable) else (MpichWire, {variable: MPICH[algorithm]})
    except OSError:
        pass
    return None


def _may_write(variable: ControlVariable) -> bool:
    try:
        variable.write(variable.read())
    except OSError:  # Open MPI before 5.0.6
        return False
    return True


def known_here() -> list[str]:
    """Return the algorithms that this MPI library can be told to take."""
    return [LIBRARY, *(name for name in ALGORITHMS if name != LIBRARY and _settings(name) is not None)]


def known_everywhere(comm: MPI.Comm) -> list[str]:
    """Return the algorithms that the MPI library of every rank can be told to take. Collective.

    Environments of ranks may differ, and ranks that sum in different ways would wait for each other.
    """
    known = known_here()
    on_all = np.array([name in known for name in ALGORITHMS], np.int32)
    comm.Allreduce(MPI.IN_PLACE, on_all, MPI.MIN)
    return [name for name, has in zip(ALGORITHMS, on_all.tolist(), strict=True) if has]


def make_wire(comm: MPI.Comm, algorithm: str) -> Wire:
    """Return what sums over a communicator by an algorithm of ``known_here``. Collective."""
    found = None if algorithm == LIBRARY or comm.size == 1 else _settings(algorithm)
    if found is None:
        return Wire(comm)
    kind, settings = found
    wire: Wire = kind(comm, algorithm, settings)
    return wire


MakeWire = Callable[[MPI.Comm, str], Wire]
"""``make_wire``, or what makes wires that sum by other calls than MPI_Allreduce."""
