"""The command line, on rank 0 only: defaults < TOML file < RANKWISE_* environment < flags."""

import dataclasses
import difflib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from common.config import ONLY_ON_COMMAND_LINE, RunConfig, check_option, is_text, unknown_value
from common.data import sources
from common.errors import ConfigError
from workers.launch import fault_spec, resume_options

PROGRAM = "python -m workers.run"
HELP = "Train a model on all ranks of an MPI job: mpirun -np 4 python -m workers.run --mode allreduce"
PREFIX = "RANKWISE_"
FIELDS = {f.name: f for f in dataclasses.fields(RunConfig)}


@dataclass(frozen=True, slots=True)
class Command:
    """A command with the options of a run, of which its help leaves out ``hidden`` ones, and ``more`` of its own."""

    program: str = PROGRAM
    help: str = HELP
    more: Mapping[str, "dataclasses.Field[Any]"] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()


def parse(arguments: list[str], modes: dict[str, str]) -> RunConfig | int:
    """Return the configuration, or the exit code after printing help or version.

    ``modes``: name and help line of every sync mode. Raises ConfigError.
    """
    parsed = parse_command(arguments, modes, Command())
    return parsed if isinstance(parsed, int) else parsed[0]


def parse_command(
    arguments: list[str], modes: dict[str, str], command: Command
) -> tuple[RunConfig, dict[str, Any]] | int:
    """Return the configuration and the command's own options, or the exit code after printing help or version.

    Raises ConfigError.
    """
    _check_texts(arguments)
    result = _run(arguments, modes, {}, command)
    if isinstance(result, int):
        return result
    path, options = result
    defaults: dict[str, Any] = {}
    given = _read_file(_expanded("config", path)) if path else {}
    output = options.output or str(given.get("output", ""))
    saved = resume_options.saved_config(options.resume, output) if options.resume else {}
    for values in (saved, given):
        defaults |= {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if defaults:
        result = _run(arguments, modes, defaults, command)
        assert not isinstance(result, int)
        options = result[1]
    config = _checked(options, modes, command)
    resume_options.check_same(saved, config)
    return config, {name: getattr(options, name) for name in command.more}


def _check_texts(arguments: list[str]) -> None:
    """Raise ConfigError for bytes that are no UTF-8: messages between ranks could not hold them."""
    environment = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(PREFIX)]
    for text in (*arguments, *environment):
        if not is_text(text):
            raise ConfigError(f"command line or environment: got {text!r}; allowed is UTF-8")


def _run(
    arguments: list[str], modes: dict[str, str], defaults: dict[str, Any], command: Command
) -> tuple[str, Any] | int:
    """Return the path of a configuration file and all options, or the exit code after printing help or version.

    ``defaults``: checked values that stand in for the options' own defaults.
    """
    import cyclopts
    from cyclopts import App, Parameter
    from cyclopts.config import Env

    fields = {**FIELDS, **command.more}
    hints = _help_lines(fields, modes)
    described = []
    for name, f in fields.items():
        parameter = Parameter(
            help=hints[name],
            converter=_converter(f),
            show=name not in command.hidden,
            show_env_var=name not in ONLY_ON_COMMAND_LINE,
        )
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
        name=command.program,
        help=command.help,
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
        _refuse_elsewhere(name, f"in {path}")
        values[name] = tuple(value) if isinstance(value, list) else value
        check_option(FIELDS[name], values[name])
    return values


def _expanded(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: got {text!r}, but that user has no home folder; write the whole path") from error


def _checked(options: Any, modes: dict[str, str], command: Command) -> RunConfig:
    known = {PREFIX + name.upper() for name in (*FIELDS, *command.more, "config")}
    for name in filter(lambda name: name.startswith(PREFIX), os.environ):
        if name not in known:
            raise ConfigError(unknown_value("environment", name, sorted(known)))
        _refuse_elsewhere(name.removeprefix(PREFIX).lower(), f"as {name} in the environment")
    values = {name: getattr(options, name) for name in FIELDS}
    if values["mode"] not in modes:
        raise ConfigError(unknown_value("mode", values["mode"], modes))
    if sources.file_suffix(values["data"]):  # the saved configuration must work from anywhere
        values["data"] = str(_expanded("data", values["data"]).absolute())
    if values["output"].startswith("~"):
        values["output"] = str(_expanded("output", values["output"]))
    if any(fault.kind == fault_spec.SKEW for fault in fault_spec.parse(values["inject"])):
        values["rows"] = "shard"
    config = RunConfig(**values)
    sources.check_target(config)
    return config


def _refuse_elsewhere(name: str, place: str) -> None:
    """Raise ConfigError for an option that stands in a file or the environment, but may not."""
    if name in ONLY_ON_COMMAND_LINE:
        raise ConfigError(f"{name}: got it {place}; allowed is the command line only, give --{name}")


def _help_lines(fields: Mapping[str, "dataclasses.Field[Any]"], modes: dict[str, str]) -> dict[str, str]:
    """Return the help of each option, with its choices."""
    lines = {}
    for name, f in fields.items():
        choices = [f"{mode} ({text})" for mode, text in modes.items()] if name == "mode" else f.metadata.get("choices")
        text = sources.allowed() if name == "data" else f.metadata["help"]
        lines[name] = text + (f": {', '.join(choices)}" if choices else "")
    return lines


def _version() -> str:
    from importlib.metadata import version

    return f"rankwise {version('rankwise')} on Python {sys.version.split()[0]}"
