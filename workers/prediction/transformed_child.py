"""What the child of a rank runs that predicts with a transformer of the user's own: it makes the features. No MPI."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.errors import ConfigError
from workers.prediction.table_child import RowAnswers
from workers.preparation import transformer_file
from workers.preparation.child import main as answer_all
from workers.preparation.typed_frame import typed_frame


class TransformedAnswers(RowAnswers):
    """The questions of those who predict, where features are made by a transformer."""

    def want(self, transformer: dict[str, Any], **asked: Any) -> None:  # type: ignore[override]
        """Remember what is asked of rows, and load the transformer: see ``RowAnswers.want``."""
        super().want(**asked)
        self._name, self._width = transformer["name"], transformer["width"]
        self._handed = [(name, kind) for name, kind in transformer["columns"]]
        path = transformer["path"]
        with transformer_file.packages():
            self._transformer = transformer_file.load(
                self._name, transformer_file.read(Path(path)), transformer["sha256"], transformer["trusted"], path
            )

    def _encoded(self, frame: pl.DataFrame) -> dict[str, Any]:
        answer = super()._encoded(frame)  # all but the features
        given = typed_frame(frame, self._handed, self._missing, self._finite)
        x = transformer_file.features(self._name, self._transformer, given) if len(given) else np.empty((0, 0))
        if len(given) and x.shape[1] != self._width:
            raise ConfigError(
                f"{transformer_file.OPTION} {self._name}: transform() returned {x.shape[1]} features, but the model "
                f"was trained on {self._width}"
            )
        return {**answer, "x": x.tobytes()}


def main() -> None:
    """Answer until the rank says no more, or has ended."""
    answer_all(TransformedAnswers)
