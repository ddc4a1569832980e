"""The log of ``python -m workers.compare`` as ``ps.log show`` prints it: modes side by side, then the packet sizes.

What such a log holds is in docs/log-format.md.
"""

from common.wording import count
from ps.logfile.records import Record
from ps.reader.comparison_view import ComparisonView, until_loss
from ps.reader.console import Paper
from ps.reader.run_view import RunView, ending, torn_lines, verdict_lines
from ps.text.formatting import date_time, model_name, number
from ps.text.layout import Table
from ps.text.run_facts import data_line, where
from ps.text.tables import of_fit, of_losses, of_modes, of_sizes


def print_comparison(out: Paper, view: RunView, measured: ComparisonView) -> None:
    """Print a comparison, as far as it got."""
    header = view.header
    out.print(f": comparison of modes, {view.state}", head=str(view.folder))
    for line in (*_facts(header), *verdict_lines(view)):
        out.print(line)
    found = measured.result(header)
    if found and not measured.comparison:
        out.print(f"No result was written; this is what {count(len(measured.trials), 'trial')} in the log say.")
    if found:
        steps = header.get("comparison", {}).get("steps", 0)
        _print(out, of_losses(found) if until_loss(header) else of_modes(found, steps))
        for line in found["sentences"]:
            out.print(line)
    _print(out, of_sizes(measured.sweeps))
    if measured.fit:
        _print(out, of_fit(measured.fit, found))
        out.print(measured.fit["warning"])
    events = [f"Event {event['what']}: {event.get('message') or event.get('faults', '')}" for event in view.events]
    for line in filter(None, (*events, ending(view), *torn_lines(view))):
        out.print(line)


def _print(out: Paper, tables: list[Table]) -> None:
    for one in tables:
        out.table(one)


def _facts(header: Record) -> list[str]:
    config, model = header["config"], header["model"]
    asked = header.get("comparison", {"trials": 0, "dropped_steps": 0, "left_out": []})
    batch = f"batch {config['batch_size']:,}" if config["batch_size"] else "all rows in a batch"
    goal = until_loss(header)
    trained = (
        f", each until the validation loss is {number(goal)}, for at most {count(config['epochs'], 'epoch')}"
        if goal
        else f"; the first {count(asked['dropped_steps'], 'step')} of each not timed"
    )
    return [
        f"Started {date_time(header['t'])}, {where(header)}",
        data_line(header["data"]),
        f"Model {model_name(header)}: {count(model['n_parameters'], 'parameter')}, {config['optimizer']}, {batch}, "
        f"{config['dtype']}",
        f"{count(asked['trials'], 'trial')} of each mode asked for{trained}",
        *(f"Left out: {left['mode']}: {left['reason']}" for left in asked["left_out"]),
    ]
