"""The tables of a comparison, for rank 0's output and for the log's readers: numbers in, texts out."""

from collections.abc import Sequence
from typing import NamedTuple

from ps.logfile.records import Record
from ps.text.numbers import gigabytes, megabytes, microseconds, milliseconds, number, percent, span


class Table(NamedTuple):
    """Texts of a table; the first column goes to the left."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def of_modes(found: Record, steps: int) -> list[Table]:
    """Return the tables of a ``comparison`` record whose trials timed so many steps."""
    trials, modes = found["trials"], found["modes"]
    title = (
        f"Modes, least median first: {trials} trials of {steps} steps, modes in turn; "
        f"median and its {100 * found['confidence']:.0f} % interval by order statistics"
    )
    goal = f"s to loss {found['loss']:.4g}"
    timed = [
        [m["mode"], milliseconds(m["step_s"]["median"]), _span(m["step_s"]), f"{m['ratio']:.3f}",
         "-" if m["p"] is None else number(m["p"], 2), m["outcome"], number(m["time_to_loss_s"]["median"]),
         _span(m["time_to_loss_s"], 1)]
        for m in modes
    ]  # fmt: skip
    names = ("input_s", "compute_s", "wait_s", "transfer_s")
    parts = [
        [m["mode"], *(text for name in names for text in (milliseconds(m[name]["median"]), _span(m[name]))),
         milliseconds(m["reduce_s"]["median"])]
        for m in modes
    ]  # fmt: skip
    spans = [text for name in names for text in (name.removesuffix("_s"), "interval")]
    moved = [
        [m["mode"], _bus(m["bus_bytes_per_s"]), megabytes(m["sent_bytes_most"]), megabytes(m["sent_bytes_all"]),
         megabytes(m["rank_peak_bytes"]), megabytes(m["node_bytes"]), number(m["loss"], 6),
         number(m["parameter_difference"], 2)]
        for m in modes
    ]  # fmt: skip
    return [
        Table(title, ["mode", "ms a step", "interval", "ratio", "p", "outcome", goal, "interval"], timed),
        Table(
            "Parts of a step in ms, means of the ranks; summing: the part of compute that sums and updates slices",
            ["mode", *spans, "summing"],
            parts,
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
        own = {m["mode"]: m for m in sweep["modes"]}
        rows.append([f"{sweep['n']:,}", *(_sum(own[name]) if name in own else "-" for name in names)])
    rounds = sweeps[0]["rounds"]
    title = f"Sums of vectors without a model, microseconds: medians of {rounds} rounds and their intervals"
    return [Table(title, ["numbers", *names], rows)]


def of_fit(found: Record) -> list[Table]:
    """Return the tables of a ``fit`` record: what was fitted, and predictions beside measurements and beyond them."""
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
        for m in modes for p in m["points"] if p["predicted_s"] is not None
    ]  # fmt: skip
    if points:
        columns = ["mode", "bytes", "measured us", "predicted us", "error"]
        tables.append(Table("Predicted beside measured", columns, points))
    ahead = [m for m in modes if m["predicted"]]
    if ahead:
        columns = ["mode", *(_at(p) for p in ahead[0]["predicted"])]
        rows = [[m["mode"], *(milliseconds(p["seconds"]) for p in m["predicted"])] for m in ahead]
        title = f"Predicted ms of a sum of this model's packet, {found['packet_bytes']:,} bytes"
        tables.append(Table(title, columns, rows))
    return tables


def _sum(found: Record) -> str:
    low, high = microseconds(found["low_s"]), microseconds(found["high_s"])
    return f"{microseconds(found['median_s'])} ({low} to {high})"


def _at(prediction: Record) -> str:
    nodes = prediction["nodes"]
    return f"{prediction['ranks']} ranks" + (f", {nodes} nodes" if nodes > 1 else "")


def _bus(interval: Record | None) -> str:
    return "-" if interval is None else gigabytes(interval["median"])


def _span(interval: Record, unit: float = 1e3) -> str:
    return span(interval["low"], interval["high"], unit)
