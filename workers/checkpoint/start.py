"""The parameters that a new run starts from: of a checkpoint or a model that an earlier run has left."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from common.config import RunConfig
from common.errors import CheckpointError, RankwiseError
from common.files import open_regular
from common.flat import Array, Flat
from common.run_files import LOG_NAME, MODEL_NAME, checkpoints_in
from ps.coordinator import earlier_run
from ps.sync.training_state import SavedState, TrainingState
from workers.checkpoint import checkpoint_file
from workers.checkpoint.changes import changed_model
from workers.checkpoint.content import PARAMETERS, CheckpointContent, within

OF_THE_SPLIT = ("split_seed", "test_fraction", "validation_fraction", "group", "time")
"""Options that decide which rows are held out."""
OF_THE_DATA = ("x_mean", "x_scale", "x_fill", "x_kept", "y_mean", "y_scale", "classes")
"""What a model says besides its parameters: how the features were scaled."""
ELSE = ("label_names", "baseline", "facts")
"""What else it says, for those who predict."""
NAMED = 4
"""Parameters that do not fit and are named in a message; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Parameters by name, and where they come from; rank 0 only.

    ``scaling``: how the features were scaled that they belong to; nothing if the file does not say. ``epoch``: after
    which they were taken, None if that is not known. ``data_sha256``, ``config``: of the data and the options that they
    were trained with, if known. ``content``: all of the checkpoint, if it is one and its optimizer goes on.
    """

    path: str
    sha256: str
    parameters: dict[str, Array]
    scaling: dict[str, Array]
    epoch: int | None
    data_sha256: str = ""
    config: RunConfig | None = None
    content: CheckpointContent | None = None

    def facts(self) -> dict[str, Any]:
        """Return what the log says of it."""
        return {"path": self.path, "sha256": self.sha256, "epoch": self.epoch}

    def __str__(self) -> str:
        after = "" if self.epoch is None else f", after epoch {self.epoch}"
        return f"{self.path} (SHA-256 {self.sha256[:12]}...{after})"

    def check(self, config: RunConfig) -> None:
        """Raise RankwiseError where numbers are not to be scaled that were scaled when the parameters were trained.

        Or where an optimizer is to go on that is not there.
        """
        if config.carry and self.content is None:
            raise RankwiseError(
                f"carry: {self.path} is no checkpoint, and has no optimizer to go on with; leave it out"
            )
        for what, option, leaves_plain in (
            ("features", "--no-standardize", self.scales("x") and not config.standardize),
            ("targets", "--no-standardize-target", self.scales("y") and not config.standardize_target),
        ):
            if leaves_plain:
                raise RankwiseError(
                    f"from: the parameters of {self.path} were trained on {what} that are scaled; leave {option} out, "
                    "and these data are scaled in the same way"
                )

    def check_model(self, config: RunConfig) -> None:
        """Raise RankwiseError where the log next to the parameters names another file of one's own model class."""
        then: Any = None
        with suppress(RankwiseError, OSError):  # the options were not taken from that log, then
            then = earlier_run.read_run(Path(self.path).parent / LOG_NAME).model
        if isinstance(then, dict) and then.get("kind") == config.model:
            changed_model(then, config, of="from", trained=False)

    def scales(self, of: str) -> bool:
        """Say whether the parameters were trained on scaled features (``of`` x) or targets (y)."""
        plain = {f"{of}_mean": 0, f"{of}_scale": 1}
        return any((self.scaling[name] != value).any() for name, value in plain.items() if name in self.scaling)

    def taken_over(self) -> str:
        """Return what to print of the scaling and the optimizer that are taken over; nothing if neither is."""
        scaled = f"; the features{' and targets' * self.scales('y')} are scaled as they were there"
        return f"{scaled if self.scaling else ''}{'; its optimizer goes on' if self.content else ''}"

    def warnings(self, config: RunConfig, data_sha256: str) -> list[str]:
        """Return what to warn of in a run with these options and data that starts from them."""
        found: list[str] = []
        if self.config is None:
            return found
        split = [
            f"--{name.replace('_', '-')}"
            for name in OF_THE_SPLIT
            if getattr(self.config, name) != getattr(config, name)
        ]
        if split and data_sha256 == self.data_sha256:
            found.append(
                f"from: with another {', '.join(split)}, rows that those parameters were trained on may be test rows "
                "now, and the test looks better than it is; leave the option out to keep the split"
            )
        if config.model == self.config.model == "mlp" and config.activation != self.config.activation:
            found.append(
                f"from: those parameters were trained with --activation {self.config.activation}, here it is "
                f"{config.activation}"
            )
        return found

    def saved_state(self, state: TrainingState) -> SavedState | None:
        """Return parameters and optimizer as they were, for those of this job. Raises JobError if they do not fit."""
        return None if self.content is None else self.content.saved_state(state, self.content.position["steps"])

    def fill(self, flat: Flat) -> None:
        """Copy the parameters into those of a model. Raises RankwiseError, naming those that do not fit."""
        wrong = [
            f"{name} is {_shape(self.parameters.get(name))} there, {shape} here"
            for name, shape in flat.shapes.items()
            if name not in self.parameters or self.parameters[name].shape != shape
        ]
        wrong += [
            f"{name} is {array.shape} there, not here"
            for name, array in self.parameters.items()
            if name not in flat.shapes
        ]
        if wrong:
            more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            raise RankwiseError(
                f"from: the parameters of {self.path} do not fit this model: {'; '.join(wrong[:NAMED])}{more}; give "
                "--model and --hidden as there, and data with as many features and targets or classes"
            )
        for name, array in self.parameters.items():
            with np.errstate(over="ignore"):  # looked for in the next line
                flat.params[name][...] = array
            if not np.isfinite(flat.params[name]).all():
                raise RankwiseError(f"from: {name} of {self.path} holds numbers that are not finite in {flat.dtype}")


