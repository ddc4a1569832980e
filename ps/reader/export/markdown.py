"""A run as Markdown tables, to be pasted into a report."""

import re
from collections.abc import Iterator

from common.limits import DRAWN_RANKS, TABLE_PARAMETERS, TABLE_RANKS, TABLE_ROWS
from common.ranges import listed_ranks, node_ranges
from common.wording import count, printable
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.header import host_names
from ps.logfile.records import Record
from ps.reader.downsample import Downsampler
from ps.reader.history import jobs_table
from ps.reader.many_ranks import MORE, host_table, ranks_of_hosts, spread_table
from ps.reader.run_view import RunView, check_lines, ending, extremes, mean
from ps.text import loose
from ps.text.contributions import ends, sampled
from ps.text.formatting import date_time, metric, mode_name, model_name, number, percent
from ps.text.layout import LONGEST_CELL, Table

FIGURE = re.compile(r"-|-?\d[\d.,e+-]*( %)?")
SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&#]")

Row = dict[str, str]
"""A row of a table: its cells by column title."""


def markdown_lines(reader: DeduplicatedReader, *, all_ranks: bool = False) -> Iterator[str]:
    """Yield headings and GitHub-flavoured tables once the whole log is read. Raises LogError.

    ``all_ranks``: a line for each rank, also where there are more than 64.
    """
    view, epochs = RunView(reader.path), Downsampler[Row](TABLE_ROWS)
    for record in reader.records():
        view.add(record)
        if record["kind"] == "epoch":
            epochs.add(_epoch_row(view.metric, record))
    view.close(reader)
    yield f"# Run {escape(view.folder.resolve().name)}: {escape(view.state)}\n"
    if not view.header:
        yield "\nNo record yet.\n"
        return
    yield from _pairs("Facts", _facts(view))
    if len(view.sessions) > 1:
        yield from _as_it_is(jobs_table(view))
    if epochs.count:
        stride = f"One epoch in {epochs.stride}. " if epochs.stride > 1 else ""
        yield from _table("Epochs", epochs.kept(), f"{stride}Compute, wait and transfer are means over the ranks.")
    else:
        yield "\nNo epoch yet.\n"
    if view.last:
        yield from _last_epoch(view.header_at(view.last), view.last, every=all_ranks)
    verdicts = [
        {
            "Severity": verdict["severity"],
            "Code": verdict["code"],
            "Ranks": listed_ranks(verdict["ranks"]) or "-",
            "Finding": verdict["text"],
            "Remedy": verdict["remedy"],
        }
        for verdict in view.verdicts
    ]
    if verdicts:
        yield from _table("Verdicts", verdicts)
    else:
        yield "\n## Verdicts\n\nNone.\n"
    for line in check_lines(view) if view.end.get("not_judged") else ():
        yield f"\n{escape(line)}\n"


def escape(text: str) -> str:
    r"""Return a text on one line that Markdown shows as it is: ``a|b`` gives ``a\|b``."""
    return SPECIAL.sub(r"\\\g<0>", printable(" ".join(text.split()), LONGEST_CELL))


def _table(title: str, rows: list[Row], note: str = "") -> Iterator[str]:
    """Yield a heading and a table, padded to read well as plain text too; figures are aligned to the right."""
    yield f"\n## {title}\n\n"
    if note:
        yield f"{note}\n\n"
    columns = []
    for name in rows[0]:
        right = all(FIGURE.fullmatch(row[name]) for row in rows)
        cells = [escape(name), *(escape(row[name]) for row in rows)]
        width = max(3, *map(len, cells))
        cells.insert(1, "-" * (width - 1) + (":" if right else "-"))
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        yield f"| {' | '.join(line)} |\n"


def _pairs(title: str, values: dict[str, str]) -> Iterator[str]:
    return _table(title, [{"": name, "Value": value} for name, value in values.items()])


def _facts(view: RunView) -> dict[str, str]:
    header, config, data, model = view.header, view.header["config"], view.header["data"], view.header["model"]
    rows, versions, blas = data["rows"], header["versions"], header["blas"] or {}
    facts = {
        "Started": date_time(header["t"]),
        "Mode": mode_name(header),
        "Ranks": f"{view.ranks} on {count(len(header['nodes']), 'node')}" + _hosts(header),
        "Data": f"{data['name']}, {data['features']} features",
        "Rows": f"{rows['train']:,} train, {rows['validation']:,} validation, {rows['test']:,} test",
        "Model": f"{model_name(header)}, {model['n_parameters']:,} parameters",
        "Loss": model["loss"],
        "Optimizer": f"{config['optimizer']}, batch {config['batch_size'] or 'all rows'}, {config['dtype']}",
        "Steps an epoch": str(header["steps_per_epoch"]),
        "MPI": header["mpi"]["vendor"],
        "BLAS": f"{blas.get('internal_api')} {blas.get('version')}",
        "Versions": ", ".join(f"{name} {versions[name]}" for name in ("rankwise", "python", "numpy", "mpi4py")),
    }
    facts["Ended"] = ending(view).removeprefix("End: ") or view.state
    if view.end.get("test_loss") is not None:
        tested = metric(view.metric, view.end.get("test_metric"))
        facts["Test"] = f"loss {number(view.end['test_loss'])}, {_label(view.metric)} {tested}"
    return facts


