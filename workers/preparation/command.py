"""What workers.prepare does on all ranks once its options are known."""

import time
from pathlib import Path

from common.data.prepared_file import Prepared
from common.errors import JobError
from common.memory import in_words
from ps.comm.agreement import at_root
from ps.comm.places import require_on_all
from ps.comm.topology import Topology
from ps.text import column_table
from ps.text.layout import output_width
from ps.text.terminal import say
from workers.launch.process import Context
from workers.preparation.parallel import Request, write


def prepare(context: Context, request: Request, place: Path) -> None:
    """Write the prepared folder ``place`` and say what is in it. Collective; raises JobError."""
    start = time.perf_counter()
    require_on_all(context.comm, [path for path, _ in request.files])
    topology = Topology(context.comm)
    context.rank_status.enter("preparing data")
    try:
        write(context.comm, topology, request, place, context.rank_status.tick, context.stop.asked, replace=True)
    except JobError:  # not finally: see Context.on_nodes
        topology.close()
        raise
    topology.close()
    at_root(context.comm, lambda: report(Prepared.load(place), time.perf_counter() - start))


def report(prepared: Prepared, seconds: float) -> None:
    """Print what a prepared folder holds."""
    facts = prepared.facts
    x, n_bytes = facts["arrays"]["x"], sum(file["size"] for file in facts["files"])
    for line in (*column_table.lines(facts["columns"], output_width()), *facts["notes"]):
        say(line)
    say(
        f"{prepared.folder}: {prepared.rows:,} rows, {x['shape'][1]:,} features of {x['dtype']}, "
        f"from {in_words(n_bytes)} in {seconds:.1f} s ({in_words(n_bytes / max(seconds, 1e-9))}/s)."
    )
