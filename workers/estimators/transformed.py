"""The transformer that a run was trained with (``--prepare``), as an estimator has it that is loaded from the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.data.transformer import Transformer
from common.errors import RankwiseError
from common.flat import Array
from common.run_files import TRANSFORMER_NAME
from workers.estimators import frames
from workers.estimators.as_found import as_found


@dataclass(slots=True)
class Transformed:
    """``known``: what the model says of the transformer. ``content``: of its file, which pickles hold.

    ``trusted``: types in it that may be imported though skops does not know them.
    """

    known: Transformer
    content: bytes
    trusted: tuple[str, ...]
    _fitted: Any = field(default=None, repr=False)

    @classmethod
    def read(cls, run: Path, known: Transformer, trusted: Sequence[str]) -> "Transformed":
        """Read it from a run. Raises RankwiseError if it is another one, or holds types that are not trusted."""
        from workers.preparation import transformer_file

        with transformer_file.packages():
            made = cls(known, transformer_file.read(run / TRANSFORMER_NAME), tuple(trusted))
            made._load(str(run / TRANSFORMER_NAME))
        return made

    def _load(self, where: str) -> Any:
        from workers.preparation import transformer_file

        with as_found():
            known = self.known
            self._fitted = transformer_file.load(known.name, self.content, known.sha256, self.trusted, where)
        return self._fitted

    def features(self, x: Any, missing: str) -> Array:
        """Return the features of a frame, (n, n_features) float32. Raises ValueError.

        ``missing``: texts that stand for a missing cell beside the usual ones, with commas between.
        """
        frame = frames.with_columns(x, [name for name, _ in self.known.columns])
        from workers.preparation import transformer_file
        from workers.preparation.checked_cells import FINITE, require
        from workers.preparation.encode import as_numbers
        from workers.preparation.options import names_in
        from workers.preparation.typed_frame import typed_frame

        others = tuple(names_in(missing))

        def numbers(series: Any) -> Array:
            found = as_numbers(series, others)
            require(series, ~np.isfinite(found), FINITE, others)
            return found

        fitted = self._load("its transformer") if self._fitted is None else self._fitted
        try:
            given = typed_frame(frame, self.known.columns, others, numbers)
            return transformer_file.features(self.known.name, fitted, given)
        except RankwiseError as error:
            raise ValueError(frames.told(error)) from error

    def __getstate__(self) -> list[Any]:
        return [self.known, self.content, self.trusted]

    def __setstate__(self, state: list[Any]) -> None:
        self.known, self.content, self.trusted = state
        self._fitted = None
