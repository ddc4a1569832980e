"""The table of sync modes: a new mode is a class in a file of its own and a line here."""

from ps.reduce import Allreduce, ReduceBcast, Reducer, SendRecv

MODES: dict[str, type[Reducer]] = {
    "allreduce": Allreduce,
    "reduce-bcast": ReduceBcast,
    "send-recv": SendRecv,
}
DESCRIPTIONS: dict[str, str] = {
    "allreduce": "one MPI_Allreduce, all ranks alike",
    "reduce-bcast": "MPI_Reduce to rank 0, MPI_Bcast back",
    "send-recv": "point to point through rank 0, in pipelined chunks",
}
