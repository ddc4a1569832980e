"""The options of workers.prepare: those of a run that say what the columns of a table are, under the same names."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.config import RunConfig
from common.data.prepared_file import ROLES, is_prepared
from common.errors import ConfigError
from common.given_paths import given_path
from common.option import USUAL, check_options, option
from workers.launch import cli, words
from workers.preparation.column_options import OF_COLUMNS

if TYPE_CHECKING:
    from workers.preparation.parallel import Request

NAME = "python -m workers.prepare"
HELP = (
    "Prepare tables for training: columns become features, rows a folder that ranks map instead of reading it: "
    "mpirun -np 4 python -m workers.prepare train.csv -o prepared --target price"
)
ColumnsConfig: type = dataclasses.make_dataclass(
    "ColumnsConfig",
    [
        (f.name, f.type, dataclasses.field(default=f.default, metadata=f.metadata))
        for f in dataclasses.fields(RunConfig)
        if f.name in OF_COLUMNS
    ],
    frozen=True,
    slots=True,
    kw_only=True,
)
"""The same, as options of another command."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """What workers.prepare takes besides: ``files`` are the words that stand by themselves."""

    output: str = option("", "the folder to write", flags=("--output", "-o"), group=USUAL)
    validation_data: str = option("", "a file of validation rows", group=USUAL)
    test_data: str = option("", "a file of test rows", group=USUAL)
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        if not self.files:
            raise ConfigError("files: got none; name those to prepare: workers.prepare train.csv -o prepared")
        if not self.output:
            raise ConfigError("output: got none; name the folder to write: -o prepared")

    def request(self, options: dict[str, Any]) -> "Request":
        """Return what is to be prepared. ``options``: those of columns."""
        given = {"data": self.files, "validation": (self.validation_data,), "test": (self.test_data,)}
        files = tuple((str(Path(path).absolute()), role) for role in ROLES for path in given[role] if path)
        from workers.preparation.parallel import Request  # which needs MPI; help does not

        return Request(files, options)


def command(name: str = NAME, text: str = HELP) -> cli.Command:
    """Return the command line. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (PrepareConfig, ColumnsConfig), {"sources": ""}, takes="FILE...")


def parse(arguments: list[str]) -> tuple[PrepareConfig, Any] | int:
    """Return both parts of the options, or the exit code after printing help. Raises ConfigError."""
    made = command()
    files, others = words.split(made, arguments)
    values = cli.parse(made, others)
    if isinstance(values, int):
        return values
    columns = ColumnsConfig(**{name: values.pop(name) for name in OF_COLUMNS})
    check_options(columns)
    config = PrepareConfig(**values, files=tuple(given_path("files", file) for file in files))
    place = Path(config.output)
    if place.exists() and not is_prepared(place) and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(
            f"output: got {config.output!r}, which is there and is no prepared folder; give a new or an empty one"
        )
    return dataclasses.replace(config, output=str(place.absolute())), columns
