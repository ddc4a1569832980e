"""Deals the rows of the data to training, validation and test."""

import numpy as np

from common.config import RunConfig
from common.data.scaling import Rows
from common.flat import Array
from common.rng import Stream, generator


def split_rows(y: Array, n_classes: int, n_test: int | None, config: RunConfig) -> tuple[Rows, Rows, Rows]:
    """Split rows into train, validation and test; per class where there are classes (stratified).

    ``n_test``: last rows that came as a test set; None: draw one.
    """
    rng = generator(config.seed, Stream.SPLIT)
    rest, given_test = np.split(np.arange(len(y)), [len(y) - (n_test or 0)])
    groups = [rest]
    if n_classes:
        ends = np.cumsum(np.bincount(y[rest], minlength=n_classes))
        groups = np.split(np.argsort(y[rest], kind="stable"), ends[:-1])
    splits = []
    for group in groups:
        order = rng.permutation(group)
        first = round(len(order) * config.test_fraction) if n_test is None else 0
        splits.append(np.split(order, [first, first + round(len(order) * config.validation_fraction)]))
    test, validation, train = (np.sort(np.concatenate(rows)) for rows in zip(*splits, strict=True))
    return train, validation, test if n_test is None else given_test
