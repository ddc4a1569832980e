"""A run as Markdown tables, to be pasted into a report."""

import re
import time
from collections.abc import Iterator

from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader import history
from ps.reader.downsample import MOST_RANKS, Downsampler
from ps.reader.run_view import RunView, death, end_line, mean
from ps.text.numbers import number, percent
from ps.text.record_lines import metric, mode_name, model_name

MOST_EPOCHS = 40
MOST_PARAMETERS = 8
FIGURE = re.compile(r"-|-?\d[\d.,e+-]*( %)?")
SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&#]")

Cells = list[list[str]]


def markdown_lines(reader: DeduplicatedReader) -> Iterator[str]:
    """Yield headings and GitHub-flavoured tables once the whole log is read. Raises LogError."""
    view, epochs = RunView(reader.path), Downsampler[list[str]](MOST_EPOCHS)
    for record in reader.records():
        view.add(record)
        if record["kind"] == "epoch":
            epochs.add(_epoch_row(view.metric, record))
    view.close(reader)
    yield f"# Run {escape(view.folder.resolve().name)}: {escape(view.state)}\n"
    if not view.header:
        yield "\nNo record yet.\n"
        return
    yield from _table("Facts", ["", "Value"], _facts(view))
    if len(view.jobs) > 1:
        yield from _table(history.jobs_title(view), history.COLUMNS, history.job_rows(view))
    yield from _epochs(view, epochs)
    if view.last:
        yield from _last_epoch(view.header_at(view.last), view.last)
    yield from _verdicts(view.verdicts)


