"""Where a job begins: at the start, or where an earlier job of the run was."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from common.errors import RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import earlier_run
from ps.logfile.validation import TEXT, Validator, table
from ps.sync.training_state import BEST
from workers.checkpoint import checkpoint_file
from workers.checkpoint.content import COUNT, CheckpointContent
from workers.checkpoint.job_state import JobState

HEADER = table(data=table(sha256=TEXT), world=COUNT)
"""What the log's header must say for a run to be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The same on all ranks, but for the checkpoint, which only rank 0 has.

    ``state``: where the job is before its first step. ``folder``: of the run to resume, empty for a new one. ``mode``:
    the checkpoint's, empty without one. ``world``: ranks then. ``faults``: checkpoints that were passed over.
    """

    state: JobState = field(default_factory=JobState)
    folder: str = ""
    mode: str = ""
    world: int = 0
    data_sha256: str = ""
    faults: list[str] = field(default_factory=list)
    checkpoint: CheckpointContent | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values of all but the checkpoint."""
        return asdict(replace(self, checkpoint=None))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Origin":
        """Make an origin, without a checkpoint, from ``as_dict``."""
        return cls(**{**plain, "state": JobState.from_dict(plain["state"])})


def open_origin(folder: Path, patience: int) -> Origin:
    """Read the newest whole checkpoint of a run; without any, training begins again. Raises RankwiseError.

    ``patience``: see RunConfig; training is over where so many epochs brought no lower validation loss.
    """
    log = folder / LOG_NAME
    if earlier_run.is_done(log):
        raise RankwiseError(f"resume: {folder} came to its end already; give a larger --epochs in a new run")
    snapshot, faults = checkpoint_file.newest(folder)
    header = earlier_run.header_of(log)
    if bad := Validator().fault(header, HEADER):
        raise RankwiseError(f"resume: the log of {folder}: header{bad}; start a new run")
    sha256 = header["data"]["sha256"]
    if snapshot is None:
        return Origin(folder=str(folder), data_sha256=sha256, world=header["world"], faults=faults)
    content = CheckpointContent.read(snapshot, folder / snapshot.name)
    done, memory = content.position["epoch"] - (0 if content.position["closed"] else 1), content.coordinator
    state = JobState(
        epoch=done + 1,
        before=content.before,
        last={"epoch": done, "improved": False, "memory": memory},
        skipped=content.skipped,
        best_kept=any(name.startswith(f"{BEST}/") for name in content.arrays),
        over=bool(patience) and not content.before.steps and done - memory["best_epoch"] >= patience,
    )
    return Origin(
        state=state, folder=str(folder), mode=content.mode, world=content.world, data_sha256=sha256, faults=faults,
        checkpoint=content,
    )  # fmt: skip
