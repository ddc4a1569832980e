"""``python -m tests.faults --seed S --cases N``: strike jobs and readers N times, and say what became of each."""

import argparse
import io
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults import campaign
from tests.faults.case import Kept, Mpi
from tests.faults.kinds import AROUND, KINDS, TRAINING

GROUPS = {"around": list(AROUND), "training": list(TRAINING), "all": list(KINDS)}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--cases", type=int, default=len(KINDS), help="how many; the kinds in turn")
    parser.add_argument("--seed", type=int, default=0, help="what all is drawn from")
    parser.add_argument("--kinds", nargs="+", choices=[*GROUPS, *KINDS], default=["all"], metavar="KIND",
                        help=f"{', '.join(GROUPS)}, or some of: {', '.join(KINDS)}")  # fmt: skip
    parser.add_argument("--mpi", nargs="+", type=Path, default=[Path(sys.prefix)], metavar="PREFIX",
                        help="Python environments, each with an MPI; they take turns (default: this one)")  # fmt: skip
    parser.add_argument("--first", type=int, default=0, help="the number that each kind's cases begin with")
    parser.add_argument("--minutes", type=float, default=0, help="begin no case after so long; 0: no limit")
    parser.add_argument("--out", type=Path, help="where to keep the results, case by case")
    parser.add_argument("--folder", type=Path, help="where to run; what fell short stays there (default: temporary)")
    parser.add_argument("--show", nargs="+", type=Path, help="print the table of such files instead")
    parser.add_argument("--markdown", action="store_true", help="draw it for a page")
    return parser.parse_args()


def machine(mpis: list[Mpi]) -> str:
    """Return what the jobs ran on."""
    system = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    return "; ".join([system, *(mpi.version for mpi in mpis)])


def strike(options: argparse.Namespace) -> dict[str, Any]:
    """Run the campaign."""
    chosen = [kind for name in options.kinds for kind in GROUPS.get(name, [name])]
    mpis = [Mpi.at(prefix) for prefix in options.mpi]
    kinds = campaign.possible(list(dict.fromkeys(chosen)), mpis)
    if left_out := [kind for kind in chosen if kind not in kinds]:
        print(f"Left out, for want of the MPI that can: {', '.join(left_out)}", flush=True)
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="rankwise-faults-"))).resolve()
    kept = Kept(folder / "kept")
    began = time.monotonic()
    results: dict[str, Any] = {"machine": machine(mpis), "command": shlex.join(sys.argv[1:]), "cases": []}
    for case in campaign.deal(options.seed, kinds, mpis, options.first, options.cases):
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            print(f"Stopped after {options.minutes:g} minutes: {len(results['cases'])} of {options.cases} cases")
            break
        result = campaign.run(case, folder / f"{case.kind}-{case.index}-{case.mpi.vendor}", kept)
        results["cases"].append(result)
        told = "held" if not result["problems"] else f"FELL SHORT: {str(result['problems'][0])[:300]}"
        print(f"{case.kind} {case.index} ({case.mpi.vendor}), {result['seconds']:.1f} s: {told}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1))
    if options.folder is None and not any(result["problems"] for result in results["cases"]):
        shutil.rmtree(folder, ignore_errors=True)
    return results


def main() -> int:
    """Return 1 if any case fell short."""
    options = arguments()
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(errors="backslashreplace")  # what is shown may be what somebody else wrote
    if options.show:
        all_results = [json.loads(path.read_text()) for path in options.show]
    else:
        all_results = [strike(options)]
        print()
    cases = [case for results in all_results for case in results["cases"]]
    print("\n".join(campaign.lines(cases, markdown=options.markdown)))
    return int(any(case["problems"] for case in cases))


if __name__ == "__main__":
    sys.exit(main())
