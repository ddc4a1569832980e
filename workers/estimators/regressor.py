"""The regressor."""

from typing import Any, Self

from sklearn.base import RegressorMixin

from common.flat import Array
from workers.estimators.arrays import Arrays
from workers.estimators.base import ATTRIBUTES, METHODS, Estimator, counted
from workers.estimators.parameters import PARAMETERS, documentation


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]  # noqa: D101 - its docstring is made
    __doc__ = documentation(
        """A neural network, or a linear model, for one or more numbers; trained by the ranks of an MPI job.""",
        PARAMETERS,
        ATTRIBUTES,
    )
    _loss = "mse"

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, comm: Any = None) -> Self:
        """Train on rows and their targets, (rows,) or (rows, targets); return this regressor."""
        return self._fit(X, y, sample_weight, comm)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, comm: Any = None) -> Self:
        """Train one more epoch, on these rows, from what was learned so far; return this regressor.

        How features and targets are scaled is decided in the first call. The optimizer goes on from one
        call to the next.
        """
        return self._fit(X, y, sample_weight, comm, partial=True)

    fit.__doc__, partial_fit.__doc__ = f"{fit.__doc__}\n\n{METHODS}", f"{partial_fit.__doc__}\n\n{METHODS}"

    def _check(self, X: Any, y: Any, weight: Any, *, first: bool, **_: Any) -> Arrays:
        x, y, encoding = self._features(X, y, first=first, y_numeric=True)
        return Arrays(*counted(x, y, weight), self._names(encoding), None, encoding)

    def predict(self, X: Any) -> Array:
        """Return a number for each row, (rows,), or (rows, targets) where the target had several columns."""
        out = self._outputs(X)
        return self._learned.model.predicted(out)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
