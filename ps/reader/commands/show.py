"""``python -m ps.log show``: a run at one look."""

import sys
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from common.errors import RankwiseError
from common.limits import TABLE_PARAMETERS, TABLE_RANKS, TABLE_ROWS
from common.run_files import log_path
from ps.findings.verdict import ranges, two_digits
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.commands.cli import LATEST, Run
from ps.reader.commands.show_comparison import print_comparison
from ps.reader.comparison_view import ComparisonView
from ps.reader.downsample import Downsampler
from ps.reader.history import event_lines, jobs_table
from ps.reader.row_audit import RowAudit
from ps.reader.run_view import RunView, check_lines, ending, extremes, mean, torn_lines, verdict_lines
from ps.text.contributions import ends, sampled
from ps.text.formatting import (
    date_time,
    efficiency,
    gradient_overlap,
    losses,
    metric,
    mode_name,
    model_name,
    named_metric,
    number,
    percent,
)

MEGA = 1e6
EPOCH_COLUMNS = [
    "epoch", "loss", "validation loss", "metric", "rate", "elapsed s", "compute s", "sync s", "wait s", "transfer s",
    "efficiency", "bus MB/s",
]  # fmt: skip


def show(
    run: Run = LATEST,
    /,
    *,
    epoch: Annotated[
        int, Parameter(show_default=False, help="the epoch of the tables by rank; the last one if not given")
    ] = 0,
    every: Annotated[
        bool, Parameter(show_default=False, help="print every epoch and rank; otherwise only some of many")
    ] = False,
) -> int:
    """Print the run; return the exit code. Raises LogError, and RankwiseError if there is no such run or epoch."""
    view, rows, measured = RunView(log_path(run)), RowAudit(), ComparisonView()
    chosen, epochs = Record(), Downsampler[list[str]](sys.maxsize if every else TABLE_ROWS)
    for record in view.read("steps"):
        rows.add(record)
        measured.add(record)
        if record["kind"] == "epoch":
            epochs.add(_epoch_row(view.metric, record))
            chosen = record if record["epoch"] == epoch else chosen
    out, most = console.make(), sys.maxsize if every else TABLE_RANKS
    if view.is_comparison:
        print_comparison(out, view, measured)
        return 0
    out.print(Text.assemble((str(view.folder), "bold"), f": {view.state}"))
    for line in _facts(view) if view.header else ["No record yet."]:
        out.print(line)
    if len(view.sessions) > 1:
        out.print(console.table(*jobs_table(view)))
    for line in (*verdict_lines(view), *check_lines(view)):
        out.print(line)
    if view.balance:
        out.print(_balance_table(view.balance, most))
    if view.last:
        if epoch and not chosen:
            raise RankwiseError(f"epoch: no epoch {epoch} in this log; it has 1 to {view.last['epoch']}")
        out.print()
        some = "" if epochs.stride == 1 else f" (one in {epochs.stride}; all with --every)"
        title = f"Epochs{some}; times are means over the ranks, sync = wait + transfer"
        out.print(console.table(title, EPOCH_COLUMNS, epochs.kept()))
        record = chosen or view.last
        for entry in (*_scaling_lines(view.header_at(record), record), "", *_rank_tables(view, record, most)):
            out.print(entry)
    for line in filter(None, (*rows.lines(), *event_lines(view), ending(view), _result(view), *torn_lines(view))):
        out.print(line)
    return 0


