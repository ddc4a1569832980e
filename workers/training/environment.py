"""What a log's header says of the job, the machine, the libraries, the data and the model."""

import os
import platform
from typing import Any

import threadpoolctl
from mpi4py import MPI

from common.data.dataset import Dataset
from common.flat import Flat, fingerprint
from common.host import affinity, boot_id, host, memory_nodes, process_age_s, process_start
from common.nn import custom_model
from common.nn.mlp import Mlp
from common.option import is_own_model
from common.version import VERSION
from ps.comm.collectives import gather
from ps.comm.topology import Topology
from ps.metrics.sync_timer import SyncTimer
from workers.training.task import Task

MOST_LISTED = 1000
"""Classes or targets that the header lists; model.npz has all."""


def header_facts(topology: Topology, task: Task, flat: Flat, threads: tuple[int, str]) -> dict[str, Any]:
    """Return the facts, at rank 0; the others return none. Collective.

    ``threads``: BLAS threads of this rank, and who set them.
    """
    comm, data, model = topology.comm, task.data, task.model
    own = {"host": host(), "pid": os.getpid(), "cores": affinity(), "threads": threads[0], "threads_by": threads[1],
           "memory_nodes": memory_nodes()}  # fmt: skip
    ranks = gather(comm, own)
    if comm.rank:
        return {}
    from importlib import metadata  # on rank 0 only

    from workers.training.time_limit import time_limit

    members: dict[int, list[int]] = {}
    for rank, leader in enumerate(topology.leaders):
        members.setdefault(leader, []).append(rank)
    return {
        "world": comm.size,
        "nodes": [{"host": ranks[leader]["host"], "ranks": own} for leader, own in members.items()],
        "pid": os.getpid(),
        "pid_start": process_start(os.getpid()),
        "boot_id": boot_id(),
        "launch_s": process_age_s(),
        "cores": [rank["cores"] for rank in ranks],
        "bound": are_bound([rank["host"] for rank in ranks], [rank["cores"] for rank in ranks]),
        "memory_nodes": max(rank["memory_nodes"] for rank in ranks),
        "threads": {"per_rank": [rank["threads"] for rank in ranks], "set_by": ranks[0]["threads_by"]},
        "blas": blas(),
        "mpi": {
            "vendor": mpi_vendor(),
            "library": MPI.Get_library_version().split("\n")[0].strip("\0 "),
            "standard": ".".join(str(v) for v in MPI.Get_version()),
        },
        "versions": {
            "python": platform.python_version(),
            "rankwise": VERSION,
            **{name: metadata.version(name) for name in ("mpi4py", "numpy", "msgpack")},
        },
        "system": platform.platform(),
        "data": facts_of_data(data),
        "model": {
            "kind": task.config.model,
            **file_of_model(task.config.model),
            "sizes": list(model.sizes) if isinstance(model, Mlp) else [],
            "loss": type(model.loss).__name__,
            "parameters": {name: list(shape) for name, shape in flat.shapes.items()},
            "n_parameters": flat.n,
            "initial_fingerprint": fingerprint(flat.param_vector),
        },
        "packet_bytes": flat.packet.nbytes,
        "time_limit": time_limit(),
    }


def are_bound(hosts: list[str], cores: list[list[int]]) -> bool:
    """Say whether no two ranks may run on the same core, by the host and the cores of each."""
    places = [(name, core) for name, own in zip(hosts, cores, strict=True) for core in own]
    return len(places) == len(set(places))


def file_of_model(model: str) -> dict[str, str]:
    """Return what the log says of the file that a model class of one's own comes from; nothing of a built-in model."""
    found = custom_model.file_of(model) if is_own_model(model) else None
    return {"file": found.path, "sha256": found.sha256} if found else {}


def facts_of_data(data: Dataset) -> dict[str, Any]:
    """Return what the log says of the data."""
    return {
        "name": data.name,
        "rows": {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
        "features": data.n_features,
        "features_used": data.x.shape[1],
        "task": data.task,
        "classes": data.n_classes or None,
        "targets": data.n_targets,
        "weighted": data.weight is not None,
        "labels": data.labels.tolist() if 0 < data.n_classes <= MOST_LISTED else None,
        "target_names": list(data.target_names) if 0 < len(data.target_names) <= MOST_LISTED else None,
        "target_mean": data.target_mean.tolist() if len(data.target_mean) <= MOST_LISTED else None,
        "target_scale": data.target_scale.tolist() if len(data.target_scale) <= MOST_LISTED else None,
        **({"columns": list(data.columns)} if 0 < len(data.columns) <= MOST_LISTED else {}),
        **({"label_names": list(data.label_names)} if 0 < len(data.label_names) <= MOST_LISTED else {}),
        **({"prepare": data.transformer.as_dict()} if data.transformer else {}),
        "notes": list(data.notes),
        "sha256": data.sha256,
    }


def mpi_vendor() -> str:
    """Return who made the MPI library, with its version."""
    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def blas() -> dict[str, Any] | None:
    """Return what is known of the BLAS library; None if there is none."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return {k: pools[0].get(k) for k in ("internal_api", "version", "architecture")} if pools else None


def timing(timer: SyncTimer) -> dict[str, Any]:
    """Return how wait is distinguished from transfer."""
    several = "; node offsets by round trips with rank 0 at both ends of an epoch" if timer.topology.count > 1 else ""
    return {
        "method": "arrival times of every step, compared once an epoch; no barrier",
        "clock": f"monotonic, shared within a node{several}",
        "offset_error_s": timer.offset_error_s,
    }
