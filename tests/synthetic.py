"""Logs of runs that never were: any length, any number of ranks, written by the log's own writer."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import step_times
from common.config import RunConfig
from common.run_files import LOG_NAME
from ps.logfile.records import FORMAT, VERSION, Record
from ps.logfile.schema import PROCESSES
from ps.logfile.writer import RunLog

STEPS = 20
ROWS = 64
"""Of all ranks in a step."""


@dataclass(frozen=True, slots=True)
class Again:
    """A job that goes on with a run. ``epoch``, ``step``: where; ``ranks``: its number of ranks.

    ``end``: the status that the job before ended with, none if it was killed. ``dead``: the ranks that died, if the
    same job goes on without them. ``checkpoints``: of the job before.
    """

    epoch: int
    ranks: int
    step: int = 0
    end: str = ""
    dead: tuple[int, ...] = ()
    checkpoints: int = 0
    until: int = 0
    """The last epoch that the job before wrote; the one before ``epoch`` if it is 0."""


def header(
    ranks: int,
    *,
    nodes: int = 1,
    mode: str = "allreduce",
    sizes: tuple[int, ...] = (64, 16, 10),
    host: str = "node",
) -> Record:
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
            {"host": f"{host}{i}", "ranks": list(range(i * each, min(ranks, (i + 1) * each)))} for i in range(nodes)
        ],
        "pid": 2**22 + 1,
        "pid_start": None,
        "boot_id": None,
        "launch_s": 0.5,
        "cores": [[rank % each] for rank in range(ranks)],
        "threads": {"per_rank": [1] * ranks, "set_by": "rankwise"},
        "blas": {"internal_api": "openblas", "version": "0.3.31", "architecture": "Zen"},
        "mpi": {"vendor": "MPICH 5.0.2", "library": "MPICH Version: 5.0.2", "standard": "4.1"},
        "versions": dict.fromkeys(("python", "rankwise", "mpi4py", "numpy", "msgpack"), "1.0"),
        "system": "Linux",
        "data": {
            "name": "synthetic",
            "rows": {"train": ROWS * STEPS, "validation": 100, "test": 100},
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
        "bound": True,
        "memory_nodes": 1,
        "time_limit": None,
        "packet_bytes": 4 * (16 + sum((n_in + 1) * n_out for n_in, n_out in layers)),
        "sync": {
            "mode": mode,
            "phases": 1,
            "factored": [],
            "trials": None,
            **({"divides_state": True} if mode == "sharded" else {}),
        },
        "timing": {"method": "made up", "clock": "none", "offset_error_s": 0.0},
        "contribution": {"method": "made up"},
    }


def epoch(head: Record, number: int, rng: random.Random, slow: dict[int, float], done: int = 0) -> Record:
    """Return the fields of an epoch; ``slow``: factors of some ranks' compute time, for which the others wait.

    ``done``: steps that an earlier job did of it.
    """
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
        "steps": STEPS - done,
        "before": {"steps": done, "rows": ROWS * done, "loss_sum": loss * ROWS * done} if done else None,
        "skipped": 0,
        "sampled_steps": [11],
        "samples": 1,
        "sample_cost_s": [0.0005] * ranks,
        "learning_rate": 0.002,
        "elapsed_s": loop * number,
        "loss": loss,
        "loss_by_rank": [loss * rng.uniform(0.9, 1.1) for _ in range(ranks)],
        "validation_loss": loss * 1.1,
        "validation_metric": 1 - loss / 3,
        "rows": [ROWS * (STEPS - done) // ranks + (rank < ROWS * (STEPS - done) % ranks) for rank in range(ranks)],
        "gradient_mean": ratios(),
        **{key: ratios() for key in ("norm_ratio", "share", "cosine", "leave_one_out")},
        **{f"{key}_all": all_of() for key in ("norm_ratio", "share", "cosine", "leave_one_out")},
        "share_low": [0.2 / ranks] * ranks,
        "share_high": [1.8 / ranks] * ranks,
        "chance_low": [0.4 / ranks] * ranks,
        "chance_high": [1.6 / ranks] * ranks,
        "diversity": dict.fromkeys(names, 0.5),
        "diversity_all": 0.5,
        "effective_ranks": 0.5 * ranks,
        "effective_ranks_low": 0.4 * ranks,
        "effective_ranks_high": 0.6 * ranks,
        "noise_trace": dict.fromkeys(names, 10.0),
        "noise_gradient_sq": dict.fromkeys(names, 0.05),
        "noise_scale": 200.0,
        "gradient_norm": 0.8 * 0.9**number,
        "efficiency": {
            "load_balance": sum(compute) / ranks / max(compute),
            "communication": max(compute) / loop,
            "parallel": sum(compute) / ranks / loop,
        },
        "bus_bytes_per_s": 1e9,
        "preemptions": [0] * ranks,
        "preempted_s": [0.0] * ranks,
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
        "checkpoint_s": [0.001] * ranks,
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
    assert set(moments) == {*step_times.TIMESTAMPS, "last"}
    return {
        "epoch": record["epoch"],
        "steps": record["sampled_steps"],
        "begin_s": record["elapsed_s"] - record["loop_s"][0],
        "moments_us": {name: [values] for name, values in moments.items()},
    }


def go_on(log: RunLog, head: Record, job: Again, of_header: Record) -> Record:
    """Write how a job ended and that another one went on; return the header's facts of that one."""
    for i in range(job.checkpoints):
        log.append("event", what="checkpoint", file=f"checkpoint-{STEPS * (i + 1)}.npz")
    if job.end:
        log.append(
            "end", status=job.end, wall_s=1.0, epochs=job.epoch - 1, best_epoch=None, loss=None, validation_loss=None,
            validation_metric=None, metric="accuracy", stopped_epoch=job.epoch, stopped_step=job.step,
        )  # fmt: skip
    new = header(job.ranks, **of_header)
    facts = {name: new[name] for name in PROCESSES}
    place = {"epoch": job.epoch, "step": job.step, "ranks_before": head["world"], "ranks": job.ranks}
    if job.dead:
        hosts = ["node0"] * len(job.dead)
        alive = [rank for rank in range(head["world"]) if rank not in job.dead]
        log.append(
            "event", what="shrink", dead=list(job.dead), hosts=hosts, alive=alive, seconds=0.004, **place, **facts
        )  # fmt: skip
    else:
        log.append("event", what="resume", passed_over=[], **place, **facts, data=new["data"], model=new["model"])
    return new


