"""The tables of ``python -m ps.log show``."""

from collections.abc import Iterable

from rich.table import Table

from common.limits import TABLE_PARAMETERS
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.downsample import Downsampler
from ps.reader.run_view import mean
from ps.text.formatting import efficiency, metric, number, percent

MEGA = 1e6
EPOCH_COLUMNS = [
    "epoch", "loss", "validation loss", "metric", "rate", "elapsed s", "compute s", "sync s", "wait s", "transfer s",
    "efficiency", "bus MB/s",
]  # fmt: skip


def epoch_row(metric_name: str, record: Record) -> list[str]:
    """Return an epoch's line of the epoch table, under ``EPOCH_COLUMNS``."""
    return [
        str(record["epoch"]),
        number(record["loss"]),
        number(record["validation_loss"]),
        metric(metric_name, record["validation_metric"]),
        number(record["learning_rate"], 3),
        f"{record['elapsed_s']:.6f}",
        *(f"{mean(record[k]):.6f}" for k in ("compute_s", "sync_s", "wait_s", "transfer_s")),
        percent(record["efficiency"]["parallel"]),
        bandwidth(record),
    ]


def bandwidth(record: Record) -> str:
    """Return an epoch's bus bandwidth in MB/s; a dash if none was reached."""
    rate = record["bus_bytes_per_s"]
    return number(None if rate is None else rate / MEGA)


def epoch_table(rows: Downsampler[list[str]]) -> Table:
    """Return the table of ``epoch_row`` lines."""
    some = "" if rows.stride == 1 else f" (one in {rows.stride}; all with --every)"
    title = f"Epochs{some}; times are means over the ranks, sync = wait + transfer"
    return console.table(title, EPOCH_COLUMNS, rows.kept())


def rank_tables(header: Record, record: Record, ranks: list[int]) -> Iterable[Table]:
    """Yield what these ranks spent an epoch's time on, and what they gave to its update, by parameter too."""
    world, hosts = len(record["rows"]), host_names(header)
    some = f" ({len(ranks)} of {world}: most and least compute, wait and contribution; all with --every)"
    epoch = f"epoch {record['epoch']}{some if len(ranks) < world else ''}"

    keys = ("input_s", "compute_s", "wait_s", "transfer_s", "sync_s")
    seconds = {f"{key[:-2]} s": [f"{s:.6f}" for s in record[key]] for key in keys}
    columns = {"host": [hosts.get(rank, "-") for rank in range(world)], "rows": [str(n) for n in record["rows"]]}
    columns |= seconds | {"sent": [f"{n / MEGA:.2f} MB" for n in record["sent_bytes"]]}
    yield _by_rank(f"Ranks in {epoch}; seconds add up over its steps", ranks, columns)

    columns = {
        "loss": [number(value) for value in record["loss_by_rank"]],
        "contribution": [percent(value) for value in record["share_all"]],
        "norm ratio": [percent(value) for value in record["norm_ratio_all"]],
        "cosine": [number(value) for value in record["cosine_all"]],
        "leave-one-out shift": [number(value) for value in record["leave_one_out_all"]],
    }
    yield _by_rank(f"Contribution in {epoch}; the share is signed, below 0 pulls against", ranks, columns)

    names = list(record["share"])[:TABLE_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    more = f"; first {len(names)} parameters, {left_out} more in the log" if left_out else ""
    steps = ", ".join(str(s) for s in record["sampled_steps"])
    for key, title in (("share", "Share of the update by parameter"), ("norm_ratio", "Norm ratio by parameter")):
        columns = {name: [percent(value) for value in record[key][name]] for name in names}
        yield _by_rank(f"{title}, measured on step {steps}{more}", ranks, columns)


def balance_table(record: Record, most: int) -> Table:
    """Return what rows the ranks were dealt, and how far these are from those of all ranks; the ``most`` farthest."""
    keys = ("label_distance", "label_z", "target_distance", "target_z", "feature_distance")
    figures = {key.replace("_", " "): record[key] for key in keys if record[key] is not None}
    world = len(record["rows"])
    away = [max((abs(own[rank] or 0.0) for own in figures.values()), default=0.0) for rank in range(world)]
    ranks = sorted(sorted(range(world), key=lambda rank: -away[rank])[:most])
    few = f" ({len(ranks)} of {world}: those farthest away; all with --every)" if len(ranks) < world else ""
    title = f"Rows dealt to the ranks ({record['of']}){few}; distances are to the rows of all ranks"
    columns = {name: [number(value) for value in own] for name, own in figures.items()}
    return _by_rank(title, ranks, {"rows": [str(n) for n in record["rows"]]} | columns)


def _by_rank(title: str, ranks: list[int], columns: dict[str, list[str]]) -> Table:
    """Return a table with a line for each of these ranks; ``columns``: by title the texts of all ranks."""
    rows = [[str(rank), *(texts[rank] for texts in columns.values())] for rank in ranks]
    return console.table(title, ["rank", *columns], rows)


def scaling_lines(header: Record, record: Record) -> Iterable[str]:
    """Yield what the epoch says of efficiency and of more ranks."""
    yield (
        f"Epoch {record['epoch']}: parallel {efficiency(record)} (below 80 % look closer); "
        f"bus bandwidth {bandwidth(record)} MB/s"
    )
    if record["effective_ranks"] is not None:
        yield (
            f"Gradient diversity {number(record['diversity_all'])}: {header['world']} ranks were worth "
            f"{number(record['effective_ranks'])} whose gradients share nothing"
        )
    if record["noise_scale"] is not None:
        size = header["config"]["batch_size"] or header["data"]["rows"]["train"]
        yield (
            f"Noise scale: beyond about {number(record['noise_scale'])} rows a step more ranks stop paying; "
            f"this run takes {size:,} rows a step"
        )
