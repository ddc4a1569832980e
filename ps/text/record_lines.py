"""TODO."""

from typing import Any

from ps.text.numbers import number, percent


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