def _shape(array: Array | None) -> str:
    return "not" if array is None else str(array.shape)


def read_start(source: str) -> Start:
    """Read what ``--from`` names. Raises RankwiseError."""
    path = earlier_run.start_file(source)
    if not path.is_dir():
        return _read_file(path)
    faults = []
    for file in checkpoints_in(path):
        try:
            return _read_file(file)
        except RankwiseError as error:
            faults.append(str(error))
    raise RankwiseError(f"from: {path} holds no whole checkpoint ({faults[0]}); give another run or file")


def _read_file(path: Path) -> Start:
    try:
        is_checkpoint, arrays = checkpoint_file.load_plain(path)  # first: nothing endless is hashed
        with open_regular(path) as file:
            sha256 = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
    except OSError as error:
        raise RankwiseError(f"from: {path} cannot be read ({error.strerror})") from error
    except CheckpointError as error:
        raise RankwiseError(f"from: {error}; give a checkpoint-*.npz or a {MODEL_NAME}") from error
    return _of_checkpoint(path, sha256) if is_checkpoint else _of_model(path, sha256, arrays)


def _of_checkpoint(path: Path, sha256: str) -> Start:
    try:
        content = CheckpointContent.read(checkpoint_file.load(path), path, "from")
    except CheckpointError as error:
        raise RankwiseError(f"from: {error}") from error
    return Start(
        path=str(path), sha256=sha256, parameters=within(content.arrays, PARAMETERS), scaling=content.scaling,
        epoch=content.done_epochs, data_sha256=content.data_sha256, config=earlier_run.known_config(content.config),
        content=content,
    )  # fmt: skip


def _of_model(path: Path, sha256: str, arrays: dict[str, Array]) -> Start:
    """Return the parameters of a ``model.npz``; of which epoch and data, the log next to it says."""
    scaling = {name: arrays.pop(name) for name in OF_THE_DATA if name in arrays}
    arrays = {name: array for name, array in arrays.items() if name not in ELSE}
    numbers = [*arrays.values(), *(array for name, array in scaling.items() if name != "classes")]
    if not arrays or any(array.dtype.kind not in "fiu" for array in numbers):
        raise RankwiseError(f"from: {path} holds no parameters, or something else than numbers")
    epoch, data_sha256, config = None, "", None
    with suppress(RankwiseError, KeyError, TypeError):
        run = earlier_run.read_run(path.parent / LOG_NAME)
        config = earlier_run.known_config(run.config, run.header)
        data_sha256 = str(run.header["data"]["sha256"])
        best = config.patience if config else 0
        found = run.end.get("best_epoch") if best and run.done else run.end.get("epochs")
        epoch = found if isinstance(found, int) else None
    return Start(
        path=str(path), sha256=sha256, parameters=arrays, scaling=scaling, epoch=epoch, data_sha256=data_sha256,
        config=config,
    )  # fmt: skip
