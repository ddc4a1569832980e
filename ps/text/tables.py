"""The tables of a comparison of modes, for rank 0, which prints them, and for readers."""

from collections.abc import Sequence

from common.wording import count
from ps.logfile.records import Record
from ps.text.formatting import megabytes, microseconds, milliseconds, number, points, span
from ps.text.layout import Table


def of_modes(found: Record, steps: int) -> list[Table]:
    """Return the tables of a ``comparison`` record whose trials timed so many steps."""
    modes = found["modes"]
    title = (
        f"Modes, least median first: {count(found['trials'], 'trial')} of {count(steps, 'step')}, modes in turn; "
        f"median and its {100 * found['confidence']:.0f} % interval by order statistics"
    )
    goal = f"s to loss {found['loss']:.4g}"
    timed = [
        [m["mode"], number(1e3 * m["step_s"]["median"]), span(m["step_s"]["low"], m["step_s"]["high"]),
         f"{m['ratio']:.3f}", "-" if m["p"] is None else number(m["p"], 2), m["outcome"],
         _with_span(m["time_to_loss_s"], 1)]
        for m in modes
    ]  # fmt: skip
    names = ("input", "compute", "wait", "transfer")
    phases = [
        [m["mode"], *(_with_span(m[f"{name}_s"]) for name in names), milliseconds(m["reduce_s"]["median"])]
        for m in modes
    ]
    moved = [
        [m["mode"], "-" if m["bus_bytes_per_s"] is None else number(m["bus_bytes_per_s"]["median"] / 1e9, 3),
         *(megabytes(m[key]) for key in ("sent_bytes_most", "sent_bytes_all", "rank_peak_bytes", "node_bytes")),
         number(m["loss"], 6), number(m["parameter_difference"], 2)]
        for m in modes
    ]  # fmt: skip
    columns = ["mode", "ms a step", "interval", "ratio", "p", "outcome", f"{goal} (interval)"]
    return [
        Table(title, columns, timed, text=("outcome",), split=True),
        Table(
            "Parts of a step, means of the ranks, with intervals; summing: the part of compute that sums and updates "
            "slices",
            ["mode", *(f"{name} ms" for name in names), "summing ms"],
            phases,
            split=True,
        ),
        Table(
            "Traffic a step, memory, and where training ended; difference: to the first mode's parameters, relative",
            ["mode", "bus GB/s", "sent MB, rank", "sent MB, all", "peak MB, rank", "MB, node", "loss", "difference"],
            moved,
            split=True,
        ),
    ]


def of_losses(found: Record) -> list[Table]:
    """Return the table of a ``loss-comparison`` record."""
    goal, rounds = f"{found['loss']:.4g}", count(found["trials"], "trial")
    rows = []
    for m in found["modes"]:
        seconds = m["seconds_to_loss"]
        ends = [number(seconds[key]) if seconds[key] is not None else "never" for key in ("low", "high")]
        rows.append([
            m["mode"], "-" if seconds["median"] is None else number(seconds["median"]), f"{ends[0]} to {ends[1]}",
            *("-" if m[key] is None else number(m[key], digits) for key, digits in (("ratio", 3), ("p", 2))),
            m["outcome"], *("-" if m[key] is None else f"{m[key]:,.0f}" for key in ("rows_to_loss", "rows_per_s")),
            "-" if m["host_bytes_to_loss"] is None else megabytes(m["host_bytes_to_loss"]), number(m["loss"]),
            "-" if m["metric"] is None else number(m["metric"]),
        ])  # fmt: skip
    title = (
        f"Until the validation loss is {goal}, least median first: {rounds}, modes in turn; median and its "
        f"{100 * found['confidence']:.0f} % interval by order statistics; evaluations are not on the clock; bytes are "
        "what the busiest host sends until then; last loss and metric are medians where trials ended"
    )
    columns = ["mode", "s to loss", "interval", "ratio", "p", "outcome", "rows to loss", "rows/s", "sent MB, host",
               "last loss", "metric"]  # fmt: skip
    return [Table(title, columns, rows, text=("outcome",), split=True)]


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
    title = f"Sums of vectors without a model, microseconds: medians of {count(rounds, 'round')} and their intervals"
    return [Table(title, ["numbers", *names], rows, split=True)]


