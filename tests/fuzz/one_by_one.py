"""Reads files ``0.npz``, ``1.npz``, ... and prints as JSON what got out that is no error of ours: ``READER COUNT``."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from common.config import RunConfig
from common.data import sources
from common.errors import RankwiseError
from workers.checkpoint import checkpoint_file, start

READERS: dict[str, Callable[[Path], object]] = {
    "data": lambda path: sources.read(RunConfig(data=str(path)), 0, 1),
    "checkpoint": checkpoint_file.load,
    "start": lambda path: start.read_start(str(path)),
}
warnings.simplefilter("error")  # a warning is a line that nobody has asked for
uncaught = []
for number in range(int(sys.argv[2])):
    try:
        READERS[sys.argv[1]](Path(f"{number}.npz"))
    except RankwiseError as error:
        if isinstance(error.__cause__, MemoryError):
            uncaught.append(f"{number}.npz: out of memory")
    except BaseException as error:
        uncaught.append(f"{number}.npz: {type(error).__name__}: {str(error)[:100]}")
print(json.dumps(uncaught))