def _facts(view: RunView) -> list[str]:
    header = view.header
    config, data, model, rows = header["config"], header["data"], header["model"], header["data"]["rows"]
    nodes = "; ".join(f"{n['host']} (rank {ranges(n['ranks'])})" for n in header["nodes"])
    blas = header["blas"] or {}
    threads = sorted(set(header["threads"]["per_rank"]))
    kind = f"{data['classes']} classes" if data["classes"] else f"{data['targets']} target(s)"
    return [
        f"Started {date_time(header['t'])}, mode {mode_name(header)}, "
        f"{view.ranks} ranks on {len(header['nodes'])} node(s): {nodes}",
        f"Data {data['name']}: {rows['train']} rows train, {rows['validation']} validate, {rows['test']} test, "
        f"{data['features']} features, {kind}",
        f"Model {model_name(header)}, {model['n_parameters']:,} parameters, "
        f"{model['loss']}, {config['dtype']}; {config['optimizer']}, batch {config['batch_size'] or 'all rows'}, "
        f"{header['steps_per_epoch']} step(s) an epoch",
        f"{header['mpi']['vendor']}, NumPy {header['versions']['numpy']}, {blas.get('internal_api')} "
        f"{blas.get('version')} with {' or '.join(str(t) for t in threads)} thread(s) a rank "
        f"(set by {header['threads']['set_by']})",
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


def _epoch_row(metric_name: str, record: Record) -> list[str]:
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
        _bandwidth(record),
    ]


def _bandwidth(record: Record) -> str:
    """Return an epoch's bus bandwidth in MB/s; a dash if none was reached."""
    rate = record["bus_bytes_per_s"]
    return number(None if rate is None else rate / MEGA)


def _rank_tables(view: RunView, record: Record, most: int) -> Iterable[Table]:
    """Yield what the ranks spent an epoch's time on and gave to its update; of many, those that stand out."""
    world, hosts, ranks = len(record["rows"]), host_names(view.header_at(record)), extremes(record, most)
    some = f" ({len(ranks)} of {world}: most and least compute, wait and contribution; all with --every)"
    epoch = f"epoch {record['epoch']}{some if len(ranks) < world else ''}"
    columns = {"host": [hosts.get(rank, "-") for rank in range(world)], "rows": [str(n) for n in record["rows"]]}
    for key in ("input", "compute", "wait", "transfer", "sync"):
        columns[f"{key} s"] = [f"{s:.6f}" for s in record[f"{key}_s"]]
    columns["sent"] = [f"{n / MEGA:.2f} MB" for n in record["sent_bytes"]]
    yield _by_rank(f"Ranks in {epoch}; seconds add up over its steps", ranks, columns)
    columns = {
        "loss": [number(value) for value in record["loss_by_rank"]],
        "contribution": [percent(value) for value in record["share_all"]],
        "norm ratio": [percent(value) for value in record["norm_ratio_all"]],
        "cosine": [number(value) for value in record["cosine_all"]],
        "leave-one-out shift": [number(value) for value in record["leave_one_out_all"]],
    }
    yield _by_rank(f"Contribution in {epoch}; the share is signed, below 0 pulls against", ranks, columns)
    sample = sampled(record)
    if world > 1 and "share_low" in record:
        columns = {"share": [percent(value) for value in record["share_all"]]}
        for key, title in (("share", "95 % interval"), ("chance", "by chance")):
            columns[title] = [ends(record, key, rank) for rank in range(world)]
        yield _by_rank(f"How certain the shares are, {sample}", ranks, columns)
    names = list(record["share"])[:TABLE_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    more = f"; first {len(names)} parameters, {left_out} more in the log" if left_out else ""
    for key, title in (("share", "Share of the update by parameter"), ("norm_ratio", "Norm ratio by parameter")):
        columns = {name: [percent(value) for value in record[key][name]] for name in names}
        yield _by_rank(f"{title}, {sample}{more}", ranks, columns)


def _balance_table(record: Record, most: int) -> Table:
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


def _scaling_lines(header: Record, record: Record) -> Iterable[str]:
    """Yield what the epoch says of efficiency and of more ranks."""
    yield (
        f"Epoch {record['epoch']}: parallel {efficiency(record)} (below 80 % look closer); "
        f"bus bandwidth {_bandwidth(record)} MB/s"
    )
    if overlap := gradient_overlap(record):
        yield overlap
    if record["noise_scale"] is not None:
        size = header["config"]["batch_size"] or header["data"]["rows"]["train"]
        yield (
            f"Batches above about {two_digits(record['noise_scale'])} rows gain little (estimate). "
            f"This run takes {size:,} rows a step."
        )
