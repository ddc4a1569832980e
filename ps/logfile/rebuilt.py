"""A header in the place of one that is lost: made of what the run folder and later records still say."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import LogError, RankwiseError
from common.option import from_dict
from common.run_files import CONFIG_NAME
from common.toml_file import read_toml
from ps.logfile.records import FORMAT, VERSION, Record
from ps.logfile.salvage import SalvageReader
from ps.logfile.schema import PROCESSES

UNKNOWN = "unknown"
NO_PROCESS = 2**31 - 1
"""An id that no process has."""
OF_ALL_JOBS = ("data", "model", "packet_bytes")
"""What a later job of the run says of itself that holds for the first one too."""
REMEDY = (
    "the header is lost, and neither config.toml nor a later record says what it held; --resume makes another one from "
    "the newest checkpoint, and export --jsonl --salvage prints the records as they are"
)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the options in a run folder's ``config.toml``, all of them; nothing if it does not hold such."""
    with contextlib.suppress(OSError, ValueError, TypeError, RankwiseError):
        return from_dict(RunConfig, read_toml(folder / CONFIG_NAME)).as_dict()
    return {}


def rebuild_header(log: Path, facts: Mapping[str, Any] | None = None) -> Record:
    """Return a header that fits the records that are left of a log, without ``seq``.

    ``facts``: what a job of the run knows of itself, ``config`` among it. Of the first job's processes nothing is
    known: they are on the host ``unknown``. Raises LogError where there is not enough to go by.
    """
    first = _first_records(log)
    resume, epoch, balance = (first.get(kind, {}) for kind in ("resume", "epoch", "balance"))
    later = {**resume, **(facts or {})}
    config = read_config(log.parent) or later.get("config")
    if not config:
        raise LogError(log, 0, REMEDY)
    by_rank = epoch.get("rows") or balance.get("rows") or [0] * (resume.get("ranks_before") or later.get("world") or 1)
    begin = {"kind": "header", "t": min((one["t"] for one in first.values()), default=_written(log.parent))}
    known = {name: later[name] for name in OF_ALL_JOBS if name in later}
    return {**begin, "format": FORMAT, "v": VERSION, "rebuilt": True, "config": config, **_processes(len(by_rank)),
            **_training(config, epoch, balance), **known}  # fmt: skip


def _written(folder: Path) -> float:
    """Return when a job began last in a run folder: it writes ``config.toml`` then; or now, if that is not there."""
    with contextlib.suppress(OSError):
        return (folder / CONFIG_NAME).stat().st_mtime
    return time.time()


def _first_records(log: Path) -> dict[str, Record]:
    """Return the first record of each kind, and the first event ``resume``, up to the first epoch and that event."""
    found: dict[str, Record] = {}
    with contextlib.suppress(LogError):  # not there
        for record in SalvageReader(log).records():
            found.setdefault(record["kind"], record)
            if record["kind"] == "event" and record.get("what") == "resume" and "config" in record:
                found.setdefault("resume", record)
            if {"epoch", "resume"} <= found.keys() or (record["kind"] == "epoch" and "resume" not in found):
                break
    return found


def _processes(world: int) -> Record:
    """Return what the header says of processes of which only the number is known."""
    facts = dict.fromkeys(PROCESSES)
    return facts | {
        "world": world,
        "nodes": [{"host": UNKNOWN, "ranks": list(range(world))}],
        "pid": NO_PROCESS,
        "cores": [[rank] for rank in range(world)],
        "threads": {"per_rank": [1] * world, "set_by": UNKNOWN},
        "mpi": dict.fromkeys(("vendor", "library", "standard"), UNKNOWN),
        "versions": dict.fromkeys(("python", "rankwise", "mpi4py", "numpy", "msgpack"), UNKNOWN),
        "system": UNKNOWN,
        "packet_bytes": 0,
    }


def _training(config: Mapping[str, Any], epoch: Record, balance: Record) -> Record:
    """Return what the header says of data and model, as far as the options and the first records tell."""
    rows = sum(epoch.get("rows", ())) + (epoch.get("before") or {}).get("rows", 0)
    labels = balance.get("labels")
    classifies = config["loss"] == "cross-entropy" or balance.get("label_distance") is not None
    return {
        "data": {"name": config["data"], "sha256": "", "features": 0, "targets": 1,
                 "classes": len(labels[0]) if labels else 0 if classifies else None,
                 "rows": {"train": rows or sum(balance.get("rows", ())), "validation": 0, "test": 0}},
        "model": {"kind": config["model"], "loss": config["loss"], "initial_fingerprint": "", "sizes": [],
                  "n_parameters": 0, "parameters": {name: [] for name in epoch.get("share", ())}},
        "steps_per_epoch": epoch.get("steps", 0),
        "sync": {"mode": config["mode"], "phases": 1, "factored": [], "trials": None},
        "timing": {"method": UNKNOWN, "clock": UNKNOWN, "offset_error_s": 0.0},
        "contribution": {"method": UNKNOWN},
    }  # fmt: skip
