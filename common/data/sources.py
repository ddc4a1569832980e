"""The table of data sources: each is a file that reads it and one line here. Readers check nothing but the file."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from common.config import OPTIONS, RunConfig
from common.data.dataset import BY_ROW, Raw
from common.errors import ConfigError, DataError
from common.files import require_regular
from common.option import nearest, shown
from common.own_code import is_name


@dataclass(frozen=True, slots=True)
class Source:
    """``read``: takes the configuration, rank and number of ranks. Raises DataError if the file is broken."""

    read: Callable[[RunConfig, int, int], Raw]
    named_columns: bool = False
    """Whether ``--target`` names the column to predict, and other options that are about columns have a meaning."""
    named_rows: bool = False
    """Whether ``--weight``, ``--group`` and ``--time`` may name something that has a number for each row."""
    table: bool = False
    """Whether ``workers/preparation`` prepares it first, with polars; ``read`` is for when that is not installed."""
    takes: Callable[[str], bool] | None = None
    """Says whether ``--data`` names such data, where neither the name of a set nor the end of a path does."""


def _of(module: str, function: str) -> Callable[..., Any]:
    """Return a function of a module of this room, which is loaded when it is called: ranks read one source of many."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"common.data.{module}"), function)(*arguments)

    return call


read_csv, read_libsvm, read_npz = (
    _of("csv_file", "read_csv"),
    _of("libsvm_file", "read_libsvm"),
    _of("npz_file", "read_npz"),
)
read_digits, draw_ranks = _of("digits", "read_digits"), _of("reference", "draw_ranks")
read_function = _of("function_source", "read_function")
read_idx, is_idx = _of("idx_file", "read_idx"), _of("idx_file", "is_idx")
read_pair, read_folder, is_folder, paths_of = (
    _of("npy_arrays", name) for name in ("read_pair", "read_folder", "is_folder", "paths_of")
)
read_prepared, is_prepared = _of("prepared_file", "read_prepared"), _of("prepared_file", "is_prepared")
read_handed_over, is_handed_over = _of("handed_over", "read"), _of("handed_over", "is_folder")


def _needs_polars(config: RunConfig, *_: int) -> Raw:
    raise DataError(
        f"{config.data}: polars reads it, which is not installed in {sys.prefix}, the environment of this Python; "
        "pip install 'rankwise[data]'"
    )


def _read_numbers(config: RunConfig, *_: int) -> Raw:
    """Read a .csv that is not prepared. Raises DataError for options that only prepared tables know."""
    for name in (*OF_PREPARED, "prepare"):
        if (got := getattr(config, name)) != OPTIONS[name].default:
            instead = "leave --cache numpy out" if config.cache == "numpy" else "pip install 'rankwise[data]'"
            raise DataError(f"{name}: got {shown(got)}, which takes a table that polars prepares; {instead}")
    found: Raw = read_csv(Path(config.data), config)
    return found


OF_PREPARED = ("features", "drop", "categorical", "missing", "encoding")
"""Options that only a preparation heeds, beside ``prepare``."""
OF_TABLES = ("target", "header", "index_column", *OF_PREPARED)
"""Options that are about columns with names."""
HANDED_OVER = "arrays of a program"
"""The source that ``workers/estimators`` hands its data over in."""
IDX = "an IDX file"
LIBSVM = (".libsvm", ".svmlight", ".svm", ".libsvm.gz", ".svmlight.gz", ".svm.gz")
NEED_POLARS = (".tsv", ".csv.gz", ".tsv.gz", ".parquet")
SOURCES: dict[str, Source] = {
    "digits": Source(lambda *_: read_digits()),
    "reference": Source(lambda _, rank, size: draw_ranks(rank, size)),
    "package.module:function": Source(read_function, named_rows=True, takes=is_name),
    ".npz": Source(lambda config, *_: read_npz(Path(config.data), config), named_rows=True),
    ".csv": Source(_read_numbers, named_columns=True, named_rows=True, table=True),
    **{ending: Source(_needs_polars, named_columns=True, named_rows=True, table=True) for ending in NEED_POLARS},
    ".npy": Source(lambda config, *_: read_pair(config.data, config)),
    **{ending: Source(lambda config, *_: read_libsvm(Path(config.data), config)) for ending in LIBSVM},
    "a prepared folder": Source(
        lambda config, *_: read_prepared(Path(config.data), config),
        named_rows=True,
        takes=lambda data: is_prepared(Path(data)),
    ),
    IDX: Source(lambda config, *_: read_idx(config.data, config), takes=is_idx),
    HANDED_OVER: Source(lambda config, *_: read_handed_over(Path(config.data)), takes=is_handed_over),
    "a folder of .npy files": Source(lambda config, *_: read_folder(Path(config.data), config), takes=is_folder),
}
"""By what ``--data`` takes: the name of a set, or how a path ends; or, where ``takes`` says so, in words."""
OF_CODE = "package.module:function"
"""The source that runs what a user has written."""


def source_of(data: str) -> str:
    """Return the name of the source in ``SOURCES``; nothing if there is none."""
    if data in SOURCES and not data.startswith("."):
        return data
    special = (name for name, source in SOURCES.items() if source.takes is not None and source.takes(data))
    return next(special, "") or file_suffix(data)


