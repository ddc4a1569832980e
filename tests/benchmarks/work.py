"""What all peers share: the work, its data, the clock. Needs only NumPy, for it runs in every peer's environment."""

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Layers = Sequence[tuple[Array, Array]]
"""Weights (n_in, n_out) and bias (n_out,) of each layer."""
SAMPLE_S = 0.02
"""Between two looks at the memory of a process."""


@dataclass(frozen=True, slots=True)
class Work:
    """Plain SGD steps of a network from given weights over given rows.

    A launch takes one step, then ``warmup``, then ``repeats`` times ``steps``, and each of these begins at the first of
    ``batches`` batches and goes round. ``epoch``: steps of an epoch, for a peer that trains by epochs.
    """

    sizes: tuple[int, ...]
    batch: int
    rate: float
    batches: int
    warmup: int
    epoch: int
    steps: int
    repeats: int

    @property
    def linear(self) -> bool:
        """Whether this is a linear regression; else softmax and cross-entropy follow."""
        return len(self.sizes) == 2

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of each layer."""
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def flops(self) -> int:
        """Operations of a step's matrix products over the whole batch; the first layer's input needs no gradient."""
        return sum(2 * self.batch * i * o * (3 if n else 2) for n, (i, o) in enumerate(self.layers))


# Epochs of at least 32 steps: our loop measures its contributions on one step in 32, and on one at least.
WORKS = {
    "W1": Work((10, 1), 50, 0.01, 64, 64, 1024, 1024, 3),
    "W2": Work((784, 128, 10), 128, 0.05, 32, 16, 32, 192, 3),
    "W3": Work((784, 512, 512, 10), 512, 0.05, 32, 4, 32, 32, 3),
    "W4": Work((784, 1024, 1024, 1024, 10), 2048, 0.05, 8, 2, 32, 32, 1),
    "W5": Work((784, 4096, 4096, 10), 256, 0.002, 32, 2, 32, 32, 1),
}
MEMORY_STEPS = 3
SUMS = {1_000_000: 50, 10_000_000: 5}
"""Lengths of the vectors that are summed, and sums in a repeat."""
SUM_REPEATS = 5


def prepare(name: str, folder: Path) -> None:
    """Draw rows and starting weights (He et al. 2015) into files, once, so that no peer's start is spent on it."""
    work, stem = WORKS[name], folder / name
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([2015, *work.sizes])
    n = work.batch * work.batches
    x = rng.standard_normal((n, work.sizes[0]), dtype=np.float32)
    noise = rng.standard_normal((n, 1), dtype=np.float32)
    np.save(f"{stem}-x.npy", x)
    np.save(f"{stem}-y.npy", x[:, :1] - x[:, 1:2] + noise if work.linear else rng.integers(0, work.sizes[-1], n))
    for i, shape in enumerate(work.layers):
        weights = rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(2 / shape[0]))
        np.save(f"{stem}-w{i}.npy", weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One launch, as the runner asks for it.

    ``started``: when it was launched, on the monotonic clock that processes of a machine share. ``out``: stem of the
    files for results. ``watch``: measure memory, not time. ``realtime``: under a real-time scheduling class, where a
    process that sleeps and is woken gets its core at once.
    """

    variant: str
    name: str
    folder: str
    out: str
    started: float
    watch: bool = False
    realtime: bool = False

    @classmethod
    def given(cls) -> "Task":
        """Read it from the command line. Before large libraries are imported, whose threads inherit the class."""
        task = cls(**json.loads(sys.argv[1]))
        if task.realtime:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        if task.watch:
            WATCH.start()
        return task

    @property
    def work(self) -> Work:
        """What is to be done."""
        return WORKS[self.name]

    def load(self, part: str) -> Array:
        """Open a file of ``prepare``; what is not copied stays on the disk."""
        opened: Array = np.load(f"{self.folder}/{self.name}-{part}.npy", mmap_mode="r")
        return opened

    def rows(self, rank: int = 0, size: int = 1) -> tuple[Array, Array]:
        """Return this rank's contiguous share of every batch: x (batches, share, n_in), y (batches, share[, 1])."""
        share = self.work.batch // size
        own = slice(rank * share, (rank + 1) * share)
        x, y = (
            np.array(whole.reshape(self.work.batches, self.work.batch, *whole.shape[1:])[:, own])
            for whole in (self.load("x"), self.load("y"))
        )
        return x, y

    def layers(self) -> Layers:
        """Return the starting weights."""
        shapes = self.work.layers
        return [(np.array(self.load(f"w{i}")), np.zeros(n, np.float32)) for i, (_, n) in enumerate(shapes)]

    def loss(self, layers: Layers) -> float:
        """Return the loss on the first 256 rows, or those of a batch, in float64: did all do the same work?"""
        n = min(256, self.work.batch)
        a, y = self.load("x")[:n].astype(np.float64), self.load("y")[:n]
        for i, (w, b) in enumerate(layers):
            a = (np.maximum(a, 0) if i else a) @ np.asarray(w, np.float64) + np.asarray(b, np.float64)
        if self.work.linear:
            return float(np.square(a - y).mean())
        a -= a.max(axis=1, keepdims=True)
        return float((np.log(np.exp(a).sum(axis=1)) - a[np.arange(n), y]).mean())

    def report(self, rank: int, **results: Any) -> None:
        """Hand results to the runner."""
        Path(f"{self.out}.{rank}").write_text(json.dumps(results))


def nothing() -> None:
    """Line up a process that is alone."""


def measure(
    task: Task,
    run: Callable[[int], None],
    layers: Callable[[], Layers] | None,
    *,
    versions: dict[str, str],
    rank: int = 0,
    barrier: Callable[[], None] = nothing,
    **more: Any,
) -> None:
    """Time a peer and report. ``run(n)`` takes n steps from the first batch on and returns when they are done."""
    work, ms = task.work, []
    run(1)
    first_s = time.monotonic() - task.started
    run(MEMORY_STEPS if task.watch else work.warmup)
    for _ in range(0 if task.watch else work.repeats):
        barrier()
        start = time.perf_counter()
        run(work.steps)
        ms.append((time.perf_counter() - start) / work.steps * 1e3)
    memory = WATCH.end() if task.watch else []
    loss = task.loss(layers()) if rank == 0 and layers and not task.watch else None
    task.report(rank, ms=ms, first_s=first_s, loss=loss, memory=memory, versions=versions, **more)


def time_sums(add: Callable[[], None], count: int, barrier: Callable[[], None]) -> list[float]:
    """Return microseconds of a sum, a repeat each."""
    times = []
    for repeat in range(SUM_REPEATS + 1):
        barrier()
        start = time.perf_counter()
        for _ in range(count):
            add()
        if repeat:
            times.append((time.perf_counter() - start) / count * 1e6)
    return times


class WatchdogHandle:
    """Looks at this process's proportional set size all the time: memory that processes share counts once."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> list[tuple[float, int]]:
        """Stop; return (monotonic seconds, bytes)."""
        self._done.set()
        self._thread.join()
        return self.samples

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_S):
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            kib = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            self.samples.append((time.monotonic(), kib * 1024))


WATCH = WatchdogHandle()
