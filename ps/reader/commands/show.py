"""``python -m ps.log show``: a run at one look."""

import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from common.errors import RankwiseError
from common.limits import TABLE_PARAMETERS, TABLE_RANKS, TABLE_ROWS
from common.run_files import log_path
from common.wording import about, count
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader.commands.cli import LATEST, Run, Salvage
from ps.reader.commands.show_comparison import print_comparison
from ps.reader.comparison_view import ComparisonView
from ps.reader.console import WIDE, Paper
from ps.reader.downsample import Downsampler
from ps.reader.history import event_lines, jobs_table
from ps.reader.many_ranks import ALL_RANKS, MORE, host_table, hosts_line, most_ranks, spread_table
from ps.reader.row_audit import RowAudit
from ps.reader.run_view import RunView, check_lines, ending, extremes, mean, torn_lines, verdict_lines
from ps.text import evaluation, loose
from ps.text.contributions import ends, sampled
from ps.text.formatting import (
    aligned,
    date_time,
    efficiency,
    gradient_overlap,
    losses,
    named_metric,
    number,
    points,
)
from ps.text.layout import Table
from ps.text.run_facts import job_lines, loss_name

MEGA = 1e6
WAIT = "wait is idle time until the slowest rank arrives, so the slowest rank shows the smallest wait"
PARKED = "wait is the time for which a rank was held back or had no rows left, transfer the rest of an exchange"
"""In modes with a server, where ranks do not meet."""
EPOCHS_DROPPED = (
    "bus MB/s", "rate", "elapsed s", "transfer s", "efficiency %", "wait s", "compute s", "sync s", "validation loss",
    "accuracy %", "R2",
)  # fmt: skip
"""Columns of the epoch table in the order in which they are left out, to fit the width."""
RANKS_DROPPED = ("sent MB", "input s", "host", "transfer s", "rows", "sync s", "wait s")
SHARES_DROPPED = ("leave-one-out shift", "cosine", "norm ratio %", "loss")
CERTAINTY_DROPPED = ("by chance", "share %")
BALANCE_DROPPED = ("feature distance", "target distance", "label distance", "target z", "label z")


def show(
    run: Run = LATEST,
    /,
    *,
    epoch: Annotated[int, Parameter(help="the epoch of the tables by rank; the last one if not given")] = 0,
    every: Annotated[bool, Parameter(help="print every epoch and rank; otherwise only some of many")] = False,
    all_ranks: Annotated[bool, Parameter(help=ALL_RANKS)] = False,
    wide: Annotated[bool, Parameter(help=WIDE, show_default=False)] = False,
    salvage: Salvage = False,
) -> int:
    """Print the run; return the exit code. Raises LogError, and RankwiseError if there is no such run or epoch."""
    view, rows, measured = RunView(log_path(run), salvage=salvage), RowAudit(), ComparisonView()
    chosen, epochs = Record(), Downsampler[list[float | None]](sys.maxsize if every else TABLE_ROWS)
    for record in view.read("steps"):
        rows.add(record)
        measured.add(record)
        if record["kind"] == "epoch":
            epochs.add(_epoch_figures(record))
            chosen = record if record["epoch"] == epoch else chosen
    out, every_rank = Paper(wide=wide), every or all_ranks
    if view.is_comparison:
        print_comparison(out, view, measured)
        return 0
    out.print(f": {view.state}", head=str(view.folder))
    out.print(*(_facts(view) if view.header else ["No record yet."]))
    if len(view.sessions) > 1:
        out.table(jobs_table(view))
    out.print(*verdict_lines(view), *check_lines(view))
    if view.balance:
        out.table(_balance_table(view.balance, every=every_rank))
    if view.last:
        if epoch and not chosen:
            raise RankwiseError(f"epoch: no epoch {epoch} in this log; it has 1 to {view.last['epoch']}")
        out.table(_epoch_table(view.metric, epochs))
        record = chosen or view.last
        out.print(*_scaling_lines(view.header_at(record), record), "")
        for table in _rank_tables(view, record, every=every_rank):
            out.table(table)
    for line in filter(None, (*rows.lines(), *event_lines(view), ending(view), _result(view), *torn_lines(view))):
        out.print(line)
    if scores := view.end.get("test"):
        for table in evaluation.tables(scores, all_classes=every):
            out.table(table)
    return 0


