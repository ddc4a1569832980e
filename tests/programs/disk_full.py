"""Writing predictions fails at rank 0 while the others send theirs: all ranks are told, and none waits for ever."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mpi4py import MPI

from common.errors import JobError
from workers.prediction.collecting import PIECE_BYTES, Spool
from workers.prediction.predicting import write
from workers.prediction.rows_out import Output
from workers.prediction.seen import Seen

comm = MPI.COMM_WORLD


def fail_after(pieces: int) -> Any:
    """Return what takes so many pieces of the streams, one after the other, before the disk is full."""

    def act(streams: Iterator[Iterator[bytes]], _: int) -> None:
        left = pieces
        for stream in streams:
            for _piece in stream:
                if not left:
                    raise OSError(28, "No space left on device", "out.csv")
                left -= 1

    return act


spool = Spool(2)
spool.add([bytes(2 * PIECE_BYTES + 9), bytes(PIECE_BYTES)])
n_pieces = (3 + 1) * comm.size
for place in range(n_pieces):
    output = cast("Output", SimpleNamespace(kind=".npz", path=Path("out.npz"), write=fail_after(place)))
    try:
        write(comm, output, spool, Seen(), cast("Any", None))
    except JobError as error:
        assert "out.csv: No space left on device" in str(error)  # noqa: PT017 - on each rank
    else:
        raise AssertionError(f"nothing was said of a disk that is full at piece {place}")
comm.Barrier()
if comm.rank == 0:
    print("told each time")
