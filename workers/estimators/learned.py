"""What a run has learned, as an estimator keeps it: the model file, and the losses by epoch."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.nn.model_file import ModelFile
from common.run_files import LOG_NAME, MODEL_NAME, checkpoints_in
from ps.logfile.deduplicated import DeduplicatedReader
from workers.estimators.transformed import Transformed

OF_THE_OPTIMIZER = ("optimizer", "dtype", "model", "hidden")
"""Options that its state depends on."""
PICKLED = ("file", "losses", "validation_losses", "header", "state", "transformed")


@dataclass(slots=True)
class Learned:
    """``file``: the bytes of model.npz, which pickles hold. ``losses``, ``validation_losses``: by epoch.

    ``header``: the first record of the run's log. ``state``: the bytes of a checkpoint, where training is to go on from
    there with the optimizer as it was. ``transformed``: what makes the features, if that is a transformer.
    """

    file: bytes
    losses: list[float]
    validation_losses: list[float]
    header: dict[str, Any]
    state: bytes = b""
    transformed: Transformed | None = None
    _model: ModelFile | None = field(default=None, repr=False)

    @classmethod
    def read(cls, run: Path, model: ModelFile | None = None) -> "Learned":
        """Read what a run has left. Raises RankwiseError and OSError. ``model``: what was read of it before."""
        header: dict[str, Any] = {}
        losses, validation = [], []
        for record in DeduplicatedReader(run / LOG_NAME).records():
            if record["kind"] == "header":
                header = record
            elif record["kind"] == "epoch":
                losses.append(float(record["loss"]))
                if record["validation_loss"] is not None:
                    validation.append(float(record["validation_loss"]))
        return cls((run / MODEL_NAME).read_bytes(), losses, validation, header, _model=model)

    def take_state(self, run: Path) -> "Learned":
        """Keep the newest checkpoint of a run in place of the run folder; return this. Raises OSError."""
        for file in reversed(checkpoints_in(run)):
            self.state = file.read_bytes()
            file.unlink()
        return self

    @property
    def model(self) -> ModelFile:
        """The model. Raises RankwiseError."""
        if self._model is None:
            with tempfile.TemporaryDirectory() as folder:
                self._model = ModelFile.load(self.write(Path(folder)))
        return self._model

    def write(self, folder: Path) -> Path:
        """Write the model into a folder; return the file."""
        path = folder / MODEL_NAME
        path.write_bytes(self.file)
        return path

    def write_start(self, folder: Path, config: RunConfig) -> dict[str, Any]:
        """Write what training goes on from; return its options. ``config``: the others.

        The optimizer begins anew where it is another one.
        """
        then, now = self.header["config"], config.as_dict()
        if not self.state or any(then[name] != now[name] for name in OF_THE_OPTIMIZER):
            return {"start_from": str(self.write(folder))}
        path = folder / "checkpoint-1.npz"
        path.write_bytes(self.state)
        return {"start_from": str(path), "carry": True}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model, self.state, self.transformed = None, b"", None
        for name, value in state.items():
            setattr(self, name, value)
