"""The tables of ``python -m ps.log show``."""

from collections.abc import Iterable

from rich.table import Table

from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.run_view import mean
from ps.text.numbers import number, percent
from ps.text.record_lines import metric

MOST_PARAMETERS = 8
MEGA = 1e6
SHARED = ("epoch", "loss", "validation_loss", "validation_metric", "learning_rate", "elapsed_s", "efficiency",
          "bus_bytes_per_s")  # fmt: skip
MEANS = ("compute_s", "sync_s", "wait_s", "transfer_s")


def epoch_figures(record: Record) -> Record:
    """Return the few fields of an epoch that its line shows: those by rank as means."""
    return {k: record[k] for k in SHARED} | {k: mean(record[k]) for k in MEANS}


def epoch_row(metric_name: str, figures: Record) -> list[str]:
    """Return an epoch's line of the epoch table, from ``epoch_figures``."""
    return [
        str(figures["epoch"]),
        number(figures["loss"]),
        number(figures["validation_loss"]),
        metric(metric_name, figures["validation_metric"]),
        number(figures["learning_rate"], 3),
        f"{figures['elapsed_s']:.6f}",
        *(f"{figures[k]:.6f}" for k in MEANS),
        percent(figures["efficiency"]["parallel"]),
        bandwidth(figures),
    ]


def bandwidth(record: Record) -> str:
    """Return an epoch's bus bandwidth in MB/s; a dash if none was reached."""
    rate = record["bus_bytes_per_s"]
    return number(None if rate is None else rate / MEGA)


def epoch_table(title: str, rows: list[list[str]]) -> Table:
    """Return the table of ``epoch_row`` lines."""
    columns = [
        "epoch",
        "loss",
        "validation loss",
        "metric",
        "rate",
        "elapsed s",
        "compute s",
        "sync s",
        "wait s",
        "transfer s",
        "efficiency",
        "bus MB/s",
    ]
    return console.table(f"{title}; times are means over the ranks, sync = wait + transfer", columns, rows)


def time_table(header: Record, record: Record, ranks: list[int]) -> Table:
    """Return what these ranks spent the epoch's time on."""
    hosts = host_names(header)
    seconds = ("input_s", "compute_s", "wait_s", "transfer_s", "sync_s")
    rows = [
        [
            str(rank),
            hosts.get(rank, "-"),
            str(record["rows"][rank]),
            *(f"{record[k][rank]:.6f}" for k in seconds),
            f"{record['sent_bytes'][rank] / MEGA:.2f} MB",
        ]
        for rank in ranks
    ]
    columns = ["rank", "host", "rows", *(f"{k[:-2]} s" for k in seconds), "sent"]
    title = f"Ranks in epoch {record['epoch']}{_some(ranks, record)}; seconds add up over its steps"
    return console.table(title, columns, rows)


def contribution_table(record: Record, ranks: list[int]) -> Table:
    """Return what these ranks gave to the update, all parameters together."""
    rows = [
        [
            str(rank),
            number(record["loss_by_rank"][rank]),
            percent(record["share_all"][rank]),
            percent(record["norm_ratio_all"][rank]),
            number(record["cosine_all"][rank]),
            number(record["leave_one_out_all"][rank]),
        ]
        for rank in ranks
    ]
    title = f"Contribution in epoch {record['epoch']}{_some(ranks, record)}; the share is signed, below 0 pulls against"
    columns = ["rank", "loss", "contribution", "norm ratio", "cosine", "leave-one-out shift"]
    return console.table(title, columns, rows)


def parameter_tables(record: Record, ranks: list[int]) -> Iterable[Table]:
    """Yield share and norm ratio of these ranks by parameter."""
    names = list(record["share"])[:MOST_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    more = f"; first {len(names)} parameters, {left_out} more in the log" if left_out else ""
    steps = ", ".join(str(s) for s in record["sampled_steps"])
    for key, title in (("share", "Share of the update by parameter"), ("norm_ratio", "Norm ratio by parameter")):
        rows = [[str(rank), *(percent(record[key][name][rank]) for name in names)] for rank in ranks]
        yield console.table(f"{title}, measured on step {steps}{more}", ["rank", *names], rows)


def balance_table(record: Record, most: int) -> Table:
    """Return what rows the ranks were dealt, and how far these are from those of all ranks; the ``most`` farthest."""
    figures = [
        (name, record[key])
        for key, name in (
            ("label_distance", "label distance"),
            ("label_z", "label z"),
            ("target_distance", "target distance"),
            ("target_z", "target z"),
            ("feature_distance", "feature distance"),
        )
        if record[key] is not None
    ]
    world = len(record["rows"])
    farthest = sorted(range(world), key=lambda rank: -max((abs(own[rank] or 0.0) for _, own in figures), default=0.0))
    ranks = sorted(farthest[:most])
    rows = [[str(rank), str(record["rows"][rank]), *(number(own[rank]) for _, own in figures)] for rank in ranks]
    few = f" ({len(ranks)} of {world}: those farthest away; all with --every)" if len(ranks) < world else ""
    title = f"Rows dealt to the ranks ({record['of']}){few}; distances are to the rows of all ranks"
    return console.table(title, ["rank", "rows", *(name for name, _ in figures)], rows)


def scaling_lines(header: Record, record: Record) -> Iterable[str]:
    """Yield what the epoch says of efficiency and of more ranks."""
    parts = record["efficiency"]
    yield (
        f"Epoch {record['epoch']}: parallel efficiency {percent(parts['parallel'])} = load balance "
        f"{percent(parts['load_balance'])} x communication {percent(parts['communication'])} (below 80 % look closer); "
        f"bus bandwidth {bandwidth(record)} MB/s"
    )
    noise = record["noise_scale"]
    if record["effective_ranks"] is not None:
        yield (
            f"Gradient diversity {number(record['diversity_all'])}: {header['world']} ranks were worth "
            f"{number(record['effective_ranks'])} whose gradients share nothing"
        )
    if noise is not None:
        size = header["config"]["batch_size"] or header["data"]["rows"]["train"]
        yield (
            f"Noise scale: beyond about {number(noise)} rows a step more ranks stop paying; this run takes {size:,} "
            "rows a step"
        )


def _some(ranks: list[int], record: Record) -> str:
    """Say that not all ranks are in a table."""
    world = len(record["rows"])
    if len(ranks) == world:
        return ""
    return f" ({len(ranks)} of {world}: most and least compute, wait and contribution; all with --every)"
