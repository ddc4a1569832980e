"""Faults to bring into a run on purpose, read from the text of ``--inject``."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from common.errors import ConfigError
from common.option import MANY, unknown_value

SLOW, STALL, SKEW, NAN, DIVERGE, HANG, DIE = "slow", "stall", "skew", "nan", "diverge", "hang", "die"
PARAMETERS: dict[str, tuple[str, ...]] = {
    SLOW: ("rank", "x"),
    STALL: ("rank", "every", "seconds"),
    SKEW: ("alpha",),
    **dict.fromkeys((NAN, DIVERGE, HANG, DIE), ("rank", "step")),
}
LASTING = (SLOW, STALL, SKEW)
"""Those under which training goes on to a result."""
EXAMPLES = {"rank": "1", "step": "50", "x": "3", "every": "50", "seconds": "0.2", "alpha": "0.3"}
LOWEST = {"rank": 0, "step": 1, "every": 1}
ABOVE = {"x": 1, "seconds": 0, "alpha": 0}
"""What other numbers must be above."""
LARGEST = 1000.0
"""Of those, the most allowed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    ``rank``: whose it is; None where it is all ranks' or, before the job is known, the last rank's. ``step``: when,
    counted over the whole run from 1. ``x``: how many times as long computing takes. ``every``: in each step whose
    number it divides, the rank sleeps for ``seconds``. ``alpha``: of the Dirichlet distribution that each rank's
    shares of labels are drawn from; None: rows are sorted by their target.
    """

    kind: str
    rank: int | None = None
    step: int = 1
    x: float = 2.0
    every: int = 50
    seconds: float = 0.2
    alpha: float | None = None

    def __str__(self) -> str:
        given = ((name, getattr(self, name)) for name in PARAMETERS[self.kind])
        values = (f"{name}={str(value).removesuffix('.0')}" for name, value in given if value is not None)
        return ":".join(filter(None, (self.kind, ",".join(values))))


def parse(text: str) -> tuple[Fault, ...]:
    """Return the faults of ``kind:name=value,name=value; kind; ...``; none for an empty text. Raises ConfigError."""
    return _each_once(tuple(_fault(one.strip()) for one in text.split(";")) if text.strip() else ())


def of_job(text: str, n_ranks: int) -> tuple[Fault, ...]:
    """Return the faults of a job of ``n_ranks`` ranks; one without a rank is the last rank's. Raises ConfigError."""
    faults = parse(text)
    for fault in faults:
        if fault.rank is not None and fault.rank >= n_ranks:
            ranks = f"this job's ranks are 0 to {n_ranks - 1}"
            raise ConfigError(f"inject: {fault}: there is no rank {fault.rank}; {ranks}")
    return _each_once(tuple(_of_last_rank(fault, n_ranks) for fault in faults))


def _of_last_rank(fault: Fault, n_ranks: int) -> Fault:
    ranked = fault.rank is not None or "rank" not in PARAMETERS[fault.kind]
    return fault if ranked else dataclasses.replace(fault, rank=n_ranks - 1)


def _each_once(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """Return the faults. Raises ConfigError if a rank has one of them twice."""
    for i, fault in enumerate(faults):
        if any((fault.kind, fault.rank) == (other.kind, other.rank) for other in faults[:i]):
            whose = "" if fault.rank is None else f" of rank {fault.rank}"
            raise ConfigError(f"inject: {fault.kind}{whose} is given twice; give it once")
    return faults


def check_steps(faults: tuple[Fault, ...], n_steps: int) -> None:
    """Raise ConfigError for a fault that would come after a run of ``n_steps`` steps."""
    for fault in faults:
        if fault.step > n_steps:
            remedy = "take an earlier one, or raise --epochs"
            raise ConfigError(f"inject: {fault}: the run has {n_steps} steps, counted over all epochs; {remedy}")


def _fault(text: str) -> Fault:
    """Read ``kind:name=value,...``."""
    kind, colon, rest = (one.strip() for one in text.partition(":"))
    if kind not in PARAMETERS:
        raise ConfigError(unknown_value("inject", kind[:80], PARAMETERS))
    names, what = PARAMETERS[kind], f"inject: {kind}"
    usage = f"{kind}:{','.join(f'{name}={EXAMPLES[name]}' for name in names)}"
    values: dict[str, Any] = {}
    for one in rest.split(",") if colon else ():
        name, equals, value = (word.strip() for word in one.partition("="))
        if not equals:
            raise ConfigError(f"{what}: got {one[:80]!r}; allowed is name=value, as in {usage}")
        if name not in names:
            raise ConfigError(unknown_value(what, name[:80], names))
        if name in values:
            raise ConfigError(f"{what}: {name} is given twice; give it once")
        values[name] = _number(f"{what}: {name}", name, value)
    return Fault(kind, **values)


def _number(what: str, name: str, text: str) -> float:
    """Return a parameter's value: whole from its lowest on, or a number above its bound."""
    whole = name in LOWEST
    try:
        number = float(text) if not whole else int(text) if text.isascii() and text.isdigit() else math.nan
    except ValueError:  # int() also refuses thousands of digits
        number = math.nan
    if whole:
        fits, allowed = LOWEST[name] <= number <= MANY, f"a whole number from {LOWEST[name]} to {MANY}"
    else:
        fits, allowed = ABOVE[name] < number <= LARGEST, f"a number above {ABOVE[name]}, at most {LARGEST:g}"
    if not fits:
        raise ConfigError(f"{what}: got {text[:80]!r}; allowed is {allowed}")
    return number
