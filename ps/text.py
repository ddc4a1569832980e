"""Numbers and findings in the words that training and the log's readers share."""

import re
from typing import Any

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a text with control characters written out: a log's words must not steer a terminal."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def number(value: float | None, digits: int = 4) -> str:
    """Return a figure for a line or a table; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, undefined: str = "-", unit: str = " %") -> str:
    """Return a share in percent."""
    return undefined if value is None else f"{100 * value:.2f}{unit}"


def metric(name: str, value: float | None) -> str:
    """Return the metric's value as people read it; ``name`` is ``accuracy`` or ``r2``."""
    return percent(value) if name == "accuracy" else number(value)


def named_metric(name: str, value: float | None) -> str:
    """Return the metric with its name."""
    label = "accuracy" if name == "accuracy" else "R2"
    return f"{label} undefined" if value is None else f"{label} {metric(name, value)}"


def epoch_line(record: dict[str, Any], epochs: int, metric_name: str) -> str:
    """Return an epoch's losses, and its metric if there are validation rows."""
    line = f"Epoch {record['epoch']}/{epochs}: loss {number(record['loss'])}"
    if record["validation_loss"] is None:
        return line
    return (
        f"{line}, validation loss {number(record['validation_loss'])}, "
        f"{named_metric(metric_name, record['validation_metric'])}"
    )


def verdict_line(fields: dict[str, Any]) -> str:
    """Return a finding as one line."""
    return f"Verdict ({fields['severity']}): {fields['text']}. Remedy: {fields['remedy']}."


def mode_name(header: dict[str, Any]) -> str:
    """Return the mode of a run: what was asked for, and what mode auto chose."""
    asked, used = header["config"]["mode"], header["sync"]["mode"]
    return str(asked) if asked == used else f"{asked} ({used})"


def model_name(header: dict[str, Any]) -> str:
    """Return what is trained: the kind of model, and its layers' sizes where it has layers."""
    model = header["model"]
    return " ".join(filter(None, (model["kind"], "-".join(str(size) for size in model["sizes"][:20]))))
