"""The section on where the time went: over the whole run, by rank, and over the epochs."""

import numpy as np

from common.flat import Array
from common.limits import TABLE_RANKS
from common.wording import count
from ps.logfile.header import Host
from ps.reader.many_ranks import host_table, spread_table
from ps.reader.report import charts
from ps.reader.report.charts import Chart, PageTable, Section, axis, scaled
from ps.reader.report.colours import marker
from ps.reader.report.data import EFFICIENCIES, TIMES, RunData
from ps.reader.report.figures import column_means, quantiles
from ps.reader.report.learning import is_known
from ps.reader.report.rank_map import rank_map
from ps.text.formatting import number, percent

EFFICIENCY_STYLES = dict(zip(EFFICIENCIES, ("wait", "transfer", "compute"), strict=True))
"""By efficiency, what lowers it, or for all together what it is a share of."""


def timing(data: RunData) -> Section:
    """Return the charts; one rank waits for nobody, so it needs fewer of them."""
    n = data.summary.shared_epochs
    verb = "was" if n == 1 else "were"
    notes = (
        [f"{count(n, 'epoch')} {verb} trained by several jobs; of those only the last one's times are shown."]
        if n
        else []
    )
    notes += [sharing_note(data)] if data.sharing else []
    shown = [_budget(data), _speed(data)]
    if data.ranks > 1:
        shown += [_split(data), _waiting(data), _sync(data)]
        shown += [_efficiency(data)] if is_known(data, "parallel") else []
    return Section("Time", notes, charts=shown, tables=_hosts(data))


def _hosts(data: RunData) -> list[PageTable]:
    """Return what the hosts of many ranks did in the last epoch, and how its figures are spread over the ranks."""
    record = data.view.last
    if not record or len(record["rows"]) <= TABLE_RANKS:
        return []
    header, every = data.view.header_at(record), data.most_ranks >= data.ranks
    found = [spread_table(record)]
    found += [host_table(header, record, every=every)] if len(header["nodes"]) > 1 else []
    return [PageTable(t.title, t.columns, [[charts.clip(cell) for cell in row] for row in t.rows]) for t in found]


def sharing_note(data: RunData) -> str:
    """Say which ranks share cores and what follows for their times."""
    hosts = [f"{crowd(host)} of {charts.clip(host.name)}" for host in data.sharing[:3]]
    more = f", and so do ranks of {len(data.sharing) - 3} more hosts" if len(data.sharing) > 3 else ""
    return (
        f"{'; '.join(hosts)}{more}. So transfer also holds the time in which a rank waits for a core, and the times "
        "are not those of ranks with a core each."
    )


def crowd(host: Host) -> str:
    """Return what shares the cores of a host: its ranks, or where there is a core for each, their threads."""
    ranks, threads, cores = len(host.ranks), sum(host.threads), count(len(host.cores), "core")
    if ranks > len(host.cores) or threads <= len(host.cores):  # or more ranks than cores in one affinity mask
        return f"{count(ranks, 'rank')} share {cores}"
    return f"{count(threads, 'thread')} of {count(ranks, 'rank')} share {cores}"


def _budget(data: RunData) -> Chart:
    parts = {name: seconds for name, seconds in data.budget().items() if 0 < seconds < np.inf}
    total = sum(parts.values())
    most = sorted(parts, key=lambda name: -parts[name])[:3]
    shares = ", ".join(f"{name} {percent(parts[name] / total)}" for name in most)
    known = "" if data.launch_s is not None else " This log does not say how long the start took before training."
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": charts.compact(np.array(list(parts.values()))),
        "y": list(parts),
        "marker": {"color": [marker(name)["color"] for name in parts], "line": {"width": 0}},
        "text": [f"{number(seconds, 3)} s, {100 * seconds / total:.1f} %" for seconds in parts.values()],
        "textposition": "auto",
        "hovertemplate": "%{y}: %{x:.4g} s<extra></extra>",
    }
    return Chart(
        "Time budget",
        f"The run took {number(total)} s, most of it {shares}. Means over the ranks; start-up ends with the first "
        f"step, and rest is what no clock measured: the ends of epochs, the log, the final test, saving.{known}",
        [[trace]],
        {"xaxis": axis("seconds", rangemode="tozero"), "yaxis": axis("", autorange="reversed", type="category")},
        charts.number_table(
            "Time budget",
            "part",
            [*parts, "all"],
            {"seconds": np.array([*parts.values(), total]), "%": np.array([*parts.values(), total]) / total * 100},
        ),
    )


