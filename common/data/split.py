"""Deals the rows of the data to training, validation and test."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.config import RunConfig
from common.data.scaling import Rows, row_numbers
from common.data.whole_numbers import blocks, counted
from common.errors import DataError
from common.flat import Array
from common.rng import Stream, generator
from common.wording import count

FEW_CLASSES = 32
"""For so many, all rows are looked through once for each of them; for more, they are sorted."""
SETS = ("the data", "the validation set", "the test set")


@dataclass(frozen=True, slots=True)
class Given:
    """Which of ``n`` rows came as sets of their own: the last ones, those for validation before those for the test.

    ``validation``, ``test``: how many, None where there is no such set.
    """

    n: int
    validation: int | None = None
    test: int | None = None

    @property
    def own(self) -> int:
        """The rows before them, which are dealt."""
        return self.n - (self.validation or 0) - (self.test or 0)

    def row(self, i: int) -> str:
        """Return how a message names a row: by its place in the set that it came in."""
        first_test = self.n - (self.test or 0)
        if i < self.own:
            return f"row {i}"
        return f"row {i - first_test} of y_test" if i >= first_test else f"row {i - self.own} of y_val"


@dataclass(frozen=True, slots=True)
class Splits:
    """Row numbers, sorted and disjoint; ``note`` says how they were drawn, where that is not plain."""

    train: Rows
    validation: Rows
    test: Rows
    note: str = ""


def split_rows(
    name: str,
    config: RunConfig,
    given: Given,
    called: Mapping[str, str],
    *,
    classes: tuple[Array, int] | None = None,
    group: Array | None = None,
    time: Array | None = None,
    used: Rows | None = None,
) -> Splits:
    """Split rows into train, validation and test; what came as a set of its own stays one.

    ``called``: what messages call groups and times. ``classes``: class of each row and their number: each is split
    alike (stratified). ``group``, ``time``: (own rows,),
    or (n,) for groups: rows with the same value stay together. ``used``: the rows that take part, all unless given.
    Raises DataError where groups or times cannot be split.
    """
    rows = row_numbers(given.n) if used is None else used
    own, of_validation, of_test = np.split(rows, np.searchsorted(rows, [given.own, given.n - (given.test or 0)]))
    fractions = (
        config.test_fraction if given.test is None else 0.0,
        config.validation_fraction if given.validation is None else 0.0,
    )
    note = ""
    if group is not None:
        _check_values(name, f"--group {called['group']}", group)
        _check_apart(name, called["group"], group, (own, of_validation, of_test))
        order = generator(config.split_seed, Stream.SPLIT).permutation
        parts, note = _by_value(name, "group", called["group"], (own, group[own]), fractions, order)
    elif time is not None:
        _check_values(name, f"--time {called['time']}", time)
        parts, note = _by_value(name, "time", called["time"], (own, time[own]), fractions, lambda n: np.arange(n)[::-1])
    else:
        parts = _by_chance(config, own, classes, fractions)
    test, validation, train = parts
    return Splits(
        train,
        validation if given.validation is None else of_validation,
        test if given.test is None else of_test,
        note,
    )


def _by_chance(
    config: RunConfig, own: Rows, classes: tuple[Array, int] | None, fractions: tuple[float, float]
) -> list[Rows]:
    """Return test, validation and training rows, drawn; from each class alike, where there are classes."""
    rng, splits = generator(config.split_seed, Stream.SPLIT), []
    for stratum in _strata(own, *classes) if classes else iter([own]):
        order = rng.permutation(stratum)
        first = round(len(order) * fractions[0])
        splits.append(np.split(order, [first, first + round(len(order) * fractions[1])]))
    dealt = [np.concatenate(rows) for rows in zip(*splits, strict=True)]
    for rows in dealt:
        rows.sort()
    return dealt


def _strata(own: Rows, y: Array, n_classes: int) -> Iterator[Rows]:
    """Yield the rows of each class, ascending."""
    if n_classes > FEW_CLASSES or len(own) < len(y):
        ends = np.cumsum(counted(y, n_classes, own))
        yield from np.split(own[np.argsort(y[own], kind="stable")], ends[:-1])
        return
    for k in range(n_classes):  # which takes no memory beside them
        yield np.concatenate([own[some][y[some] == k] for some in blocks(len(own))])


def _by_value(
    name: str,
    option: str,
    column: str,
    rows: tuple[Rows, Array],
    fractions: tuple[float, float],
    order: Callable[[int], Rows],
) -> tuple[list[Rows], str]:
    """Return test, validation and training rows, cut between two values, and what is to be said of it.

    ``rows``: row numbers and their values. ``order``: returns the order of so many values, in which they are dealt to
    test, validation and training, in this order. The cuts are where they come nearest to the fractions.
    """
    numbers, values = rows
    different, place = np.unique(values, return_inverse=True)
    wanted = [part for part, fraction in zip(("test", "validation"), fractions, strict=True) if fraction]
    needed = 1 + len(wanted)
    if len(different) < needed:
        instead = " and ".join(f"--{part}-fraction 0" for part in wanted)
        raise DataError(
            f"{name}: --{option} {column} has {count(len(different), 'different value')}; "
            f"{' and '.join(['training', *wanted])} take one each at least, so give a column of {needed} or more, or "
            f"set {instead}"
        )
    dealt = order(len(different))
    ends = np.cumsum(np.bincount(place)[dealt])
    first = _cut(ends, len(numbers) * fractions[0], int(bool(fractions[0])), len(ends) - needed + bool(fractions[0]))
    begun = int(ends[first - 1]) if first else 0
    least = first + bool(fractions[1])
    second = _cut(ends, begun + len(numbers) * fractions[1], least, len(ends) - 1 if fractions[1] else first)
    turn = np.empty(len(dealt), np.int64)
    turn[dealt] = np.arange(len(dealt))
    part = np.searchsorted([first, second], turn[place], side="right")
    parts = [numbers[part == k] for k in range(3)]
    of_values = [first, second - first, len(ends) - second]
    test, validation, train = (f"{n:,} ({count(len(own), 'row')})" for n, own in zip(of_values, parts, strict=True))
    what = "groups" if option == "group" else "times"
    late = "" if option == "group" else ", the latest"
    return parts, (
        f"Split by {what}, because of --{option} {column}: of {len(ends):,} different values {train} train, "
        f"{validation} validate, {test} test{late}."
    )


def _cut(ends: Array, wanted: float, least: int, most: int) -> int:
    """Return how many values to take so that their rows, ``ends`` of the first k, come nearest to ``wanted``."""
    starts = np.concatenate([[0], ends])
    k = int(np.searchsorted(starts, wanted))
    if k and (k == len(starts) or wanted - starts[k - 1] <= starts[k] - wanted):
        k -= 1
    return min(max(k, least), most)


def _check_values(name: str, what: str, values: Array) -> None:
    """Raise DataError for a row without a value: nobody knows where it belongs."""
    missing = np.flatnonzero(np.isnan(values)) if values.dtype.kind in "fcmM" else np.empty(0, np.int64)
    if len(missing):
        raise DataError(
            f"{name}: row {missing[0]} has no value for {what} ({count(len(missing), 'row')} like that); fill them in, "
            "or leave these rows out of the file"
        )


def _check_apart(name: str, column: str, group: Array, sets: Sequence[Rows]) -> None:
    """Raise DataError if sets that came apart have rows of one group; rows without a known group are not looked at."""
    known = [(what, np.unique(group[rows[rows < len(group)]])) for what, rows in zip(SETS, sets, strict=True)]
    for i, (one, values) in enumerate(known):
        for other, others in known[i + 1 :]:
            if len(both := np.intersect1d(values, others, assume_unique=True)):
                raise DataError(
                    f"{name}: {count(len(both), 'group')} of --group {column} (the first: {both[0]}) have rows in "
                    f"{one} and in {other}; take them out of one of the two, or leave --group out"
                )
