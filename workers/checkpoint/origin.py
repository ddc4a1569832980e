"""Where a job begins: anew, from parameters, or from a checkpoint. Rank 0 finds out (``resume.py``), all ranks know."""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from common.flat import Array
from workers.checkpoint.job_state import JobState

if TYPE_CHECKING:
    from workers.checkpoint.content import CheckpointContent
    from workers.checkpoint.start import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The same on all ranks, but for the checkpoint and the start, which only rank 0 has.

    ``state``: where the job is before its first step. ``folder``: of the run to resume, empty for a new one. ``mode``:
    the checkpoint's, empty without one; ``sum_way``: how it summed, if there was a choice. ``step``: its steps since
    the run began; ``steps``: in its epoch. ``world``: ranks then. ``data``: what the header says of it. ``faults``:
    checkpoints that were passed over. ``then``: the options of the job that made the checkpoint, as plain values;
    nothing if they are not known. ``unlogged``: the first and the last epoch of which the log has no record, though the
    checkpoint is of a later one. ``changes``: those that are others now. ``notes``: what to print. ``start``: of a run
    that starts from parameters; ``start_sha256``: of their file, when the run that is resumed began.
    """

    state: JobState = field(default_factory=JobState)
    folder: str = ""
    mode: str = ""
    sum_way: str = ""
    step: int = 0
    steps: int = 0
    world: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unlogged: list[int] = field(default_factory=list)
    then: dict[str, Any] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    start_sha256: str = ""
    checkpoint: "CheckpointContent | None" = None
    start: "Start | None" = None

    @property
    def scaling(self) -> dict[str, Array]:
        """How the features were scaled that the parameters belong to; nothing if that is not known. Rank 0 only."""
        source = self.checkpoint or self.start
        return {} if source is None else source.scaling

    def as_dict(self) -> dict[str, Any]:
        """Return plain values of all but the checkpoint and the start."""
        return asdict(replace(self, checkpoint=None, start=None))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Origin":
        """Make an origin, without a checkpoint, from ``as_dict``."""
        return cls(**{**plain, "state": JobState.from_dict(plain["state"])})
