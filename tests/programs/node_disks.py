"""Prepares t.csv and bad.csv of a folder where each rank is a node with a disk of its own: ``node_disks.py FOLDER``."""

import sys
from pathlib import Path
from typing import Any
from unittest import mock

from mpi4py import MPI

from common.config import RunConfig
from common.errors import JobError
from common.rank_status import RankStatus
from ps.comm.topology import Topology
from workers.preparation import for_training, parallel
from workers.preparation.prepared_folder import LOCK_NAME

folder, comm = Path(sys.argv[1]), MPI.COMM_WORLD
topology = Topology(comm, ranks_per_node=1)


def write(*arguments: Any) -> None:
    """Prepare; what rank 0 makes for all is not there for the others."""
    unseen = arguments[0] is comm and comm.rank > 0
    with mock.patch.object(parallel, "LOCK_NAME", "nowhere" if unseen else LOCK_NAME):
        parallel.write(*arguments)


mock.patch.object(for_training, "write", write).start()
for name in ("t", "bad"):
    request = for_training.request_of(RunConfig(data=str(folder / f"{name}.csv"), target="y"))
    place = folder / f"disk-{comm.rank}" / name
    try:
        for_training.make_ready(topology, request, place, RankStatus(), kept=True)
    except JobError as error:
        (folder / f"{name}-{comm.rank}.fault").write_text(str(error))
topology.close()
