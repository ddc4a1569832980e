"""What the options of every command are made of and checked by."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from common.errors import ConfigError

T = TypeVar("T")
OWN_MODEL = "package.module:Class"
"""How a model class of one's own is named."""
USUAL, DATA, MODEL, TRAINING, SYNC = "usual options", "data", "model", "training", "synchronising"
CHECKPOINTS, FAULTS, OUTPUT, MEASURING = "checkpoints", "faults", "output", "measuring"
RANKS, INTERNAL = "ranks", "internal"
GROUPS = (USUAL, RANKS, MEASURING, DATA, MODEL, TRAINING, SYNC, CHECKPOINTS, FAULTS, OUTPUT)
"""Under these heads, in this order, the help shows options; it leaves out those that are internal."""
MANY = 10**9
"""A bound far above what anyone trains, far below what overflows in a step count or a message."""


def nearest(got: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of ``known``, or nothing."""
    import difflib  # for a mistake only

    close = difflib.get_close_matches(got, list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def unknown_value(name: str, got: str, known: Iterable[str]) -> str:
    """Return the message that ``got`` is not one of ``known``, with the nearest of them first."""
    known = list(known)
    return f"{name}: unknown value {got!r}{nearest(got, known)}; choose one of {', '.join(known)}"


def is_own_model(model: str) -> bool:
    """Say whether ``model`` names a class of one's own."""
    return ":" in model


def is_text(value: str) -> bool:
    """Say whether messages, the log and paths can hold ``value``: no NUL, and no surrogates (bytes not UTF-8)."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text of valid characters other than NUL", lambda value: isinstance(value, str) and is_text(value)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    bool | None: ("true or false", lambda value: value is None or isinstance(value, bool)),
    int: ("a whole number", _is_whole),
    int | None: ("a whole number", lambda value: value is None or _is_whole(value)),
    float: ("a number", lambda value: isinstance(value, float) or _is_whole(value)),
    tuple[int, ...]: ("a list of whole numbers", lambda value: isinstance(value, tuple) and all(map(_is_whole, value))),
}
"""Of an option's value: how a message names it, and what it must be."""


def usage_fault(error: Any) -> str:
    """Return in our words what cyclopts says is wrong with a command line."""
    kind, token = type(error).__name__, getattr(error, "token", None)
    name = (getattr(token, "keyword", None) or "").removeprefix("--").replace("-", "_")
    wanted = next((t for t in (bool, int, float) if getattr(error, "target_type", None) in (t, t | None)), None)
    if kind == "CoercionError" and name and wanted:
        return f"{name}: got {shown(error.token.value)}; allowed is {_TYPES[wanted][0]}"
    if kind == "RepeatArgumentError" and name:
        return f"{name}: given several times; give it once"
    return " ".join(str(error).split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """All that a command knows of one of its options; ``{modes}`` and ``{sources}`` in ``help`` are filled in there.

    ``low`` and ``high``: limits of a number, or of each number of a list, which has at most ``longest``; both are
    allowed, but for the one that ``excluded`` names. ``flags``: on the command line, if not the name alone.
    ``on_resume``: whether it must be that of the run that is resumed (``same``), is that unless another is given, which
    may make the result another (``affects``) or does not (``changeable``), or belongs to one job and starts from its
    default again (``own``).
    ``before``: what runs did that are older than the option, if not its default; for resuming them.
    ``command_line_only``: no file and no environment may set it, so that nobody gets it without naming it.
    ``group``: the head under which the help shows it. ``listed``: a text with commas, which on the command line may
    also be several words. ``modes``: those in which it has an effect; empty: all.
    """

    name: str
    type: Any
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = MANY
    excluded: Literal["", "low", "high"] = ""
    longest: int = 0
    flags: tuple[str, ...] = ()
    on_resume: Literal["same", "affects", "changeable", "own"] = "same"
    before: Any = None
    command_line_only: bool = False
    group: str = ""
    listed: bool = False
    modes: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """How messages name it on the command line."""
        return self.flags[0] if self.flags else f"--{self.name.replace('_', '-')}"

    def check(self, value: Any) -> None:
        """Raise ConfigError unless ``value`` keeps the type and the limits."""
        allowed, is_allowed = _TYPES[self.type]
        if not is_allowed(value):
            if self.type is str and type(value) in (int, float):
                allowed = f"a text, as in {self.name} = {shown(str(value))}"
            raise ConfigError(f"{self.name}: got {shown(value)}; allowed is {allowed}")
        if self.choices and value not in self.choices and not (OWN_MODEL in self.choices and is_own_model(value)):
            raise ConfigError(unknown_value(self.name, value, self.choices))
        if isinstance(value, tuple) and len(value) > self.longest:
            raise ConfigError(f"{self.name}: got {len(value)} numbers; allowed is at most {self.longest}")
        if not isinstance(value, str | bool | None):
            for number in value if isinstance(value, tuple) else (value,):
                self._check_range(number)

    def _check_range(self, number: float) -> None:
        low, high = (float(self.low), float(self.high)) if self.type is float else (self.low, self.high)
        above = number > low or (number == low and self.excluded != "low")
        below = number < high or (number == high and self.excluded != "high")
        if not (above and below):  # as of NaN
            lower = "above" if self.excluded == "low" else "at least"
            upper = "below" if self.excluded == "high" else "at most"
            raise ConfigError(f"{self.name}: got {shown(number)}; allowed is {lower} {low} and {upper} {high}")


def whole_or(name: str, text: str, words: tuple[str, ...], least: int) -> int | None:
    """Return the whole number that an option's text is, None if it is one of ``words``. Raises ConfigError."""
    if text in words:
        return None
    if text.isascii() and text.isdigit() and least <= int(text[:12]) <= MANY:
        return int(text)
    raise ConfigError(f"{name}: got {shown(text)}; allowed is {', '.join(words)} or a whole number from {least}")


def option(default: Any, text: str, **about: Any) -> Any:
    """Declare a field of a dataclass that is an option; ``about``: see Option."""
    return field(default=default, metadata={"help": text, **about})


def options_of(config: Any) -> dict[str, Option]:
    """Return the options of a dataclass, by name."""
    options = (f for f in dataclasses.fields(config) if f.metadata)
    return {f.name: Option(name=f.name, type=f.type, default=f.default, **f.metadata) for f in options}


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Make a dataclass of options from plain values, in which tuples have become lists."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def check_options(config: Any) -> None:
    """Raise ConfigError unless each option of a dataclass keeps its type and its limits."""
    for name, one in options_of(config).items():
        one.check(getattr(config, name))


affects = functools.partial(option, on_resume="affects")
changeable = functools.partial(option, on_resume="changeable")
per_job = functools.partial(option, on_resume="own")


def shown(value: Any) -> str:
    """Return ``value`` for a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out whole numbers of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:80]}..."
