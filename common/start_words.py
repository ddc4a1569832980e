"""What a rank tells the guard of its start, through a pipe, how long they wait, and variables that are no options."""

import math

WAITS, FAILING, FAILED = b"waits", b"failing", b"failed"
"""It is ready for MPI; it looks for the reason of its failure; that, with an exit code and a message behind it."""
MOST_BYTES = 4000
"""Of a message: a pipe takes 4,096 at once."""
MESSAGE_FIRST_S = 2.0
"""A launcher may kill all ranks when the first one fails, which must not come before the message."""
LIMIT = "RANKWISE_START_SECONDS"
"""A variable, no option: it is needed before options are read."""
REQUEUES = "RANKWISE_REQUEUES"
"""How often a batch job may still be queued again near its time limit: set by what does that."""
JOB_ENDS = "RANKWISE_JOB_ENDS"
"""When the job is ended from outside, in Unix time: for batch systems that do not say so themselves."""
STOP_BEFORE = "RANKWISE_STOP_BEFORE"
"""How many seconds before its time limit a batch job is stopped that is queued again then."""
SUPERVISED = "rankwise_supervised"
"""``python -X`` with this, on a rank's command line: a supervisor reads its standard error, and waits for the next."""
ALL_STARTED = b"rankwise-all-started\n"
OF_THE_JOB = (REQUEUES, JOB_ENDS, STOP_BEFORE)
DEFAULT_LIMIT_S = 120.0


def read_limit(text: str) -> float:
    """Return the time limit of a start that a text sets; 0 is none. Raises ValueError."""
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError(text)
    return seconds
