"""Logs of runs that never were: any length, any number of ranks, written by the log's own writer."""

import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import marks
from common.config import RunConfig
from ps.log import FORMAT, LOG_NAME, VERSION, Record
from ps.log_writer import RunLog

STEPS = 20


def header(ranks: int, *, nodes: int = 1, mode: str = "allreduce", sizes: tuple[int, ...] = (64, 16, 10)) -> Record:
    """Return the fields of a header; two parameters a layer; ``nodes`` hosts ``node0``, ... with equal shares."""
    layers = list(itertools.pairwise(sizes))
    parameters: dict[str, list[int]] = {}
    for i, (n_in, n_out) in enumerate(layers, 1):
        parameters |= {f"W{i}": [n_in, n_out], f"b{i}": [n_out]}
    each = -(-ranks // nodes)
    return {
        "format": FORMAT,
        "v": VERSION,
        "config": RunConfig(mode=mode).as_dict(),
        "world": ranks,
        "nodes": [
            {"host": f"node{i}", "ranks": list(range(i * each, min(ranks, (i + 1) * each)))} for i in range(nodes)
        ],
        "pid": 2**22 + 1,
        "pid_start": None,
        "boot_id": None,
        "cores": [[rank % each] for rank in range(ranks)],
        "threads": {"per_rank": [1] * ranks, "set_by": "rankwise"},
        "blas": {"internal_api": "openblas", "version": "0.3.31", "architecture": "Zen"},
        "mpi": {"vendor": "MPICH 5.0.2", "library": "MPICH Version: 5.0.2", "standard": "4.1"},
        "versions": dict.fromkeys(("python", "rankwise", "mpi4py", "numpy", "msgpack"), "1.0"),
        "system": "Linux",
        "data": {
            "name": "synthetic",
            "rows": {"train": 64 * STEPS, "validation": 100, "test": 100},
            "features": sizes[0],
            "classes": sizes[-1],
            "targets": 1,
            "sha256": "0" * 64,
        },
        "model": {
            "kind": "mlp",
            "sizes": list(sizes),
            "loss": "SoftmaxCrossEntropy",
            "parameters": parameters,
            "n_parameters": sum((n_in + 1) * n_out for n_in, n_out in layers),
            "initial_fingerprint": "0" * 64,
        },
        "steps_per_epoch": STEPS,
        "packet_bytes": 4 * (16 + sum((n_in + 1) * n_out for n_in, n_out in layers)),
        "sync": {"mode": mode, "phases": 1, "factored": [], "trials": None},
        "timing": {"method": "made up", "clock": "none", "offset_error_s": 0.0},
        "contribution": {"method": "made up"},
    }


def epoch(head: Record, number: int, rng: random.Random, slow: dict[int, float]) -> Record:
    """Return the fields of an epoch; ``slow``: factors of some ranks' compute time, for which the others wait."""
    ranks, names = head["world"], list(head["model"]["parameters"])
    compute = [0.1 * rng.uniform(0.98, 1.02) * slow.get(rank, 1.0) for rank in range(ranks)]
    wait = [max(compute) - own for own in compute]
    transfer, loop = 0.01, max(compute) + 0.012

    def ratios() -> dict[str, list[float]]:
        return {name: [rng.uniform(0.5, 1.5) / ranks for _ in range(ranks)] for name in names}

    def all_of() -> list[float]:
        return [rng.uniform(0.5, 1.5) / ranks for _ in range(ranks)]

    loss = 2.3 * 0.9**number + 0.01
    return {
        "epoch": number,
        "steps": STEPS,
        "sampled_steps": [11],
        "learning_rate": 0.002,
        "elapsed_s": loop * number,
        "loss": loss,
        "loss_by_rank": [loss * rng.uniform(0.9, 1.1) for _ in range(ranks)],
        "validation_loss": loss * 1.1,
        "validation_metric": 1 - loss / 3,
        "rows": [64 * STEPS // ranks] * ranks,
        "gradient_mean": ratios(),
        **{key: ratios() for key in ("norm_ratio", "share", "cosine", "leave_one_out")},
        **{f"{key}_all": all_of() for key in ("norm_ratio", "share", "cosine", "leave_one_out")},
        "diversity": dict.fromkeys(names, 0.5),
        "diversity_all": 0.5,
        "effective_ranks": 0.5 * ranks,
        "noise_trace": dict.fromkeys(names, 10.0),
        "noise_gradient_sq": dict.fromkeys(names, 0.05),
        "noise_scale": 200.0,
        "efficiency": {
            "load_balance": sum(compute) / ranks / max(compute),
            "communication": max(compute) / loop,
            "parallel": sum(compute) / ranks / loop,
        },
        "bus_bytes_per_s": 1e9,
        "preemptions": [0] * ranks,
        "loop_s": [loop] * ranks,
        "input_s": [0.001] * ranks,
        "compute_s": compute,
        "reduce_s": [0.0] * ranks,
        "wait_s": wait,
        "transfer_s": [transfer] * ranks,
        "sync_s": [own + transfer for own in wait],
        "sync_median_s": [(own + transfer) / STEPS for own in wait],
        "wait_median_s": [own / STEPS for own in wait],
        "transfer_median_s": [transfer / STEPS] * ranks,
        "sampling_s": [0.0005] * ranks,
        "evaluation_s": [0.002] * ranks,
        "sent_bytes": [head["packet_bytes"] * STEPS] * ranks,
        "fingerprint": [f"{number:012x}"] * ranks,
    }


def steps(head: Record, record: Record) -> Record:
    """Return the fields of the epoch's ``steps`` record: one sampled step half-way through."""
    ranks = head["world"]
    begin = int(1e6 * record["loop_s"][0] / 2)
    own = [int(1e6 * c / STEPS) for c in record["compute_s"]]
    last = begin + max(own)
    moments = {
        "input": [begin - 40] * ranks,
        "begin": [begin] * ranks,
        "forward": [begin + own[rank] // 3 for rank in range(ranks)],
        "backward": [begin + own[rank] for rank in range(ranks)],
        "arrived": [begin + own[rank] for rank in range(ranks)],
        "left": [last + 500] * ranks,
        "measured": [last + 550] * ranks,
        "updated": [last + 650] * ranks,
        "end": [last + 650] * ranks,
        "last": [last] * ranks,
    }
    assert set(moments) == {*marks.NAMES, "last"}
    return {
        "epoch": record["epoch"],
        "steps": record["sampled_steps"],
        "begin_s": record["elapsed_s"] - record["loop_s"][0],
        "moments_us": {name: [values] for name, values in moments.items()},
    }


def write_run(
    folder: Path,
    *,
    epochs: int = 3,
    ranks: int = 4,
    slow: dict[int, float] | None = None,
    end: str = "ok",
    more: Iterable[tuple[str, Record]] = (),
    seed: int = 0,
    **of_header: Any,
) -> Path:
    """Write a run's log into a folder, which is made, and return it.

    ``more``: kind and fields of records that follow the epochs. ``end``: status of the end record, none if empty.
    ``of_header``: see ``header``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, rng = RunLog(folder / LOG_NAME), random.Random(seed)
    head = header(ranks, **of_header)
    log.append("header", **head)
    last: Record = {}
    for number in range(1, epochs + 1):
        last = epoch(head, number, rng, slow or {})
        log.append("epoch", **last)
        log.append("steps", **steps(head, last))
    for kind, fields in more:
        log.append(kind, **fields)
    if end:
        log.append(
            "end", status=end, wall_s=1.0 * epochs, epochs=epochs, best_epoch=epochs or None, loss=last.get("loss"),
            validation_loss=last.get("validation_loss"), validation_metric=last.get("validation_metric"),
            metric="accuracy", test_loss=last.get("loss"), test_metric=0.9, fingerprint="0" * 64,
        )  # fmt: skip
    log.close()
    return folder
