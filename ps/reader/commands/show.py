"""``python -m ps.log show``: a run at one look."""

import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from common.errors import RankwiseError
from ps.findings.verdict import ranges
from ps.logfile.reader import Entry
from ps.logfile.records import Record
from ps.reader import console
from ps.reader.commands import show_tables
from ps.reader.downsample import Downsampler
from ps.reader.events import event_lines
from ps.reader.history import COLUMNS, job_rows, jobs_title
from ps.reader.row_audit import RowAudit
from ps.reader.run_view import RunView, death, end_line, extremes, skim, verdict_lines
from ps.text.numbers import number
from ps.text.record_lines import mode_name, model_name, named_metric

MOST_EPOCHS = 40
MOST_RANKS = 16


class Epochs:
    """The epochs to show, most of which are never decoded: all or evenly thinned, and the one that was asked for."""

    def __init__(self, *, every: bool, wanted: int) -> None:
        self.every = every
        self.wanted = wanted
        self.chosen: Record = {}
        self.thin: Downsampler[Entry] = Downsampler(MOST_EPOCHS)
        self._records: list[Record] = []

    def add(self, entry: Entry) -> None:
        """Take the next record in, of whatever kind."""
        if entry.kind != "epoch":
            return
        if self.wanted and self.wanted == (entry.epoch or entry.record()["epoch"]):
            self.chosen = entry.record()
        if self.every:
            self._records.append(show_tables.epoch_figures(entry.record()))
        else:
            self.thin.add(entry)

    def records(self) -> list[Record]:
        """Return what ``tables.epoch_row`` needs of the epochs to show. Raises LogError."""
        return self._records or [show_tables.epoch_figures(entry.record()) for entry in self.thin.kept()]


def show(run: Path, epoch: int, *, every: bool) -> int:
    """Print the run; return the exit code. Raises LogError."""
    epochs, rows = Epochs(every=every, wanted=epoch), RowAudit()

    def passed(entry: Entry) -> None:
        epochs.add(entry)
        rows.take(entry)

    view = skim(run, passed)
    if view.header.get("purpose") == "comparison":
        from ps.reader.commands.show_comparison import show_comparison

        return show_comparison(view)
    out = console.make()
    out.print(Text.assemble((str(view.folder), "bold"), f": {view.state}"))
    for line in _facts(view) if view.header else ["No record yet."]:
        out.print(line)
    if len(view.jobs) > 1:
        out.print(console.table(jobs_title(view), COLUMNS, job_rows(view)))
    for line in verdict_lines(view):
        out.print(line)
    if view.balance:
        out.print(show_tables.balance_table(view.balance, len(view.balance["rows"]) if every else MOST_RANKS))
    if view.last:
        if epoch and not epochs.chosen:
            raise RankwiseError(f"epoch: no epoch {epoch} in this log; it has 1 to {view.last['epoch']}")
        _print_epochs(out, view, epochs)
    for line in (*rows.lines(), *_ending(view)):
        out.print(line)
    return 0


def _print_epochs(out: Console, view: RunView, epochs: Epochs) -> None:
    """Print the table of epochs, then what the ranks did in the last one or the one that was asked for."""
    out.print()
    stride = epochs.thin.stride
    title = "Epochs" if stride == 1 else f"Epochs (one in {stride}; all with --every)"
    out.print(
        show_tables.epoch_table(title, [show_tables.epoch_row(view.metric, record) for record in epochs.records()])
    )
    shown = epochs.chosen or view.last
    header = view.header_at(shown)
    for line in show_tables.scaling_lines(header, shown):
        out.print(line)
    out.print()
    ranks = extremes(shown, len(shown["rows"]) if epochs.every else MOST_RANKS)
    out.print(show_tables.time_table(header, shown, ranks))
    out.print(show_tables.contribution_table(shown, ranks))
    for table in show_tables.parameter_tables(shown, ranks):
        out.print(table)


def _facts(view: RunView) -> list[str]:
    header = view.header
    config, data, model, rows = header["config"], header["data"], header["model"], header["data"]["rows"]
    nodes = "; ".join(f"{n['host']} (rank {ranges(n['ranks'])})" for n in header["nodes"])
    blas = header["blas"] or {}
    threads = sorted(set(header["threads"]["per_rank"]))
    kind = f"{data['classes']} classes" if data["classes"] else f"{data['targets']} target(s)"
    return [
        f"Started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(header['t']))}, mode {mode_name(header)}, "
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
    """Tell the last epoch's losses from those of the saved parameters, which patience takes from the best epoch."""
    end, best = view.end, view.end["best_epoch"]
    line = f"Last epoch: loss {number(end['loss'])}"
    if end["validation_loss"] is not None:
        line += f", validation loss {number(end['validation_loss'])}, "
        line += named_metric(end["metric"], end["validation_metric"])
    if end.get("test_loss") is None:
        return line
    kept = f" with the parameters of epoch {best}, the best" if best and view.header["config"]["patience"] else ""
    return f"{line}. Test{kept}: loss {number(end['test_loss'])}, {named_metric(end['metric'], end.get('test_metric'))}"
