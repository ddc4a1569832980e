"""The chart of the ranks' shares of the update: running means, their interval, and what chance alone gives."""

import numpy as np

from common.flat import Array
from common.wording import count
from ps.reader.report import charts
from ps.reader.report.charts import Chart, Trace, axis
from ps.reader.report.data import RunData
from ps.text.contributions import sampled
from ps.text.formatting import percent

EPOCHS = 10
"""Of a running mean; of the epochs that are shown."""
MEANS = f"means of up to {EPOCHS} epochs"


def share(data: RunData) -> Chart:
    """Return the chart: means over all parameters or one, with the band of chance for all of them together."""
    epochs, shares = data.series("epoch"), running(data.series("share"))
    names = ["all parameters", *(charts.clip(name) for name in data.names)]
    means = shares.swapaxes(0, 1)
    traces = [charts.rank_lines(data.rank_names, epochs, own, value=".2%", highest=False) for own in means]
    low, high = _band(data)
    if np.isfinite(low).any():
        traces[0] = [*charts.band("chance alone (95 %)", epochs, low.min(axis=1), high.max(axis=1)), *traces[0]]
    return Chart(
        "Share of the update by rank",
        " ".join([*_sentences(data, shares[-1, 0], low, high), _about(data)]),
        [*traces, *_by_rank(data, shares[:, 0])],
        charts.over_epochs(data, axis("share", tickformat="~%")),
        charts.rank_table(data, f"Share of the update, all parameters, {MEANS}", shares[:, 0], percent),
        [*(name if names.index(name) == i else f"{name} ({i})" for i, name in enumerate(names)), *_choices(data)],
    )


def running(values: Array) -> Array:
    """Return the mean over the known ones of the last ``EPOCHS`` values, (epochs, ...); NaN where none is known."""
    total, n = (_last(np.where(np.isfinite(values), own, 0.0)) for own in (values, np.ones_like(values)))
    means: Array = np.divide(total, n, out=np.full(values.shape, np.nan), where=n > 0)
    return means


def _last(values: Array) -> Array:
    """Return the sums over the last ``EPOCHS`` values."""
    sums = values.copy()
    for back in range(1, min(EPOCHS, len(values))):
        sums[back:] += values[:-back]
    return sums


def _mean_half(low: Array, high: Array, *, fixed: bool) -> Array:
    """Return half the width of running means' intervals; epochs are independent unless their rows are ``fixed``."""
    halves = (high - low) / 2
    if fixed:
        return running(halves)
    n = _last(np.isfinite(halves).astype(float))
    return np.sqrt(running(np.square(halves)) / np.maximum(n, 1))


def _band(data: RunData) -> tuple[Array, Array]:
    """Return by epoch and rank the ends of the band in which chance leaves running means."""
    low, high = data.series("chance_low"), data.series("chance_high")
    fixed = data.header["config"].get("rows") == "shard" or data.view.last["steps"] == 1
    middle, half = running((low + high) / 2), _mean_half(low, high, fixed=fixed)
    return middle - half, middle + half


def _interval(data: RunData) -> tuple[Array, Array]:
    """Return by epoch and rank the ends of the running means' 95 % intervals."""
    low, high = data.series("share_low"), data.series("share_high")
    middle, half = running((low + high) / 2), _mean_half(low, high, fixed=False)
    return middle - half, middle + half


def _choices(data: RunData) -> list[str]:
    """Return the names of the charts of single ranks, of few ranks whose shares have an interval."""
    known = 1 < data.ranks <= charts.MANY_RANKS and np.isfinite(data.series("share_low")).any()
    return [f"{name}, with intervals" for name in data.rank_names] if known else []


def _by_rank(data: RunData, means: Array) -> list[list[Trace]]:
    """Return for each rank its epochs' shares, their running mean with its interval, and the band of chance."""
    epochs, own = data.series("epoch"), data.series("share")[:, 0]
    (low, high), (band_low, band_high) = _interval(data), _band(data)
    return [
        [
            *charts.band("chance alone (95 %)", epochs, band_low[:, r], band_high[:, r]),
            *charts.band("interval of the mean (95 %)", epochs, low[:, r], high[:, r], r),
            charts.line("of single epochs", epochs, own[:, r], "", width=1, value=".2%"),
            charts.line(f"mean of {EPOCHS} epochs", epochs, means[:, r], r, value=".2%"),
        ]
        for r, _ in enumerate(_choices(data))
    ]


def _sentences(data: RunData, means: Array, low: Array, high: Array) -> list[str]:
    known = np.flatnonzero(np.isfinite(means)).tolist()
    if not known:
        return ["The share of the update is undefined."]
    n = min(EPOCHS, len(data.series("epoch")))
    least, most = min(known, key=lambda r: means[r]), max(known, key=lambda r: means[r])
    (own_low, own_high), last = _interval(data), data.view.last
    certain = [r for r in known if np.isfinite(own_low[-1, r])]
    ends = {r: f" ({percent(own_low[-1, r])} to {percent(own_high[-1, r])})" for r in certain}
    texts = [
        f"Shares are {sampled(last)}. Over the last {count(n, 'epoch')} shown, rank {least} had the smallest mean "
        f"share, {percent(means[least])}{ends.get(least, '')}, and rank {most} the largest, {percent(means[most])}"
        f"{ends.get(most, '')}."
    ]
    judged = [r for r in known if np.isfinite(low[-1, r])]
    if judged:
        outside = [r for r in judged if not low[-1, r] <= means[r] <= high[-1, r]]
        lowest, highest = float(low[-1, judged].min()), float(high[-1, judged].max())
        lie = "lies" if len(outside) == 1 else "lie"
        texts.append(
            f"Chance alone gives {percent(lowest)} to {percent(highest)} in 95 of 100 cases; "
            f"{len(outside) or 'none'} of {len(judged)} ranks {lie} outside."
        )
    return texts


def _about(data: RunData) -> str:
    worlds = list(dict.fromkeys(job.header["world"] for job in data.view.sessions))
    equal = [percent(1 / world) + f" with {world} ranks" * (len(worlds) > 1) for world in worlds[-4:]]
    return (
        f"Equal shares would be {', '.join(equal)}. The shares of an epoch add up to 100 %; a share below 0 pulls "
        "against the update."
    )
