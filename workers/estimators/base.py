"""What classifier and regressor have in common: parameters, checks of what they are given, fitting."""

from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from common.flat import Array
from workers.estimators import fitting
from workers.estimators.arrays import Arrays
from workers.estimators.learned import Learned
from workers.estimators.parameters import PARAMETERS, check_own, config_of, constructor

ATTRIBUTES = {
    "n_features_in_": "columns of X",
    "feature_names_in_": "their names, where X has names",
    "n_iter_": "epochs that were trained",
    "loss_curve_": "the training loss of each epoch",
    "loss_": "the last of them",
    "validation_loss_curve_": "the validation loss of each epoch, where rows are kept for it",
    "n_ranks_": "ranks that trained",
    "log_": "the path of the run folder, with its log and model.npz",
}


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A model that is trained by ranks of a job."""

    __init__ = constructor(PARAMETERS)
    _learned: Learned

    def _train(self, x: Array, y: Array, weight: Array | None, loss: str, start: str = "", **changed: Any) -> Self:
        """Train on checked arrays, and keep what is learned. Raises ValueError and RuntimeError."""
        parameters = {**self.get_params(deep=False), **changed}
        ranks, runs = check_own(parameters)
        config = config_of(parameters, x.dtype, loss=loss, start_from=start)
        names = list(map(str, getattr(self, "feature_names_in_", ())))
        learned, run = fitting.fit(Arrays(x, y, weight, names), config, ranks, runs, parameters["verbose"])
        self._keep(learned, run)
        return self

    def _keep(self, learned: Learned, run: Path) -> None:
        self._learned = learned
        self.loss_curve_ = learned.losses
        self.loss_ = learned.losses[-1] if learned.losses else None
        self.validation_loss_curve_ = learned.validation_losses or None
        self.n_iter_ = len(learned.losses)
        self.n_ranks_ = learned.header["world"]
        self.log_ = str(run)

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=np.float64)
        return self._learned.network.outputs(x)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_learned")
