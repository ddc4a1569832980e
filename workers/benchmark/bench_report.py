"""The figures of a benchmark as text, and as a JSON file."""

import json
import sys
from pathlib import Path
from typing import Any

from common.files import write_atomic
from ps.text.numbers import megabytes, microseconds, milliseconds, number, percent, span
from ps.text.plain_table import table
from workers.benchmark.machine import PRODUCT, job_line
from workers.benchmark.split_runner import PARTS
from workers.benchmark.vectors import RAW

Result = dict[str, Any]


def publish(result: Result, path: str) -> None:
    """Print the figures, and write them to a file if there is to be one."""
    kinds = {"steps": _steps, "sync-only": _sums, "strong": _scaling, "weak": _scaling}
    lines = [*_head(result), *kinds[result["kind"]](result)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    if path:
        text = json.dumps(result, indent=1).encode()
        write_atomic(Path(path), lambda file: file.write(text))


def _head(result: Result) -> list[str]:
    """Say what the figures depend on."""
    job, asked = result["job"], result["options"]
    model = f"Model {asked['layers'].replace(',', '-')}, {asked['activation']}, {asked['optimizer']}, {asked['dtype']}"
    rows = f"{asked['batch']} rows{' a rank' if asked['weak'] else ''} a step"
    return [
        f"Vectors of {asked['dtype']}" if result["kind"] == "sync-only" else f"{model}, {rows}",
        job_line(job),
    ]


def _steps(result: Result) -> list[str]:
    modes, asked = result["modes"], result["options"]
    peak, n_flops = result["peak_flops"], result["flops"]
    confidence = next(iter(modes.values()))["confidence"]
    timed, parts = [], []
    for mode, m in modes.items():
        rate = n_flops / m["median_s"]
        timed.append(
            [mode, milliseconds(m["median_s"]), span(m["low_s"], m["high_s"]), f"{m['rows_per_s']:,.0f}",
             number(rate / 1e9, 3), percent(rate / peak), megabytes(m["sent_bytes_most"]),
             megabytes(m["sent_bytes_all"]), megabytes(m["rank_peak_bytes"]), megabytes(m["node_bytes"])]
        )  # fmt: skip
        split = [m["input_s"], *(m["split_s"][name] for name in PARTS)]
        parts.append([mode, *(milliseconds(s) for s in split), milliseconds(sum(split))])
    columns = [
        "mode",
        "ms a step",
        "interval",
        "rows/s",
        "GFLOP/s",
        "of peak",
        "MB sent, rank",
        "all",
        "peak MB, rank",
        "MB, node",
    ]
    losses = dict(result["losses"])
    first = losses.pop("start")
    apart = max(losses.values()) - min(losses.values())
    return [
        f"{asked['rounds']} rounds of {result['steps']} steps, modes in turn: median and its {100 * confidence:.0f} % "
        f"interval by order statistics; {result['rows']} rows of random data",
        "",
        *table(columns, timed),
        "",
        "Parts of a step in ms, medians of separate steps with clocks in them (input: of the timed), mean of ranks",
        *table(["mode", "input", *PARTS, "together"], parts),
        "In modes shared and factors, update is summing and updating, transfer two barriers.",
        "",
        f"Peak: matrix products of {PRODUCT} x {PRODUCT}, all ranks at once, {peak / 1e9:.4g} GFLOP/s; "
        f"a step's take {n_flops / 1e9:.4g} GFLOP",
        f"Start of {result['start']['from']} to the end of the first step: {result['start']['seconds']:.2f} s",
        f"Loss {first:.6g} at the start, {next(iter(losses.values())):.6g} at the end; the modes are {apart:.2g} apart",
    ]


def _sums(result: Result) -> list[str]:
    sizes, asked = result["sizes"], result["options"]
    modes = list(sizes[0]["modes"])
    sums, steps = [], []
    for size in sizes:
        each = [size["modes"][mode] for mode in modes]
        cells = (f"{microseconds(m['median_s'])} ({number(m['ratio'], 3)}x)" for m in each)
        sums.append([f"{size['n']:,}", microseconds(size["raw"]["median_s"]), *cells])
        steps.append([f"{size['n']:,}", *(microseconds(m["step_s"]) for m in each)])
    return [
        f"Medians of {asked['rounds']} rounds, in turn; microseconds from the last rank's arrival to the slowest's end",
        "",
        f"The sum, and how many times as fast as {RAW}",
        *table(["numbers", RAW, *modes], sums),
        "",
        "The sum, a look for numbers that are not finite, and the update by sgd",
        *table(["numbers", *modes], steps),
    ]


def _scaling(result: Result) -> list[str]:
    asked = result["options"]
    rows = [
        [mode, str(row["ranks"]), str(row["batch"]), milliseconds(m["median_s"]), span(m["low_s"], m["high_s"]),
         f"{m['speed_up']:.2f}", percent(m["efficiency"]), number(m["karp_flatt"], 3)]
        for mode in result["table"][0]["modes"] for row in result["table"] for m in [row["modes"][mode]]
    ]  # fmt: skip
    same = "rank: speed-up is of the work done in a second" if asked["weak"] else "step"
    return [
        f"{asked['rounds']} rounds, modes in turn, numbers of ranks one after the other; the same batch a {same}",
        "",
        *table(["mode", "ranks", "batch", "ms a step", "interval", "speed-up", "efficiency", "Karp-Flatt"], rows),
    ]
