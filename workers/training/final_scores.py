"""What the predictions of a run's test rows are worth, collected while they are made, from all ranks."""

from typing import Any

import numpy as np
from mpi4py import MPI

from common.data.scaling import Rows
from common.data.target import CLASSES, LABELS, REGRESSION
from common.evaluation.judged import Judged, bounded
from common.flat import Array
from common.nn import meaning
from common.nn.model_facts import baseline, labels_of, target_names
from ps.comm.collectives import gather
from workers.training.task import Task

MOST_POINTS, MOST_PLOTTED = 1000, 8
"""Rows whose true and predicted numbers the log keeps, for a plot, and of how many targets."""


class FinalScores:
    """Takes the outputs for this rank's test rows; ``result`` brings all ranks' together.

    The log keeps points of the same rows whatever the number of ranks: evenly spread over all test rows.
    """

    def __init__(self, task: Task) -> None:
        data = self._data = task.data
        self._loss = task.model.loss
        names = target_names(data.target_names, data.n_targets)
        labels = {CLASSES: labels_of(data), LABELS: names, REGRESSION: []}[data.task]
        self._judged = Judged(names, labels, baseline(data), several=data.task == LABELS)
        stride = max(1, -(-len(data.test) // MOST_POINTS))
        self._plotted = data.test[::stride] if data.task == REGRESSION else data.test[:0]
        self._points: list[list[Any]] = []

    def note(self, rows: Rows, out: Array) -> None:
        """Take the raw outputs, (n, n_out), for these rows of the data."""
        data, loss = self._data, self._loss
        y = data.y[rows]
        weight = None if data.weight is None else data.weight[rows] * data.test_weight
        if data.task == CLASSES:
            known = meaning.has_probabilities(data.task, loss)
            self._judged.add(
                meaning.places(out), y, meaning.probabilities(data.task, loss, out) if known else None, weight
            )
        elif data.task == LABELS:
            self._judged.add(meaning.probabilities(data.task, loss, out), y, weight=weight)
        else:
            true, predicted = (v.astype(np.float64) * data.target_scale + data.target_mean for v in (y, out))
            self._judged.add(predicted, true, weight=weight)
            for i in np.flatnonzero(np.isin(rows, self._plotted)):
                self._points.append([int(rows[i]), *(v[i, :MOST_PLOTTED].tolist() for v in (true, predicted))])

    def result(self, comm: MPI.Comm) -> dict[str, Any] | None:
        """Return the figures of all test rows at rank 0, as the log keeps them; None elsewhere. Collective."""
        collected = gather(comm, [self._judged.plain(), self._points])
        if not collected:
            return None
        for judged, points in collected[1:]:
            self._judged.merge(judged)
            self._points += points
        found = bounded(self._judged.result())
        points = [point for point in sorted(self._points) if np.isfinite(point[1:]).all()]
        if points:
            found["points"] = {"true": [point[1] for point in points], "predicted": [point[2] for point in points]}
        return found
