"""A training job that is slow before it trains: ``slow_start.py SCALING_S STEP_S [arguments]``.

Rank 0 computes for so long to prepare the data; each step that helps to choose a mode waits so long.
"""

import sys
import time
from typing import Any

from common.data import training_features
from common.data.dataset import Dataset
from common.flat import Array
from workers import run
from workers.training import auto_mode

scaling_s, step_s = float(sys.argv[1]), float(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
programs: Any = auto_mode
plain: dict[str, Any] = {"tables": training_features.tables, "assemble": programs.assemble}


def tables(data: Dataset, rank: int, size: int) -> Array:
    until = time.monotonic() + (0 if rank else scaling_s)
    while time.monotonic() < until:
        pass
    found: Array = plain["tables"](data, rank, size)
    return found


def assemble(*arguments: Any, **more: Any) -> Any:
    parts = plain["assemble"](*arguments, **more)
    step = parts.sync.step

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(step_s)
        return step(*given, **named)

    parts.sync.step = slow
    return parts


programs.assemble = assemble
training_features.tables = tables
sys.exit(run.main())
