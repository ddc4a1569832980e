"""A training job whose first checkpoint and model are written slowly: ``slow_disk.py SECONDS_A_WRITE [arguments]``."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from common import files
from workers import run

pause_s = float(sys.argv[1])
sys.argv[1:] = sys.argv[2:]
slowed: set[str] = set()


class SlowFile(files.SyncedFile):
    """A file whose writes take long."""

    def __init__(self, file: BinaryIO, pulse: Callable[[], object]) -> None:
        super().__init__(file, pulse)
        name = Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))
        kind = name.name.partition("-")[0]
        self.slow = kind.startswith((".checkpoint", ".model.npz")) and kind not in slowed
        slowed.add(kind)

    def write(self, data: Any) -> int:
        if self.slow:
            time.sleep(pause_s)
        return super().write(data)


vars(files).update(SyncedFile=SlowFile)
sys.exit(run.main())