def escape(text: str) -> str:
    r"""Return a text on one line that Markdown shows as it is: ``a|b`` gives ``a\|b``."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _table(title: str, columns: list[str], rows: Cells, note: str = "") -> Iterator[str]:
    """Yield a heading and a table, padded so that it reads well as text too; columns of figures to the right."""
    yield f"\n## {title}\n\n"
    if note:
        yield f"{note}\n\n"
    right = [all(FIGURE.fullmatch(line[i]) for line in rows) for i in range(len(columns))]
    cells = [[escape(cell) for cell in line] for line in [columns, *rows]]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(columns))]
    rule = ["-" * (width - 1) + (":" if to_right else "-") for to_right, width in zip(right, widths, strict=True)]
    for line in (cells[0], rule, *cells[1:]):
        places = zip(line, right, widths, strict=True)
        padded = (cell.rjust(width) if to_right else cell.ljust(width) for cell, to_right, width in places)
        yield f"| {' | '.join(padded)} |\n"


def _facts(view: RunView) -> Cells:
    header, config, data, model = view.header, view.header["config"], view.header["data"], view.header["model"]
    rows, versions, blas = data["rows"], header["versions"], header["blas"] or {}
    facts = {
        "Started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header["t"])),
        "Mode": mode_name(header),
        "Ranks": f"{view.ranks} on {len(header['nodes'])} node(s)",
        "Data": f"{data['name']}, {data['features']} features",
        "Rows": f"{rows['train']} train, {rows['validation']} validation, {rows['test']} test",
        "Model": f"{model_name(header)}, {model['n_parameters']:,} parameters",
        "Loss": model["loss"],
        "Optimizer": f"{config['optimizer']}, batch {config['batch_size'] or 'all rows'}, {config['dtype']}",
        "Steps an epoch": str(header["steps_per_epoch"]),
        "MPI": header["mpi"]["vendor"],
        "BLAS": f"{blas.get('internal_api')} {blas.get('version')}",
        "Versions": ", ".join(f"{name} {versions[name]}" for name in ("rankwise", "python", "numpy", "mpi4py")),
        "Ended": _ending(view),
    }
    if view.end.get("test_loss") is not None:
        facts["Test"] = f"loss {number(view.end['test_loss'])}, {_metric_name(view)} "
        facts["Test"] += metric(view.metric, view.end.get("test_metric"))
    return [[name, value] for name, value in facts.items()]


def _metric_name(view: RunView) -> str:
    return "accuracy" if view.metric == "accuracy" else "R2"


def _ending(view: RunView) -> str:
    if view.end:
        return end_line(view.end).removeprefix("End: ")
    return death(view) if view.state == "died" else view.state


def _epoch_row(metric_name: str, record: Record) -> list[str]:
    return [
        str(record["epoch"]),
        number(record["loss"]),
        number(record["validation_loss"]),
        metric(metric_name, record["validation_metric"]),
        number(record["learning_rate"], 3),
        f"{record['elapsed_s']:.3f}",
        *(f"{mean(record[key]):.6f}" for key in ("compute_s", "wait_s", "transfer_s")),
        *(percent(record["efficiency"][key]) for key in ("load_balance", "communication", "parallel")),
    ]


def _epochs(view: RunView, epochs: Downsampler[list[str]]) -> Iterator[str]:
    rows = epochs.kept()
    if not rows:
        yield "\nNo epoch yet.\n"
        return
    columns = [
        "Epoch",
        "Loss",
        "Validation loss",
        f"Validation {_metric_name(view)}",
        "Learning rate",
        "Elapsed s",
        "Compute s",
        "Wait s",
        "Transfer s",
        "Load balance",
        "Communication efficiency",
        "Parallel efficiency",
    ]
    thinned = f"One epoch in {epochs.stride}. " if epochs.stride > 1 else ""
    yield from _table("Epochs", columns, rows, f"{thinned}Compute, wait and transfer are means over the ranks.")


def _last_epoch(header: Record, record: Record) -> Iterator[str]:
    """Yield the tables by rank, and what the last epoch says of more ranks."""
    hosts = host_names(header)
    world = len(record["rows"])
    ranks = range(min(world, MOST_RANKS))
    note = f"The first {MOST_RANKS} of {world} ranks." if world > MOST_RANKS else ""
    seconds = ("compute_s", "wait_s", "transfer_s", "input_s", "sampling_s", "evaluation_s")
    columns = ["Rank", "Host", "Rows", "Loss", *(f"{key[:-2].capitalize()} s" for key in seconds), "Sent MB"]
    rows = [
        [
            str(rank),
            hosts.get(rank, "-"),
            str(record["rows"][rank]),
            number(record["loss_by_rank"][rank]),
            *(f"{record[key][rank]:.6f}" for key in seconds),
            f"{record['sent_bytes'][rank] / 1e6:.2f}",
        ]
        for rank in ranks
    ]
    yield from _table(f"Ranks in epoch {record['epoch']}", columns, rows, note)
    yield from _contribution(record, ranks, note)
    columns = ["", "Value"]
    rows = [
        ["Gradient diversity", number(record["diversity_all"])],
        ["Effective ranks", number(record["effective_ranks"])],
        ["Noise scale, rows", number(record["noise_scale"])],
        ["Bus bandwidth, MB/s", number(None if (rate := record["bus_bytes_per_s"]) is None else rate / 1e6)],
    ]
    yield from _table(f"Scaling in epoch {record['epoch']}", columns, rows)


def _contribution(record: Record, ranks: range, note: str) -> Iterator[str]:
    names = list(record["share"])[:MOST_PARAMETERS]
    left_out = len(record["share"]) - len(names)
    note = f"{note} The first {len(names)} parameters, {left_out} more in the log.".strip() if left_out else note
    columns = ["Rank", "Share", "Norm ratio", "Cosine", "Leave-one-out shift", *(f"Share of {name}" for name in names)]
    rows = [
        [
            str(rank),
            percent(record["share_all"][rank]),
            percent(record["norm_ratio_all"][rank]),
            number(record["cosine_all"][rank]),
            number(record["leave_one_out_all"][rank]),
            *(percent(record["share"][name][rank]) for name in names),
        ]
        for rank in ranks
    ]
    yield from _table(f"Contribution in epoch {record['epoch']}", columns, rows, note)


def _verdicts(verdicts: list[Record]) -> Iterator[str]:
    if not verdicts:
        yield "\n## Verdicts\n\nNone.\n"
        return
    columns = ["Severity", "Code", "Ranks", "Finding", "Remedy"]
    rows = [
        [v["severity"], v["code"], ", ".join(str(rank) for rank in v["ranks"]) or "-", v["text"], v["remedy"]]
        for v in verdicts
    ]
    yield from _table("Verdicts", columns, rows)
