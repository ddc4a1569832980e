"""Where a job begins: at the start, or where an earlier job of the run was."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.errors import RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import run_folder
from ps.logfile.validation import TEXT, Validator, table
from ps.metrics.epoch_sums import DoneBefore
from ps.sync.training_state import BEST
from workers.checkpoint import checkpoint_file
from workers.checkpoint.content import COUNT, CheckpointContent
from workers.checkpoint.job_state import JobState

HEADER = table(data=table(sha256=TEXT), world=COUNT)
"""What the log's header must say for a run to be resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The same on all ranks, but for the checkpoint, which only rank 0 has.

    ``folder``: of the run to resume, empty for a new one. ``epoch``: the one to train next, of which ``before`` is
    done. ``mode``: the checkpoint's. ``world``: ranks then. ``memory``: the coordinator's. ``skipped``: see JobState.
    ``best_kept``: whether the checkpoint holds the best parameters. ``faults``: checkpoints that were passed over.
    ``loads``: whether there is a checkpoint.
    """

    folder: str = ""
    epoch: int = 1
    before: DoneBefore = field(default_factory=DoneBefore)
    mode: str = ""
    world: int = 0
    data_sha256: str = ""
    memory: dict[str, Any] = field(default_factory=dict)
    skipped: tuple[int, int, int] = (0, 0, 0)
    best_kept: bool = False
    faults: tuple[str, ...] = ()
    loads: bool = False
    checkpoint: CheckpointContent | None = None

    def facts(self) -> dict[str, Any]:
        """Return plain values of all but the checkpoint."""
        names = self.__slots__[:-1]
        return {**{name: getattr(self, name) for name in names}, "before": asdict(self.before)}

    @classmethod
    def from_facts(cls, facts: dict[str, Any], checkpoint: CheckpointContent | None) -> "Origin":
        """Make an origin from ``facts``."""
        before, skipped = DoneBefore(**facts["before"]), tuple(facts["skipped"])
        faults = tuple(facts["faults"])
        return cls(**{**facts, "before": before, "skipped": skipped, "faults": faults}, checkpoint=checkpoint)

    def job_state(self, config: RunConfig) -> JobState:
        """Return where the job is before its first step."""
        return JobState(
            epoch=self.epoch,
            before=self.before,
            last={"epoch": self.epoch - 1, "improved": False, "memory": self.memory},
            skipped=self.skipped,
            best_kept=self.best_kept,
            over=self._stopped_early(config),
        )

    def _stopped_early(self, config: RunConfig) -> bool:
        """Say whether the job before had come to its end because no validation loss was lower."""
        if not config.patience or not self.memory or self.before.steps:
            return False
        return bool(self.epoch - 1 - self.memory["best_epoch"] >= config.patience)


def open_origin(folder: Path) -> Origin:
    """Read the newest whole checkpoint of a run; without any, training begins again. Raises RankwiseError."""
    if run_folder.is_done(folder / LOG_NAME):
        raise RankwiseError(f"resume: {folder} came to its end already; give a larger --epochs in a new run")
    snapshot, faults = checkpoint_file.newest(folder)
    header = run_folder.header_of(folder / LOG_NAME)
    if bad := Validator().fault(header, HEADER):
        raise RankwiseError(f"resume: the log of {folder}: header{bad}; start a new run")
    sha256 = header["data"]["sha256"]
    if snapshot is None:
        return Origin(folder=str(folder), data_sha256=sha256, world=header["world"], faults=tuple(faults))
    content = CheckpointContent.read(snapshot, folder / snapshot.name)
    return Origin(
        folder=str(folder),
        epoch=content.position["epoch"] + (1 if content.position["closed"] else 0),
        before=content.before,
        mode=content.mode,
        world=content.world,
        data_sha256=sha256,
        memory=content.coordinator,
        skipped=content.skipped,
        best_kept=any(name.startswith(f"{BEST}/") for name in content.arrays),
        faults=tuple(faults),
        loads=True,
        checkpoint=content,
    )
