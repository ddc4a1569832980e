"""Judges several labels at once, each 0 or 1: what each label scores, and how many rows are right."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.evaluation.by_class import EPSILON, MOST_CLASSES, mean_of, ratio, scores
from common.evaluation.ranked import MOST_EXACT, Ranked
from common.flat import Array

SUMS = ("weight", "all_right", "equal", "right", "predicted", "support", "losses")


class LabelTally:
    """Weighted counts: of rows (``weight``, and ``all_right`` where every label is), (1,); and by label, (n_labels,).

    ``equal``: rows where a label is predicted as it is; ``right``: those of them that have it.
    """

    def __init__(self, n_labels: int) -> None:
        self.rows = 0
        self.weight, self.all_right = np.zeros((2, 1))
        self.equal, self.right, self.predicted, self.support, self.losses = np.zeros((5, n_labels))
        n = n_labels if n_labels <= MOST_CLASSES else 0
        self.ranked = [Ranked(MOST_EXACT // n, probabilities=True) for _ in range(n)]

    def add(self, probabilities: Array, y: Array, weight: Array | None = None) -> None:
        """Take rows: (n, n_labels) each."""
        w, has, given = np.ones(len(y)) if weight is None else weight, y > 0, probabilities > 0.5
        self.rows += len(y)
        self.weight += w.sum()
        self.all_right += w @ (given == has).all(axis=1)
        self.equal += w @ (given == has)
        self.right += w @ (given & has)
        self.predicted += w @ given
        self.support += w @ has
        p = np.clip(np.where(has, probabilities, 1 - probabilities), EPSILON, 1 - EPSILON)
        self.losses -= w @ np.log(p)
        for k, ranked in enumerate(self.ranked):
            ranked.add(probabilities[:, k], has[:, k], w)

    def plain(self) -> dict[str, Any]:
        """Return all counts as plain values, for messages between ranks."""
        sums = {name: getattr(self, name).tobytes() for name in SUMS}
        return {"rows": self.rows, **sums, "ranked": [ranked.plain() for ranked in self.ranked]}

    def merge(self, plain: dict[str, Any]) -> None:
        """Add what another rank has."""
        self.rows += plain["rows"]
        for name in SUMS:
            own = getattr(self, name)
            own += np.frombuffer(plain[name])
        for ranked, theirs in zip(self.ranked, plain["ranked"], strict=True):
            ranked.merge(theirs)

    def metrics(self) -> dict[str, float | None]:
        """Return the figures of all rows and labels by name; None where one is not defined."""
        n, weight = len(self.equal), float(self.weight[0])
        f1 = [scores(*counts)["f1"] for counts in zip(self.right, self.predicted, self.support, strict=True)]
        return {
            "accuracy": ratio(self.all_right[0], weight),
            "accuracy by label": ratio(self.equal.sum() / n, weight),
            "log-loss": ratio(self.losses.sum() / n, weight),
            "ROC AUC": mean_of([ranked.auc() for ranked in self.ranked]),
            "F1": sum(f1) / n,
        }

    def by_class(self, labels: Sequence[Any]) -> list[dict[str, Any]]:
        """Return precision, recall, F1 and support of each label."""
        counts = zip(labels, self.right, self.predicted, self.support, strict=True)
        return [{"label": label, **scores(*own)} for label, *own in counts]
