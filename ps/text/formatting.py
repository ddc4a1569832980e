"""Numbers, and what records say, as the texts that training and the log's readers share."""

import math
import time
from collections.abc import Iterable
from typing import Any

from common.wording import about, count


def number(value: float | None, digits: int = 4) -> str:
    """Return a figure for a line or a table; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def fixed(value: float, decimals: int) -> str:
    """Return a number with so many decimals; one that would be longer than any column with four digits."""
    return f"{value:.{decimals}f}" if abs(value) < 1e7 else number(value)


def percent(value: float | None, undefined: str = "-", unit: str = " %") -> str:
    """Return a ratio in percent."""
    return undefined if value is None else f"{fixed(100 * value, 2)}{unit}"


def points(value: float | None) -> str:
    """Return a ratio in percent, for a column whose head says so."""
    return percent(value, unit="")


def aligned(values: Iterable[float | None]) -> list[str]:
    """Return the numbers of a column, with as many decimals as the largest one needs for four digits."""
    several = list(values)
    largest = max((abs(value) for value in several if value is not None), default=0.0)
    if not 1e-6 <= largest < 1e9:  # also of NaN
        return [number(value) for value in several]
    decimals = min(6, max(0, 3 - math.floor(math.log10(largest))))
    return ["-" if value is None else f"{value:.{decimals}f}" for value in several]


def milliseconds(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return number(1e3 * seconds)


def microseconds(seconds: float, digits: int = 3) -> str:
    """Return seconds as microseconds; thousands of them whole."""
    us = 1e6 * seconds
    return f"{us:,.0f}" if 1000 <= us < 1e9 else number(us, digits)


def megabytes(n_bytes: float) -> str:
    """Return bytes as megabytes."""
    return f"{n_bytes / 1e6:.3g}" if n_bytes < 1e8 else f"{n_bytes / 1e6:.0f}"


def span(low: float, high: float, unit: float = 1e3) -> str:
    """Return the ends of an interval of seconds; in milliseconds, or times another unit."""
    return f"{number(unit * low, 3)} to {number(unit * high, 3)}"


def time_left(seconds: float) -> str:
    """Return a time as ``m:ss``, ``h:mm:ss``, or in days."""
    whole = int(min(seconds, 1e9)) + 1
    if whole >= 86400:
        return count(round(whole / 86400), "day")
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def date_time(t: float) -> str:
    """Return a Unix time as date and time of day, here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(t))


def metric(name: str, value: float | None) -> str:
    """Return the metric's value as people read it; ``name`` is ``accuracy`` or ``r2``."""
    return percent(value) if name == "accuracy" else number(value)


def named_metric(name: str, value: float | None) -> str:
    """Return the metric with its name."""
    label = "accuracy" if name == "accuracy" else "R2"
    return f"{label} undefined" if value is None else f"{label} {metric(name, value)}"


def losses(record: dict[str, Any], metric_name: str) -> str:
    """Return the loss of an epoch or of a run's end; with validation rows their loss and metric, too."""
    loss, validation = number(record["loss"]), record["validation_loss"]
    if validation is None:
        return loss
    return f"{loss}, validation loss {number(validation)}, {named_metric(metric_name, record['validation_metric'])}"


def short_losses(record: dict[str, Any], metric_name: str) -> str:
    """Return the loss of an epoch and its metric, or its validation loss, in few words."""
    text = f"loss {number(record['loss'], 3)}"
    if record["validation_metric"] is not None:
        return f"{text}, {named_metric(metric_name, record['validation_metric'])}"
    return text if record["validation_loss"] is None else f"{text}, validation {number(record['validation_loss'], 3)}"


def efficiency(record: dict[str, Any]) -> str:
    """Return an epoch's parallel efficiency and the factors it is made of."""
    parallel, balance, communication = (
        "-" if value is None else f"{fixed(100 * value, 0)} %"
        for value in (record["efficiency"][key] for key in ("parallel", "load_balance", "communication"))
    )
    return f"efficiency {parallel} = load balance {balance} x communication {communication}"


def gradient_overlap(record: dict[str, Any]) -> str:
    """Return in words how much the ranks' gradients of an epoch have in common; nothing where that is not known."""
    independent, diversity, ranks = record["effective_ranks"], record["diversity_all"], len(record["rows"])
    if ranks < 2 or diversity is None:
        return ""
    if independent is None:
        return "The ranks' gradients partly cancel each other, so no number of independent ranks describes them."
    apart = (independent - 1) / (ranks - 1)
    much = "little" if apart > 0.67 else "in part" if apart > 0.33 else "much"
    alike = about(independent)
    low, high = (record.get(f"effective_ranks_{end}") for end in ("low", "high"))
    within = "" if low is None or high is None else f" (95 %: {about(low)} to {about(high)})"
    like = "one rank" if alike == "1" else f"{alike} independent ranks"
    return f"The ranks' gradients overlap {much}, like {like}{within}."


def epoch_line(record: dict[str, Any], epochs: int, metric_name: str) -> str:
    """Return an epoch's number, losses and metric."""
    return f"Epoch {record['epoch']}/{epochs}: loss {losses(record, metric_name)}"


def verdict_line(fields: dict[str, Any]) -> str:
    """Return a finding as one line; what is only good to know as a note."""
    if fields["severity"] == "info":
        return f"Note: {fields['text']}; {fields['remedy']}."
    return f"Verdict ({fields['severity']}): {fields['text']}. Remedy: {fields['remedy']}."


def mode_name(header: dict[str, Any]) -> str:
    """Return the mode of a run: what was asked for, and what mode auto chose."""
    asked, used = header["config"]["mode"], header["sync"]["mode"]
    return str(asked) if asked == used else f"{asked} ({used})"


def model_name(header: dict[str, Any]) -> str:
    """Return what is trained: the kind of model, and its layers' sizes where it has layers."""
    model = header["model"]
    return " ".join(filter(None, (model["kind"], "-".join(str(size) for size in model["sizes"][:20]))))
