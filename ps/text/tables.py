"""Tables of a comparison, and tables as plain text: for rank 0, which needs no library for them, and for readers."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ps.logfile.records import Record
from ps.text.formatting import megabytes, microseconds, milliseconds, number, percent, span


class Table(NamedTuple):
    """Texts of a table; the first column goes to the left."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def table(columns: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return a table as lines of text, the first column to the left, the others to the right."""
    lines = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in lines
    ]


def of_modes(found: Record, steps: int) -> list[Table]:
    """Return the tables of a ``comparison`` record whose trials timed so many steps."""
    modes = found["modes"]
    title = (
        f"Modes, least median first: {found['trials']} trials of {steps} steps, modes in turn; "
        f"median and its {100 * found['confidence']:.0f} % interval by order statistics"
    )
    goal = f"s to loss {found['loss']:.4g}"
    timed = [
        [m["mode"], *_median_and_span(m["step_s"]), f"{m['ratio']:.3f}", "-" if m["p"] is None else number(m["p"], 2),
         m["outcome"], *_median_and_span(m["time_to_loss_s"], 1)]
        for m in modes
    ]  # fmt: skip
    names = ("input", "compute", "wait", "transfer")
    phases = [
        [m["mode"], *(text for name in names for text in _median_and_span(m[f"{name}_s"])),
         milliseconds(m["reduce_s"]["median"])]
        for m in modes
    ]  # fmt: skip
    moved = [
        [m["mode"], "-" if m["bus_bytes_per_s"] is None else number(m["bus_bytes_per_s"]["median"] / 1e9, 3),
         *(megabytes(m[key]) for key in ("sent_bytes_most", "sent_bytes_all", "rank_peak_bytes", "node_bytes")),
         number(m["loss"], 6), number(m["parameter_difference"], 2)]
        for m in modes
    ]  # fmt: skip
    return [
        Table(title, ["mode", "ms a step", "interval", "ratio", "p", "outcome", goal, "interval"], timed),
        Table(
            "Parts of a step in ms, means of the ranks; summing: the part of compute that sums and updates slices",
            ["mode", *(text for name in names for text in (name, "interval")), "summing"],
            phases,
        ),
        Table(
            "Traffic a step, memory, and where training ended; difference: to the first mode's parameters, relative",
            ["mode", "bus GB/s", "MB sent, rank", "all", "peak MB, rank", "MB, node", "loss", "difference"],
            moved,
        ),
    ]


def of_sizes(sweeps: Sequence[Record]) -> list[Table]:
    """Return the table of ``sweep`` records: sums of vectors, from the last rank's arrival to the slowest's end."""
    if not sweeps:
        return []
    names = [m["mode"] for m in sweeps[0]["modes"]]
    rows = []
    for sweep in sweeps:
        times = {
            m["mode"]: f"{microseconds(m['median_s'])} ({microseconds(m['low_s'])} to {microseconds(m['high_s'])})"
            for m in sweep["modes"]
        }
        rows.append([f"{sweep['n']:,}", *(times.get(name, "-") for name in names)])
    rounds = sweeps[0]["rounds"]
    title = f"Sums of vectors without a model, microseconds: medians of {rounds} rounds and their intervals"
    return [Table(title, ["numbers", *names], rows)]


def of_fit(found: Record) -> list[Table]:
    """Return the tables of a ``fit`` record: what was fitted, and predictions, of what was measured and beyond."""
    modes = found["modes"]
    fitted = [
        [m["mode"], m["formula"], "-" if m["alpha_s"] is None else microseconds(m["alpha_s"]),
         "-" if m["beta_s_per_byte"] is None else number(1e9 * m["beta_s_per_byte"], 3), percent(m["largest_error"]),
         m["note"]]
        for m in modes
    ]  # fmt: skip
    tables = [
        Table(
            "Latency a and time per byte b of packets of m bytes, fitted by least squares of relative errors",
            ["mode", "time on P ranks, L a node on K nodes", "a, us", "b, ns a byte", "worst error", "note"],
            fitted,
        )
    ]
    points = [
        [m["mode"], f"{p['bytes']:,}", microseconds(p["measured_s"]), microseconds(p["predicted_s"]),
         f"{100 * p['error']:+.0f} %"]
        for m in modes for p in m["points"] if None not in (p["predicted_s"], p["error"])
    ]  # fmt: skip
    if points:
        columns = ["mode", "bytes", "measured us", "predicted us", "error"]
        tables.append(Table("Predicted and measured", columns, points))
    ahead = [m for m in modes if m["predicted"]]
    if ahead:
        columns = ["mode", *(_ranks_and_nodes(p) for p in ahead[0]["predicted"])]
        rows = [[m["mode"], *(milliseconds(p["seconds"]) for p in m["predicted"])] for m in ahead]
        title = f"Predicted ms of a sum of this model's packet, {found['packet_bytes']:,} bytes"
        tables.append(Table(title, columns, rows))
    return tables


def _median_and_span(interval: Record, unit: float = 1e3) -> tuple[str, str]:
    return number(unit * interval["median"]), span(interval["low"], interval["high"], unit)


def _ranks_and_nodes(prediction: Record) -> str:
    nodes = prediction["nodes"]
    return f"{prediction['ranks']} ranks" + (f", {nodes} nodes" if nodes > 1 else "")
