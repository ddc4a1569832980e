"""Faults to bring into a run on purpose, read from the text of ``--inject``."""

import math
from dataclasses import dataclass
from typing import Any

from common.config import MANY, unknown_value
from common.errors import ConfigError

SLOW, SKEW, NAN, DIVERGE, HANG, DIE = "slow", "skew", "nan", "diverge", "hang", "die"
PARAMETERS: dict[str, tuple[str, ...]] = {
    SLOW: ("rank", "x"),
    SKEW: (),
    NAN: ("rank", "step"),
    DIVERGE: ("rank", "step"),
    HANG: ("rank", "step"),
    DIE: ("rank", "step"),
}
EXAMPLES = {"rank": "1", "step": "50", "x": "3"}
LOWEST = {"rank": 0, "step": 1}
SLOWEST = 1000.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    ``rank``: whose it is, None where it is all ranks'. ``step``: when, counted over the whole run from 1.
    ``x``: how many times as long computing takes.
    """

    kind: str
    rank: int | None = None
    step: int = 1
    x: float = 2.0

    def __str__(self) -> str:
        values = (f"{name}={str(getattr(self, name)).removesuffix('.0')}" for name in PARAMETERS[self.kind])
        return ":".join(filter(None, (self.kind, ",".join(values))))


def parse(text: str) -> tuple[Fault, ...]:
    """Return the faults of ``kind:name=value,name=value; kind; ...``; none for an empty text. Raises ConfigError."""
    faults = tuple(_fault(part.strip()) for part in text.split(";")) if text.strip() else ()
    for i, fault in enumerate(faults):
        if any((fault.kind, fault.rank) == (other.kind, other.rank) for other in faults[:i]):
            whose = "" if fault.rank is None else f" of rank {fault.rank}"
            raise ConfigError(f"inject: {fault.kind}{whose} stands there twice; ask for it once")
    return faults


def of_job(text: str, n_ranks: int) -> tuple[Fault, ...]:
    """Return the faults of a job of ``n_ranks`` ranks. Raises ConfigError."""
    faults = parse(text)
    for fault in faults:
        if fault.rank is not None and fault.rank >= n_ranks:
            raise ConfigError(
                f"inject: {fault}: there is no rank {fault.rank}; this job's ranks are 0 to {n_ranks - 1}"
            )
    return faults


def check_steps(faults: tuple[Fault, ...], n_steps: int) -> None:
    """Raise ConfigError for a fault that would come after a run of ``n_steps`` steps."""
    for fault in faults:
        if fault.step > n_steps:
            raise ConfigError(
                f"inject: {fault}: the run has {n_steps} steps, counted over all epochs; take an earlier one, "
                "or raise --epochs"
            )


def _usage(kind: str) -> str:
    return f"{kind}:{','.join(f'{name}={EXAMPLES[name]}' for name in PARAMETERS[kind])}"


def _fault(text: str) -> Fault:
    """Read ``kind:name=value,...``."""
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    if kind not in PARAMETERS:
        raise ConfigError(unknown_value("inject", kind[:80], PARAMETERS))
    if colon and not PARAMETERS[kind]:
        raise ConfigError(f"inject: {kind}: got {rest[:80]!r}; it takes no parameters, write {kind}")
    values: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"inject: {kind}: got {part[:80]!r}; allowed is name=value, as in {_usage(kind)}")
        if name not in PARAMETERS[kind]:
            raise ConfigError(unknown_value(f"inject: {kind}", name[:80], PARAMETERS[kind]))
        if name in values:
            raise ConfigError(f"inject: {kind}: {name} stands there twice; give it once")
        values[name] = _factor(kind, value) if name == "x" else _whole(kind, name, value)
    if "rank" in PARAMETERS[kind] and "rank" not in values:
        raise ConfigError(f"inject: {kind}: rank is missing; write {_usage(kind)}")
    return Fault(kind, **values)


def _whole(kind: str, name: str, text: str) -> int:
    low = LOWEST[name]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MANY)) else -1
    if not low <= number <= MANY:
        raise ConfigError(f"inject: {kind}: {name}: got {text[:80]!r}; allowed is a whole number from {low} to {MANY}")
    return number


def _factor(kind: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 < number <= SLOWEST:
        raise ConfigError(f"inject: {kind}: x: got {text[:80]!r}; allowed is a number above 1, at most {SLOWEST:g}")
    return number