def _facts(view: RunView) -> list[str]:
    header = view.header
    blas, threads = header["blas"] or {}, sorted(set(header["threads"]["per_rank"]))
    each = " or ".join(str(t) for t in threads) + (" thread" if threads == [1] else " threads")
    lines = [f"Started {date_time(header['t'])}", *job_lines(header, view.ranks)]
    if len(header["nodes"]) > 1:
        lines.append(f"Hosts: {hosts_line(header)}")
    return [
        *lines,
        f"Loss: {loss_name(header)}, in {header['config']['dtype']}",
        f"{header['mpi']['vendor']}, NumPy {header['versions']['numpy']}, {blas.get('internal_api')} "
        f"{blas.get('version')} with {each} a rank (set by {header['threads']['set_by']})",
    ]


def _result(view: RunView) -> str:
    """Return the last epoch's losses, and those of the saved parameters, which patience takes from the best epoch."""
    if not view.end:
        return ""
    end, best = view.end, view.end["best_epoch"]
    line = f"Last epoch: loss {losses(end, end['metric'])}"
    if end.get("test_loss") is None:
        return line
    kept = f" with the parameters of epoch {best}, the best" if best and view.header["config"]["patience"] else ""
    return f"{line}. Test{kept}: loss {number(end['test_loss'])}, {named_metric(end['metric'], end.get('test_metric'))}"


def _epoch_figures(record: Record) -> list[float | None]:
    """Return an epoch's line of the epoch table, as numbers."""
    rate = record["bus_bytes_per_s"]
    return [
        record["epoch"],
        *(record[key] for key in ("loss", "validation_loss", "validation_metric", "learning_rate", "elapsed_s")),
        *(mean(record[key]) for key in ("compute_s", "sync_s", "wait_s", "transfer_s")),
        record["efficiency"]["parallel"],
        None if rate is None else rate / MEGA,
    ]


def _epoch_table(metric: str, epochs: Downsampler[list[float | None]]) -> Table:
    figures = list(zip(*epochs.kept(), strict=True))
    seconds = ("elapsed s", "compute s", "sync s", "wait s", "transfer s")
    columns = {
        "epoch": [str(n) for n in figures[0]],
        "loss": [number(loss) for loss in figures[1]],
        "validation loss": [number(loss) for loss in figures[2]],
        **({"accuracy %": list(map(points, figures[3]))} if metric == "accuracy" else {"R2": aligned(figures[3])}),
        "rate": [number(rate, 3) for rate in figures[4]],
        **{title: aligned(own) for title, own in zip(seconds, figures[5:10], strict=True)},
        "efficiency %": list(map(points, figures[10])),
        "bus MB/s": [number(rate) for rate in figures[11]],
    }
    some = "" if epochs.stride == 1 else f" (one in {epochs.stride}; all with --every)"
    title = f"Epochs{some}; times are means over the ranks, sync = wait + transfer"
    return Table(title, list(columns), [list(row) for row in zip(*columns.values(), strict=True)], EPOCHS_DROPPED)


