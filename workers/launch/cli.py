"""Command lines of programs with a few options of their own: fields of a dataclass in, their values out."""

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Any

from common.config import is_text
from common.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """What the help says; ``hint``: what a wrong command line is told beside."""

    name: str
    help: str
    hint: str = ""


def parse(
    program: Program, fields: Iterable["dataclasses.Field[Any]"], overrides: dict[str, Any], arguments: list[str]
) -> dict[str, Any] | None:
    """Return the options' values by name, or None after printing help. Raises ConfigError.

    ``overrides``: more that cyclopts' ``Parameter`` is told of some, by name; ``help`` in place of the field's own.
    """
    import cyclopts
    from cyclopts import App, Parameter

    for text in arguments:
        if not is_text(text):
            raise ConfigError(f"command line: got {text!r}; allowed is UTF-8")
    described = []
    for f in fields:
        about = {"help": f.metadata["help"], "converter": _whole(f.name) if f.type is int else None}
        parameter = Parameter(**about | overrides.get(f.name, {}))
        described.append((f.name, Annotated[f.type, parameter], dataclasses.field(default=f.default)))
    options: Any = dataclasses.make_dataclass("Options", described, frozen=True, kw_only=True)
    options.__module__ = __name__  # make_dataclass says "types", which cyclopts takes for a plain value's class

    def chosen(*, values: Annotated[options, Parameter(name="*")] = options()) -> Any:  # noqa: B008
        return values

    app = App(name=program.name, help=program.help, result_action="return_value", version_flags=[])
    app.default(chosen)
    try:
        result = app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        raise ConfigError(" ".join(f"{error} {program.hint}".split())) from error
    return None if result is None else dataclasses.asdict(result)


def _whole(name: str) -> Any:
    """Return what reads a whole number; cyclopts' own way rounds 3.7 to 4."""

    def convert(kind: Any, tokens: Any) -> int:  # noqa: ARG001
        try:
            return int(tokens[0].value)
        except ValueError:
            raise ConfigError(f'{name}: got "{tokens[0].value[:80]}"; allowed is a whole number') from None

    return convert
