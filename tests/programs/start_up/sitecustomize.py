"""Strikes a rank while Python loads: ``TEST_START_UP`` says which, at the import of what, and how.

Python imports this module itself when its folder is on the path; whatever else does so is left alone.
"""

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ENDS = {"exit 0": 0, "exit 3": 3}
SIGNALS = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "abort": signal.SIGABRT, "stop": signal.SIGSTOP}
ORDERS = json.loads(os.environ.get("TEST_START_UP", "{}"))
RANK = int(
    next((os.environ[name] for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK") if name in os.environ), -1)
)


class Striker:
    """Looks at each import, before any module is looked for."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == ORDERS["module"]:
            sys.meta_path.remove(self)
            strike(ORDERS["how"], name)


def strike(how: str, name: str) -> None:
    Path(os.environ["TEST_JOB"], "struck").touch()
    if how in ENDS:
        os._exit(ENDS[how])
    if how in SIGNALS:
        os.kill(os.getpid(), SIGNALS[how])
        time.sleep(1)  # until it comes
    if how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])
    if how == "missing":
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    if how == "broken":
        raise ImportError("libmpi.so.12: cannot open shared object file: No such file or directory")
    if how == "no licence":
        raise SystemExit("no licence for this node")
    if how == "null":
        ctypes.string_at(0)
    if how == "hang":
        time.sleep(1000)
    if how == "wait":  # for the driver, which signals the launcher meanwhile
        time.sleep(ORDERS["seconds"])


if ORDERS and ORDERS["rank"] in (RANK, -1) and RANK >= 0 and "workers.run" in sys.orig_argv:
    if ORDERS["module"] == "site":
        strike(ORDERS["how"], "site")
    else:
        sys.meta_path.insert(0, Striker())