def _speed(data: RunData) -> Chart:
    values = data.series("rows_per_s")
    return charts.curves(
        data,
        "Rows a second",
        f"All ranks together trained on {np.nanmedian(values):,.0f} rows a second, the median of the epochs shown; "
        f"from {np.nanmin(values):,.0f} to {np.nanmax(values):,.0f}. Evaluation is not in it.",
        {"rows a second": values},
        axis("rows/s", rangemode="tozero", tickformat="~s"),
    )


def _split(data: RunData) -> Chart:
    means = {key: data.mean_seconds[key] for key in data.times}
    compute, chosen, more = means["compute_s"], list(range(data.ranks)), ""
    if data.ranks > data.most_ranks:
        order, half = np.argsort(-compute, kind="stable").tolist(), data.most_ranks // 2
        chosen = order[:half] + order[-half:]
        more = f" Shown are the mean, the {half} ranks that computed longest and the {half} that computed shortest."
    labels = ["mean", *map(str, chosen)]
    columns = {data.times[key]: np.array([values.mean(), *values[chosen]]) for key, values in means.items()}
    slowest = int(compute.argmax())
    return Chart(
        "Time by rank",
        f"An epoch took {_shares(columns)} of {sum(v[0] for v in columns.values()):.4g} s on average. Longest computed "
        f"{data.rank_names[slowest]}, {compute[slowest]:.4g} s an epoch, "
        f"{compute[slowest] / max(np.median(compute), 1e-12):.2f} times the median.{more}",
        [charts.bars(labels, columns)],
        {"barmode": "stack", "xaxis": axis("rank", type="category"), "yaxis": axis("seconds an epoch")},
        charts.number_table("Mean seconds an epoch by rank", "rank", labels, columns),
    )


def _shares(columns: dict[str, Array]) -> str:
    total = sum(values[0] for values in columns.values())
    shares = sorted(((values[0] / total, name) for name, values in columns.items()), reverse=True) if total > 0 else []
    return ", ".join(f"{percent(float(share))} {name}" for share, name in shares if share >= 0.001) or "no time"


def _waiting(data: RunData) -> Chart:
    means = data.mean_seconds["wait_s"]
    least, most = int(means.argmin()), int(means.argmax())
    summary = (
        f"Longest waited {data.rank_names[most]}, {means[most]:.4g} s an epoch on average, shortest "
        f"{data.rank_names[least]}, {means[least]:.4g} s. Wait is idle time until the slowest rank arrives, so the "
        "slowest rank shows the smallest wait."
    )
    return rank_map(data, "Waiting for the last rank", summary, data.series("wait_s"), "s")


def _sync(data: RunData) -> Chart:
    wait, transfer = data.series("wait_s"), data.series("transfer_s")
    named = data.times["transfer_s"]
    columns = {"wait": column_means(wait.T), named: column_means(transfer.T)}
    low, high = quantiles(wait + transfer, (0.0, 1.0))
    own = {name: float(data.mean_seconds[f"{name}_s"].mean()) for name in ("wait", "transfer")}
    total = sum(data.mean_seconds[key].mean() for key in TIMES)
    return charts.curves(
        data,
        "Synchronization",
        f"On average over ranks and epochs, waiting took {own['wait']:.4g} s an epoch and {named} "
        f"{own['transfer']:.4g} s, together {percent(sum(own.values()) / total if total > 0 else None)} of the time.",
        columns,
        scaled("seconds an epoch", low, high, *columns.values()),
        caption="Seconds an epoch, mean over the ranks",
        under=charts.band("wait + transfer, all ranks", data.series("epoch"), low, high),
    )


def _efficiency(data: RunData) -> Chart:
    last, epochs = data.view.last.get("efficiency", dict.fromkeys(EFFICIENCIES)), data.series("epoch")
    columns = {key.replace("_", " "): data.series(key) for key in EFFICIENCIES}
    styles = EFFICIENCY_STYLES.values()
    lines = [
        charts.line(name, epochs, values, style, value=".1%")
        for (name, values), style in zip(columns.items(), styles, strict=True)
    ]
    return Chart(
        "Efficiency",
        f"In the last epoch load balance was {percent(last['load_balance'])}, communication efficiency "
        f"{percent(last['communication'])} and parallel efficiency, their product, {percent(last['parallel'])}. Below "
        "80 % it pays to look for the reason.",
        [[*lines, charts.level("80 %", epochs, 0.8)]],
        charts.over_epochs(data, axis("efficiency", rangemode="tozero", tickformat="~%")),
        charts.epoch_table(data, "Efficiency", columns, percent),
    )