def _rank_tables(view: RunView, record: Record, *, every: bool) -> Iterator[Table]:
    """Yield what the ranks spent an epoch's time on and gave to its update; of many, those that stand out."""
    world, header = len(record["rows"]), view.header_at(record)
    hosts, ranks = host_names(header), extremes(record, most_ranks(world, every=every))
    if world > TABLE_RANKS:
        yield spread_table(record)
        if len(header["nodes"]) > 1:
            yield host_table(header, record, every=every)
    some = f" ({len(ranks)} of {world:,}: most and least compute, wait and contribution; {MORE})"
    epoch = f"epoch {record['epoch']}{some if len(ranks) < world else ''}"
    columns = {"host": [hosts.get(rank, "-") for rank in range(world)], "rows": [f"{n:,}" for n in record["rows"]]}
    for key in ("input", "compute", "wait", "transfer", "sync"):
        columns[f"{key} s"] = aligned(record[f"{key}_s"])
    columns["sent MB"] = aligned(n / MEGA for n in record["sent_bytes"])
    idle = f"; {PARKED if 'staleness_mean' in record else WAIT}" if world > 1 else ""
    yield _by_rank(f"Ranks in {epoch}; seconds add up over its steps{idle}", ranks, columns, RANKS_DROPPED)
    columns = {
        "loss": [number(value) for value in record["loss_by_rank"]],
        "contribution %": [points(value) for value in record["share_all"]],
        "norm ratio %": [points(value) for value in record["norm_ratio_all"]],
        "cosine": [number(value) for value in record["cosine_all"]],
        "leave-one-out shift": [number(value) for value in record["leave_one_out_all"]],
    }
    title = f"Contribution in {epoch}; the share is signed, below 0 pulls against"
    yield _by_rank(title, ranks, columns, SHARES_DROPPED)
    if columns := loose.columns(record):
        yield _by_rank(f"{loose.TITLE} in {epoch}", ranks, columns, loose.DROPPED)
    if not record["sampled_steps"]:
        return
    sample = sampled(record)
    if world > 1 and "share_low" in record:
        columns = {"share %": [points(value) for value in record["share_all"]]}
        for key, title in (("share", "95 % interval"), ("chance", "by chance")):
            columns[title] = [ends(record, key, rank) for rank in range(world)]
        yield _by_rank(f"How certain the shares are, {sample}", ranks, columns, CERTAINTY_DROPPED)
    names = list(record["share"])[:TABLE_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    more = f"; first {count(len(names), 'parameter')}, {left_out} more in the log" if left_out else ""
    for key, title in (("share", "Share of the update by parameter"), ("norm_ratio", "Norm ratio by parameter")):
        columns = {f"{name} %": [points(value) for value in record[key][name]] for name in names}
        yield _by_rank(f"{title}, {sample}{more}", ranks, columns)


def _balance_table(record: Record, *, every: bool) -> Table:
    """Return what rows the ranks were dealt, and how far these are from those of all ranks; of many, the farthest."""
    keys = ("label_distance", "label_z", "target_distance", "target_z", "feature_distance")
    figures = {key.replace("_", " "): record[key] for key in keys if record[key] is not None}
    world = len(record["rows"])
    away = [max((abs(own[rank] or 0.0) for own in figures.values()), default=0.0) for rank in range(world)]
    ranks = sorted(sorted(range(world), key=lambda rank: -away[rank])[: most_ranks(world, every=every)])
    few = f" ({len(ranks)} of {world:,}: those farthest away; {MORE})" if len(ranks) < world else ""
    title = f"Rows dealt to the ranks ({record['of']}){few}; distances are to the rows of all ranks"
    columns = {name: [number(value) for value in own] for name, own in figures.items()}
    return _by_rank(title, ranks, {"rows": [f"{n:,}" for n in record["rows"]]} | columns, BALANCE_DROPPED)


def _by_rank(title: str, ranks: list[int], columns: dict[str, list[str]], drop: tuple[str, ...] = ()) -> Table:
    """Return a table with a line for each of these ranks; ``columns``: by title the texts of all ranks.

    Without columns to drop it goes on below.
    """
    rows = [[str(rank), *(texts[rank] for texts in columns.values())] for rank in ranks]
    return Table(title, ["rank", *columns], rows, drop, ("host",), not drop)


def _scaling_lines(header: Record, record: Record) -> Iterator[str]:
    """Yield what the epoch says of efficiency and of more ranks."""
    rate = record["bus_bytes_per_s"]
    bus = "" if rate is None else f"; bus bandwidth {number(rate / MEGA)} MB/s"
    yield f"Epoch {record['epoch']}: parallel {efficiency(record)} (below 80 % look closer){bus}"
    if overlap := gradient_overlap(record):
        yield overlap
    if record["noise_scale"] is not None:
        size = header["config"]["batch_size"] or header["data"]["rows"]["train"]
        yield (
            f"Batches above about {about(record['noise_scale'])} rows gain little (estimate). "
            f"This run takes {count(size, 'row')} a step."
        )
