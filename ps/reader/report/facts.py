"""What the report says in texts and tables: findings, how the run went, how it was set up."""

from typing import Any

from common.limits import PAGE_FINDINGS, PAGE_TEXT, TABLE_RANKS
from ps.logfile.records import Record
from ps.reader.history import event_line, jobs_table
from ps.reader.report.charts import PageTable, Section, clip
from ps.reader.report.data import RunData
from ps.reader.run_view import check_lines, ending, torn_lines
from ps.text.formatting import date_time, mode_name, model_name, named_metric, number

SEVERITIES = ("error", "warning", "info")


def findings(data: RunData) -> list[dict[str, Any]]:
    """Return the verdicts as the page shows them, the most severe first, and of very many only the first."""
    found = [_finding(record) for record in data.view.verdicts]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))[:PAGE_FINDINGS]


def nothing_found(data: RunData) -> str:
    """Return what stands in place of findings where there are none."""
    if not (data.n_epochs or data.measured.comparison):
        return "No verdict yet: there was too little to look at."
    if data.view.is_comparison or data.view.end.get("not_judged") == {}:
        return "No verdict: none of the checks found anything to report."
    return "No verdict so far." if not data.view.end else "No verdict."


def not_judged(data: RunData) -> str:
    """Return which checks could not judge, and why; nothing if all could, or the log does not say."""
    return " ".join(check_lines(data.view)) if data.view.end.get("not_judged") else ""


def _finding(record: Record) -> dict[str, Any]:
    ranks = _first(record["ranks"])
    return {
        "severity": record["severity"] if record["severity"] in SEVERITIES else "info",
        "about": f"{clip(record['code'])}, rank {ranks}" if ranks else clip(record["code"]),
        "text": _sentence(record["text"]),
        "remedy": _sentence(record["remedy"]),
        "evidence": [(clip(key), _plain(value)) for key, value in record["evidence"].items()],
    }


def _first(items: list[Any]) -> str:
    """Return the first of some items as a text, and how many more there are."""
    more = len(items) - TABLE_RANKS
    return ", ".join(map(str, items[:TABLE_RANKS])) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    text = clip(text.strip(), PAGE_TEXT)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def _pairs(caption: str, values: dict[str, str]) -> PageTable:
    """Return a table of names and texts."""
    return PageTable(caption, ["", "value"], [[key, value] for key, value in values.items()], numbers=False)


def _plain(value: Any) -> str:
    """Return any value of a log as a short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = ", ".join(_plain(entry) for entry in value[:PAGE_TEXT]) or "none"
    elif isinstance(value, dict):
        value = "; ".join(f"{clip(key)}: {_plain(entry)}" for key, entry in value.items()) or "none"
    return "none" if value is None else clip(value, PAGE_TEXT) or '""'


def state(data: RunData) -> list[str]:
    """Return how far the run got, in sentences."""
    view = data.view
    if not view.header:
        return ["The log is empty: the job has not begun to train, or died before."]
    lines = [f"State: {view.state}."]
    ended = clip(ending(view), PAGE_TEXT) + "." * bool(view.end)
    lines.append(ended or "The log has no end: the job still runs, or was killed.")
    lines += [clip(f"Error: {e.get('message', '')}", PAGE_TEXT) for e in view.events[-20:] if e["what"] == "error"]
    lines += torn_lines(view)
    if not data.n_epochs and not data.measured.trials:
        lines.append("Nothing was trained yet: the log has no epoch.")
    return lines


def summary(data: RunData) -> PageTable:
    """Return the run at one look."""
    header, view = data.header, data.view
    rows, model = header["data"]["rows"], header["model"]
    table = {
        "Started": date_time(header["t"]),
        "State": clip(view.state),
        "Mode": clip(mode_name(header)),
        "Ranks": view.ranks,
        "Hosts (ranks)": _first([clip(f"{node['host']} ({len(node['ranks'])})") for node in header["nodes"]]),
        "Data": f"{clip(header['data']['name'])}: {rows['train']:,} rows train, {rows['validation']:,} validation, "
        f"{rows['test']:,} test; {header['data']['features']:,} features",
        "Model": f"{clip(model_name(header))}, {model['n_parameters']:,} parameters, {clip(model['loss'])}",
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


def history(data: RunData) -> Section:
    """Return the jobs that the run was trained by, and what else happened to it."""
    title, columns, rows, *_ = jobs_table(data.view)
    jobs = PageTable(title, columns, [[clip(cell) for cell in row] for row in rows], numbers=False)
    notes = [clip(line, PAGE_TEXT) for line in data.rows.lines()]
    events = [[date_time(e["t"]).split()[1], clip(event_line(e), PAGE_TEXT)] for e in data.view.events]
    tables = [PageTable("Events", ["at", "event"], events, numbers=False)] if events else []
    return Section("History", notes, jobs, tables=tables)


def set_up(data: RunData) -> Section:
    """Return configuration and environment."""
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
    tables = [
        _pairs(title, {clip(key): _plain(value) for key, value in values.items()})
        for title, values in (("Configuration", header["config"]), ("Environment", environment))
    ]
    return Section("Configuration and environment", tables=tables)
