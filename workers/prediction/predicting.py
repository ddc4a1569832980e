"""What workers.predict does on all ranks: each predicts its part of the rows, rank 0 writes the file."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpi4py import MPI

from common.errors import EXIT_OK, EXIT_USAGE, DataError, JobError
from common.nn.model_file import ModelFile
from common.standard_streams import complain
from common.wording import count, listed
from ps.comm.agreement import at_root, together
from ps.comm.collectives import allgather
from ps.comm.topology import Topology
from ps.text.terminal import say
from workers.launch.cli import STANDARD_OUTPUT
from workers.launch.process import Context
from workers.prediction.collecting import Spool
from workers.prediction.opening import bad_input, blocks_of, open_rows, require_file
from workers.prediction.options import PredictConfig
from workers.prediction.parquet_out import write_parquet
from workers.prediction.rows import Asked, Rows
from workers.prediction.rows_out import Output
from workers.prediction.run_model import find_model, load_model
from workers.preparation.options import names_in
from workers.preparation.parallel import threads_of

MOST_COLUMNS = 4
"""Columns with unknown texts that the last line names."""


class Seen:
    """Counts what was out of the ordinary in some rows."""

    def __init__(self) -> None:
        self.rows = self.missing = 0
        self.unknown: dict[str, int] = {}

    def add(self, n: int, missing: int, unknown: dict[str, int]) -> None:
        """Count some rows."""
        self.rows += n
        self.missing += missing
        for name, cells in unknown.items():
            self.unknown[name] = self.unknown.get(name, 0) + cells

    def plain(self) -> list[Any]:
        """Return plain values."""
        return [self.rows, self.missing, self.unknown]

    def __str__(self) -> str:
        parts = [count(self.rows, "row")]
        if self.missing:
            filled = "is taken" if self.missing == 1 else "are taken"
            parts.append(
                f"{count(self.missing, 'missing value')} {filled} as the mean of the training rows or as missing"
            )
        if self.unknown:
            where = [f"{name!r} {n:,}" for name, n in sorted(self.unknown.items(), key=lambda pair: -pair[1])]
            more = len(where) - MOST_COLUMNS
            shown = [*where[:MOST_COLUMNS], *([f"{count(more, 'more column')}"] if more > 0 else [])]
            cells = count(sum(self.unknown.values()), "text")
            parts.append(f"{cells} that training did not see, taken as none of the known ones ({listed(shown)})")
        return "; ".join(parts)


def predict(context: Context, topology: Topology, config: PredictConfig) -> int:
    """Predict and write; return the exit code. Collective; raises JobError."""
    comm, status = context.comm, context.rank_status
    status.enter("reading the model")
    path = Path(at_root(comm, lambda: str(_found(config))))
    data = Path(config.data)

    def load() -> tuple[ModelFile, Output]:
        with bad_input():
            require_file(data)
            model = load_model(path, trust=config.trust_model)
            return model, Output.of(config.output, model, proba=config.proba, not_over=(path, data))

    model, output = together(comm, load)
    status.enter("predicting")
    seen, asked = Seen(), Asked(encoding=config.encoding, header=config.header, trusted=names_in(config.trust_types))
    rows = open_rows(topology, data, model, asked, status.tick)
    with contextlib.closing(rows), contextlib.closing(Spool(output.n_streams)) as spool:

        def act() -> None:
            for block in blocks_of(rows, context):
                spool.add(output.render(model.outputs(block.x)))
                seen.add(len(block.x), block.missing, block.unknown)

        alike(comm, act)
        total = together_seen(comm, seen)
        if not total.rows:
            raise JobError(f"{data}: no rows", EXIT_USAGE)
        write(comm, output, spool, total, topology)
    at_root(comm, lambda: _report(config, rows, total))
    return EXIT_OK


def _found(config: PredictConfig) -> Path:
    with bad_input():
        return find_model(config.run).absolute()


def together_seen(comm: MPI.Comm, seen: Seen) -> Seen:
    """Return what all ranks have seen. Collective."""
    total = Seen()
    for rows, missing, unknown in allgather(comm, seen.plain()):
        total.add(rows, missing, unknown)
    return total


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
        finally:  # the others are sending, whatever went wrong here
            for stream in streams:
                for _ in stream:
                    pass

    at_root(comm, act)


def _report(config: PredictConfig, rows: Rows, seen: Seen) -> None:
    """Say what was done, but not into what was written."""
    lines = [*rows.notes, f"Predicted {seen}."]
    if config.output == STANDARD_OUTPUT:
        complain("".join(f"rankwise: {line}\n" for line in lines))
    else:
        say("\n".join([*lines, f"Saved {config.output}."]))
