"""The command line, on rank 0 only: defaults < TOML file < RANKWISE_* environment < flags."""

import dataclasses
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

from common.config import RunConfig, unknown_value
from common.errors import ConfigError

PROGRAM = "python -m workers.run"
HELP = "Train a model on all ranks of an MPI job: mpirun -np 4 python -m workers.run --mode allreduce"
PREFIX = "RANKWISE_"


def parse(arguments: list[str], modes: dict[str, str]) -> RunConfig | int:
    """Return the configuration, or the exit code after printing help or version.

    ``modes``: name and help line of every sync mode. Raises ConfigError.
    """
    import cyclopts
    from cyclopts import App, Parameter
    from cyclopts.config import Env, Toml

    hints = _help_lines(modes)
    fields = dataclasses.fields(RunConfig)
    described = [(f.name, Annotated[f.type, Parameter(help=hints[f.name])], dataclasses.field(default=f.default))
                 for f in fields]  # fmt: skip
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def read(
        *,
        config: Annotated[str, Parameter(help="a TOML file of these options")] = "",
        chosen: Annotated[options, Parameter(name="*")] = options(),  # noqa: B008
    ) -> Any:
        return config, chosen

    def run(sources: list[Any]) -> Any:
        app = App(
            name=PROGRAM,
            help=HELP,
            version=_version,
            config=sources,
            result_action="return_value",
            default_parameter=Parameter(consume_multiple=True),
        )
        app.default(read)
        return app(arguments, exit_on_error=False, print_error=False)

    env = Env(PREFIX, command=False)
    try:
        result = run([env])
        if result is None or isinstance(result, int):
            return result or 0
        path = result[0]
        if path:
            _check_file(Path(path))
            result = run([env, Toml(path, must_exist=True)])
        return _checked(result[1], modes)
    except cyclopts.CycloptsError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _check_file(path: Path) -> None:
    """Raise ConfigError unless the file is there and is TOML; which options it holds is looked at later."""
    if not path.is_file():
        raise ConfigError(f"config: no file {path}")
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"config: {path} is no TOML file ({error})") from error


def _checked(options: Any, modes: dict[str, str]) -> RunConfig:
    known = {PREFIX + f.name.upper() for f in dataclasses.fields(RunConfig)} | {PREFIX + "CONFIG"}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(unknown_value("environment", name, sorted(known)))
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(RunConfig)}
    if values["mode"] not in modes:
        raise ConfigError(unknown_value("mode", values["mode"], modes))
    if values["data"].endswith((".npz", ".csv")):  # the saved configuration must work from anywhere
        values["data"] = str(Path(values["data"]).expanduser().absolute())
    return RunConfig(**values)


def _help_lines(modes: dict[str, str]) -> dict[str, str]:
    """Return the help of each option, with its choices."""
    lines = {}
    for f in dataclasses.fields(RunConfig):
        choices = (
            [f"{name} ({text})" for name, text in modes.items()] if f.name == "mode" else f.metadata.get("choices")
        )
        lines[f.name] = f.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return lines


def _version() -> str:
    from importlib.metadata import version

    return f"rankwise {version('rankwise')} on Python {sys.version.split()[0]}"
