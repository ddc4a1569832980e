"""Run folders in which something is not what it seems: readers answer soon, and nothing outside is written."""

import json
import os
import random
import stat
from pathlib import Path
from typing import Any

from tests.faults.case import MIB, SMALL, Case, Details, Place
from tests.faults.foreign import READERS, read_by
from tests.faults.judge import Judge, tail
from tests.faults.plan import EPOCHS, STEPS, Fault
from tests.fuzz.hostile import NODES, make_node

FILES = (
    "coordinator.msgpack", "failure.txt", "model.npz", "checkpoint-9.npz", "checkpoint-39.npz", "config.toml",
    "stack-1.txt", "death-1.json", "progress-00000000", "model_parameters.txt", "sync_times.txt", "contributions.txt",
    ".model.npz.77", "coordinator.msgpack.damaged", "failure-1.txt",
)  # fmt: skip
"""Files of a run folder, and what is beside them."""
JOBS = ("--resume", "--resume auto", "--from", "--config", "supervise", "--output")
FOLDER_BYTES = 512 * MIB
"""What a reader may take of memory: NumPy and a drawing library take their own."""
OUTPUT_COMMANDS = (("export", "--csv"), ("export", "--markdown"), ("trace",), ("report",), ("plot",))
PATHS = ("~nouser/x", "/", ".", "..", "", " ", "/dev/null/x", "a" * 300, "x/" * 3000, "/proc/self/x", "new\nline", "-",
         "~", "/dev/null", "\x1b[31m.npz", "nowhere/x.npz", "run", "nul\ufffd.csv", "a:b:c", "%s%n")  # fmt: skip
PATH_OPTIONS = (
    "--data",
    "--output",
    "--resume",
    "--from",
    "--config",
    "show",
    "list",
    "-o",
    "--hostfile",
    "examples",
    "--tensorboard",
)


