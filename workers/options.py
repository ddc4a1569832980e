"""The command line, on rank 0 only: defaults < TOML file < RANKWISE_* environment < flags."""

import dataclasses
import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from common.config import RunConfig, check_option, file_kind, is_text, unknown_value
from common.errors import ConfigError
from ps import runs
from workers import resume

PROGRAM = "python -m workers.run"
HELP = "Train a model on all ranks of an MPI job: mpirun -np 4 python -m workers.run --mode allreduce"
PREFIX = "RANKWISE_"
FIELDS = {f.name: f for f in dataclasses.fields(RunConfig)}


def parse(arguments: list[str], modes: dict[str, str]) -> RunConfig | int:
    """Return the configuration, or the exit code after printing help or version.

    ``modes``: name and help line of every sync mode. Raises ConfigError.
    """
    _check_texts(arguments)
    result = _run(arguments, modes, {})
    if isinstance(result, int):
        return result
    path, options = result
    if path:
        result = _run(arguments, modes, _read_file(_expanded("config", path)))
        assert not isinstance(result, int)
        options = result[1]
    config = _checked(options, modes)
    return _resumed(arguments, modes, config) if config.resume else config


def _resumed(arguments: list[str], modes: dict[str, str], config: RunConfig) -> RunConfig:
    """Take what is not given from the run that is gone on with. Raises RankwiseError."""
    folder = runs.find(config.resume, config.output)
    if folder is None:
        return config
    saved = resume.saved_config(folder)
    defaults = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k not in ("resume", "output")}
    result = _run(arguments, modes, defaults)
    assert not isinstance(result, int)
    config = _checked(result[1], modes)
    resume.check_same(saved, config)
    return config


def _check_texts(arguments: list[str]) -> None:
    """Raise ConfigError for bytes that are no UTF-8: messages between ranks could not hold them."""
    environment = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(PREFIX)]
    for text in (*arguments, *environment):
        if not is_text(text):
            raise ConfigError(f"command line or environment: got {text!r}; allowed is UTF-8")


def _run(arguments: list[str], modes: dict[str, str], defaults: dict[str, Any]) -> tuple[str, Any] | int:
    """Return the path of a configuration file and all options, or the exit code after printing help or version.

    ``defaults``: checked values that stand in for the options' own defaults.
    """
    import cyclopts
    from cyclopts import App, Parameter
    from cyclopts.config import Env

    hints = _help_lines(modes)
    described = []
    for name, f in FIELDS.items():
        parameter = Parameter(help=hints[name], converter=_converter(f))
        default = dataclasses.field(default=defaults.get(name, f.default))
        described.append((name, Annotated[f.type, parameter], default))
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def read(
        *,
        config: Annotated[str, Parameter(help="a TOML file of these options")] = "",
        chosen: Annotated[options, Parameter(name="*")] = options(),  # noqa: B008
    ) -> Any:
        return config, chosen

    app = App(
        name=PROGRAM,
        help=HELP,
        version=_version,
        config=Env(PREFIX, command=False),
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True),
    )
    app.default(read)
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    return result or 0


def _converter(option: "dataclasses.Field[Any]") -> Callable[[Any, Any], Any] | None:
    """Return what reads an option of whole numbers; cyclopts' own way rounds 3.7 to 4."""
    if option.type not in (int, tuple[int, ...]):
        return None

    def whole(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f'{option.name}: got "{text[:80]}"; allowed is a whole number') from None

    def convert(kind: Any, tokens: Any) -> Any:
        return whole(tokens[0].value) if kind is int else tuple(whole(token.value) for token in tokens)

    return convert


def _read_file(path: Path) -> dict[str, Any]:
    """Return the options of a TOML file, checked as they stand there."""
    import tomllib

    if not path.is_file():
        raise ConfigError(f"config: no file {path}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
        raise ConfigError(f"config: {path} is no TOML file ({error})") from error
    for name, value in values.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"Did you mean --{near[0]}?" if near else f"The options are {', '.join(FIELDS)}."
            raise ConfigError(f"config: unknown option {name!r} in {path}. {hint}")
        values[name] = tuple(value) if isinstance(value, list) else value
        check_option(FIELDS[name], values[name])
    return values


def _expanded(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: got {text!r}, but that user has no home folder; write the whole path") from error


def _checked(options: Any, modes: dict[str, str]) -> RunConfig:
    known = {PREFIX + name.upper() for name in (*FIELDS, "config")}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(unknown_value("environment", name, sorted(known)))
    values = {name: getattr(options, name) for name in FIELDS}
    if values["mode"] not in modes:
        raise ConfigError(unknown_value("mode", values["mode"], modes))
    if file_kind(values["data"]):  # the saved configuration must work from anywhere
        values["data"] = str(_expanded("data", values["data"]).absolute())
    if values["output"].startswith("~"):
        values["output"] = str(_expanded("output", values["output"]))
    return RunConfig(**values)


def _help_lines(modes: dict[str, str]) -> dict[str, str]:
    """Return the help of each option, with its choices."""
    lines = {}
    for name, f in FIELDS.items():
        choices = [f"{mode} ({text})" for mode, text in modes.items()] if name == "mode" else f.metadata.get("choices")
        lines[name] = f.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return lines


def _version() -> str:
    from importlib.metadata import version

    return f"rankwise {version('rankwise')} on Python {sys.version.split()[0]}"
