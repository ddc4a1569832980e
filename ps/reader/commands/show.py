"""``python -m ps.log show``: a run at one look."""

import sys

from rich.console import Console
from rich.text import Text

from common.errors import RankwiseError
from common.limits import TABLE_RANKS, TABLE_ROWS
from common.run_files import log_path
from ps.findings.verdict import ranges
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.commands import show_tables
from ps.reader.commands.cli import LATEST, Run
from ps.reader.downsample import Downsampler
from ps.reader.events import event_lines
from ps.reader.history import COLUMNS, history_rows, history_title
from ps.reader.row_audit import RowAudit
from ps.reader.run_view import RunView, death, end_line, extremes, verdict_lines
from ps.text.formatting import date_time, losses, mode_name, model_name, named_metric, number


def show(run: Run = LATEST, /, *, epoch: int = 0, every: bool = False) -> int:
    """Print the run; return the exit code. Raises LogError, and RankwiseError if there is no such run or epoch.

    Parameters
    ----------
    epoch
        the epoch of the tables by rank; the last one if not given
    every
        print every epoch and rank; otherwise only some of many
    """
    view, rows = RunView(log_path(run)), RowAudit()
    chosen: Record = {}
    epochs = Downsampler[list[str]](sys.maxsize if every else TABLE_ROWS)
    for record in view.read("steps"):
        rows.add(record)
        if record["kind"] == "epoch":
            epochs.add(show_tables.epoch_row(view.metric, record))
            chosen = record if record["epoch"] == epoch else chosen
    if view.header.get("purpose") == "comparison":
        from ps.reader.commands.show_comparison import show_comparison

        return show_comparison(view)
    out = console.make()
    out.print(Text.assemble((str(view.folder), "bold"), f": {view.state}"))
    for line in _facts(view) if view.header else ["No record yet."]:
        out.print(line)
    if len(view.sessions) > 1:
        out.print(console.table(history_title(view), COLUMNS, history_rows(view)))
    for line in verdict_lines(view):
        out.print(line)
    most = sys.maxsize if every else TABLE_RANKS
    if view.balance:
        out.print(show_tables.balance_table(view.balance, most))
    if view.last:
        if epoch and not chosen:
            raise RankwiseError(f"epoch: no epoch {epoch} in this log; it has 1 to {view.last['epoch']}")
        out.print()
        out.print(show_tables.epoch_table(epochs))
        _print_ranks(out, view, chosen or view.last, most)
    for line in (*rows.lines(), *_ending(view)):
        out.print(line)
    return 0


def _print_ranks(out: Console, view: RunView, record: Record, most: int) -> None:
    """Print what the ranks did in an epoch, or those of them that stand out."""
    header, ranks = view.header_at(record), extremes(record, most)
    for line in show_tables.scaling_lines(header, record):
        out.print(line)
    out.print()
    for table in show_tables.rank_tables(header, record, ranks):
        out.print(table)


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


def _ending(view: RunView) -> list[str]:
    lines = event_lines(view)
    if view.end:
        lines += [end_line(view.end), _result(view)]
    elif view.state == "died":
        lines.append(death(view))
    if view.torn:
        lines.append(
            f"The last {view.torn} bytes, from byte {view.offset} on, are a record that was not finished: the job was "
            "killed while writing, or writes it now. All records before it are whole."
        )
    return lines


def _result(view: RunView) -> str:
    """Say the last epoch's losses, and those of the saved parameters, which patience takes from the best epoch."""
    end, best = view.end, view.end["best_epoch"]
    line = f"Last epoch: loss {losses(end, end['metric'])}"
    if end.get("test_loss") is None:
        return line
    kept = f" with the parameters of epoch {best}, the best" if best and view.header["config"]["patience"] else ""
    return f"{line}. Test{kept}: loss {number(end['test_loss'])}, {named_metric(end['metric'], end.get('test_metric'))}"
