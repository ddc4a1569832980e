"""The log of ``python -m workers.compare`` as ``ps.log show`` prints it: modes side by side, then the packet sizes.

What such a log holds is in docs/log-format.md.
"""

from rich.console import Console
from rich.text import Text

from ps.logfile.records import Record
from ps.reader import console
from ps.reader.comparison_view import ComparisonView
from ps.reader.run_view import RunView, ending, torn_lines, verdict_lines
from ps.text.formatting import date_time, model_name
from ps.text.tables import Table, of_fit, of_modes, of_sizes


def print_comparison(out: Console, view: RunView, measured: ComparisonView) -> None:
    """Print a comparison, as far as it got."""
    header = view.header
    out.print(Text.assemble((str(view.folder), "bold"), f": comparison of modes, {view.state}"))
    for line in (*_facts(header), *verdict_lines(view)):
        out.print(line)
    found = measured.result(header["config"]["dtype"])
    if found and not measured.comparison:
        out.print(f"No result was written; this is what the {len(measured.trials)} trials in the log say.")
    if found:
        _print(out, of_modes(found, header.get("comparison", {}).get("steps", 0)))
        for line in found["sentences"]:
            out.print(line)
    _print(out, of_sizes(measured.sweeps))
    if measured.fit:
        _print(out, of_fit(measured.fit))
        out.print(measured.fit["warning"])
    events = [f"Event {event['what']}: {event.get('message', '')}" for event in view.events]
    for line in filter(None, (*events, ending(view), *torn_lines(view))):
        out.print(line)


def _print(out: Console, tables: list[Table]) -> None:
    for one in tables:
        out.print()
        out.print(console.table(*one))


def _facts(header: Record) -> list[str]:
    config, model = header["config"], header["model"]
    asked = header.get("comparison", {"trials": 0, "dropped_steps": 0, "left_out": []})
    hosts = ", ".join(node["host"] for node in header["nodes"])
    return [
        f"Started {date_time(header['t'])}, {header['world']} ranks on {len(header['nodes'])} node(s): {hosts}",
        f"Model {model_name(header)}, {model['n_parameters']:,} parameters, {config['optimizer']}, {config['dtype']}; "
        f"data {header['data']['name']}, batch {config['batch_size'] or 'all rows'}",
        f"{asked['trials']} trials of each mode were asked for; the first {asked['dropped_steps']} steps of each are "
        "not timed",
        *(f"Left out: {left['mode']}: {left['reason']}" for left in asked["left_out"]),
    ]