def write_run(
    folder: Path,
    *,
    epochs: int = 3,
    ranks: int = 4,
    slow: dict[int, float] | None = None,
    end: str = "ok",
    more: Iterable[tuple[str, Record]] = (),
    again: Iterable[Again] = (),
    seed: int = 0,
    **of_header: Any,
) -> Path:
    """Write a run's log into a folder, which is made, and return it.

    ``more``: kind and fields of records that follow the epochs. ``end``: status of the end record, none if empty.
    ``again``: jobs that went on with it. ``of_header``: see ``header``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, rng = RunLog(folder / LOG_NAME), random.Random(seed)
    head = header(ranks, **of_header)
    log.append("header", **head)
    last: Record = {}
    first, done = 1, 0
    for job in (*again, None):
        until = (job.until or job.epoch - 1) if job else epochs
        for number in range(first, until + 1):
            last = epoch(head, number, rng, slow or {}, done)
            log.append("epoch", **last)
            log.append("steps", **steps(head, last))
            done = 0
        if job:
            head, first, done = go_on(log, head, job, of_header), job.epoch, job.step
    for kind, fields in more:
        log.append(kind, **fields)
    if end:
        log.append(
            "end", status=end, wall_s=1.0 * epochs, epochs=epochs, best_epoch=epochs or None, loss=last.get("loss"),
            validation_loss=last.get("validation_loss"), validation_metric=last.get("validation_metric"),
            metric="accuracy", test_loss=last.get("loss"), test_metric=0.9, fingerprint="0" * 64,
            not_judged={},
        )  # fmt: skip
    log.close()
    return folder


def places(value: object, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every field, and to the first entry of every list."""
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, entry in inner:
        yield (*place, key)
        yield from places(entry, (*place, key))
