"""Command lines made of dataclasses of options: what is given comes back as values by name."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from common import synonyms
from common.errors import ConfigError
from common.given_paths import given_folder, given_path
from common.option import GROUPS, INTERNAL, RANKS, Option, is_text, options_of, usage_fault
from common.standard_streams import as_result
from common.start_words import LIMIT, OF_THE_JOB, read_limit
from common.version import version_line
from workers.launch.environment_options import PREFIX, environment

STANDARD_OUTPUT = "-"
PATHS = {
    "config",
    "data",
    "hostfile",
    "json",
    "lines",
    "mpirun",
    "output",
    "resume",
    "start_from",
    "test_data",
    "validation_data",
}
"""Options that name a file or a folder, which shells complete, and which are looked at: see ``path_of``."""
ELSEWHERE = (
    "All options but {but} may also stand in a TOML file (--config FILE: batch_size = 128) or in the environment "
    "(RANKWISE_BATCH_SIZE=128). Flags win over the environment, the environment over the file."
)


@dataclass(frozen=True, slots=True)
class Command:
    """What a command line is made of.

    ``configs``: the dataclasses whose options it takes. ``texts``: what is filled into their help, by name.
    ``hidden``: options that the help leaves out. ``takes``: the word that it takes besides options.
    ``hint``: added to messages about a wrong command line.
    ``trains``: whether its options are those of a run: then RANKWISE_* variables set them too, and flags that are true
    or false have a ``--no-``.
    """

    name: str
    help: str
    configs: tuple[type, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    takes: str = ""
    hint: str = ""
    trains: bool = False

    @property
    def options(self) -> dict[str, Option]:
        """All options, by name."""
        return {name: option for config in self.configs for name, option in options_of(config).items()}

    @property
    def shown(self) -> dict[str, Option]:
        """Those that the help shows."""
        return {
            name: option
            for name, option in self.options.items()
            if name not in self.hidden and option.group != INTERNAL
        }

    @property
    def flags(self) -> set[str]:
        """All flags, as they are written."""
        flags = {flag for option in self.options.values() for flag in option.flags or (option.flag,)}
        return flags | {f"--no-{flag[2:]}" for flag in flags}


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
            result = app(command, defaults or {})(spelled(command, arguments), exit_on_error=False, print_error=False)
    except SystemExit:  # rich's way to say that nobody reads the help any more
        return 0
    except cyclopts.CycloptsError as error:
        raise ConfigError(f"{message(error, command.shown)} {command.hint}".strip()) from error
    if result is None:
        return 0
    if command.trains:
        _check_environment(command.options)
    return dataclasses.asdict(result)


def spelled(command: Command, arguments: list[str]) -> list[str]:
    """Return the arguments with flags as they are known: ``--batch_size`` is ``--batch-size``.

    A value that is ``-`` is joined to its flag: by itself it would be taken for an option.
    """
    known, words = command.flags, list[str]()
    for word in arguments:
        if word == "-" and words and words[-1] in known:
            words[-1] += "=-"
            continue
        name, equals, value = word.partition("=")
        other = name.replace("_", "-")
        words.append(other + equals + value if other in known else word)
    return words


def message(error: Any, options: Mapping[str, Option]) -> str:
    """Return what an error of cyclopts says, with the one of these options that was meant."""
    from cyclopts import UnknownOptionError, UnusedCliTokensError

    if isinstance(error, UnknownOptionError):
        got = error.token.keyword or error.token.value
        flags = [flag for option in options.values() for flag in (option.flag, *option.flags) if flag.startswith("--")]
        known = {synonyms.plain(flag): flag for flag in flags}
        hint = synonyms.advice(got, known, known.__getitem__) or "--help lists all options."
        return f"Unknown option: {got[:80]}. {hint}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        got = error.unused_tokens[0]
        looks = "data" in options and ("." in got or "/" in got)
        return f"Unexpected word {got[:80]!r}: every value follows its option" + f", as in --data {got}" * looks
    return usage_fault(error)


def app(command: Command, defaults: Mapping[str, Any], choices: Mapping[str, Iterable[str]] | None = None) -> Any:
    """Return the cyclopts app that reads a command line into an object with all options.

    ``choices``: given if it is to make completions for shells, which know choices and files by their types: what an
    option may be, where the option itself does not say so.
    """
    from cyclopts import App, Group, Parameter

    described = []
    for name, option in command.options.items():
        default = defaults.get(name, option.default)
        parameter = Parameter(
            name=option.flags or None,
            help=_help(option, command.texts),
            converter=_converter(option) if choices is None else None,
            show=name in command.shown,
            show_default=_default_text(option, default),
            show_env_var=False,
            negative=None if command.trains and option.group != RANKS else (),
            group=Group(option.group.capitalize(), sort_key=GROUPS.index(option.group)) if option.group in GROUPS
            else Group("Options", sort_key=len(GROUPS)),
        )  # fmt: skip
        kind: Any = tuple[str, ...] if option.listed else option.type
        if choices is not None:
            kind = _completed_type(option, choices)
        described.append((name, Annotated[kind, parameter], field(default=default)))
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def given(*, chosen: Annotated[options, Parameter(name="*")] = options()) -> Any:  # noqa: B008
        return chosen

    def given_none() -> Any:  # of an object without fields, the help would show the object
        return options()

    environment, elsewhere = None, None
    if command.trains:
        from cyclopts.config import Env

        environment = Env(PREFIX, command=False)
        elsewhere = ELSEWHERE.format(but=_only_here(command.shown))
    made = App(
        name=command.name,
        help=command.help,
        help_format="plaintext",  # others take <...> for markup, and leave it out
        help_epilogue=elsewhere,
        usage=f"Usage: {command.name} {command.takes}{' [OPTIONS]' * bool(described)}" if command.takes else None,
        group_commands=Group("This help", sort_key=len(GROUPS) + 1),
        version=version_line,
        config=environment,
        result_action="return_value",
        default_parameter=Parameter(consume_multiple=True),
    )
    made.default(given if described else given_none)
    return made


def _only_here(options: Mapping[str, Option]) -> str:
    """Return what no file and no variable may set."""
    only = [option for option in options.values() if option.command_line_only]
    but = ["those under Ranks"] * any(option.group == RANKS for option in only)
    but += [option.flag for option in only if option.group != RANKS]
    return " and ".join(filter(None, [", ".join(but[:-1]), but[-1]]))


def _help(option: Option, texts: Mapping[str, str]) -> str:
    """Return an option's help, with its choices unless they stand in it."""
    text = option.help.format_map(texts)
    if all(choice in text for choice in option.choices):
        return text
    return f"{text} ({', '.join(option.choices)})"


