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
    ``parameter``. ``length``: of a list. ``fields``: the rules of a map's known keys. ``optional``: the field may be
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


TEXT = FieldSpec("a text", frozenset({str}))
WHOLE = FieldSpec("a whole number", frozenset({int}))
NUMBER = FieldSpec("a finite number", frozenset({int, float}))
RANKS = FieldSpec("a number of ranks", frozenset({int}), low=1)
FLAG = FieldSpec("true or false", frozenset({bool}))
LIST = FieldSpec("a list", frozenset({list}))
MAP = FieldSpec("a map", frozenset({dict}))


def nullable(rule: FieldSpec) -> FieldSpec:
    """Allow nil too."""
    return replace(rule, what=f"{rule.what} or nil", types=rule.types | {NoneType})


def optional(rule: FieldSpec) -> FieldSpec:
    """Allow the field to be missing: from some records of its kind, or from logs of an earlier version."""
    return replace(rule, optional=True)


def list_of(of: FieldSpec, length: int | None = None) -> FieldSpec:
    """Return the rule of a list, of any length unless it is given."""
    return replace(LIST, of=of, length=length)


def map_of(of: FieldSpec) -> FieldSpec:
    """Return the rule of a map with any keys that are texts."""
    return replace(MAP, of=of)


def by_rank(of: FieldSpec) -> FieldSpec:
    """Return the rule of a list with one entry a rank."""
    return replace(LIST, of=of, per="rank")


def by_parameter(of: FieldSpec) -> FieldSpec:
    """Return the rule of a map from each of the model's parameters."""
    return replace(MAP, of=of, per="parameter")


def each(rule: FieldSpec, names: str) -> dict[str, FieldSpec]:
    """Return one rule for each of these names, which blanks separate."""
    return dict.fromkeys(names.split(), rule)


def table(*groups: Mapping[str, FieldSpec], **fields: FieldSpec) -> FieldSpec:
    """Return the rule of a map with known keys, those of the groups among them."""
    return replace(MAP, fields={name: rule for group in (*groups, fields) for name, rule in group.items()})


class Validator:
    """Finds what breaks a rule. ``world``, ``parameters``: what rules with ``per`` count by."""

    def __init__(self) -> None:
        self.world: Any = None
        self.parameters: Any = None

    def fault(self, value: Any, rule: FieldSpec) -> str:
        """Return the path to what breaks the rule, and how; nothing if all is well."""
        kind = type(value)
        if kind not in rule.types:
            return f" is {brief(value)}, not {rule.what}"
        if kind is list:
            return self._list_fault(value, rule)
        if kind is dict:
            return self._map_fault(value, rule)
        if kind in NUMBER.types and not (rule.low <= value <= rule.high and math.isfinite(value)):
            return f" is {brief(value)}, not {rule.what}"
        return ""

    def _list_fault(self, values: list[Any], rule: FieldSpec) -> str:
        if rule.per and len(values) != self.world:
            return f" has {len(values)} entries for {self.world} ranks"
        if rule.length is not None and len(values) != rule.length:
            return f" has {len(values)} entries, not {rule.length}"
        if rule.of is None or _all_fit(values, rule.of):
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


def _all_fit(values: list[Any], rule: FieldSpec) -> bool:
    """Check a list of plain values, which are most of a log, at the speed of C; False means: look at each.

    A number that is not finite makes the sum not finite, and so may very large ones.
    """
    types = set(map(type, values))
    if not types <= rule.types or list in types or dict in types or rule.low > -math.inf or rule.high < math.inf:
        return False
    return float not in types or math.isfinite(sum(filter(None, values) if NoneType in types else values))
