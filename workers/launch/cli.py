"""Command lines made of dataclasses of options: what is given comes back as values by name."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from common.config import Option, is_text, options_of, unknown_value
from common.errors import ConfigError
from common.standard_streams import as_result

PREFIX = "RANKWISE_"


@dataclass(frozen=True, slots=True)
class Command:
    """What a command line is made of.

    ``configs``: the dataclasses whose options it takes. ``texts``: what is filled into their help, by name.
    ``hidden``: options that the help leaves out. ``hint``: added to messages about a wrong command line.
    ``trains``: whether its options are those of a run: then RANKWISE_* variables set them too, flags that are true or
    false have a ``--no-``, and there is ``--version``.
    """

    name: str
    help: str
    configs: tuple[type, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    hint: str = ""
    trains: bool = False

    @property
    def options(self) -> dict[str, Option]:
        """All options, by name."""
        return {name: option for config in self.configs for name, option in options_of(config).items()}


def environment() -> list[str]:
    """Return the variables that set options, as NAME=value."""
    return sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(PREFIX))


def parse(command: Command, arguments: list[str], defaults: Mapping[str, Any] | None = None) -> dict[str, Any] | int:
    """Return the options' values, or the exit code after printing help or version. Raises ConfigError.

    ``defaults``: checked values in place of the options' own defaults.
    """
    import cyclopts

    for text in (*arguments, *(environment() if command.trains else ())):
        if not is_text(text):  # messages between ranks could not hold it
            raise ConfigError(f"command line{' or environment' * command.trains}: got {text!r}; allowed is UTF-8")
    try:
        with as_result():
            result = _app(command, defaults or {})(arguments, exit_on_error=False, print_error=False)
    except SystemExit:  # rich's way to say that nobody reads the help any more
        return 0
    except cyclopts.CycloptsError as error:
        raise ConfigError(" ".join(f"{error} {command.hint}".split())) from error
    if result is None:
        return 0
    if command.trains:
        _check_environment(command.options)
    return dataclasses.asdict(result)


def _app(command: Command, defaults: Mapping[str, Any]) -> Any:
    """Return the cyclopts app that reads a command line into an object with all options."""
    from cyclopts import App, Parameter

    described = []
    for name, option in command.options.items():
        choices = f": {', '.join(option.choices)}" if option.choices else ""
        parameter = Parameter(
            name=option.flags or None,
            help=option.help.format_map(command.texts) + choices,
            converter=_converter(option),
            show=name not in command.hidden,
            show_env_var=not option.command_line_only,
            negative=None if command.trains else (),
        )
        default = field(default=defaults.get(name, option.default))
        described.append((name, Annotated[option.type, parameter], default))
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def given(*, chosen: Annotated[options, Parameter(name="*")] = options()) -> Any:  # noqa: B008
        return chosen

    environment = None
    if command.trains:
        from cyclopts.config import Env

        environment = Env(PREFIX, command=False)
    app = App(
        name=command.name,
        help=command.help,
        version=_version,
        version_flags=["--version"] if command.trains else [],
        config=environment,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True),
    )
    app.default(given)
    return app


def _converter(option: Option) -> Callable[[Any, Any], Any] | None:
    """Return what reads an option of whole numbers; cyclopts' own way rounds 3.7 to 4."""

    def whole(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f'{option.name}: got "{text[:80]}"; allowed is a whole number') from None

    def convert(kind: Any, tokens: Any) -> Any:
        return whole(tokens[0].value) if kind is int else tuple(whole(token.value) for token in tokens)

    return convert if option.type in (int, tuple[int, ...]) else None


def _check_environment(options: Mapping[str, Option]) -> None:
    """Raise ConfigError for a variable that is no option, or one that may not be set there."""
    known = {PREFIX + name.upper(): option for name, option in options.items()}
    for name in filter(lambda name: name.startswith(PREFIX), os.environ):
        if name not in known:
            raise ConfigError(unknown_value("environment", name, sorted(known)))
        refuse_elsewhere(known[name], f"as {name} in the environment")


def refuse_elsewhere(option: Option, place: str) -> None:
    """Raise ConfigError for an option that stands in a file or the environment, but may not."""
    if option.command_line_only:
        raise ConfigError(f"{option.name}: got it {place}; allowed is the command line only, give {option.flag}")


def _version() -> str:
    from importlib.metadata import version

    return f"rankwise {version('rankwise')} on Python {sys.version.split()[0]}"
