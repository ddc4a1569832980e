"""The figures of a benchmark as text, and as a JSON file."""

import json
import sys
from pathlib import Path
from typing import Any

from common.files import write_atomic
from common.standard_streams import as_result
from common.wording import count, printable
from ps.text.formatting import megabytes, microseconds, milliseconds, number, points, span
from ps.text.layout import Table, lines_of, output_width
from workers.benchmark.machine import PRODUCT, job_line
from workers.benchmark.vectors import RAW

Result = dict[str, Any]


def publish(result: Result, path: str) -> None:
    """Write the figures to a file if there is to be one, and print them. Raises OSError, and RankwiseError."""
    asked, body = result["options"], {"steps": _steps, "sync-only": _sums}.get(result["kind"], _scaling)
    layers = "-".join(map(str, asked["layers"]))
    model = f"Model {layers}, {asked['activation']}, {asked['optimizer']}, {asked['dtype']}"
    rows = f"{count(asked['batch'], 'row')}{' a rank' if asked['weak'] else ''} a step"
    what = f"Vectors of {asked['dtype']}" if result["kind"] == "sync-only" else f"{model}, {rows}"
    if path:
        text = json.dumps(result, indent=1).encode()
        write_atomic(Path(path), lambda file: file.write(text))
    with as_result():
        sys.stdout.write(printable("\n".join([what, job_line(result["job"]), *body(result)])) + "\n")


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Return the lines of a table whose rows name their columns; what does not fit the width comes below."""
    return lines_of(Table("", list(rows[0]), [list(row.values()) for row in rows], split=True), output_width())


def _times(mode: str, m: Result) -> dict[str, str]:
    return {"mode": mode, "ms a step": milliseconds(m["median_s"]), "interval": span(m["low_s"], m["high_s"])}


def _steps(result: Result) -> list[str]:
    modes, peak, n_flops = result["modes"], result["peak_flops"], result["flops"]
    timed, parts = [], []
    for mode, m in modes.items():
        rate, split = n_flops / m["median_s"], {"input": m["input_s"], **m["split_s"]}
        timed.append(_times(mode, m) | {
            "rows/s": f"{m['rows_per_s']:,.0f}", "GFLOP/s": number(rate / 1e9, 3), "% of peak": points(rate / peak),
            "sent MB, rank": megabytes(m["sent_bytes_most"]), "sent MB, all": megabytes(m["sent_bytes_all"]),
            "peak MB, rank": megabytes(m["rank_peak_bytes"]), "MB, node": megabytes(m["node_bytes"]),
        })  # fmt: skip
        split["together"] = sum(split.values())
        parts.append({"mode": mode, **{name: milliseconds(seconds) for name, seconds in split.items()}})
    first, *last = result["losses"].values()
    confidence, rounds = next(iter(modes.values()))["confidence"], count(result["options"]["rounds"], "round")
    return [
        f"{rounds} of {count(result['steps'], 'step')}, modes in turn: median and {100 * confidence:.0f} % interval "
        f"by order statistics; {count(result['rows'], 'row')} of random data",
        "",
        *_table(timed),
        "",
        "Parts of a step in ms, medians of separate steps with clocks in them (input: of the timed), mean of ranks",
        *_table(parts),
        "In modes shared and factors, update is summing and updating, transfer two barriers.",
        "",
        f"Peak: matrix products of {PRODUCT} x {PRODUCT}, all ranks at once, {peak / 1e9:.4g} GFLOP/s; "
        f"a step's take {n_flops / 1e9:.4g} GFLOP",
        f"Start of {result['start']['from']} to the end of the first step: {result['start']['seconds']:.2f} s",
        f"Loss {first:.6g} at the start, {last[0]:.6g} at the end; modes differ by up to {max(last) - min(last):.2g}",
    ]


def _sums(result: Result) -> list[str]:
    sums, steps = [], []
    for size in result["sizes"]:
        n, modes = {"numbers": f"{size['n']:,}"}, size["modes"]
        cells = {mode: f"{microseconds(m['median_s'])} ({number(m['ratio'], 3)}x)" for mode, m in modes.items()}
        sums.append({**n, RAW: microseconds(size["raw"]["median_s"]), **cells})
        steps.append({**n, **{mode: microseconds(m["step_s"]) for mode, m in modes.items()}})
    return [
        f"Medians of {count(result['options']['rounds'], 'round')}, in turn; microseconds from the last rank's arrival "
        "to the slowest's end",
        "",
        f"The sum, and how many times as fast as {RAW}",
        *_table(sums),
        "",
        "The sum, a look for numbers that are not finite, and the update by sgd",
        *_table(steps),
    ]


def _scaling(result: Result) -> list[str]:
    asked = result["options"]
    rows = []
    for mode in result["table"][0]["modes"]:
        for row in result["table"]:
            m, ranks = row["modes"][mode], {"ranks": str(row["ranks"]), "batch": str(row["batch"])}
            found = {"speed-up": f"{m['speed_up']:.2f}", "efficiency %": points(m["efficiency"]),
                     "Karp-Flatt": number(m["karp_flatt"], 3)}  # fmt: skip
            rows.append({"mode": mode, **ranks, **_times(mode, m), **found})
    same = "rank: speed-up is of the work done in a second" if asked["weak"] else "step"
    return [
        f"{count(asked['rounds'], 'round')}, modes in turn, numbers of ranks one after the other; the same batch a "
        f"{same}",
        "",
        *_table(rows),
    ]
