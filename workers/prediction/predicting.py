"""What workers.predict does on all ranks: each predicts its part of the rows, rank 0 writes the file."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpi4py import MPI

from common.errors import EXIT_OK, EXIT_USAGE, DataError, JobError
from common.nn.model_file import ModelFile
from common.standard_streams import complain
from ps.comm.agreement import at_root, together
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.text.terminal import say
from workers.launch.cli import STANDARD_OUTPUT
from workers.launch.process import Context
from workers.prediction import inputs
from workers.prediction.collecting import Spool
from workers.prediction.opening import bad_input, blocks_of, open_rows
from workers.prediction.options import PredictConfig
from workers.prediction.parquet_out import write_parquet
from workers.prediction.rows import Asked, Rows
from workers.prediction.rows_out import Output
from workers.prediction.run_model import find_model, load_model
from workers.prediction.seen import Seen
from workers.preparation.options import names_in
from workers.preparation.parallel import threads_of


def predict(context: Context, topology: Topology, config: PredictConfig) -> int:
    """Predict and write; return the exit code. Collective; raises JobError."""
    comm, status = context.comm, context.rank_status
    status.enter("reading the model")
    path = Path(at_root(comm, lambda: str(_found(config))))
    data = config.data

    def load() -> tuple[ModelFile, Output]:
        with bad_input():
            inputs.look_at(data)
            model = load_model(path, trust=config.trust_model)
            return model, Output.of(config.output, model, proba=config.proba)

    def look_at_place() -> None:
        with bad_input():
            output.require_place([path, *inputs.look_at(data).files()])

    model, output = together(comm, load)
    at_root(comm, look_at_place)
    status.enter("predicting")
    seen, trusted = Seen(), names_in(config.trust_types)
    asked = Asked(encoding=config.encoding, header=config.header, trusted=trusted, which=config.set)
    rows = open_rows(context, topology, data, model, asked)
    with contextlib.closing(rows), contextlib.closing(Spool(output.n_streams)) as spool:

        def act() -> None:
            for block in blocks_of(rows, context):
                out = model.outputs(block.x)
                spool.add(output.render(out))
                seen.add(block, out)

        alike(comm, act)
        total = Seen.of_all(allgather(comm, seen.plain()))
        if not total.rows:
            raise JobError(f"{data}: no rows", EXIT_USAGE)
        write(comm, output, spool, total, topology)
    at_root(comm, lambda: _report(config, rows, total))
    return EXIT_OK


def _found(config: PredictConfig) -> Path:
    with bad_input():
        return find_model(config.run).absolute()


def alike(comm: MPI.Comm, act: Callable[[], object]) -> None:
    """Do something on all ranks; if a file is at fault, say what is wrong in the first part, whoever has it.

    Collective; raises JobError.
    """

    def attempt() -> list[Any]:
        try:
            act()
        except DataError as error:
            return [str(error), error.exit_code]
        return []

    faults = [fault for fault in allgather(comm, together(comm, attempt)) if fault]
    if faults:
        raise JobError(*faults[0])


def write(comm: MPI.Comm, output: Output, spool: Spool, seen: Seen, topology: Topology) -> None:
    """Write the file at rank 0 from what all ranks have rendered. Collective; raises JobError."""
    if comm.rank:
        spool.send(comm)

    def act() -> None:
        streams = spool.streams(comm)
        try:
            if output.kind == ".parquet":
                write_parquet(output, streams, seen.rows, threads_of(topology))
            else:
                output.write(streams, seen.rows)
        finally:
            spool.pass_over(comm)  # the others are sending, whatever went wrong here

    at_root(comm, act)


def _report(config: PredictConfig, rows: Rows, seen: Seen) -> None:
    """Say what was done, but not into what was written."""
    lines = [*rows.notes, f"Predicted {seen}."]
    if config.output == STANDARD_OUTPUT:
        complain("".join(f"rankwise: {line}\n" for line in lines))
    else:
        say("\n".join([*lines, f"Saved {config.output}."]))
