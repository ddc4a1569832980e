"""The regressor."""

from typing import Any, Self

from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from common.flat import Array
from workers.estimators.base import ATTRIBUTES, Estimator
from workers.estimators.parameters import PARAMETERS, documentation


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]  # noqa: D101 - its docstring is made
    __doc__ = documentation(
        """A neural network, or a linear model, for one or more numbers; trained by the ranks of an MPI job.""",
        PARAMETERS,
        ATTRIBUTES,
    )

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows and their targets. Raises ValueError for bad input, RuntimeError if training failed."""
        x, y = validate_data(self, X, y, dtype="numeric", multi_output=True, y_numeric=True, ensure_min_samples=2)
        self._one_target = y.ndim == 1
        return self._train(x, y, None, "mse")

    def predict(self, X: Any) -> Array:
        """Return a number for each row, or (rows, targets) where the target had several columns."""
        out = self._outputs(X)
        return out[:, 0] if self._one_target else out
