"""A training job that is slow before it trains: ``slow_start.py SCALING_S STEP_S [arguments]``.

Rank 0 computes for so long to prepare the data; each step that helps to choose a mode waits so long.
"""

import sys
import time
from typing import Any

from common.data.dataset import Dataset
from workers import run
from workers.training import auto_mode

scaling_s, step_s = float(sys.argv[1]), float(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
programs: Any = auto_mode
plain: dict[str, Any] = {"scaling": Dataset.scaling, "assemble": programs.assemble}


def scaling(self: Dataset) -> Any:
    until = time.monotonic() + scaling_s
    while time.monotonic() < until:
        pass
    return plain["scaling"](self)


def assemble(*arguments: Any) -> Any:
    parts = plain["assemble"](*arguments)
    step = parts.sync.step

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(step_s)
        return step(*given, **named)

    parts.sync.step = slow
    return parts


programs.assemble = assemble
Dataset.scaling = scaling  # type: ignore[method-assign]
sys.exit(run.main())
