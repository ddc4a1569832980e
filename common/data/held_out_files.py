"""Puts validation and test sets that lie in files of their own, ``--validation-data`` and ``--test-data``, to the data.

Tables come with theirs when they are prepared; this is for every other source.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.config import RunConfig
from common.data import sources
from common.data.dataset import Raw
from common.data.stacked import Matrix
from common.data.text_labels import with_same_codes
from common.errors import ConfigError, DataError
from common.flat import Array

ROLES = {"validation": "validation_data", "test": "test_data"}
"""Sets in the order in which they lie behind the data, and the options that name their files."""
LISTED = 8
"""Columns that a message lists."""


def check_options(config: RunConfig) -> None:
    """Raise ConfigError where a file of its own does not go with the data."""
    taken = {"data": config.data}
    for option in ROLES.values():
        flag = f"--{option.replace('_', '-')}"
        if not getattr(config, option):
            continue
        if config.data in sources.SOURCES:
            raise ConfigError(
                f"{option}: --data {config.data} has its own rows; leave {flag} out, or give a file as --data too"
            )
        if sources.is_prepared(Path(config.data)):
            raise ConfigError(
                f"{option}: {config.data} is prepared already; prepare the files together: python -m workers.prepare "
                f"FILE -o DIR {flag} {getattr(config, option)}"
            )
        for other, path in taken.items():
            if _is_same(path, getattr(config, option)):
                raise ConfigError(
                    f"{option}: {path} is the file of --{other.replace('_', '-')}, too, and a row must not be in two "
                    f"sets; give another file, or leave {flag} out: rows are held out of --data then"
                )
        taken[option] = getattr(config, option)


def _is_same(path: str, other: str) -> bool:
    """Say whether two paths lead to one file."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def read(config: RunConfig, rank: int, size: int, prepared: Path | None = None) -> Raw:
    """Read the data with all their sets. Raises DataError, also where files do not fit together.

    ``prepared``: the folder in which they are prepared, all files together, if they are a table that was.
    """
    raw = sources.read(config, rank, size, prepared)
    wanted = {role: path for role, option in ROLES.items() if (path := getattr(config, option))}
    if not wanted or prepared is not None or sources.is_prepared(Path(config.data)):
        return raw
    sets: dict[str, Raw | None] = dict.fromkeys(ROLES)
    for role, path in wanted.items():
        option = f"--{role}-data {path}"
        if getattr(raw, role) is not None:
            raise DataError(f"{raw.name}: holds a {role} set, and {option} is another; leave one of them out")
        alone = replace(config, data=path, test_data="", validation_data="", time="")
        try:
            own = sources.read(alone, rank, size)
        except DataError as error:
            raise DataError(str(error).replace("data: ", f"{role}_data: ", 1)) from error
        if own.validation is not None or own.test is not None:
            raise DataError(f"{option}: holds sets of its own (X_val or X_test); give a file of X and y alone")
        sets[role] = replace(own, x=_columns(raw, own, option))
        if raw.feature_names and (more := [name for name in own.feature_names if name not in {*raw.feature_names}]):
            raw.notes.append(f"{option}: left out, since {raw.name} has no such column: {_listed(more)}.")
    with_same_codes([raw, *(own for own in sets.values() if own is not None)])
    given = {role: getattr(raw, role) if own is None else (own.x, own.y) for role, own in sets.items()}
    weight, group = _by_row(raw, "weight", sets), _by_row(raw, "group", sets)
    return replace(raw, validation=given["validation"], test=given["test"], weight=weight, group=group)


def _columns(raw: Raw, own: Raw, option: str) -> Matrix:
    """Return the features of a set in the order of those of the data, whose names decide. Raises DataError.

    In a sparse format a feature that a file does not have is 0 in all of its rows.
    """
    if raw.feature_names == own.feature_names or not (raw.feature_names and own.feature_names):
        return own.x
    if raw.sparse and own.sparse:
        found = np.zeros((len(own.x), len(raw.feature_names)), own.x.dtype)
        _, here, there = np.intersect1d(raw.feature_names, own.feature_names, assume_unique=True, return_indices=True)
        found[:, here] = own.x[:, there]
        return found
    place = {name: i for i, name in enumerate(own.feature_names)}
    if absent := [name for name in raw.feature_names if name not in place]:
        raise DataError(
            f"{option}: has no column {_listed(absent)}, which {raw.name} has; it takes the columns of the data, in "
            "any order"
        )
    return own.x[:, [place[name] for name in raw.feature_names]]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:LISTED])) + ", ..." * (len(names) > LISTED)


def _by_row(raw: Raw, name: str, sets: dict[str, Raw | None]) -> Array | None:
    """Return weights or groups of all rows; None where neither the data nor a set has any.

    Rows of a set that has no weights count 1. Groups come with every set in a file of its own, since the same option
    names their column; where a set in the file of the data has none, those of the data are all that is known.
    """
    whole = getattr(raw, name)
    if whole is None and all(own is None or getattr(own, name) is None for own in sets.values()):
        return None
    n_own = len(raw.x)
    parts = [np.ones(n_own) if whole is None else whole[:n_own]]
    begin = n_own
    for role, own in sets.items():
        came = getattr(raw, role)
        n = len(came[0]) if came is not None else 0 if own is None else len(own.x)
        if came is not None and whole is not None and len(whole) > n_own:
            part, begin = whole[begin : begin + n], begin + n
        else:
            part = None if own is None else getattr(own, name)
        if part is None and n and name == "group":
            return np.asarray(whole)
        parts.append(np.ones(n) if part is None else part)
    return np.concatenate(parts)
