"""A mode with options of its own, as a comparison names it: ``local:sync_every=16``."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from common.config import OPTIONS, RunConfig
from common.errors import ConfigError
from common.option import SYNC, TRAINING, shown, unknown_value

USUAL_ONES = ("optimizer", "learning_rate")
NOT_HERE = ("patience", "init", "balance", "heal")
"""Options of these groups that a comparison makes nothing of, or that make it unfair."""
ALLOWED = (
    *USUAL_ONES,
    *(name for name, one in OPTIONS.items() if one.group in (SYNC, TRAINING) and name not in (*USUAL_ONES, *NOT_HERE)),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """What is compared: ``name`` as it was given, and the options of a run in its mode."""

    name: str
    config: RunConfig


def read(name: str, config: RunConfig, modes: Iterable[str]) -> Variant:
    """Return what ``mode:option=value:option=value`` means beside the options of the comparison. Raises ConfigError."""
    mode, *changes = name.split(":")
    if mode not in modes:
        raise ConfigError(unknown_value("modes", mode[:80], modes))
    values: dict[str, Any] = {}
    for change in changes:
        given, equals, text = change.partition("=")
        option = given.replace("-", "_")
        if not equals:
            raise ConfigError(
                f"modes: {mode}: got {shown(change)}; allowed is option=value, as in {mode}:learning_rate=0.1"
            )
        if option not in ALLOWED:
            raise ConfigError(unknown_value(f"modes: {mode}", option[:80], ALLOWED))
        if option in values:
            raise ConfigError(f"modes: {mode}: {option} is given twice; give it once")
        values[option] = _value(option, text)
    return Variant(name, dataclasses.replace(config, mode=mode, **values))


def _value(option: str, text: str) -> Any:
    """Return a text as the option's type, or as it is where it does not fit, which the option's own check refuses."""
    kind = OPTIONS[option].type
    (kind,) = [one for one in get_args(kind) if one is not type(None)] or [kind]
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    try:
        return kind(text)
    except (TypeError, ValueError):
        return text
