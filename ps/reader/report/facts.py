"""What the report says in texts and tables: how the run went, and how it was set up."""

from typing import Any

from common.config import OPTIONS
from common.limits import PAGE_TEXT, TABLE_RANKS
from common.ranges import node_ranges
from common.wording import count
from ps.logfile.records import Record
from ps.reader.history import event_line, jobs_table
from ps.reader.report.charts import PageTable, Section, clip
from ps.reader.report.data import RunData
from ps.reader.report.findings import plain
from ps.reader.run_view import ending, torn_lines
from ps.text.formatting import date_time, mode_name, model_name, named_metric, number


def _pairs(caption: str, values: dict[str, str]) -> PageTable:
    """Return a table of names and texts."""
    return PageTable(caption, ["", "value"], [[key, value] for key, value in values.items()], numbers=False)


def state(data: RunData) -> list[str]:
    """Return how far the run got, in sentences; why it died is among the findings."""
    view = data.view
    if not view.header:
        return ["The log is empty: the job has not begun to train, or died before."]
    lines = [f"State: {view.state}."]
    if view.end:
        lines.append(clip(ending(view), PAGE_TEXT) + ".")
    elif view.state != "died":
        lines.append("The log has no end: the job still runs, or was killed.")
    lines += torn_lines(view)
    if not data.n_epochs and not data.measured.trials:
        lines.append("Nothing was trained yet: the log has no epoch.")
    return lines


def headline(data: RunData) -> str:
    """Return in one line what was trained, on what and by whom."""
    header, ranks = data.header, data.view.ranks
    hosts = len({node["host"] for node in header["nodes"]})
    where = f" on {hosts} hosts" if hosts > 1 else f" on {clip(header['nodes'][0]['host'])}" if hosts else ""
    model = f"{clip(model_name(header))} with {count(header['model']['n_parameters'], 'parameter')}"
    return (
        f"{clip(mode_name(header))}, {ranks} rank{'s' * (ranks != '1')}{where}; {clip(header['data']['name'])}, "
        f"{count(header['data']['rows']['train'], 'training row')}; {model}."
    )


def summary(data: RunData) -> PageTable:
    """Return the run at one look."""
    header, view = data.header, data.view
    rows, model = header["data"]["rows"], header["model"]
    table = {
        "Started": date_time(header["t"]),
        "State": clip(view.state),
        "Mode": clip(mode_name(header)),
        "Ranks": view.ranks,
        "Hosts (ranks)": _hosts(header["nodes"]),
        "Data": f"{clip(header['data']['name'])}: {rows['train']:,} rows train, {rows['validation']:,} validation, "
        f"{rows['test']:,} test; {header['data']['features']:,} features",
        "Model": f"{clip(model_name(header))}, {count(model['n_parameters'], 'parameter')}, {clip(model['loss'])}",
    }
    if not view.is_comparison:
        table["Epochs"] = f"{data.n_epochs:,} of {header['config']['epochs']:,}"
    if data.n_epochs:
        table["Loss of the last epoch"] = number(view.last["loss"], 6)
        if view.last["validation_metric"] is not None:
            table["Its validation"] = named_metric(view.metric, view.last["validation_metric"])
    if view.end.get("test_loss") is not None:
        tested = named_metric(view.metric, view.end.get("test_metric"))
        table["Test"] = f"loss {number(view.end['test_loss'])}, {tested}"
    return _pairs("The run at one look", table)


def _hosts(nodes: list[Record]) -> str:
    """Return the nodes with how many ranks each has; of many nodes their names as ranges."""
    if len(nodes) <= TABLE_RANKS:
        return ", ".join(clip(f"{node['host']} ({len(node['ranks'])})") for node in nodes)
    sizes = sorted({len(node["ranks"]) for node in nodes})
    each = " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))
    return f"{clip(node_ranges(node['host'] for node in nodes), PAGE_TEXT)} ({each} each)"


def history(data: RunData) -> Section:
    """Return the jobs that the run was trained by, and what else happened to it."""
    title, columns, rows, *_ = jobs_table(data.view)
    jobs = PageTable(title, columns, [[clip(cell) for cell in row] for row in rows], numbers=False)
    notes = [clip(line, PAGE_TEXT) for line in data.rows.lines()]
    events = [[date_time(e["t"]).split()[1], clip(event_line(e), PAGE_TEXT)] for e in data.view.events]
    tables = [PageTable("Events", ["at", "event"], events, numbers=False)] if events else []
    return Section("History", notes, tables=[summary(data), jobs, *tables])


def set_up(data: RunData) -> Section:
    """Return configuration and environment, folded; what differs from the defaults is said and marked."""
    header = data.header
    environment = {
        "system": header["system"],
        **{f"version of {name}": version for name, version in header["versions"].items()},
        **{f"MPI {name}": value for name, value in header["mpi"].items()},
        **{f"BLAS {name}": value for name, value in (header["blas"] or {}).items()},
        "threads": header["threads"],
        "cores by rank": header["cores"] if header["world"] <= TABLE_RANKS else "in the log",
        "steps an epoch": header["steps_per_epoch"],
        "bytes summed in a step": header["packet_bytes"],
        **{name: header[name] for name in ("sync", "timing", "contribution")},
        "data SHA-256": header["data"]["sha256"],
    }
    changed = {name: value for name, value in header["config"].items() if _differs(name, value)}
    listed = [f"{clip(name)} {plain(value)} (default {plain(_default(name))})" for name, value in changed.items()]
    notes = [f"Options that differ from the defaults: {'; '.join(listed) or 'none'}."]
    notes += [clip(note, PAGE_TEXT) for note in header["data"].get("notes", ())]
    rest = {name: value for name, value in header["config"].items() if name not in changed}
    rows = [[clip(name), plain(value), plain(_default(name))] for name, value in changed.items()]
    rows += [[clip(name), plain(value), "same" if name in OPTIONS else "unknown"] for name, value in rest.items()]
    options = PageTable("Configuration", ["option", "value", "default"], rows, numbers=False, marked=len(changed))
    facts = _pairs("Environment", {clip(key): plain(value) for key, value in environment.items()})
    return Section("Configuration and environment", notes, tables=[options, facts])


def _default(name: str) -> Any:
    """Return an option's default as a log holds it."""
    default = OPTIONS[name].default
    return list(default) if isinstance(default, tuple) else default


def _differs(name: str, value: Any) -> bool:
    return name in OPTIONS and value != _default(name)
