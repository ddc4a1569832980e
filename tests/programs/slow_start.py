"""A training job that is slow before it trains: ``slow_start.py SCALING_S STEP_S [arguments]``.

Preparing the data computes for so long, on the ranks that do it; each step that helps to choose a mode waits so long.
"""

import sys
import time
from typing import Any

from common.dataset import Dataset
from workers import choose, run

scaling_s, step_s = float(sys.argv[1]), float(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
plain: dict[str, Any] = {"scaling": Dataset.scaling, "scale": Dataset.scale, "assemble": choose.assemble}


def compute() -> None:
    until = time.monotonic() + scaling_s
    while time.monotonic() < until:
        pass


def scaling(self: Dataset) -> Any:
    compute()
    return plain["scaling"](self)


def scale(self: Dataset, *arguments: Any) -> None:
    compute()
    plain["scale"](self, *arguments)


def assemble(*arguments: Any) -> Any:
    parts = plain["assemble"](*arguments)
    step = parts.sync.step

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(step_s)
        return step(*given, **named)

    parts.sync.step = slow
    return parts


rows: Any = Dataset
rows.scaling, rows.scale = scaling, scale
vars(choose).update(assemble=assemble)
sys.exit(run.main())
