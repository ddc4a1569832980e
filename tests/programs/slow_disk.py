"""A training job whose first checkpoint and model are written slowly: ``slow_disk.py SECONDS_A_WRITE [arguments]``."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import files
from workers import run
from workers.checkpoint import checkpoint_file

pause_s = float(sys.argv[1])
sys.argv[1:] = sys.argv[2:]
plain = files.replacing
slowed: set[str] = set()


class SlowFile:
    """A file whose writes take long."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        time.sleep(pause_s)
        n: int = self.file.write(data)
        return n


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Any]:
    slow = path.suffix == ".npz" and path.name.partition("-")[0] not in slowed
    slowed.add(path.name.partition("-")[0])
    with plain(path) as (file, temporary):
        yield SlowFile(file) if slow else file, temporary


vars(files).update(replacing=replacing)
vars(checkpoint_file).update(replacing=replacing)
sys.exit(run.main())
