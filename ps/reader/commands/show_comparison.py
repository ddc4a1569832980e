"""The log of ``python -m workers.compare`` as ``ps.log show`` prints it: modes side by side, then the packet sizes.

Its header has ``purpose: "comparison"`` and ``comparison {modes, trials, steps, dropped_steps, sizes, left_out}``;
there are no epochs. Records, in their order (types in ``ps/logfile/schema.py``):

- ``trial``, one a round and mode: ``round`` and ``place`` in it, from 1; ``mode``; ``steps`` that were timed and the
  slowest rank's ``seconds`` for them; ``step_s`` = seconds / steps; ``compute_s``, ``wait_s``, ``transfer_s`` and
  ``input_s`` a step, means over the ranks, ``reduce_s`` being part of compute; ``bus_bytes_per_s``; ``sent_bytes`` a
  step by rank; ``rank_peak_bytes``, ``node_bytes``; ``loss`` at the end, a mean over the last tenth of the steps;
  ``curve_s``, ``curve_loss``: that mean at up to 100 moments; ``parameter_difference``, the largest to the first
  mode's parameters, and ``parameter_scale``, the largest of those.
- ``sweep``, one a vector length ``n``: ``modes`` with the bytes and the seconds of a sum (median, low, high).
- ``comparison``, once: ``fastest``, ``modes`` (medians and intervals over the trials; ``outcome``: ``fastest``,
  ``slower`` or ``no difference shown``; ``ratio`` to the fastest; ``p`` of the test), ``sentences``, ``method``.
- ``fit``, once if there were sizes: by mode ``alpha_s``, ``beta_s_per_byte``, measured and predicted seconds by size
  (``points``), the seconds of this model's packet on more ranks (``predicted``), and in ``note`` what cannot be told.
"""

import time

from rich.console import Console
from rich.text import Text

from ps.logfile.reader import LogReader
from ps.logfile.records import Record
from ps.logfile.schema import Check
from ps.reader import console
from ps.reader.comparison_view import Contents
from ps.reader.run_view import RunView, death, verdict_lines
from ps.text.comparison_tables import Table, of_fit, of_modes, of_sizes
from ps.text.record_lines import model_name


def show_comparison(view: RunView) -> int:
    """Print a comparison, as far as it got; return the exit code. Raises LogError."""
    contents = Contents()
    for record in LogReader(view.path, Check()).records():
        contents.add(record)
    out, header = console.make(), view.header
    out.print(Text.assemble((str(view.folder), "bold"), f": comparison of modes, {view.state}"))
    for line in _facts(header):
        out.print(line)
    for line in verdict_lines(view):
        out.print(line)
    found = contents.result(header["config"]["dtype"])
    if found and not contents.comparison:
        out.print(f"No result was written; this is what the {len(contents.trials)} trials in the log say.")
    if found:
        _print(out, of_modes(found, header.get("comparison", {}).get("steps", 0)))
        for line in found["sentences"]:
            out.print(line)
    _print(out, of_sizes(contents.sweeps))
    if contents.fit:
        _print(out, of_fit(contents.fit))
        out.print(contents.fit["warning"])
    for line in _ending(view):
        out.print(line)
    return 0


def _print(out: Console, tables: list[Table]) -> None:
    for one in tables:
        out.print()
        out.print(console.table(one.title, one.columns, one.rows))


def _facts(header: Record) -> list[str]:
    config, model = header["config"], header["model"]
    asked = header.get("comparison", {"trials": 0, "dropped_steps": 0, "left_out": []})
    hosts = ", ".join(node["host"] for node in header["nodes"])
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header["t"]))
    return [
        f"Started {started}, {header['world']} ranks on {len(header['nodes'])} node(s): {hosts}",
        f"Model {model_name(header)}, {model['n_parameters']:,} parameters, "
        f"{config['optimizer']}, {config['dtype']}; data {header['data']['name']}, batch "
        f"{config['batch_size'] or 'all rows'}",
        f"{asked['trials']} trials of each mode were asked for; the first {asked['dropped_steps']} steps of each are "
        "not timed",
        *(f"Left out: {left['mode']}: {left['reason']}" for left in asked["left_out"]),
    ]


def _ending(view: RunView) -> list[str]:
    lines = [f"Event {event['what']}: {event.get('message', '')}" for event in view.events]
    if view.end:
        lines.append(f"End: {view.end['status']} after {view.end['wall_s']:.2f} s")
    elif view.state == "died":
        lines.append(death(view))
    if view.torn:
        lines.append(f"The last {view.torn} bytes, from byte {view.offset} on, are a record that was not finished.")
    return lines
