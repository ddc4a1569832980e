"""What plain values read from a file may be, and which of them are not: the rules of records and of checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from reprlib import repr as brief
from types import NoneType
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What a value may be: of one of ``types``, a number finite and from ``low`` to ``high``.

    ``of``: the rule of every entry of a list or map. ``per``: what there must be one entry for each of, ``rank`` or
    ``parameter``. ``length``: of a list. ``fields``: the rules of a map's known keys. ``absent``: the field may be
    missing.
    """

    what: str
    types: frozenset[type]
    low: float = -math.inf
    high: float = math.inf
    of: "FieldSpec | None" = None
    per: str = ""
    length: int | None = None
    fields: Mapping[str, "FieldSpec"] = field(default_factory=dict)
    optional: bool = False


def nullable(rule: FieldSpec) -> FieldSpec:
    """Allow nil too."""
    return replace(rule, what=f"{rule.what} or nil", types=rule.types | {NoneType})


def optional(rule: FieldSpec) -> FieldSpec:
    """Allow the field to be missing: from some records of its kind, or from logs of an earlier version."""
    return replace(rule, optional=True)


def list_of(of: FieldSpec, length: int | None = None) -> FieldSpec:
    """Return the rule of a list, of any length unless it is given."""
    return FieldSpec("a list", frozenset({list}), of=of, length=length)


def by_rank(of: FieldSpec) -> FieldSpec:
    """Return the rule of a list with one entry a rank."""
    return replace(list_of(of), per="rank")


def by_parameter(of: FieldSpec) -> FieldSpec:
    """Return the rule of a map from each of the model's parameters."""
    return FieldSpec("a map", frozenset({dict}), of=of, per="parameter")


def table(**fields: FieldSpec) -> FieldSpec:
    """Return the rule of a map with known keys."""
    return FieldSpec("a map", frozenset({dict}), fields=fields)


TEXT = FieldSpec("a text", frozenset({str}))
WHOLE = FieldSpec("a whole number", frozenset({int}))
NUMBER = FieldSpec("a finite number", frozenset({int, float}))
RANKS = FieldSpec("a number of ranks", frozenset({int}), low=1)
MAP = table()
FLAG = FieldSpec("true or false", frozenset({bool}))


class Validator:
    """Finds what breaks a rule. ``world``, ``parameters``: what rules with ``per`` count by."""

    def __init__(self) -> None:
        self.world: Any = None
        self.parameters: Any = None

    def fault(self, value: Any, rule: FieldSpec) -> str:
        """Return the path to what breaks the rule, and how; nothing if all is well."""
        if type(value) not in rule.types or (type(value) in NUMBER.types and not _within(value, rule)):
            return f" is {brief(value)}, not {rule.what}"
        if type(value) is list:
            return self._list_fault(value, rule)
        if type(value) is dict:
            return self._map_fault(value, rule)
        return ""

    def _list_fault(self, values: list[Any], rule: FieldSpec) -> str:
        if rule.per and len(values) != self.world:
            return f" has {len(values)} entries for {self.world} ranks"
        if rule.length is not None and len(values) != rule.length:
            return f" has {len(values)} entries, not {rule.length}"
        if rule.of is None or _plainly_right(values, rule.of):
            return ""
        faults = ((i, self.fault(value, rule.of)) for i, value in enumerate(values))
        return next((f"[{i}]{found}" for i, found in faults if found), "")

    def _map_fault(self, values: dict[Any, Any], rule: FieldSpec) -> str:
        if rule.per and values.keys() != self.parameters:
            return " has other parameters than the header"
        for name, sub in rule.fields.items():
            if name in values:
                if found := self.fault(values[name], sub):
                    return f".{name}{found}"
            elif not sub.optional:
                return f".{name} is missing"
        if rule.of is not None:
            for name, value in values.items():
                if found := self.fault(name, TEXT) or self.fault(value, rule.of):
                    return f".{brief(name)}{found}"
        return ""


def _within(value: float, rule: FieldSpec) -> bool:
    return rule.low <= value <= rule.high and math.isfinite(value)


def _plainly_right(values: list[Any], rule: FieldSpec) -> bool:
    """Say at the speed of C that all is well with the numbers or texts that most of a log is; False is no verdict.

    Numbers that are not finite, or a few that are too large to add, make the sum so.
    """
    if rule.types & {list, dict} or (rule.low, rule.high) != (-math.inf, math.inf):
        return False
    if not set(map(type, values)) <= rule.types:
        return False
    return str in rule.types or math.isfinite(sum(filter(None, values)))
