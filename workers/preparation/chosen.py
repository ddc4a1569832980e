"""Which columns of a table a user means: targets, features, those to drop, categories."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from common.option import nearest
from workers.preparation.options import Options, TableError, names_in

LISTED, LOOKED_AT, LONGEST_SHOWN = 20, 1000, 80


@dataclass(frozen=True, slots=True)
class Chosen:
    """Names of columns, all of which are there. ``features``: None for all."""

    targets: tuple[str, ...]
    features: frozenset[str] | None
    dropped: frozenset[str]
    categorical: frozenset[str]
    others: dict[str, str]
    """By name, the options --weight, --group and --time that take a column."""
    handed: bool = False
    """Whether a transformer gets the columns as they are."""


def resolved(names: Sequence[str], options: Options, said: str = "") -> Options:
    """Return options in which each list names columns of the table by their names, not by their numbers.

    ``said``: of the header, for a message. Raises TableError for a column that is not there, or has two roles.
    """

    def listed(option: str) -> str:
        return ",".join(quoted(_find(names, name, option, said)) for name in _wanted(names, getattr(options, option)))

    if not options.target.strip():
        raise TableError(f"it needs a target: name the column with --target: {_all(names)}{said}")
    lists = ("target", "features", "drop", "categorical", "weight", "group", "time")
    found: dict[str, Any] = {option: listed(option) for option in lists}
    return dataclasses.replace(options, **found)


def chosen(options: Options) -> Chosen:
    """Return what resolved options name. Raises TableError for a column with two roles."""
    targets = tuple(dict.fromkeys(names_in(options.target)))
    features = frozenset(names_in(options.features)) if options.features else None
    others = {name: flag for flag in ("weight", "group", "time") for name in names_in(getattr(options, flag))}
    dropped = frozenset(names_in(options.drop))
    for name in targets:
        for flag, taken in (("drop", dropped), ("features", features or ()), ("weight", others)):
            if name in taken:
                raise TableError(f"column {name!r} is the target and cannot be in --{flag}, too; name it once")
    if features and (both := features & dropped):
        raise TableError(f"column {min(both)!r} is in --features and in --drop; name it once")
    return Chosen(targets, features, dropped, frozenset(names_in(options.categorical)), others, options.handed)


def quoted(name: str) -> str:
    """Return a name as a list of names has it."""
    return '"' + name.replace('"', '""') + '"' if any(mark in name for mark in '",\n') else name


def _wanted(names: Sequence[str], text: str) -> list[str]:
    """Return the columns in a list; a text that is a column's name as it stands, with commas in it, is one."""
    return [text.strip()] if text.strip() in names else names_in(text)


def _find(names: Sequence[str], name: str, option: str, said: str) -> str:
    if name in names:
        return name
    if re.fullmatch(r"-?[0-9]{1,9}", name) and 1 <= abs(int(name)) <= len(names):
        return names[int(name) - 1 if int(name) > 0 else len(names) + int(name)]
    near = [other for other in names[:LOOKED_AT] if len(other) <= LONGEST_SHOWN]
    raise TableError(f"{option}: no column {name!r}{nearest(name, near)}; it has {_all(names)}{said}")


def _all(names: Sequence[str]) -> str:
    shown = ", ".join(name[:LONGEST_SHOWN] for name in names[:LISTED])
    return f"{shown}, ..." if len(names) > LISTED else shown