def draw(case: Case) -> Details:
    """Draw which file is what, and who reads it."""
    rng = case.rng()
    file, node = FILES[case.index % len(FILES)], NODES[case.index // 2 % len(NODES)]
    return {"file": file, "node": node, "readers": [list(command) for command in rng.sample(READERS, 3)],
            "job": rng.choice(JOBS), "soil": rng.randrange(1 << 30), "done": rng.random() < 0.3}  # fmt: skip


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Put something odd in the place of a file of a run folder, and use the folder."""
    place.run = place.path / "runs" / "odd"
    copy = place.copy_undisturbed if details["done"] else place.copy_killed
    copy(2, SMALL, place.run)
    place.copy_undisturbed(2, SMALL, place.path / "runs" / "good")
    make_node(place.run / details["file"], details["node"], random.Random(details["soil"]))
    listed = place.log("list", str(place.path / "runs"))
    judge.answered(listed, "list")
    judge.need(listed.code == 0 and "good" in listed.out, f"list does not show the other run: {tail(listed)}")
    for command in (tuple(words) for words in details["readers"]):
        judge.answered(outcome := read_by(place, command, place.run), " ".join(command))
        judge.bounded(outcome, " ".join(command), FOLDER_BYTES)
    outcome = _use(details["job"], place)
    judge.ended(outcome, details["job"])
    judge.bounded(outcome, details["job"])
    judge.short(outcome, details["job"])
    judge.printable(outcome, details["job"])
    harmless = details["node"] in ("empty", "noise") or details["file"] in ("coordinator.msgpack", "config.toml")
    if details["job"] == "--resume" and not details["done"] and not harmless:
        judge.need(outcome.code == 0 or _names(outcome, details), f"resume: {outcome.code}: {tail(outcome)}")


def _names(outcome: Any, details: Details) -> bool:
    """Say whether a refusal names the file."""
    return outcome.code in (1, 2) and (details["file"] in outcome.err or outcome.err.count("not a regular file") == 1)


def _use(job: str, place: Place) -> Any:
    """Start a job that reads the run folder, or writes into it."""
    run, mpi = str(place.run), place.mpi
    if job == "supervise":
        own = ["-np", "2", "--mpirun", mpi.mpirun, "--backoff", "0.1", "--restarts", "1", "--", "--output", run]
        return place.start(mpi.python, "-m", "workers.supervise", *own)
    arguments = {
        "--resume": ["--resume", run], "--resume auto": ["--resume", "auto", "--output", run],
        "--from": ["--from", run, "--output", "elsewhere"],
        "--config": ["--config", f"{run}/config.toml", "--output", "elsewhere"], "--output": ["--output", run],
    }[job]  # fmt: skip
    return place.job(2, *arguments)


def draw_links(case: Case) -> Details:
    """Draw what is planted in the folder of a running job, and how the job ends."""
    rng = case.rng()
    how = ("to a file", "to nothing", "to a folder", "hard")[case.index % 4]
    names = ["stack-0.txt", "stack-1.txt", "death-1.json", ".death-1.json", "failure.txt", "model.npz",
             ".model.npz.{pid}", "model_parameters.txt", "sync_times.txt", "contributions.txt", "config.toml",
             ".config.toml.{pid}", "coordinator.msgpack"]  # fmt: skip
    later = [
        f"{dot}checkpoint-{STEPS * n}.npz{pid}"
        for n in range(1, EPOCHS + 1)
        for dot, pid in (("", ""), (".", ".{pid}"))
    ]
    then = rng.choice(("nothing", "kill", "exception", "stop", "signal"))
    step = rng.randint(1, 2 * STEPS)
    return {"how": how, "names": sorted({*rng.sample(names, 4), *rng.sample(later, 4)}), "then": then, "step": step,
            "strike": rng.randint(step + 1, 3 * STEPS), "before": rng.random() < 0.3}  # fmt: skip


def strike_links(details: Details, place: Place, judge: Judge) -> None:
    """Plant links in the folder of a running job: what they lead to stays as it is."""
    outside = place.path / "outside"
    outside.mkdir()
    canary, folder = outside / "canary", outside / "folder"
    canary.write_bytes(b"not yours\n")
    canary.chmod(0o600)
    folder.mkdir()
    target = {"to a folder": folder, "to nothing": outside / "new"}.get(details["how"], canary)
    plants = {"names": details["names"], "how": details["how"], "target": str(target), "step": details["step"]}
    fault = Fault(
        details["then"] if details["then"] != "nothing" else "plant", 1, "compute", details["strike"], signal="SIGTERM"
    )
    if details["before"]:
        place.run.mkdir()
        for name in details["names"]:
            (place.run / name.format(pid=2)).symlink_to(target)
    stall = ("--stall-seconds", "1", "--abort-stall", "1")
    outcome = place.job(2, *SMALL, *stall, "--output", "run", fault=fault, TEST_PLANTS=json.dumps(plants))
    refused = details["before"] and outcome.code in (1, 2)
    judge.need((place.path / "planted").exists() or refused, f"nothing was planted: {tail(outcome)}")
    judge.ended(outcome, "job") if details["then"] != "exception" else judge.need(outcome.in_time, "did not end")
    again = place.resume(2)
    judge.ended(again, "resumed job")
    judge.keep(canary.read_bytes() == b"not yours\n", f"the file outside was written: {canary.read_bytes()[:80]!r}")
    judge.keep(stat.S_IMODE(canary.stat().st_mode) == 0o600, "the mode of the file outside was changed")
    judge.keep(not (outside / "new").exists(), "a file outside was created")
    judge.keep(not list(folder.iterdir()), "a file was created in the folder outside")


def draw_outputs(case: Case) -> Details:
    """Draw what stands where a command is to write."""
    rng = case.rng()
    nodes = (
        "pipe",
        "socket",
        "device node",
        "folder",
        "dangling link",
        "circle of links",
        "link to a file",
        "endless device",
    )
    return {
        "node": nodes[case.index % len(nodes)],
        "command": list(rng.choice(OUTPUT_COMMANDS)),
        "soil": rng.randrange(1 << 30),
    }


def strike_outputs(details: Details, place: Place, judge: Judge) -> None:
    """Have a command write to what is no regular file: it stays what it is."""
    run = place.copy_undisturbed(2, SMALL)
    kept, output = place.path / "kept", place.path / "out"
    kept.write_bytes(b"kept")
    if details["node"] == "link to a file":
        output.symlink_to(kept)
    else:
        make_node(output, details["node"], random.Random(details["soil"]))
    before = output.lstat()
    link = os.readlink(output) if stat.S_ISLNK(before.st_mode) else ""
    outcome = place.log(*details["command"], str(run), "-o", str(output))
    judge.answered(outcome, " ".join(details["command"]))
    if details["node"] in ("link to a file", "dangling link"):
        return
    after = output.lstat()
    judge.keep((before.st_ino, before.st_mode) == (after.st_ino, after.st_mode), "what stood there was replaced")
    judge.keep(not link or os.readlink(output) == link, "the link was changed")
    drawn = details["node"] == "folder" and details["command"] == ["plot"]  # it takes a folder
    judge.need(outcome.code != 0 or drawn, f"not refused: {tail(outcome)}")


def draw_paths(case: Case) -> Details:
    """Draw an option that takes a path, and one that leads nowhere."""
    rng = case.rng()
    return {"option": PATH_OPTIONS[case.index % len(PATH_OPTIONS)], "paths": rng.sample(PATHS, 3)}


def strike_paths(details: Details, place: Place, judge: Judge) -> None:
    """Give paths that lead nowhere, or to what is none of our business."""
    run = place.copy_undisturbed(2, SMALL)
    os.chmod(place.path, 0o755)
    for path in details["paths"]:
        outcome = _given(details["option"], path, place, run)
        judge.answered(outcome, f"{details['option']} {path[:20]!r}")


def _given(option: str, path: str, place: Place, run: Path) -> Any:
    mpi = place.mpi
    if option in ("show", "list"):
        return place.log(option, path)
    if option in ("-o", "--tensorboard"):
        return place.log("export", str(run), *(("--csv",) if option == "-o" else ()), option, path)
    if option == "--hostfile":
        own = ["-np", "2", "--hostfile", path, "--mpirun", mpi.mpirun, "--", *SMALL, "--output", "elsewhere"]
        return place.start(mpi.python, "-m", "workers.supervise", *own)
    if option == "examples":
        harmless = path if path not in ("/", ".", "..", "~", "run", " ", "-") else "/dev/null"
        return place.start(mpi.python, "-m", "workers.rankwise", "examples", harmless)
    more = () if option == "--output" else ("--output", "elsewhere")
    return place.job(
        1, *SMALL[:-2], f"{option}={path}", *(more if option != "--resume" else ()), "--checkpoint-every", "0"
    )
