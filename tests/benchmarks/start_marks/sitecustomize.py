"""Notes when a rank has done each part of its start, for ``tests/benchmarks/start_up.py``.

Python imports this module itself when its folder is on the path. Nothing of ours is loaded for it, or earlier than
otherwise: functions are wrapped when their module has been imported. ``START_MARKS`` is the folder to write to;
with ``START_MARKS_MEMORY`` memory is noted as well, which takes time.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

FOLDER, MEMORY = os.environ.get("START_MARKS", ""), bool(os.environ.get("START_MARKS_MEMORY"))
MARKS: list[str] = []
AFTER = {
    "common.start_guard": {"begin": "guard", "over": "options agreed"},
    "workers.launch.mpi": {"start_mpi": "MPI_Init", "connect": "first communicator"},
    "ps.comm.topology": {"Topology.__init__": "communicators"},
    "workers.watchdog.spawn": {"WatchdogHandle.open": "watchdog"},
    "workers.training.task": {"load": "data"},
    "workers.training.build": {"assemble": "model and mode"},
    "workers.training.setup": {"prepare": "log opened"},
    "workers.training.job": {"Job._close_epoch": "first epoch"},
}
"""Functions, by module, and what is done when they have returned for the first time."""
BEFORE = {"common.start_guard": {"waits": "imports"}}


def mark(name: str) -> None:
    """Note a moment, once: seconds on the machine's clock, processor time, and memory in bytes if that is asked for."""
    if any(line.startswith(f"{name}\t") for line in MARKS):
        return
    figures = [time.monotonic(), time.process_time()]
    if MEMORY:
        kilobytes = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0)
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in kilobytes:
                    kilobytes[key] += int(value.split()[0])
        figures += [kilobytes["Pss"] * 1024, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) * 1024]
    MARKS.append("\t".join((name, *map(repr, figures))))
    if name == "first epoch":
        with open(os.path.join(FOLDER, str(os.getpid())), "w", encoding="ascii") as file:
            file.write("\n".join(MARKS))


def wrap(module: ModuleType, path: str, name: str, *, before: bool) -> None:
    """Have a function of a module note a moment."""
    *owner, function = path.split(".")
    place: Any = getattr(module, owner[0]) if owner else module
    original: Callable[..., Any] = getattr(place, function)

    def marked(*arguments: Any, **options: Any) -> Any:
        if before:
            mark(name)
        result = original(*arguments, **options)
        if not before:
            mark(name)
        return result

    setattr(place, function, marked)


class Finder(importlib.abc.MetaPathFinder):
    """Wraps functions of the modules above when these have been loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        loader: Any = spec.loader
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for functions, before in ((AFTER, False), (BEFORE, True)):
                for function, done in functions.get(name, {}).items():
                    wrap(module, function, done, before=before)

        loader.exec_module = exec_module
        return spec


if FOLDER and "workers.run" in sys.orig_argv:
    sys.meta_path.insert(0, Finder())
    mark("interpreter")
