"""What a checkpoint holds: the one place where that is written, read and judged."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from common.errors import JobError, RankwiseError
from common.flat import Array, Flat
from ps.logfile.validation import FLAG, NUMBER, TEXT, FieldSpec, Validator, each, list_of, nullable, optional, table
from ps.metrics.epoch_sums import DoneBefore
from ps.sync.modes import MODES
from ps.sync.training_state import BEST, SavedState, TrainingState
from workers.checkpoint.checkpoint_file import Snapshot

PARAMETERS = "parameters"
"""What their names begin with in a checkpoint; those of other vectors begin with the vector's."""
SCALING = "data"
"""What the names of arrays begin with that say how the data are scaled."""
COUNT = FieldSpec("a whole number from 0", frozenset({int}), low=0, high=2**53)
FROM_ONE = replace(COUNT, what="a whole number from 1", low=1)
SHARE = FieldSpec("a share of a step's rows", frozenset({float}), low=1e-9, high=1)
ABOUT = table(
    position=table(epoch=FROM_ONE, steps=COUNT, closed=FLAG, rows=COUNT, loss_sum=NUMBER),
    mode=TEXT,
    sum_way=optional(TEXT),
    world=FROM_ONE,
    counts=FieldSpec("a map", frozenset({dict}), of=COUNT),
    coordinator=table(
        epochs=COUNT,
        best_loss=nullable(NUMBER),
        best_epoch=COUNT,
        noise=list_of(NUMBER, 2),
        elapsed_s=NUMBER,
        patience_from=optional(COUNT),
    ),
    skipped=list_of(COUNT, 3),
    shares=optional(list_of(SHARE)),
    target=optional(table(each(list_of(NUMBER), "y_mean y_scale classes"))),
)
"""What a checkpoint must say next to its arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointContent:
    """A state of training, and what a later job must know of this one.

    ``step``: steps since the run began. ``position``: epoch, its steps that are done, rows and sum of losses of all
    ranks in them, and whether it was also evaluated and recorded (``closed``). ``arrays``: by ``vector/parameter``,
    and under ``data/`` how the features are scaled.
    ``counts``: the optimizer's. ``coordinator``: its memory. ``skipped``, ``shares``: see JobState. ``target``: what
    outputs mean, as in ``model.npz``: ``y_mean``, ``y_scale``, ``classes``, each empty where there is none; {} in older
    files. ``sum_way``: how the mode summed, if there was a choice.
    """

    step: int
    arrays: dict[str, Array]
    position: dict[str, Any]
    counts: dict[str, int]
    world: int
    mode: str
    coordinator: dict[str, Any]
    skipped: tuple[int, int, int]
    shares: tuple[float, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    target: dict[str, list[float]] = field(default_factory=dict)
    sum_way: str = ""

    def snapshot(self) -> Snapshot:
        """Return what is written to a file."""
        about = {part.name: getattr(self, part.name) for part in fields(self)}
        return Snapshot(about.pop("step"), about.pop("arrays"), about)

    @classmethod
    def read(cls, snapshot: Snapshot, path: object, option: str = "resume") -> "CheckpointContent":
        """Take what was read from a file. Raises RankwiseError if it is not what this version writes.

        ``option``: which asked for it.
        """
        about = snapshot.about
        bad = Validator().fault(about, ABOUT)
        if not bad and about["mode"] not in MODES:
            bad = f".mode is {about['mode']!r}, not one of {', '.join(MODES)}"
        if bad:
            raise RankwiseError(
                f"{option}: {path}: about{bad}; written by another version? move it away to take the one before"
            )
        known = {part.name: about[part.name] for part in fields(cls) if part.name in about}
        known |= {name: tuple(about.get(name, ())) for name in ("skipped", "shares")}
        return cls(**{**known, "step": snapshot.step, "arrays": snapshot.arrays})

    @property
    def before(self) -> DoneBefore:
        """What is done of the epoch to resume in: nothing, where the last one was closed."""
        position = self.position
        if position["closed"]:
            return DoneBefore()
        return DoneBefore(position["steps"], position["rows"], float(position["loss_sum"]))

    @property
    def done_epochs(self) -> int:
        """How many whole epochs are done."""
        epoch: int = self.position["epoch"]
        return epoch if self.position["closed"] else epoch - 1

    @property
    def has_best(self) -> bool:
        """Whether the best parameters so far are among the arrays."""
        return any(name.startswith(f"{BEST}/") for name in self.arrays)

    @property
    def scaling(self) -> dict[str, Array]:
        """How the data are scaled, as ``model.npz`` says it; nothing in a checkpoint of an earlier version."""
        of_target = {name: np.array(values) for name, values in self.target.items() if values}
        of_features = within(self.arrays, SCALING)
        return {**of_features, **of_target} if of_features else {}

    def saved_state(self, state: TrainingState, steps_per_epoch: int) -> SavedState:
        """Return the vectors for this job's model and optimizer. Raises JobError if they are not theirs."""
        flat, name = state.flat, self.snapshot().name
        if self.position["steps"] > steps_per_epoch:
            raise JobError(f"resume: {name} is of an epoch of more than {steps_per_epoch} steps; start a new run")
        if self.counts.keys() != state.optimizer.counts().keys():
            raise JobError(f"resume: {name} holds the counts {sorted(self.counts)}, which are another optimizer's")

        def vector(kind: str) -> Array:
            whole = np.empty(flat.n, flat.dtype)
            for parameter, view in flat.views(whole).items():
                array = self.arrays.get(f"{kind}/{parameter}")
                if array is None or array.shape != view.shape or array.dtype != view.dtype:
                    older = (
                        "" if self.target else "; an older version had outputs for labels without rows: start a new run"
                    )
                    raise JobError(f"resume: {name} does not hold {kind} {parameter} as the model has it{older}")
                view[...] = array
            return whole

        kinds = {kind for kind, _ in state.vectors()} - state.optional | {kind.split("/")[0] for kind in self.arrays}
        vectors = {kind: vector(kind) for kind in sorted(kinds - {PARAMETERS, SCALING})}
        return SavedState(vector(PARAMETERS), vectors, self.counts)


def named_arrays(flat: Flat, saved: SavedState, scaling: Mapping[str, Array]) -> dict[str, Array]:
    """Return the vectors of a saved state cut into arrays by ``vector/parameter``, and the scaling of the data."""
    vectors = {PARAMETERS: saved.params, **saved.vectors}
    arrays = {f"{kind}/{name}": view for kind, vector in vectors.items() for name, view in flat.views(vector).items()}
    return arrays | {f"{SCALING}/{name}": array for name, array in scaling.items()}


def within(arrays: Mapping[str, Array], kind: str) -> dict[str, Array]:
    """Return the arrays of a kind, by the rest of their names."""
    return {name.removeprefix(f"{kind}/"): array for name, array in arrays.items() if name.startswith(f"{kind}/")}
