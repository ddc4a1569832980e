"""From trainings of several modes until a loss is reached to what they say: seconds, rows, bytes, a test."""

import math
import statistics
from collections.abc import Sequence

from ps.logfile.records import Record
from ps.metrics.median_intervals import LEVEL, interval, slower_p, smallest_p
from ps.metrics.mode_comparison import FASTEST, SLOWER, UNDECIDED
from ps.text.formatting import number

NOT_REACHED = "not reached"
METHOD = (
    "rank-sum test of the trials' seconds to the loss against the fastest mode's, those that never reached it being "
    f"the slowest; p is that of chance which picks the fastest too (Westfall & Young 1993); shown below {LEVEL:g}"
)
NEVER = 1e300
"""Seconds that stand for an infinity in the test, whose differences are to be numbers."""


def crossing(goal: float, losses: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the value (seconds, rows) at which the loss first was ``goal``; None if it never was.

    ``losses``: after each epoch, the first before any, (n,), as the values. Between two of them the logarithm of the
    loss is taken to fall in a straight line.
    """
    for k, loss in enumerate(losses):
        if loss <= goal:
            if not k or losses[k - 1] <= loss or loss <= 0:
                return values[k]
            part = math.log(losses[k - 1] / goal) / math.log(losses[k - 1] / loss) if goal > 0 else 1.0
            return values[k - 1] + part * (values[k] - values[k - 1])
    return None


def summarise(trials: Sequence[Record], goal: float) -> Record:
    """Return the fields of the ``loss-comparison`` record, modes fastest first.

    ``trials``: the fields of ``loss-trial`` records, of whole rounds or not, at least one.
    """
    by_mode: dict[str, list[Record]] = {}
    for trial in trials:
        by_mode.setdefault(trial["mode"], []).append(trial)
    seconds = {name: [_or_never(trial["seconds_to_loss"]) for trial in own] for name, own in by_mode.items()}
    modes = [_mode(name, own, seconds[name]) for name, own in by_mode.items()]
    modes.sort(key=lambda m: statistics.median(seconds[m["mode"]]))
    first, *others = modes
    least = first["seconds_to_loss"]["median"]
    first.update(outcome=NOT_REACHED if least is None else FASTEST, ratio=None if least is None else 1.0, p=None)
    for m, p in zip(others, slower_p([seconds[m["mode"]] for m in modes]), strict=True):
        median = m["seconds_to_loss"]["median"]
        outcome = NOT_REACHED if median is None else SLOWER if p <= LEVEL else UNDECIDED
        m.update(outcome=outcome, ratio=median / least if median and least else None, p=p)
    fewest = min(len(own) for own in by_mode.values())
    found = {
        "trials": fewest,
        "confidence": interval([0.0] * fewest).confidence,
        "method": METHOD,
        "loss": goal,
        "fastest": "" if least is None else first["mode"],
        "modes": modes,
    }
    return {**found, "sentences": _sentences(found)}


def _or_never(seconds: float | None) -> float:
    return NEVER if seconds is None else seconds


def _mode(name: str, trials: list[Record], seconds: list[float]) -> Record:
    """Return what is known of one mode; the test against the others comes later."""
    ends = {key: None if value >= NEVER / 2 else value for key, value in interval(seconds).as_dict().items()}
    return {
        "mode": name,
        "seconds_to_loss": ends,
        **{key: _median(trials, key) for key in ("rows_to_loss", "host_bytes_to_loss", "rows_per_s", "metric")},
        "loss": _median(trials, "loss"),
        "reached": sum(trial["seconds_to_loss"] is not None for trial in trials),
        "diverged": sum(trial["diverged"] for trial in trials),
        "epochs": max(trial["epochs"] for trial in trials),
    }


def _median(trials: list[Record], key: str) -> float | None:
    """Return the median of the trials that have such a figure."""
    values = [trial[key] for trial in trials if trial[key] is not None]
    return float(statistics.median(values)) if values else None


def _sentences(found: Record) -> list[str]:
    modes = first, *others = found["modes"]
    goal = f"loss {found['loss']:.4g}"
    said = [f"{m['mode']}: {_trials_of(m['diverged'], found)} diverged." for m in modes if m["diverged"]]
    if not found["fastest"]:
        return [*said, f"No mode reached {goal}; raise --epochs, or ask for a larger loss."]
    said.append(f"First at {goal}: {first['mode']}, after {number(first['seconds_to_loss']['median'])} s.")
    for outcome, text in (SLOWER, "Slower than {}"), (UNDECIDED, "No difference shown from {}"):
        listed = ", ".join(
            f"{m['mode']} {m['ratio']:.2f} times as long (p {number(m['p'], 2)})"
            for m in others
            if m["outcome"] == outcome
        )
        if listed:
            said.append(f"{text.format(first['mode'])}: {listed}.")
    said += [f"{m['mode']}: {_trials_of(m['reached'], found)} reached it." for m in others if not m["ratio"]]
    if others and smallest_p(found["trials"], len(modes)) > LEVEL:
        needed = next(n for n in range(2, 100) if smallest_p(n, len(modes)) <= LEVEL)
        said.append(f"So few trials cannot show a difference; give --trials {needed} or more.")
    return said


def _trials_of(some: int, found: Record) -> str:
    return f"{some} of {found['trials']} trials"