def _hosts(header: Record) -> str:
    """Return the hosts of many ranks, since their table does not name each."""
    return f": {node_ranges(ranks_of_hosts(header))}" if header["world"] > DRAWN_RANKS else ""


def _label(metric_name: str) -> str:
    return "accuracy" if metric_name == "accuracy" else "R2"


def _epoch_row(metric_name: str, record: Record) -> Row:
    return {
        "Epoch": str(record["epoch"]),
        "Loss": number(record["loss"]),
        "Validation loss": number(record["validation_loss"]),
        f"Validation {_label(metric_name)}": metric(metric_name, record["validation_metric"]),
        "Learning rate": number(record["learning_rate"], 3),
        "Elapsed s": f"{record['elapsed_s']:.3f}",
        **{f"{key.capitalize()} s": f"{mean(record[f'{key}_s']):.6f}" for key in ("compute", "wait", "transfer")},
        "Load balance": percent(record["efficiency"]["load_balance"]),
        "Communication efficiency": percent(record["efficiency"]["communication"]),
        "Parallel efficiency": percent(record["efficiency"]["parallel"]),
    }


def _as_it_is(table: Table) -> Iterator[str]:
    """Yield a table that commands print; columns of one name get a number."""
    names = [
        f"{name} ({n})" if (n := table.columns[: i + 1].count(name)) > 1 else name
        for i, name in enumerate(table.columns)
    ]
    return _table(table.title, [dict(zip(names, line, strict=True)) for line in table.rows])


def _last_epoch(header: Record, record: Record, *, every: bool) -> Iterator[str]:
    """Yield the tables by rank, of many ranks of those that stand out, and what the epoch says of more ranks."""
    world, names, hosts = len(record["rows"]), list(record["share"])[:TABLE_PARAMETERS], host_names(header)
    many = world > DRAWN_RANKS and not every
    ranks = extremes(record, TABLE_RANKS if many else world)
    note = ""
    if many:
        note = f"{len(ranks)} of {world:,} ranks: most and least compute, wait and contribution; {MORE}."
        yield from _as_it_is(spread_table(record))
        if len(header["nodes"]) > 1:
            yield from _as_it_is(host_table(header, record))
    seconds = ("compute", "wait", "transfer", "input", "sampling", "evaluation")
    rows = [
        {
            "Rank": str(rank),
            "Host": hosts.get(rank, "-"),
            "Rows": str(record["rows"][rank]),
            "Loss": number(record["loss_by_rank"][rank]),
            **{f"{key.capitalize()} s": f"{record[f'{key}_s'][rank]:.6f}" for key in seconds},
            "Sent MB": f"{record['sent_bytes'][rank] / 1e6:.2f}",
        }
        for rank in ranks
    ]
    yield from _table(f"Ranks in epoch {record['epoch']}", rows, note)
    left_out = len(record["share"]) - len(names)
    more = f"The first {len(names)} parameters, {left_out} more in the log." if left_out else ""
    sample = f"{sampled(record).capitalize()}."
    certain = {"share": "95 % interval", "chance": "By chance"} if "share_low" in record else {}
    rows = [
        {
            "Rank": str(rank),
            "Share": percent(record["share_all"][rank]),
            **{title: ends(record, key, rank) for key, title in certain.items()},
            "Norm ratio": percent(record["norm_ratio_all"][rank]),
            "Cosine": number(record["cosine_all"][rank]),
            "Leave-one-out shift": number(record["leave_one_out_all"][rank]),
            **{f"Share of {name}": percent(record["share"][name][rank]) for name in names},
        }
        for rank in ranks
    ]
    if record["sampled_steps"]:
        yield from _table(f"Contribution in epoch {record['epoch']}", rows, f"{sample} {note} {more}".strip())
    if columns := loose.columns(record):
        rows = [{"Rank": str(rank)} | {title: own[rank] for title, own in columns.items()} for rank in ranks]
        yield from _table(f"{loose.TITLE} in epoch {record['epoch']}", rows, note)
    bandwidth = record["bus_bytes_per_s"]
    scaling = {
        "Gradient diversity": number(record["diversity_all"]),
        "Effective ranks": number(record["effective_ranks"]),
        "Noise scale, rows": number(record["noise_scale"]),
        "Bus bandwidth, MB/s": number(None if bandwidth is None else bandwidth / 1e6),
    }
    yield from _pairs(f"Scaling in epoch {record['epoch']}", scaling)
