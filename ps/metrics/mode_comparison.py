"""From the trials of several modes to what they say: medians, intervals, a test against the fastest, parameters."""

import math
from collections.abc import Sequence

from ps.logfile.records import Record
from ps.logfile.schema import TRIAL_SECONDS
from ps.metrics.median_intervals import LEVEL, interval, slower_p, smallest_p
from ps.text.formatting import number

TOLERANCE = {"float64": 1e-10, "float32": 1e-3}
"""Difference of final parameters that rounding explains, as a share of the largest parameter."""
FASTEST, SLOWER, UNDECIDED = "fastest", "slower", "no difference shown"
METHOD = (
    "rank-sum test of the trials' step times against the fastest mode's; p is that of chance which picks the fastest "
    f"too, over all modes together (Westfall & Young 1993); a difference is shown below {LEVEL:g}"
)


def summarise(trials: Sequence[Record], dtype: str) -> Record:
    """Return the fields of the ``comparison`` record, modes fastest first.

    ``trials``: the fields of ``trial`` records, of whole rounds or not, at least one.
    """
    by_mode: dict[str, list[Record]] = {}
    for trial in trials:
        by_mode.setdefault(trial["mode"], []).append(trial)
    goal = max(min(trial["curve_loss"]) for trial in trials)
    modes = [_mode(name, own, goal, TOLERANCE[dtype]) for name, own in by_mode.items()]
    modes.sort(key=lambda m: m["step_s"]["median"])
    _test(modes, {name: [trial["step_s"] for trial in own] for name, own in by_mode.items()})
    fewest = min(len(own) for own in by_mode.values())
    found = {
        "trials": fewest,
        "confidence": interval([0.0] * fewest).confidence,
        "method": METHOD,
        "loss": goal,
        "tolerance": TOLERANCE[dtype],
        "fastest": modes[0]["mode"],
        "modes": modes,
    }
    return {**found, "sentences": _sentences(found, dtype)}


def time_to(loss: float, trial: Record) -> float:
    """Return the seconds of a trial until its mean loss was at most ``loss``, infinite if it never was."""
    points = zip(trial["curve_s"], trial["curve_loss"], strict=True)
    return next((seconds for seconds, own in points if own <= loss), math.inf)


def _mode(name: str, trials: list[Record], goal: float, tolerance: float) -> Record:
    """Return what is known of one mode; the test against the others comes later."""
    bus = [trial["bus_bytes_per_s"] for trial in trials if trial["bus_bytes_per_s"] is not None]
    shares = [trial["parameter_difference"] / (trial["parameter_scale"] or 1.0) for trial in trials]
    return {
        "mode": name,
        **{key: interval([trial[key] for trial in trials]).as_dict() for key in TRIAL_SECONDS},
        "time_to_loss_s": interval([time_to(goal, trial) for trial in trials]).as_dict(),
        "bus_bytes_per_s": interval(bus).as_dict() if bus else None,
        "sent_bytes_most": max(trials[0]["sent_bytes"]),
        "sent_bytes_all": sum(trials[0]["sent_bytes"]),
        "rank_peak_bytes": max(trial["rank_peak_bytes"] for trial in trials),
        "node_bytes": max(trial["node_bytes"] for trial in trials),
        "loss": trials[-1]["loss"],
        "parameter_difference": max(shares),
        "agrees": max(shares) <= tolerance and all(trial["replicas_equal"] is not False for trial in trials),
    }


def _test(modes: list[Record], seconds: dict[str, list[float]]) -> None:
    """Set ``outcome``, ``ratio`` and ``p`` of all modes, of which the first is the fastest."""
    first, *others = modes
    first.update(outcome=FASTEST, ratio=1.0, p=None)
    for m, p in zip(others, slower_p([seconds[m["mode"]] for m in modes]), strict=True):
        ratio = m["step_s"]["median"] / first["step_s"]["median"]
        m.update(outcome=SLOWER if p <= LEVEL else UNDECIDED, ratio=ratio, p=p)


def _sentences(found: Record, dtype: str) -> list[str]:
    modes = first, *others = found["modes"]
    if not others:
        return ["One mode alone: nothing to compare."]
    said = [f"Least median: {first['mode']}, {number(1e3 * first['step_s']['median'])} ms a step."]
    for outcome, text in (SLOWER, "Slower than {}"), (UNDECIDED, "No difference shown from {}"):
        alike = [m for m in others if m["outcome"] == outcome]
        listed = ", ".join(f"{m['mode']} {m['ratio']:.2f} times as long (p {number(m['p'], 2)})" for m in alike)
        if listed:
            said.append(f"{text.format(first['mode'])}: {listed}.")
    if smallest_p(found["trials"], len(modes)) > LEVEL:
        needed = next(n for n in range(2, 100) if smallest_p(n, len(modes)) <= LEVEL)
        said.append(f"So few trials cannot show a difference; give --trials {needed} or more.")
    return [*said, _agreement(found, dtype)]


def _agreement(found: Record, dtype: str) -> str:
    """Say whether all modes trained the same."""
    odd = [m["mode"] for m in found["modes"] if not m["agrees"]]
    largest = max(m["parameter_difference"] for m in found["modes"])
    limit = f"{largest:.2g} of the largest parameter (allowed: {found['tolerance']:g} in {dtype})"
    if not odd:
        return f"All modes end with the same parameters, up to rounding: they differ by at most {limit}."
    said = f"Parameters differ in {', '.join(odd)}: by up to {limit}, or between the ranks"
    if dtype == "float32":
        return f"{said}. Repeat with --dtype float64 to tell rounding from a fault."
    return f"{said}. That is a fault; please report it."