def of_fit(found: Record, compared: Record | None = None) -> list[Table]:
    """Return the tables of a ``fit`` record: what was fitted, and predictions, of what was measured and beyond.

    ``compared``: the ``comparison`` record, whose times of computing say what sums would be of a step.
    """
    modes = found["modes"]
    between = any(m.get("network_beta_s_per_byte") is not None for m in modes)
    fitted = [
        [m["mode"], m["formula"], *_constants(m["alpha_s"], m["beta_s_per_byte"]),
         *(_constants(m.get("network_alpha_s"), m.get("network_beta_s_per_byte")) if between else ()),
         points(m["largest_error"]), m["note"]]
        for m in modes
    ]  # fmt: skip
    titles = ["a, us", "b, ns a byte", *(["A, us", "B, ns a byte"] if between else [])]
    tables = [
        Table(
            "Latency a and time per byte b of packets of m bytes, fitted by least squares of relative errors",
            ["mode", "time on P ranks, L a node on K nodes", *titles, "worst error %", "note"],
            fitted,
            text=("time on P ranks, L a node on K nodes", "note"),
        )
    ]
    measured = [
        [m["mode"], f"{p['bytes']:,}", microseconds(p["measured_s"]), microseconds(p["predicted_s"]),
         f"{100 * p['error']:+.0f}"]
        for m in modes for p in m["points"] if None not in (p["predicted_s"], p["error"])
    ]  # fmt: skip
    if measured:
        columns = ["mode", "bytes", "measured us", "predicted us", "error %"]
        tables.append(Table("Predicted and measured", columns, measured, split=True))
    ahead = [m for m in modes if m["predicted"]]
    if ahead:
        columns = ["mode", *(_ranks_and_nodes(p) for p in ahead[0]["predicted"])]
        rows = [[m["mode"], *(milliseconds(p["seconds"]) for p in m["predicted"])] for m in ahead]
        title = f"Predicted ms of a sum of this model's packet, {found['packet_bytes']:,} bytes"
        tables.append(Table(title, columns, rows, split=True))
        tables += _of_efficiency(ahead, columns, compared or {})
    return tables


def _constants(latency_s: float | None, s_per_byte: float | None) -> list[str]:
    return [
        "-" if latency_s is None else microseconds(latency_s),
        "-" if s_per_byte is None else number(1e9 * s_per_byte, 3),
    ]


def _of_efficiency(ahead: list[Record], columns: list[str], compared: Record) -> list[Table]:
    """Return a table of what computing would be of a step, if each rank computed as long as it did."""
    work_s = {
        m["mode"]: m["input_s"]["median"] + m["compute_s"]["median"] - m["reduce_s"]["median"]
        for m in compared.get("modes", ())
    }
    rows = [
        [m["mode"], *(points(work_s[m["mode"]] / (work_s[m["mode"]] + p["seconds"])) for p in m["predicted"])]
        for m in ahead
        if work_s.get(m["mode"], 0.0) > 0
    ]
    title = "Predicted efficiency in %, where each rank has as many rows as here: computing, of computing and the sum"
    return [Table(title, columns, rows, split=True)] if rows else []


def _with_span(interval: Record, unit: float = 1e3) -> str:
    return f"{number(unit * interval['median'])} ({span(interval['low'], interval['high'], unit)})"


def _ranks_and_nodes(prediction: Record) -> str:
    ranks, nodes = count(prediction["ranks"], "rank"), prediction["nodes"]
    return ranks + (f", {count(nodes, 'node')}" if nodes > 1 else "")
