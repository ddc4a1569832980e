"""The table of data sources: each is a file that reads it and one line here. Readers check nothing but the file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.config import RunConfig, nearest
from common.data.csv_file import read_csv
from common.data.dataset import Raw
from common.data.digits import read_digits
from common.data.npz_file import read_npz
from common.data.reference import draw_ranks
from common.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Source:
    """What ``--data NAME`` means, or the path of a file whose name ends with ``.suffix``.

    ``read``: takes the configuration, rank and number of ranks. Raises DataError if the file is broken.
    """

    name: str
    read: Callable[[RunConfig, int, int], Raw]
    named_columns: bool = False
    """Whether ``--target`` names the column to predict."""

    @property
    def is_file(self) -> bool:
        """Whether the name is a suffix."""
        return self.name.startswith(".")


SOURCES = [
    Source("digits", lambda *_: read_digits()),
    Source("reference", lambda _, rank, size: draw_ranks(rank, size)),
    Source(".npz", lambda config, *_: read_npz(Path(config.data))),
    Source(".csv", lambda config, *_: read_csv(Path(config.data), config.target), named_columns=True),
]


def find(data: str) -> Source | None:
    """Return the source that takes this value of ``--data``."""
    suffix = Path(data).suffix.lower()
    return next((source for source in SOURCES if source.name == (suffix if source.is_file else data)), None)


def is_file(data: str) -> bool:
    """Say whether this value of ``--data`` is the path of a file, and not the name of a set."""
    source = find(data)
    return source is not None and source.is_file


def allowed() -> str:
    """Return what ``--data`` takes."""
    sets, files = ([source.name for source in SOURCES if source.is_file == kind] for kind in (False, True))
    return f"{', '.join(sets)}, or the path of an {' or '.join(files)} file"


def check_target(config: RunConfig) -> None:
    """Raise ConfigError for a ``--target`` where columns have no names."""
    source = find(config.data)
    if config.target and source and not source.named_columns:
        raise ConfigError(f"target: got {config.target!r}, but {config.data} has no named columns; leave --target out")


def read(config: RunConfig, rank: int, size: int) -> Raw:
    """Read the configured data on this rank.

    Raises DataError if the file is missing, broken or of no known kind.
    """
    source, path = find(config.data), Path(config.data)
    if source is None:
        near = nearest(config.data, [source.name for source in SOURCES if not source.is_file])
        hint = f"data: unknown set {config.data!r} {near}".rstrip()
        raise DataError(f"{hint}; choose {allowed()}")
    if source.is_file and not path.is_file():
        raise DataError(f"data: no file {path}; the path is taken from where the job was started")
    return source.read(config, rank, size)
