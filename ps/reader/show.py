"""``python -m ps.log show``: a run at one look."""

import time
from pathlib import Path

from rich.table import Table
from rich.text import Text

from common.errors import RankwiseError
from ps.log import Record
from ps.reader import console
from ps.reader.run import RunView, death, end_line, event_line, load, mean
from ps.text import metric, mode_name, named_metric, number, percent, verdict_line

MOST_EPOCHS = 40
MOST_PARAMETERS = 8


class Epochs:
    """The lines of the epoch table; once there are too many, every second one goes, and then every fourth."""

    def __init__(self, *, every: bool, wanted: int) -> None:
        self.every = every
        self.wanted = wanted
        self.stride = 1
        self.kept: list[Record] = []
        self.chosen: Record = {}

    def add(self, record: Record) -> None:
        """Keep what the table shows of an epoch, and the whole one that was asked for."""
        if record["epoch"] == self.wanted:
            self.chosen = record
        if (record["epoch"] - 1) % self.stride == 0:
            short = {k: record[k] for k in ("epoch", "loss", "validation_loss", "validation_metric", "elapsed_s")}
            short.update({k: mean(record[k]) for k in ("compute_s", "sync_s", "wait_s", "transfer_s")})
            self.kept.append({**short, "learning_rate": record["learning_rate"]})
        if not self.every and len(self.kept) > MOST_EPOCHS:
            self.stride *= 2
            self.kept = self.kept[::2]


def show(run: Path, epoch: int, *, every: bool) -> int:
    """Print the run; return the exit code. Raises LogError."""
    epochs = Epochs(every=every, wanted=epoch)
    view = load(run, epochs.add)
    out = console.make()
    out.print(Text.assemble((str(view.folder), "bold"), f": {view.state}"))
    for line in _facts(view.header) if view.header else ["No record yet."]:
        out.print(line)
    for verdict in view.verdicts:
        out.print(verdict_line(verdict))
    if epochs.kept:
        out.print()
        out.print(_epoch_table(view, epochs))
        shown = epochs.chosen or view.last
        if epoch and not epochs.chosen:
            raise RankwiseError(f"epoch: no epoch {epoch} in this log; it has 1 to {view.last['epoch']}")
        out.print(_rank_table(view.header, shown))
        for part in _contribution_tables(shown):
            out.print(part)
    for line in _ending(view):
        out.print(line)
    return 0


def _facts(header: Record) -> list[str]:
    config, data, model, rows = header["config"], header["data"], header["model"], header["data"]["rows"]
    nodes = "; ".join(f"{n['host']} (rank {_ranges(n['ranks'])})" for n in header["nodes"])
    blas = header["blas"] or {}
    threads = sorted(set(header["threads"]["per_rank"]))
    kind = f"{data['classes']} classes" if data["classes"] else f"{data['targets']} target(s)"
    return [
        f"Started {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(header['t']))}, mode {mode_name(header)}, "
        f"{header['world']} ranks on {len(header['nodes'])} node(s): {nodes}",
        f"Data {data['name']}: {rows['train']} rows train, {rows['validation']} validate, {rows['test']} test, "
        f"{data['features']} features, {kind}",
        f"Model {config['model']} {'-'.join(str(s) for s in model['sizes'])}, {model['n_parameters']:,} parameters, "
        f"{model['loss']}, {config['dtype']}; {config['optimizer']}, batch {config['batch_size'] or 'all rows'}, "
        f"{header['steps_per_epoch']} step(s) an epoch",
        f"{header['mpi']['vendor']}, NumPy {header['versions']['numpy']}, {blas.get('internal_api')} "
        f"{blas.get('version')} with {' or '.join(str(t) for t in threads)} thread(s) a rank "
        f"(set by {header['threads']['set_by']})",
    ]


def _ranges(ranks: list[int]) -> str:
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"{ranks[0]}-{ranks[-1]}"
    return ", ".join(str(r) for r in ranks)


def _epoch_table(view: RunView, epochs: Epochs) -> Table:
    title = "Epochs" if epochs.stride == 1 else f"Epochs (one in {epochs.stride}; all with --every)"
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
    ]
    rows = [
        [
            str(e["epoch"]),
            number(e["loss"]),
            number(e["validation_loss"]),
            metric(view.metric, e["validation_metric"]),
            number(e["learning_rate"], 3),
            *(f"{e[k]:.6f}" for k in ("elapsed_s", "compute_s", "sync_s", "wait_s", "transfer_s")),
        ]
        for e in epochs.kept
    ]
    return console.table(f"{title}; times are means over the ranks, sync = wait + transfer", columns, rows)


def _rank_table(header: Record, record: Record) -> Table:
    hosts = {rank: node["host"] for node in header["nodes"] for rank in node["ranks"]}
    columns = [
        "rank",
        "host",
        "rows",
        "loss",
        "contribution",
        "compute s",
        "wait s",
        "transfer s",
        "sync s",
        "sent",
    ]
    rows = [
        [
            str(rank),
            hosts.get(rank, "-"),
            str(record["rows"][rank]),
            number(record["loss_by_rank"][rank]),
            percent(record["share_all"][rank]),
            *(f"{record[k][rank]:.6f}" for k in ("compute_s", "wait_s", "transfer_s", "sync_s")),
            f"{record['sent_bytes'][rank] / 1e6:.2f} MB",
        ]
        for rank in range(header["world"])
    ]
    return console.table(
        f"Ranks in epoch {record['epoch']}; contribution is the signed share of the update, below 0 pulls against it",
        columns,
        rows,
    )


def _contribution_tables(record: Record) -> list[Table]:
    names = list(record["share"])[:MOST_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    more = f"; first {len(names)} parameters, {left_out} more in the log" if left_out else ""
    tables = []
    for key, title in (
        ("share", "Share of the update by parameter"),
        ("norm_ratio", "Norm ratio by parameter"),
    ):
        rows = [
            [str(rank), *(percent(record[key][name][rank]) for name in names)] for rank in range(len(record["rows"]))
        ]
        steps = ", ".join(str(s) for s in record["sampled_steps"])
        tables.append(console.table(f"{title}, measured on step {steps}{more}", ["rank", *names], rows))
    return tables


def _ending(view: RunView) -> list[str]:
    lines = []
    for event in view.events:
        lines.append(event_line(event))
        stacks = event.get("stacks")
        if isinstance(stacks, dict):
            lines += [f"Stack of rank {rank}:\n{stack}" for rank, stack in stacks.items()]
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
