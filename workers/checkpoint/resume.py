"""Going on with a run: from which checkpoint, and whether configuration and data are still the same."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.config import RunConfig
from common.errors import JobError, RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import run_folder
from ps.logfile.validation import FLAG, NUMBER, TEXT, FieldSpec, Validator, list_of, nullable, table
from ps.metrics.epoch_sums import Before
from ps.sync.modes import MODES
from ps.sync.synchronizer import Synchronizer
from ps.sync.training_state import KEPT, TrainingState
from workers.checkpoint import checkpoint_file
from workers.checkpoint.checkpoint_file import Snapshot
from workers.checkpoint.saving import PARAMETERS

MOST = 2**53
"""Counts beyond it are none: numbers of either kind hold smaller ones exactly."""


@dataclass(slots=True)
class Origin:
    """Where a job begins: at the start, or where an earlier one was.

    ``epoch``: the one to train next, of which ``before`` tells what is done. ``mode``: what mode auto chose then.
    ``world``: ranks then. ``memory``: the coordinator's. ``skipped``: see Duties. ``snapshot``: rank 0 only.
    ``faults``: checkpoints that were passed over.
    """

    folder: str = ""
    epoch: int = 1
    before: Before = field(default_factory=Before)
    mode: str = ""
    world: int = 0
    data_sha256: str = ""
    memory: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[int, int, int] = (0, 0, 0)
    snapshot: Snapshot | None = None
    loads: bool = False
    """Whether there is a snapshot, at rank 0."""
    kept: bool = False
    """Whether it holds the best parameters so far."""
    faults: list[str] = field(default_factory=list)

    def stopped_early(self, config: RunConfig) -> bool:
        """Say whether the job before had come to its end for want of a lower validation loss."""
        if not config.patience or not self.memory or self.before.steps:
            return False
        return bool(self.epoch - 1 - self.memory["best_epoch"] >= config.patience)

    def facts(self) -> dict[str, Any]:
        """Return plain values of all but the snapshot."""
        names = ("folder", "epoch", "mode", "world", "data_sha256", "memory", "loads", "kept", "faults")
        before = [self.before.steps, self.before.rows, self.before.loss_sum]
        return {**{name: getattr(self, name) for name in names}, "before": before, "skipped": list(self.skipped)}

    @classmethod
    def from_facts(cls, facts: dict[str, Any], snapshot: Snapshot | None) -> "Origin":
        """Make an origin from ``facts``."""
        known = {**facts, "before": Before(*facts["before"]), "skipped": tuple(facts["skipped"])}
        return cls(**known, snapshot=snapshot)


COUNT = FieldSpec("a whole number from 0", frozenset({int}), low=0, high=MOST)
FROM_ONE = replace(COUNT, what="a whole number from 1", low=1)
HEADER = table(data=table(sha256=TEXT), world=COUNT)
"""What the log's header says, as far as going on needs it."""
ABOUT = table(
    position=table(epoch=FROM_ONE, steps=COUNT, closed=FLAG, rows=COUNT, loss_sum=NUMBER),
    mode=TEXT,
    world=FROM_ONE,
    counts=FieldSpec("a map", frozenset({dict}), of=COUNT),
    coordinator=table(
        epochs=COUNT, best_loss=nullable(NUMBER), best_epoch=COUNT, noise=list_of(NUMBER, 2), elapsed_s=NUMBER
    ),
    skipped=list_of(COUNT, 3),
)
"""The same of what a checkpoint says beside its arrays."""


def open_origin(folder: Path) -> Origin:
    """Read the newest whole checkpoint of a run; without any, training begins anew. Raises RankwiseError."""
    if run_folder.is_done(folder / LOG_NAME):
        raise RankwiseError(f"resume: {folder} came to its end already; give a larger --epochs in a new run")
    snapshot, faults = checkpoint_file.newest(folder)
    header = run_folder.header_of(folder / LOG_NAME)
    if bad := Validator().fault(header, HEADER):
        raise RankwiseError(f"resume: the log of {folder}: header{bad}; start a new run")
    sha256, world = header["data"]["sha256"], header["world"]
    if snapshot is None:
        return Origin(str(folder), data_sha256=sha256, world=world, faults=faults)
    about = snapshot.about
    bad = Validator().fault(about, ABOUT)
    if not bad and about["mode"] not in MODES:
        bad = f".mode is {about['mode']!r}, not one of {', '.join(MODES)}"
    if bad:
        raise RankwiseError(
            f"resume: {folder / snapshot.name}: about{bad}; written by another version? move it away to go on from the "
            "one before"
        )
    position = about["position"]
    whole = position["closed"]
    return Origin(
        folder=str(folder),
        epoch=position["epoch"] + (1 if whole else 0),
        before=Before() if whole else Before(position["steps"], position["rows"], float(position["loss_sum"])),
        mode=about["mode"],
        world=about["world"],
        data_sha256=sha256,
        memory=about["coordinator"],
        skipped=tuple(about["skipped"]),
        snapshot=snapshot,
        loads=True,
        kept=any(name.startswith(f"{KEPT}/") for name in snapshot.arrays),
        faults=faults,
    )


def state_of(snapshot: Snapshot, sync: Synchronizer, steps_per_epoch: int) -> TrainingState:
    """Return a snapshot's parameters and optimizer state as vectors. Raises JobError if they are not this job's."""
    flat, counts = sync.flat, snapshot.about["counts"]
    if snapshot.about["position"]["steps"] > steps_per_epoch:
        raise JobError(f"resume: {snapshot.name} is of an epoch of more than {steps_per_epoch} steps; start a new run")
    if counts.keys() != sync.optimizer.counts().keys():
        raise JobError(f"resume: {snapshot.name} holds the counts {sorted(counts)}, which are another optimizer's")

    def vector(kind: str) -> Any:
        whole = np.empty(flat.n, flat.dtype)
        for name, view in flat.views(whole).items():
            array = snapshot.arrays.get(f"{kind}/{name}")
            if array is None or array.shape != view.shape or array.dtype != view.dtype:
                raise JobError(f"resume: {snapshot.name} does not hold {kind} {name} as the model has it")
            view[...] = array
        return whole

    kinds = {name for name, _ in sync.vectors()} | {name.split("/")[0] for name in snapshot.arrays}
    return TrainingState(vector(PARAMETERS), {kind: vector(kind) for kind in sorted(kinds - {PARAMETERS})}, counts)
