"""What a run has learned, as an estimator keeps it: the model file, and the losses by epoch."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.nn.model_file import ModelFile
from common.run_files import LOG_NAME, MODEL_NAME
from ps.logfile.deduplicated import DeduplicatedReader


@dataclass(slots=True)
class Learned:
    """``file``: the bytes of model.npz, which pickles hold. ``losses``, ``validation_losses``: by epoch.

    ``header``: the first record of the run's log.
    """

    file: bytes
    losses: list[float]
    validation_losses: list[float]
    header: dict[str, Any]
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
        return cls((run / MODEL_NAME).read_bytes(), losses, validation, header, model)

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

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("file", "losses", "validation_losses", "header")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model = None
        for name, value in state.items():
            setattr(self, name, value)
