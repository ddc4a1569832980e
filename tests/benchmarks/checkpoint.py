"""``python -m tests.benchmarks.checkpoint``: how much slower steps are while a checkpoint of 400 MB is written."""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common.errors import EXIT_STOPPED
from ps.metrics.median_intervals import interval
from tests.ranks import mpirun

HIDDEN = ("9950", "9950")
"""With the digits, 10^8 parameters."""
TIMEOUT_S = 3600
PROGRAM = Path(__file__).with_name("checkpoint_ranks.py")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--mode", default="allreduce")
    parser.add_argument("--hidden", nargs="+", default=list(HIDDEN), help="sizes of the hidden layers")
    parser.add_argument("--batch", default="64", help="rows in a step, which say how long it takes")
    parser.add_argument("--turns", type=int, default=7, help="each: steps without a checkpoint, and with one")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    parser.add_argument("--json", type=Path, help="where to keep all results")
    return parser.parse_args()


def launch(options: argparse.Namespace) -> dict[str, Any]:
    """Run the job."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        job = ["--mode", options.mode, "--hidden", *options.hidden, "--batch-size", options.batch]
        job += ["--optimizer", "sgd", "--learning-rate", "1e-6", "--epochs", "10000", "--checkpoint-minutes", "0"]
        job += ["--keep", "1", "--output", str(Path(folder, "run"))]
        result = Path(folder, "result.json")
        ended = mpirun(options.ranks, str(PROGRAM), str(result), str(options.turns), *job, timeout=TIMEOUT_S)
        if ended.code != EXIT_STOPPED:
            raise SystemExit(f"the job ended with code {ended.code}: {ended.err[-1500:]}")
        found: dict[str, Any] = json.loads(result.read_text(encoding="ascii"))
    return found


def report(found: dict[str, Any]) -> str:
    """Return the figures in words; the first turn, in which memory is taken for the first time, is for warming up."""
    pairs = [pair for pair in zip(found["quiet"], found["busy"], strict=True) if all(pair)][1:]
    if not pairs:
        raise SystemExit("no step fell between a checkpoint's beginning and end; take a smaller --batch")
    ratio = interval([statistics.median(busy) / statistics.median(quiet) for quiet, busy in pairs])
    quiet, busy = (statistics.median(t for times in side for t in times) for side in zip(*pairs, strict=True))
    before, peak = max(found["memory"][1:], key=lambda turn: turn[1] - turn[0])  # of this process, at its peaks
    more = (peak - before) / found["vector_bytes"]
    return (
        f"parameters: {found['vector_bytes'] / 1e6:.0f} MB; turns: {len(pairs)}\n"
        f"step without a checkpoint: {quiet * 1e3:.1f} ms; while one is written: {busy * 1e3:.1f} ms "
        f"({sum(len(times) for _, times in pairs)} steps)\n"
        f"ratio: {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})\n"
        f"copying and asking: {statistics.median(found['copy_s']) * 1e3:.0f} ms; "
        f"writing and reading back: {statistics.median(found['writing_s']):.2f} s\n"
        f"memory of rank 0: {before / 1e6:.0f} MB without a checkpoint, {peak / 1e6:.0f} MB with one: "
        f"{more:.2f} vectors more, of {found['saved_bytes'] / found['vector_bytes']:.0f} that are saved"
    )


def main() -> None:
    """Measure and print."""
    options = arguments()
    found = launch(options)
    if options.json:
        options.json.write_text(json.dumps(found), encoding="ascii")
    print(report(found))


if __name__ == "__main__":
    main()
