"""Brings what all ranks have rendered to rank 0, in the order of the ranks, a bounded piece at a time."""

import itertools
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from mpi4py import MPI

IN_MEMORY = 32 << 20
"""Bytes that a rank keeps of a stream; more go to a temporary file."""
PIECE_BYTES = 8 << 20


class Spool:
    """Bytes of each stream of this rank, until rank 0 takes them."""

    def __init__(self, n_streams: int) -> None:
        self._files: list[IO[bytes]] = [
            tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - until ``close``
            for _ in range(n_streams)
        ]
        self._to_come: list[tuple[int, int]] = []
        """Of which rank which stream is still to be received, at rank 0."""

    def add(self, parts: list[bytes]) -> None:
        """Take the next bytes of each stream. Raises OSError, which names the folder."""
        try:
            for file, part in zip(self._files, parts, strict=True):
                file.write(part)
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error

    def pieces(self, stream: int) -> Iterator[bytes]:
        """Yield the bytes of a stream."""
        file = self._files[stream]
        file.seek(0)
        while data := file.read(PIECE_BYTES):
            yield data

    def send(self, comm: MPI.Comm) -> None:
        """Send all to rank 0, an empty piece last of each stream."""
        for stream in range(len(self._files)):
            for data in itertools.chain(self.pieces(stream), [b""]):
                comm.Send(np.array([len(data)], np.int64), 0)
                if data:
                    comm.Send(np.frombuffer(data, np.uint8), 0)

    def streams(self, comm: MPI.Comm) -> Iterator[Iterator[bytes]]:
        """Yield each stream of all ranks, at rank 0, while the others ``send``; ``pass_over`` takes what is left."""
        n = len(self._files)
        self._to_come = [(rank, stream) for rank in range(1, comm.size) for stream in range(n)]
        return (self._all(comm, stream) for stream in range(n))

    def _all(self, comm: MPI.Comm, stream: int) -> Iterator[bytes]:
        yield from self.pieces(stream)
        for rank in range(1, comm.size):
            while data := _received(comm, rank):
                yield data
            self._to_come.remove((rank, stream))

    def pass_over(self, comm: MPI.Comm) -> None:
        """Receive what nobody has taken, however far that is: who sends it waits for that."""
        for rank, _ in self._to_come:
            while _received(comm, rank):
                pass

    def close(self) -> None:
        """Forget all."""
        for file in self._files:
            file.close()


def _received(comm: MPI.Comm, rank: int) -> bytes:
    length = np.empty(1, np.int64)
    comm.Recv(length, rank)
    data = np.empty(int(length[0]), np.uint8)
    if len(data):
        comm.Recv(data, rank)
    return data.tobytes()
