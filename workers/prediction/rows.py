"""What readers of new rows give to those who predict: features as the model takes them, a block at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from common.errors import DataError
from common.flat import Array
from common.nn.model_file import BLOCK, ModelFile
from common.wording import count, listed

BLOCK_BYTES = 8 << 20
"""Of float64, which the features of arrays become."""
MOST_NAMED = 8
"""Columns that a message names."""
UNNAMED = re.compile(r"column \d+")
"""A column of a file without names."""


@dataclass(slots=True)
class Block:
    """Some rows: encoded features, (n, n_features), NaN where a number is missing.

    ``y``: the target as the file has it, (n,) or (n, n_targets), where the truth is asked for; ``weight``: (n,).
    ``missing``, ``unknown``: cells without a value, and by column those with a text that training did not see.
    ``beyond``: numbers of features that the model does not have.
    """

    x: Array
    y: Array | None = None
    weight: Array | None = None
    missing: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    beyond: int = 0


def rows_at_a_time(width: int) -> int:
    """Return how many rows with so many features are read together: whole blocks of the model's, in bounded memory."""
    return BLOCK * max(1, BLOCK_BYTES // (8 * max(1, width)) // BLOCK)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a file besides its features. ``targets``: columns of the truth, if not those of the model.

    ``trusted``: types in the transformer of ``--prepare`` that skops does not know. ``which``: of several sets.
    """

    wants_y: bool = False
    weight: str = ""
    targets: list[str] = field(default_factory=list)
    encoding: str = ""
    header: str = "auto"
    trusted: list[str] = field(default_factory=list)
    which: str = "auto"


class Rows(Protocol):
    """A file of rows, open on all ranks."""

    notes: list[str]
    """Sentences on what was decided about the file."""

    def blocks(self, rank: int, size: int) -> Iterator[Block]:
        """Yield the rows of one of ``size`` ranks: those of rank 0 come first. Raises DataError."""

    def close(self) -> None:
        """Give back what is held."""


def wanted_columns(model: ModelFile) -> list[str]:
    """Return the names of the columns of a table that a model takes; none where its features have no names."""
    facts = model.facts
    if facts.transformer is not None:
        return [name for name, _ in facts.transformer.columns]
    if facts.preprocessing is not None:
        return [column.name for column in facts.preprocessing.columns]
    return list(facts.features)


def without_names(wanted: list[str], there: list[str]) -> bool:
    """Say whether columns have numbers for names, and are as many as are wanted, which came beside a target."""
    return (
        len(wanted) == len(there)
        and not {*wanted} <= {*there}
        and all(UNNAMED.fullmatch(name) for name in (*wanted, *there))
    )


def largest(model: ModelFile) -> float:
    """Return the largest number that a cell may hold: those of a table are brought to float32."""
    return float(np.finfo(np.float64 if model.facts.preprocessing is None else np.float32).max)


def match_columns(
    wanted: list[str], known: list[str], there: list[str], where: str, *, with_known: bool
) -> tuple[list[int], list[str]]:
    """Return the place of each column, and what is to be said of others. Raises DataError, naming those missing.

    ``wanted``: the features. ``known``: columns beside them, of the target and of weights. ``with_known``: whether
    these must be there, too, and are returned behind the features.
    """
    has = f"it has {named(there)}"
    if absent := [name for name in wanted if name not in there]:
        raise DataError(
            f"{where}: no column {named(absent)}, which the model was trained on; {has}; columns are known by their "
            "names"
        )
    if with_known and (absent := [name for name in known if name not in there]):
        raise DataError(
            f"{where}: no column {named(absent)}, which predictions are to be compared with or weighed by; {has}; "
            "name the truth with --target, weights with --weight"
        )
    extra = [name for name in there if name not in wanted and name not in known]
    note = [f"{where}: {count(len(extra), 'column')} not used, since the model was trained without: {named(extra)}."]
    return [there.index(name) for name in [*wanted, *known * with_known]], note * bool(extra)


def named(names: list[str]) -> str:
    """Return names of columns for a message, of many the first ones."""
    shown = [repr(name if len(name) <= 80 else f"{name[:80]}...") for name in names[:MOST_NAMED]]
    more = len(names) - len(shown)
    return listed([*shown, *([f"{more:,} more"] if more else [])]) or "none"
