"""``python -m tests.faults --runs N --seed S``: strike N jobs, and say what became of each."""

import argparse
import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.faults import campaign
from tests.faults.drive import References, may_mount
from tests.faults.plan import KINDS, MODES, Case, draw
from tests.ranks import MPIRUN


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=65, help="how many; 65 have every fault meet every mode once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--only", type=int, help="repeat the run of this number, given the same other options")
    parser.add_argument("--out", type=Path, help="where to keep the results; added to, run by run")
    parser.add_argument("--folder", type=Path, help="where to run; what went wrong stays there (default: temporary)")
    parser.add_argument("--show", nargs="+", type=Path, help="print the table of such files instead")
    parser.add_argument("--markdown", action="store_true", help="draw it for a page")
    return parser.parse_args()


def machine() -> str:
    """Return what the jobs ran on."""
    launcher = subprocess.run([MPIRUN, "--version"], capture_output=True, text=True, check=False).stdout
    library = next((line.strip() for line in launcher.splitlines() if "ersion" in line), "unknown MPI")
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}, " + (
        " ".join(library.split())
    )


def strike(options: argparse.Namespace) -> dict[str, Any]:
    """Run the campaign."""
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rankwise-faults-"))
    folder = folder.resolve()
    mounts = may_mount(folder)
    references = References(folder)
    results: dict[str, Any] = {"machine": machine(), "command": shlex.join(sys.argv[1:]), "runs": []}
    for number in range(options.runs) if options.only is None else [options.only]:
        case = without_mounting(draw(options.seed, number, options.modes, options.faults), mounts)
        result = campaign.run(case, folder / str(number), references)
        results["runs"].append(result)
        told = "right" if not result["problems"] else "WRONG: " + "; ".join(result["problems"])
        job = f"{case.kind}, {case.mode}, {case.ranks} ranks, {case.dtype}"
        print(f"{number}: {job}, {result['seconds']:.1f} s: {told}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1))
    return results


def without_mounting(case: Case, mounts: bool) -> Case:
    """Return the case with a limit on the size of files in place of a full disk, if none may be mounted."""
    if mounts or case.fault.stage != "full":
        return case
    return dataclasses.replace(case, fault=dataclasses.replace(case.fault, stage="limit"))


def show(all_results: list[dict[str, Any]], markdown: bool) -> None:
    """Print the table."""
    runs = [run for results in all_results for run in results["runs"]]
    rows = campaign.table(runs, KINDS, [mode for mode in MODES if any(run["mode"] == mode for run in runs)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    if markdown:
        rows.insert(1, ["---", *(["---:"] * (len(rows[0]) - 1))])
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip())
    for run in runs:
        if run["problems"]:
            print(f"\nseed {run['seed']}, run {run['number']} ({run['kind']}, {run['mode']}): {run['problems']}")


def main() -> int:
    """Return 1 if any run was not right."""
    options = arguments()
    if options.show:
        show([json.loads(path.read_text()) for path in options.show], options.markdown)
        return 0
    results = strike(options)
    print()
    show([results], options.markdown)
    return int(any(run["problems"] for run in results["runs"]))


if __name__ == "__main__":
    sys.exit(main())
