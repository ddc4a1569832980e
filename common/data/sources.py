"""The table of data sources: each is a file that reads it and one line here. Readers check nothing but the file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.config import OPTIONS, RunConfig
from common.data import handed_over
from common.data.csv_file import read_csv
from common.data.dataset import Raw
from common.data.digits import read_digits
from common.data.npz_file import read_npz
from common.data.prepared_file import is_prepared, read_prepared
from common.data.reference import draw_ranks
from common.errors import ConfigError, DataError
from common.files import require_regular
from common.option import nearest


@dataclass(frozen=True, slots=True)
class Source:
    """``read``: takes the configuration, rank and number of ranks. Raises DataError if the file is broken."""

    read: Callable[[RunConfig, int, int], Raw]
    named_columns: bool = False
    """Whether ``--target`` names the column to predict, and ``--header`` and ``--index-column`` have a meaning."""
    folder: bool = False
    """Whether it is a folder that rankwise has written."""


PREPARED = "/"
"""How a folder that ``workers.prepare`` has made is listed."""
SOURCES: dict[str, Source] = {
    "digits": Source(lambda *_: read_digits()),
    PREPARED: Source(lambda config, *_: read_prepared(Path(config.data)), folder=True),
    "reference": Source(lambda _, rank, size: draw_ranks(rank, size)),
    ".npz": Source(lambda config, *_: read_npz(Path(config.data), config)),
    handed_over.SUFFIX: Source(lambda config, *_: handed_over.read(Path(config.data)), folder=True),
    ".csv": Source(lambda config, *_: read_csv(Path(config.data), config), named_columns=True),
}
"""By what ``--data`` takes: the name of a set, or how the path of a file ends, a slash for that of a folder."""


def file_suffix(data: str) -> str:
    """Return how the path ends if ``data`` is one, nothing if it is the name of a set."""
    if is_prepared(Path(data)):
        return PREPARED
    suffix = Path(data).suffix.lower()
    return suffix if suffix in SOURCES else ""


def _names(*, of_files: bool) -> list[str]:
    """Return the suffixes of files, or the names of sets."""
    return [name for name, source in SOURCES.items() if name.startswith(".") == of_files and not source.folder]


def allowed() -> str:
    """Return what ``--data`` takes."""
    sets, files = ", ".join(_names(of_files=False)), " or ".join(_names(of_files=True))
    return f"{sets}, or the path of an {files} file or of a prepared folder"


def has_named_columns(data: str) -> bool:
    """Say whether columns have names; of an unknown source, which is refused later, they may."""
    source = SOURCES.get(file_suffix(data) or data)
    return source is None or source.named_columns


def check_target(config: RunConfig) -> None:
    """Raise ConfigError for a ``--target``, or what else is said of columns, where these have no names."""
    if has_named_columns(config.data):
        return
    if config.target:
        raise ConfigError(f"target: got {config.target!r}, but {config.data} has no named columns; leave --target out")
    for name in ("header", "index_column"):
        if (got := getattr(config, name)) not in ("auto", OPTIONS[name].before):
            flag = name.replace("_", "-")
            raise ConfigError(f"{name}: got {got!r}, but {config.data} has no named columns; leave --{flag} out")


def _require_file(path: Path, config: RunConfig) -> None:
    """Raise DataError unless the data are a regular file: a pipe would be waited for, by all ranks."""
    resumed = "; if the data of the resumed run lie elsewhere now, name the place with --data" * bool(config.resume)
    try:
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"data: no file {path}; the path is taken from where the job was started{resumed}") from error
    except OSError as error:
        raise DataError(f"data: {path} cannot be read ({error.strerror}){resumed}") from error


def read(config: RunConfig, rank: int, size: int) -> Raw:
    """Read the configured data on this rank. Raises DataError if the file is missing, broken or of no known kind."""
    path, suffix = Path(config.data), file_suffix(config.data)
    if suffix and not SOURCES[suffix].folder:
        _require_file(path, config)
    sets = _names(of_files=False)
    if not suffix and config.data not in sets:
        raise DataError(f"data: unknown set {config.data!r}{nearest(config.data, sets)}; choose {allowed()}")
    return SOURCES[suffix or config.data].read(config, rank, size)
