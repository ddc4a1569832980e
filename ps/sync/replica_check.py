"""Whether all ranks still have the same parameters: each step's message carries a checksum of another range."""

import zlib
from itertools import pairwise

import numpy as np
from mpi4py import MPI

from common.flat import Array, Flat, Slot
from ps.comm.agreement import odd_ranks
from ps.comm.collectives import allgather

FIRST = int(Slot.PRINT)
N_SLOTS = 3
BITS = 11
MASK = (1 << BITS) - 1
"""What a slot holds of a checksum: with weights up to 2 its sum over 4,096 ranks is exact in float32."""


class RotatingChecksum:
    """Adds a checksum of a range of the parameters to the packet, in such a way that equal ones add up to 0.

    Rank i puts w_i times the CRC-32 into three slots, 11 bits in each, with whole weights w_i that are not 0 and
    whose sum over the ranks is: so the sums are 0 if all ranks have the same, and not if one has another (several can
    cancel out, by chance). All sums are of whole numbers that the packet's dtype holds, so nothing is rounded. The
    ranges of ``steps`` steps cover all parameters.
    """

    def __init__(self, params: Array, rank: int, size: int, steps: int) -> None:
        self._ranges = _ranges(params, steps)
        self._weight = weight(rank, size)
        self._next = 0

    def stamp(self, status: "memoryview[float]") -> None:
        """Write this rank's numbers for the next range into the packet's status slots."""
        value, w = zlib.crc32(self._ranges[self._next]), self._weight
        self._next = (self._next + 1) % len(self._ranges)
        status[FIRST] = w * (value & MASK)
        status[FIRST + 1] = w * ((value >> BITS) & MASK)
        status[FIRST + 2] = w * (value >> (2 * BITS))

    def seek(self, step: int) -> None:
        """Take the range that belongs to a step of the epoch next."""
        self._next = step % len(self._ranges)


def _ranges(vector: Array, steps: int) -> list[memoryview]:
    """Cut a vector into as many ranges as there are steps, of nearly the same length, some perhaps empty."""
    edges = [len(vector) * i // steps for i in range(steps + 1)]
    return [vector[a:b].view(np.uint8).data for a, b in pairwise(edges)]


class WholeChecksum:
    """A checksum of all parameters in every step, as two numbers that add up to 0 if all ranks have the same.

    The sum of the 64-bit words modulo 2^64, in halves of 32 bits, times w_i as above: whole numbers that float64 holds
    exactly, also when added over a million ranks. It is read from memory in a third of the time of an update, and finds
    any single flip; several may cancel out.
    """

    def __init__(self, params: Array, rank: int, size: int) -> None:
        words = params.view(np.uint32)
        even = len(words) // 2 * 2
        self._words, self._rest = words[:even].view(np.uint64), words[even:]
        self._weight = weight(rank, size)

    def numbers(self) -> tuple[int, int]:
        """Return this rank's numbers for the parameters as they are."""
        total = (int(np.add.reduce(self._words)) + int(self._rest.sum())) % 2**64
        return self._weight * (total & 0xFFFFFFFF), self._weight * (total >> 32)


class NodeChecksum:
    """The same between nodes, each of which has one copy: checksums of ranges of some slices, compared by bitwise or.

    ``numbers``: [notes, h, ~h]; once all nodes' are combined by bitwise or, a bit that is set in both of the last two
    is one that the nodes' checksums differ in.
    """

    def __init__(self, slices: list[Array], steps: int) -> None:
        self._ranges = list(zip(*(_ranges(own, steps) for own in slices), strict=True))
        self.numbers = np.zeros(3, np.uint64)

    def exchange(self, comm: MPI.Comm, step: int, notes: int) -> tuple[int, bool]:
        """Return all nodes' notes, and whether their ranges are the same. Collective among the owners."""
        value = 0
        for own in self._ranges[step % len(self._ranges)]:
            value = zlib.crc32(own, value)
        numbers = self.numbers
        numbers[:] = notes, value, ~value & 0xFFFFFFFF
        comm.Allreduce(MPI.IN_PLACE, numbers, MPI.BOR)
        return int(numbers[0]), not int(numbers[1]) & int(numbers[2])


def weight(rank: int, size: int) -> int:
    """Return w_i: 1 and -1 in turn; with an odd number of ranks the last three have 1, 1 and -2. Alone: 0."""
    if size == 1:
        return 0
    if size % 2 and rank >= size - 3:
        return -2 if rank == size - 1 else 1
    return -1 if rank % 2 else 1


def agree(status: "memoryview[float]") -> bool:
    """Say of a summed packet whether all ranks had the same range."""
    return not (status[FIRST] or status[FIRST + 1] or status[FIRST + 2])


def compare(comm: MPI.Comm, flat: Flat, copies: list[int]) -> tuple[dict[int, list[str]], bool]:
    """Return the ranks whose copy differs from most, with the parameters it differs in, and whether most agree.

    ``copies``: by rank, the rank whose copy it has; a copy is one voice, however many ranks have it. Collective; the
    same on all ranks.
    """
    own = [zlib.crc32(flat.param_vector[s].view(np.uint8).data) for s in flat.slices.values()]
    table = allgather(comm, own)
    voices = sorted(set(copies))
    odd = [voices[i] for i in odd_ranks([hash(tuple(table[voice])) for voice in voices])]
    usual = table[next(voice for voice in voices if voice not in odd)]
    named = {
        rank: [name for name, crc, other in zip(flat.slices, table[rank], usual, strict=True) if crc != other]
        for rank, voice in enumerate(copies)
        if voice in odd
    }
    return named, 2 * len(odd) < len(voices)
