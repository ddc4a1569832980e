"""Prepares what requests.json in a folder asks for, each with several numbers of ranks: ``preparations.py FOLDER``."""

import json
import sys
from pathlib import Path
from typing import cast

from mpi4py import MPI

from common.errors import JobError
from ps.comm.topology import Topology
from workers.preparation import byte_pieces, parallel, pieces

pieces.LEAST_BYTES = pieces.LEAST_PART = 1  # ranks share small files, too
byte_pieces.BLOCK_BYTES = 1 << 12


def main() -> None:
    folder = Path(sys.argv[1])
    world = MPI.COMM_WORLD
    for n in range(1, world.size + 1):
        comm = cast("MPI.Intracomm", world.Split(0 if world.rank < n else 1, world.rank))
        if world.rank < n:
            topology = Topology(comm)
            requests = json.loads((folder / "requests.json").read_text())
            for name, request in ((name, one) for name, one in requests.items() if n in one["ranks"]):
                files = tuple((path, role) for path, role in request["files"])
                place = folder / f"{name}-{n}"
                try:
                    parallel.write(comm, topology, parallel.Request(files, request["options"]), place)
                except JobError as error:
                    if comm.rank == 0:
                        (folder / f"{name}-{n}.fault").write_text(f"{error.exit_code} {error}")
            topology.close()
        comm.Free()


if __name__ == "__main__":
    main()
