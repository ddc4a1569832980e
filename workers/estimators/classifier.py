"""The classifier."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from common.flat import Array
from workers.estimators.base import ATTRIBUTES, Estimator
from workers.estimators.learned import probabilities
from workers.estimators.parameters import PARAMETERS, documentation


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]  # noqa: D101 - its docstring is made
    __doc__ = documentation(
        """A neural network, or a linear model, for classes; trained by the ranks of an MPI job.

        The labels may be numbers, texts or booleans.
        """,
        PARAMETERS,
        {"classes_": "the labels, sorted", **ATTRIBUTES},
    )

    def fit(self, X: Any, y: Any) -> Self:
        """Train on rows and their labels. Raises ValueError for bad input, RuntimeError if training failed."""
        x, y = validate_data(self, X, y, dtype="numeric", ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Classifier can't train when only one class is present: y is {self.classes_[0]!r} in all rows"
            )
        return self._train(x, codes.astype(np.int64), None, "cross-entropy")

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each of ``classes_``, (rows, classes)."""
        return probabilities(self._outputs(X))

    def predict(self, X: Any) -> Array:
        """Return the likeliest label of each row."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
