"""The classifier."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from common.data.target import LABELS
from common.flat import Array
from common.nn import meaning
from workers.estimators.arrays import Arrays
from workers.estimators.base import ATTRIBUTES, METHODS, Estimator, counted
from workers.estimators.frames import Encoding
from workers.estimators.parameters import PARAMETERS, Parameter, constructor, documentation

OWN = {
    **PARAMETERS,
    "class_weight": Parameter(
        None, "None: each row counts the same; balanced: each class does; a dict: what the rows of each label count"
    ),
}


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]  # noqa: D101 - its docstring is made
    __doc__ = documentation(
        """A neural network, or a linear model, for classes; trained by the ranks of an MPI job.

        The labels may be numbers, texts or booleans. With several columns of 0 and 1, a row has several labels.
        """,
        OWN,
        {"classes_": "the labels, sorted; of several columns their numbers", **ATTRIBUTES},
    )
    __init__ = constructor(OWN)
    _loss = "cross-entropy"

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, comm: Any = None) -> Self:
        """Train on rows and their labels; return this classifier."""
        return self._fit(X, y, sample_weight, comm)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *, comm: Any = None) -> Self:
        """Train one more epoch, on these rows, from what was learned so far; return this classifier.

        ``classes``: all labels that there will be; needed in the first call, if its rows do not have them all. How
        features are scaled is decided then. The optimizer goes on from one
        call to the next.
        """
        return self._fit(X, y, sample_weight, comm, partial=True, classes=classes)

    fit.__doc__, partial_fit.__doc__ = f"{fit.__doc__}\n\n{METHODS}", f"{partial_fit.__doc__}\n\n{METHODS}"

    def _check(self, X: Any, y: Any, weight: Any, *, first: bool, classes: Any = None, **_: Any) -> Arrays:
        x, y, encoding = self._features(X, y, first=first)
        check_classification_targets(y)
        x, y, weight = counted(x, y, weight)
        if type_of_target(y) == "multilabel-indicator":
            return self._check_labels(x, y, weight, encoding, first=first)
        y = column_or_1d(y, warn=True)
        found = np.unique(y)
        if first:
            self.classes_ = found if classes is None else unique_labels(classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes: got {list(classes)}; the first call had {self.classes_.tolist()}")
        if len(self.classes_) < 2:
            raise ValueError(f"y: only one class, {self.classes_[0]}, in all rows; a classifier needs two")
        if len(unknown := np.setdiff1d(found, self.classes_)):
            raise ValueError(f"y: got the label {unknown[0]}, which is none of the classes {self.classes_.tolist()}")
        codes = np.searchsorted(self.classes_, y).astype(np.int64)
        names = self._names(encoding)
        return Arrays(x, codes, self._by_class(codes, weight), names, self.classes_, encoding)

    def _check_labels(
        self, x: Array, y: Array, weight: Array | None, encoding: Encoding | None, *, first: bool
    ) -> Arrays:
        """Return what is trained on where each row has several labels, each on or off."""
        if first:
            self.classes_ = np.arange(y.shape[1])
        if y.shape[1] != len(self.classes_):
            raise ValueError(f"y: got {y.shape[1]} columns of labels; the first call had {len(self.classes_)}")
        if self.class_weight is not None:
            raise ValueError(f"class_weight: got {self.class_weight!r}; with several labels a row, allowed is None")
        return Arrays(x, y.astype(np.int64), weight, self._names(encoding), None, encoding)

    def _by_class(self, codes: Array, weight: Array | None) -> Array | None:
        """Return what rows count, with what their classes count."""
        if self.class_weight is None:
            return weight
        rows = np.ones(len(codes)) if weight is None else weight
        if isinstance(self.class_weight, Mapping):
            labels = self.classes_.tolist()
            strange = [label for label in self.class_weight if label not in labels]
            if strange and not set(labels) <= self.class_weight.keys():  # else rows of some class may only be absent
                raise ValueError(f"class_weight: got the label {strange[0]!r}, which is none of the classes {labels}")
            of_class = np.array([float(self.class_weight.get(label, 1)) for label in labels])
            if not (np.isfinite(of_class) & (of_class >= 0)).all():
                raise ValueError(f"class_weight: got {self.class_weight!r}; allowed are finite numbers of at least 0")
        elif self.class_weight == "balanced":
            sums = np.bincount(codes, rows, len(self.classes_))
            of_class = rows.sum() / (np.count_nonzero(sums) * np.maximum(sums, np.finfo(float).tiny))
        else:
            raise ValueError(f"class_weight: got {self.class_weight!r}; allowed are None, 'balanced' or a dict")
        return np.asarray(rows * of_class[codes])

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "classes": self.classes_.tolist(), "kind": self.classes_.dtype.str}

    def _take(self, facts: dict[str, Any]) -> None:
        super()._take(facts)
        self.classes_ = np.array(facts["classes"], facts["kind"])

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each of ``classes_``, (rows, classes), or of each label, (rows, labels)."""
        out = self._outputs(X)
        return self._learned.model.probabilities(out)

    def predict(self, X: Any) -> Array:
        """Return the likeliest label of each row, (rows,); or where rows have several, which, (rows, labels)."""
        out = self._outputs(X)
        if self._learned.model.facts.task == LABELS:
            return self._learned.model.predicted(out)
        return np.asarray(self.classes_[meaning.places(out)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
