"""How far runs differ from the first of them, with intervals, and what these intervals do not cover."""

import math

import numpy as np

from common.flat import Array
from ps.metrics.median_intervals import CONFIDENCE
from ps.reader.report.charts import PageTable, clip
from ps.reader.report.data import TIMES, RunData
from ps.text.formatting import number

STEP = {key: name for key, name in TIMES.items() if key not in ("evaluation_s", "checkpoint_s")}
"""What a step's time goes to."""
LEAST_EPOCHS = 6
"""Of which a median has an interval."""
DRAWS = 2000
NORMAL = 1.959964
"""How many standard deviations of a normal distribution enclose 95 %."""

Interval = tuple[float, float, float]
"""A difference, and the lower and the upper end of its interval."""


def differences(runs: list[RunData], names: list[str]) -> tuple[PageTable, list[str]]:
    """Return a table with a row for each run but the first, and sentences on how it is to be read."""
    (base, *others), (first, *rest) = runs, names
    rows = [
        [name, _text(_step_ratio(base, run), 1, "{:.3g}", "times"), _accuracy(base, run), _last_loss(base, run)]
        for name, run in zip(rest, others, strict=True)
    ]
    columns = ["run", "time of a step", "test metric", "last training loss"]
    caption = f"Differences to {first}, with {100 * CONFIDENCE:.0f} % intervals"
    modes = list(dict.fromkeys(clip(run.header["sync"]["mode"]) for run in runs))
    command = f"python -m workers.compare{' --modes ' + ','.join(modes) if len(modes) > 1 else ''}"
    notes = [
        f"The intervals are over the epochs or the test rows of these runs. Another seed, and another moment of the "
        f"machine, are not in them: to tell modes apart, {command} measures them in turn in one job."
    ]
    return PageTable(caption, columns, rows, numbers=False), notes


def step_s(run: RunData) -> Array:
    """Return the mean seconds of a step over the ranks, (epochs,)."""
    return np.asarray(np.nanmean(sum(run.series(key) for key in STEP), axis=1) / np.maximum(run.series("steps"), 1))


def _step_ratio(base: RunData, run: RunData) -> Interval | None:
    """Return how many times as long a step takes, by the medians over the epochs, and the bootstrap's interval.

    The first epoch, in which memory and caches are cold, is left out.
    """
    samples = [own[np.isfinite(own)][1:] for own in (step_s(base), step_s(run))]
    if min(map(len, samples)) < LEAST_EPOCHS:
        return None
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(own, (DRAWS, len(own))), axis=1) for own in samples]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn[1] / drawn[0], (tail, 1 - tail))
    return float(np.median(samples[1]) / np.median(samples[0])), float(low), float(high)


def _accuracy(base: RunData, run: RunData) -> str:
    """Return the difference of test metrics; of accuracies with the interval of Agresti and Caffo (2000)."""
    first, second = (own.view.end.get("test_metric") for own in (base, run))
    if first is None or second is None or base.view.metric != run.view.metric:
        return "-"
    if base.header["data"]["sha256"] != run.header["data"]["sha256"]:
        return "other data"
    if base.view.metric != "accuracy":
        return f"{second - first:+.4g} (no interval: one value a run)"
    numbers = [max(1, own.header["data"]["rows"]["test"]) for own in (base, run)]
    p, q = ((value * n + 1) / (n + 2) for value, n in zip((first, second), numbers, strict=True))
    reach = NORMAL * math.sqrt(sum(max(0.0, s * (1 - s)) / (n + 2) for s, n in zip((p, q), numbers, strict=True)))
    points = (100 * (second - first), 100 * (q - p - reach), 100 * (q - p + reach))
    return _text(points, 0, "{:+.2f}", "points")


def _last_loss(base: RunData, run: RunData) -> str:
    if not (base.view.last and run.view.last):
        return "-"
    first, second = base.view.last["loss"], run.view.last["loss"]
    return f"{number(second)} against {number(first)} (no interval: one value a run)"


def _text(found: Interval | None, same: float, form: str, unit: str) -> str:
    """Return a difference with its interval; ``same``: the value of no difference."""
    if found is None:
        return f"too few epochs for an interval (at least {LEAST_EPOCHS + 1})"
    if not all(map(math.isfinite, found)):
        return "undefined"
    value, low, high = map(form.format, found)
    shown = "no difference shown" if found[1] <= same <= found[2] else "differs"
    return f"{value} {unit} ({low} to {high}); {shown}"
