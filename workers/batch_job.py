"""Entry of a batch job's work: ``python -m workers.batch_job --ranks --resume -- python -m workers.run``."""

import os
import sys

from common import one_process
from common.start_words import REQUEUES


def main() -> int:
    """Do the work; return the exit code."""
    return one_process.run(_work, result=False)


def _work() -> int:
    from workers.batch.batch_id import BatchId
    from workers.batch.options import own_options, parse
    from workers.batch.rank_start import TO_RANKS, RankStart, find_start
    from workers.batch.runner import MOST_RESTARTS, Runner

    config = parse(sys.argv[1:])
    if isinstance(config, int):
        return config
    batch = BatchId()
    runner = Runner(batch, requeue=config.requeue)  # which listens to signals from here on
    program = own_options(config, batch)
    start = find_start() if config.ranks else RankStart((), {})
    variables = {
        **os.environ,
        **start.changes,
        **TO_RANKS,
        # one BLAS thread for each CPU of a task: with more, ranks slow each other down
        "OMP_NUM_THREADS": os.environ.get("SLURM_CPUS_PER_TASK", "1"),
    }
    if config.requeue:
        variables[REQUEUES] = str(max(0, MOST_RESTARTS - batch.restarts))
    return runner.run([*start.words, *program], variables)


if __name__ == "__main__":
    sys.exit(main())