def _default_text(option: Option, value: Any) -> Any:
    """Return how the help shows a default; what is empty or off needs no words, nor what no one may give."""
    if isinstance(value, bool):
        return (lambda _: "on") if value else False
    if isinstance(value, tuple):
        return lambda _: ",".join(map(str, value))
    return value not in ("", None) and not (option.type is int and value < option.low)


def _completed_type(option: Option, choices: Mapping[str, Iterable[str]]) -> Any:
    """Return the type by which shells complete an option's value."""
    from pathlib import Path

    if allowed := tuple(choices.get(option.name, option.choices)):
        one = Literal[allowed]  # type: ignore[valid-type]
        return tuple[one, ...] if option.listed else one
    return Path if _is_path(option) else option.type


def _is_path(option: Option) -> bool:
    return option.name in PATHS and option.type is str


def path_of(option: Option, text: str) -> str:
    """Return the path that an option is given. Raises ConfigError if it can be none.

    ``-``, standard output, goes with options that it is the default of.
    """
    if text == STANDARD_OUTPUT:
        if option.default == STANDARD_OUTPUT:
            return text
        raise ConfigError(f"{option.flag.removeprefix('--')}: got '-'; allowed is a path, as ./- is one")
    look = given_folder if option.name == "output" else given_path
    return look(option.flag.removeprefix("--"), text)


def _converter(option: Option) -> Callable[[Any, Any], Any] | None:
    """Return what reads whole numbers, which cyclopts rounds, lists, whose items commas may part, too, and paths."""

    def whole(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f'{option.name}: got "{text[:80]}"; allowed is a whole number') from None

    def convert(kind: Any, tokens: Any) -> Any:  # noqa: ARG001
        words = [token.value for token in tokens]
        if option.listed:
            return ",".join([*(word.removesuffix(",") for word in words[:-1]), words[-1]])
        if _is_path(option):  # a variable that is set to nothing is none
            return "" if tokens[0].source == "env" and not words[0] else path_of(option, words[0])
        if option.type is int:
            return whole(words[0])
        return tuple(whole(part) for word in words for part in word.removesuffix(",").split(","))

    return convert if option.listed or _is_path(option) or option.type in (int, tuple[int, ...]) else None


def _check_environment(options: Mapping[str, Option]) -> None:
    """Raise ConfigError for a variable that is no option, or one that may not be set there."""
    known = {PREFIX + name.upper(): option for name, option in options.items()}
    for name in filter(lambda name: name.startswith(PREFIX), os.environ):
        if name == LIMIT:
            _check_limit(os.environ[name])
        if name in (LIMIT, *OF_THE_JOB):
            continue
        if name not in known:
            near = synonyms.meant(name.removeprefix(PREFIX), options)
            hint = f" (did you mean {PREFIX + near[0].upper()!r}?)" if near else ""
            raise ConfigError(f"environment: unknown variable {name!r}{hint}; choose one of {', '.join(sorted(known))}")
        refuse_elsewhere(known[name], f"as {name} in the environment")


def _check_limit(text: str) -> None:
    """Raise ConfigError unless the time limit of the start, which is no option, is one."""
    try:
        read_limit(text)
    except ValueError:
        raise ConfigError(
            f"environment: {LIMIT}: got {text!r}; allowed is a number of seconds, or 0 for no limit"
        ) from None


def refuse_elsewhere(option: Option, place: str) -> None:
    """Raise ConfigError for an option that stands in a file or the environment, but may not."""
    if option.command_line_only:
        raise ConfigError(f"{option.name}: got it {place}; allowed is the command line only, give {option.flag}")
