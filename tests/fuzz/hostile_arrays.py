"""``python -m tests.fuzz.hostile_arrays --files N``: hostile .npz and .csv files, by a seed, and how reading them ends.

Each is read as data, as a checkpoint, as parameters to start from and as a saved model; whatever is in it, that must
give an answer or one of rankwise's own errors, in bounded memory and time.
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common.config import RunConfig
from common.data import sources
from common.data.dataset import check
from common.data.training_features import scale_alone
from common.errors import RankwiseError
from common.memory import THIS_PROCESS
from ps.reader.commands import compare
from tests.fuzz.array_files import KINDS, hostile
from workers.checkpoint import checkpoint_file, start

LIMIT = 64 << 20
"""Bytes that arrays may take while the files are read."""


def read(kind: str, data: bytes, folder: Path) -> list[str]:
    """Read a file in every way there is, and return how each ended: ``read``, or the kind of error.

    Warnings are errors here: none may reach a terminal. Raises what is none of rankwise's own.
    """
    path = folder / ("data.csv" if kind == "table" else "checkpoint-5.npz")
    path.write_bytes(data)
    ended = []
    acts: list[Callable[[], object]] = [lambda: as_data(path)]
    if kind != "table":
        (folder / "model.npz").write_bytes(data)
        view: Any = SimpleNamespace(folder=folder, header={"model": {"parameters": {"W": [60, 3]}}})
        acts += [
            lambda: checkpoint_file.load(path),
            lambda: checkpoint_file.verify(path),
            lambda: start.read_start(str(path)),
            lambda: compare._differences([view, view]),
        ]
    for act in acts:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("error")
            try:
                act()
                ended.append("read")
            except RankwiseError as error:
                if isinstance(error.__cause__, MemoryError):  # asked for, and not there
                    raise error.__cause__ from error
                ended.append(type(error).__name__)
    return ended


def as_data(path: Path) -> None:
    """Do with data all that a job does before it trains."""
    config = RunConfig(data=str(path), target="y" if path.suffix == ".csv" else "")
    data = check(sources.read(config, 0, 1), config)
    scale_alone(data, config.dtype, standardize=True)
    if not data.n_classes:
        data.scale_target(*data.target_scaling(), config.dtype)


def status(name: str) -> int:
    """Return the bytes that /proc/self/status says."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0]) << 10


def main() -> int:
    """Read the files, print a table of how that ended; return 1 if anything was let out that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.hostile_arrays", description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options = parser.parse_args()
    THIS_PROCESS.set(str(LIMIT >> 20) + "M")
    ends: dict[str, Counter[str]] = {kind: Counter() for kind in options.kinds}
    slowest, most, uncaught = (0.0, ""), (0, ""), 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, data) in enumerate(hostile(options.seed, options.files, options.kinds)):
            place = f"file {number} ({kind})"
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is counted anew; see proc(5)
            rss, begin = status("VmRSS"), time.perf_counter()
            try:
                ends[kind].update(read(kind, data, Path(folder)))
            except Exception as error:
                uncaught += 1
                ends[kind][f"UNCAUGHT {type(error).__name__}"] += 1
                print(f"{place}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
            slowest = max(slowest, (time.perf_counter() - begin, place))
            most = max(most, (status("VmHWM") - rss, place))
    for kind, counted in ends.items():
        print(f"{kind:8}", ", ".join(f"{name} {n}" for name, n in sorted(counted.items())))
    print(f"{options.files} files: {uncaught} uncaught; {slowest[0]:.2f} s at most, {slowest[1]}; ", end="")
    print(f"{most[0] >> 20} MiB at most, {most[1]}, where arrays may take {LIMIT >> 20}")
    return int(uncaught > 0)


if __name__ == "__main__":
    sys.exit(main())
