"""What the report says in words and tables: findings, how the run went, how it was set up."""

import time
from dataclasses import dataclass
from typing import Any

from ps.logfile.records import Record
from ps.reader.events import event_line
from ps.reader.history import COLUMNS, job_rows, jobs_title
from ps.reader.report.data import RunData
from ps.reader.report.figures import Section, Table, clip
from ps.reader.run_view import death, end_line
from ps.text.numbers import number
from ps.text.record_lines import mode_name, model_name, named_metric

MOST_TEXT = 2000
MOST_FINDINGS = 50
MOST_HOSTS = 16
SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict as the page shows it. ``severity``: one of ``SEVERITIES``."""

    severity: str
    about: str
    text: str
    remedy: str
    evidence: list[tuple[str, str]]


def findings(data: RunData) -> list[Finding]:
    """Return the verdicts, the gravest first; of very many, the first."""
    found = [_finding(record) for record in data.view.verdicts]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))[:MOST_FINDINGS]


def _finding(record: Record) -> Finding:
    severity = record["severity"] if record["severity"] in SEVERITIES else "info"
    ranks = ", ".join(str(rank) for rank in record["ranks"][:MOST_HOSTS])
    more = f" and {len(record['ranks']) - MOST_HOSTS} more" if len(record["ranks"]) > MOST_HOSTS else ""
    evidence = [(clip(key), words(value)) for key, value in record["evidence"].items()]
    about = f"{clip(record['code'])}, rank {ranks}{more}" if ranks else clip(record["code"])
    return Finding(severity, about, _sentence(record["text"]), _sentence(record["remedy"]), evidence)


def no_verdict(data: RunData) -> str:
    """Say that there is no finding, and what that means."""
    if data.n_epochs or data.measured.comparison:
        return "No verdict: none of the checks found anything to report."
    return "No verdict yet: there was too little to look at."


def _sentence(text: str) -> str:
    text = clip(text.strip(), MOST_TEXT)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def words(value: Any) -> str:
    """Return any value of a log as a short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return clip(", ".join(words(entry) for entry in value[:MOST_TEXT]), MOST_TEXT) or "none"
    if isinstance(value, dict):
        return clip("; ".join(f"{clip(key)}: {words(entry)}" for key, entry in value.items()), MOST_TEXT) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else clip(value, MOST_TEXT) or '""'


def state(data: RunData) -> list[str]:
    """Return how far the run got, in sentences."""
    view = data.view
    if not view.header:
        return ["The log is empty: the job has not begun to train, or died before."]
    compared = view.header.get("purpose") == "comparison"
    lines = [f"State: {view.state}."]
    if view.end:
        lines.append(
            f"End: {view.end['status']} after {view.end['wall_s']:.2f} s." if compared else f"{end_line(view.end)}."
        )
    elif view.state == "died":
        lines.append(clip(death(view), MOST_TEXT))
    else:
        lines.append("The log has no end: the job still runs, or was killed.")
    lines += [clip(f"Error: {e.get('message', '')}", MOST_TEXT) for e in view.events[-20:] if e["what"] == "error"]
    if view.torn:
        lines.append(
            f"The last {view.torn} bytes of the log, from byte {view.offset} on, are a record that was not finished: "
            "the job was killed while writing, or writes it now. All records before it are whole."
        )
    if not data.n_epochs and not data.measured.trials:
        lines.append("Nothing was trained yet: the log has no epoch.")
    return lines


def facts(data: RunData) -> Table:
    """Return the run at one look."""
    header, view = data.header, data.view
    rows, model = header["data"]["rows"], header["model"]
    hosts = [clip(f"{node['host']} ({len(node['ranks'])})") for node in header["nodes"][:MOST_HOSTS]]
    more = f" and {len(header['nodes']) - MOST_HOSTS} more" if len(header["nodes"]) > MOST_HOSTS else ""
    table = {
        "Started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header["t"])),
        "State": clip(view.state),
        "Mode": clip(mode_name(header)),
        "Ranks": view.ranks,
        "Hosts (ranks)": ", ".join(hosts) + more,
        "Data": f"{clip(header['data']['name'])}: {rows['train']:,} rows train, {rows['validation']:,} validation, "
        f"{rows['test']:,} test; {header['data']['features']:,} features",
        "Model": f"{clip(model_name(header))}, {model['n_parameters']:,} parameters, {clip(model['loss'])}",
    }
    if header.get("purpose") != "comparison":
        table["Epochs"] = f"{data.n_epochs:,} of {header['config']['epochs']:,}"
    if data.n_epochs:
        table["Loss of the last epoch"] = number(view.last["loss"], 6)
        if view.last["validation_metric"] is not None:
            table["Its validation"] = named_metric(view.metric, view.last["validation_metric"])
    if view.end.get("test_loss") is not None:
        table["Test"] = f"loss {number(view.end['test_loss'])}, "
        table["Test"] += named_metric(view.metric, view.end.get("test_metric"))
    return _pairs("The run at one look", table)


def history(data: RunData) -> Section:
    """Return the jobs that the run was trained by, and what else happened to it."""
    view = data.view
    rows = [[clip(cell) for cell in row] for row in job_rows(view)]
    section = Section("History", lead=Table(jobs_title(view), COLUMNS, rows, numbers=False))
    section.notes += [clip(line, MOST_TEXT) for line in data.rows.lines()]
    if view.events:
        lines = [
            [clip(time.strftime("%H:%M:%S", time.localtime(e["t"]))), clip(event_line(e), MOST_TEXT)]
            for e in view.events
        ]
        section.tables.append(Table("Events", ["at", "event"], lines, numbers=False))
    return section


def _pairs(caption: str, values: dict[str, str]) -> Table:
    return Table(caption, ["", "value"], [[key, value] for key, value in values.items()], numbers=False)


def set_up(data: RunData) -> Section:
    """Return configuration and environment."""
    header = data.header
    environment = {
        "system": header["system"],
        **{f"version of {name}": version for name, version in header["versions"].items()},
        **{f"MPI {name}": value for name, value in header["mpi"].items()},
        **{f"BLAS {name}": value for name, value in (header["blas"] or {}).items()},
        "threads": header["threads"],
        "cores by rank": header["cores"][:MOST_HOSTS] if header["world"] <= MOST_HOSTS else "in the log",
        "steps an epoch": header["steps_per_epoch"],
        "bytes summed in a step": header["packet_bytes"],
        "sync": header["sync"],
        "timing": header["timing"],
        "contribution": header["contribution"],
        "data SHA-256": header["data"]["sha256"],
    }
    tables = [
        _pairs(title, {clip(key): words(value) for key, value in values.items()})
        for title, values in (("Configuration", header["config"]), ("Environment", environment))
    ]
    return Section("Configuration and environment", tables=tables)