def file_suffix(data: str) -> str:
    """Return how the path ends if ``data`` is one that a reader knows by its ending, else nothing."""
    endings = [ending.lower() for ending in Path(data).suffixes]
    return next((suffix for suffix in ("".join(endings[-2:]), *endings[-1:]) if suffix in SOURCES), "")


def is_table(data: str) -> bool:
    """Say whether ``data`` is a table that is prepared before ranks read it."""
    name = source_of(data)
    return bool(name) and SOURCES[name].table


def absolute(data: str) -> str:
    """Return what ``--data`` says with paths that work from anywhere."""
    name = source_of(data)
    if name in ("", OF_CODE) or not (name.startswith(".") or SOURCES[name].takes):
        return data
    return ",".join(str(path.absolute()) for path in (paths_of(data) if name == ".npy" else [Path(data)]))


def _sets() -> list[str]:
    return [name for name, source in SOURCES.items() if not name.startswith(".") and source.takes is None]


def allowed() -> str:
    """Return what ``--data`` takes."""
    endings = [name for name in SOURCES if name.startswith(".")]
    special = [name for name, source in SOURCES.items() if source.takes and name not in (OF_CODE, HANDED_OVER)]
    return f"{', '.join([*_sets(), OF_CODE])}, or the path of an {' or '.join(endings)} file, {' or '.join(special)}"


def paths(config: RunConfig) -> list[str]:
    """Return the files and folders that ranks read."""
    name = source_of(config.data)
    own = []
    if name.startswith(".") or (name and SOURCES[name].takes is not None and name != OF_CODE):
        own = [str(path) for path in (paths_of(config.data) if name == ".npy" else [Path(config.data)])]
    return [*own, *filter(None, (config.validation_data, config.test_data))]


def has_named_columns(data: str) -> bool:
    """Say whether columns have names; of an unknown source, which is refused later, they may."""
    source = SOURCES.get(source_of(data))
    return source is None or source.named_columns


def check_columns(config: RunConfig) -> None:
    """Raise ConfigError for what is said of columns where these have no names: nothing that is asked is left undone."""
    source = SOURCES.get(source_of(config.data))
    if source is None:  # which is refused later
        return
    for name in () if source.named_columns else OF_TABLES:
        option, got = OPTIONS[name], getattr(config, name)
        if got not in (option.default, option.before):
            raise ConfigError(f"{name}: got {got!r}, but {config.data} has no named columns; leave {option.flag} out")
    for name in () if source.named_rows else BY_ROW:
        if got := getattr(config, name):
            raise ConfigError(
                f"{name}: got {got!r}, but {config.data} has nothing of that name with a number for each row; take a "
                f"table with such a column, or an .npz with such an array, or leave {OPTIONS[name].flag} out"
            )


def check_prepare(config: RunConfig) -> None:
    """Raise ConfigError for a ``--prepare`` that names nothing, or whose data are no table that is prepared."""
    if not config.prepare:
        return
    if not is_name(config.prepare):
        raise ConfigError(f"prepare: got {shown(config.prepare)}; a transformer is named package.module:name")
    if not is_table(config.data):
        raise ConfigError(
            f"prepare: {config.data} is no table: it takes a {', '.join(n for n, s in SOURCES.items() if s.table)} file"
        )
    if config.cache == "numpy":
        raise ConfigError("prepare: does not go with --cache numpy; leave that out")


def require_file(path: Path, config: RunConfig) -> None:
    """Raise DataError unless the data are a regular file: a pipe would be waited for, by all ranks."""
    resumed = "; if the data of the resumed run lie elsewhere now, name the place with --data" * bool(config.resume)
    try:
        require_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"data: no file {path}; the path is taken from where the job was started{resumed}") from error
    except OSError as error:
        raise DataError(f"data: {path} cannot be read ({error.strerror}){resumed}") from error


def require_open(data: str) -> None:
    """Raise DataError for a folder that may not be listed or opened, of which nobody knows what it holds."""
    if os.path.isdir(data) and not os.access(data, os.R_OK | os.X_OK):
        raise DataError(f"data: the folder {data} cannot be read (Permission denied); it takes rights to list and open")


def read(config: RunConfig, rank: int, size: int, prepared: Path | None = None) -> Raw:
    """Read the configured data on this rank. Raises DataError if the file is missing, broken or of no known kind.

    ``prepared``: the folder in which they are prepared, if they are a table that was.
    """
    if prepared is not None:
        raw: Raw = read_prepared(prepared, config)
        raw.name = Path(config.data).name
        return raw
    require_open(config.data)
    name = source_of(config.data)
    if not name:
        if os.path.isdir(config.data):
            raise DataError(f"data: {config.data} is a folder without data that are known; choose {allowed()}")
        sets = _sets()
        raise DataError(f"data: unknown set {config.data!r}{nearest(config.data, sets)}; choose {allowed()}")
    if name.startswith(".") or (name == IDX and not os.path.isdir(config.data)):
        for path in paths_of(config.data) if name == ".npy" else [Path(config.data)]:
            require_file(path, config)
    return SOURCES[name].read(config, rank, size)
