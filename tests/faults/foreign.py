"""Run folders from somebody else: code in them is not run, and what is in their texts does nothing to a terminal."""

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.run_files import LOG_NAME
from ps.logfile.reader import LogReader
from ps.logfile.records import Record, encode
from tests.faults.case import SMALL, Case, Details, Place
from tests.faults.judge import Judge, tail
from tests.faults.process import Outcome
from tests.fuzz.hostile import TERMINAL_TEXTS, pickled_npz
from tests.ranks import PROGRAMS

READERS = (
    ("show",), ("list",), ("watch",), ("export", "--csv"), ("export", "--jsonl"), ("export", "--markdown"),
    ("compare",), ("whatif",), ("trace",), ("report",), ("plot",),
)  # fmt: skip
"""Each reader command; of those that write a file, it is written beside the run folder."""
WRITE = ("trace", "report", "plot")
WAYS = ("--resume", "--config", "supervise", "rankwise", "--from", "readers")
HIDING = ("model of the log", "model of config.toml", "pickles", "names of modules", "changed model")
MODULES = (
    "numpy",
    "msgpack",
    "json",
    "common",
    "workers",
    "ps",
    "mpi4py",
    "threadpoolctl",
    "sitecustomize",
    "cyclopts",
)
SPELLINGS = ("runs.mine.evil:Net", "runs.mine.deep.evil:Net", "mine.evil:Net", "runs.link.evil:Net", "evil:Net")
OWN = PROGRAMS.parent.parent / "docs" / "examples" / "own_model.py"


def read_by(place: Place, command: tuple[str, ...], run: Path, **options: Any) -> Outcome:
    """Run a reader command on a run folder; ``list`` takes the folder above it."""
    output = ("-o", str(place.path / f"out-{len(place.outcomes)}")) if command[0] in WRITE else ()
    runs = (
        [str(run.parent)] if command[0] == "list" else [str(run), str(run)] if command[0] == "compare" else [str(run)]
    )
    return place.log(*command, *runs, *output, **options)


def rewrite(log: Path, change: Callable[[Record], Record]) -> None:
    """Change the records of a log, with right checksums."""
    changed = []
    for record in list(LogReader(log).records()):
        new = change({key: value for key, value in record.items() if key != "crc"})
        changed.append(encode(new))
    log.write_bytes(b"".join(changed))


def draw(case: Case) -> Details:
    """Draw where code hides, how it is named, and who comes by."""
    rng = case.rng()
    hiding = HIDING[case.index % len(HIDING)]
    ways = ("--resume", "supervise", "rankwise") if hiding == "changed model" else WAYS
    return {"hiding": hiding, "way": rng.choice(ways), "spelling": rng.choice(SPELLINGS), "ranks": rng.choice((1, 2)),
            "modules": rng.sample(MODULES, 3), "reader": rng.choice(READERS)}  # fmt: skip


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Offer code in a run folder to a command, and see whether it ran."""
    n, canary = details["ranks"], place.path / "canary"
    (place.path / "own_net.py").write_text(OWN.read_text())
    place.run = place.path / "runs" / "mine"
    arguments = (*SMALL, "--model", "own_net:SkipNet", "--no-check-model")
    made = place.job(n, *arguments, "--inject", f"die:rank={n - 1},step=30", "--output", str(place.run))
    judge.need((place.run / LOG_NAME).exists(), f"no run: {tail(made)}")
    shutil.copy(place.run / LOG_NAME, place.path / "log-before")
    (place.path / "runs" / "link").symlink_to("mine")
    _hide(details, place, canary)
    changes = (
        {"PYTHONPATH": f"{PROGRAMS.parent.parent}:{place.path / 'runs'}"} if "mine.evil" in details["spelling"] else {}
    )
    outcome = _come_by(details, place, n, changes)
    judge.need(not canary.exists(), f"the code ran, by {details['way']}")
    judge.ended(outcome, details["way"])
    judge.short(outcome, details["way"])
    if details["hiding"] == "model of the log" and details["way"] in ("--resume", "supervise", "rankwise"):
        judge.need(outcome.code in (1, 2), f"code {outcome.code}: {tail(outcome)}")
    if details["hiding"] == "changed model":
        judge.need("--trust-model" in outcome.err, f"not refused: {tail(outcome)}")
        trusted = place.resume(n, "--trust-model")
        judge.ended(trusted, "job with --trust-model", (0,))


def _hide(details: Details, place: Place, canary: Path) -> None:
    """Put code in the run folder, or beside it where a model has changed since."""
    hiding, run = details["hiding"], place.run
    evil = f"{OWN.read_text()}\nopen({str(canary)!r}, 'w').close()\nNet = SkipNet\n"
    if hiding.startswith("model of"):
        for folder in (run, run / "deep"):
            folder.mkdir(exist_ok=True)
            (folder / "evil.py").write_text(evil)
        config = run / "config.toml"
        named = details["spelling"]
        if config.exists():
            config.write_text(config.read_text().replace("own_net:SkipNet", named))
        if hiding == "model of the log":

            def change(record: Record) -> Record:
                if record["kind"] == "header":
                    record = {**record, "config": {**record["config"], "model": named}}
                return record

            rewrite(run / LOG_NAME, change)
    if hiding == "pickles":
        for path in [*run.glob("checkpoint-*.npz"), run / "model.npz"]:
            pickled_npz(path, canary)
    if hiding == "names of modules":
        for name in details["modules"]:
            (run / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').close()\n")
    if hiding == "changed model":
        (place.path / "own_net.py").write_text(evil)


def _come_by(details: Details, place: Place, n: int, changes: dict[str, Any]) -> Outcome:
    """Use the run folder in one of the ways there are."""
    way, run, mpi = details["way"], str(place.run), place.mpi
    few = ("--epochs", "4", "--no-check-model")
    if way == "readers":
        return read_by(place, details["reader"], place.run, **changes)
    if way == "--config":
        return place.job(n, "--config", f"{run}/config.toml", *few, "--output", "elsewhere", **changes)
    if way == "--from":
        return place.job(n, "--from", run, *few, "--output", "elsewhere", **changes)
    if way == "supervise":
        own = ["-np", str(n), "--mpirun", mpi.mpirun, "--backoff", "0.1", "--restarts", "1", "--", "--output", run]
        return place.start(mpi.python, "-m", "workers.supervise", *own, **changes)
    if way == "rankwise":
        return place.start(mpi.python, "-m", "workers.rankwise", "train", "-n", str(n), "--resume", run, **changes)
    return place.resume(n, **changes)


def draw_escapes(case: Case) -> Details:
    """Draw which texts carry what, and who reads them."""
    rng = case.rng()
    return {"where": ("log", "checkpoint", "data", "files")[case.index % 4], "text": rng.choice(TERMINAL_TEXTS),
            "readers": [list(command) for command in rng.sample(READERS, 3)],
            "soil": rng.randrange(1 << 30)}  # fmt: skip


def strike_escapes(details: Details, place: Place, judge: Judge) -> None:
    """Have commands show texts from somebody else."""
    run, text, rng = place.copy_killed(2, SMALL), details["text"], random.Random(details["soil"])
    if details["where"] == "log":
        rewrite(run / LOG_NAME, lambda record: _soiled(record, text, rng))
        judge.answered(place.resume(1), "--resume")
    elif details["where"] == "files":
        (run / "failure.txt").write_text(f"rankwise: {text} died\n" * 50)
        (run / "config.toml").write_text(
            f'{json.dumps(text)} = "{text[-3:]}"\n', encoding="utf-8", errors="surrogateescape"
        )
        (run / "stack-1.txt").write_text(text)
        (run / f"checkpoint-{text.replace('/', '')[:20]}.npz").write_bytes(b"x")
        judge.refused(place.job(1, "--config", str(run / "config.toml"), "--output", "elsewhere"), "--config")
        judge.answered(place.resume(1), "--resume")
    elif details["where"] == "checkpoint":
        _soil_npz(run, text)
        judge.answered(place.job(1, "--from", str(run), "--output", "elsewhere"), "--from")
        judge.answered(place.resume(1), "--resume")
    else:
        table = place.path / "own.csv"
        table.write_text(
            f"a{text.replace(chr(34), '')}\x00,b\n1,{text}\n2,3\n", encoding="utf-8", errors="surrogatepass"
        )
        judge.refused(place.job(1, "--data", "own.csv", "--target", "c", "--output", "elsewhere"), "--data")
        judge.refused(
            place.job(1, "--data", f"{text[:50]}.csv", "--target", text, "--output", "elsewhere"), "odd --data"
        )
    for command in details["readers"]:
        outcome = read_by(place, tuple(command), run)
        judge.answered(outcome, " ".join(command))


def _soiled(value: Any, text: str, rng: random.Random, depth: int = 0) -> Any:
    """Return a record in which some texts have others before them; those that must be as they are, are."""
    fixed = ("kind", "format", "what", "status", "config", "sha256")
    if isinstance(value, dict):
        return {
            (f"{text}{key}" if depth > 1 and rng.random() < 0.7 and key[:1] in "Wb" else key): (
                entry if key in fixed and depth == 0 else _soiled(entry, text, rng, depth + 1)
            )
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [_soiled(entry, text, rng, depth + 1) for entry in value]
    return f"{text}{value}" if isinstance(value, str) and rng.random() < 0.7 else value


def _soil_npz(run: Path, text: str) -> None:
    """Give the arrays of checkpoints names with the text in them."""
    for path in run.glob("checkpoint-*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in kept.items():
                given = name if name == "about" else f"{name}{text.replace(chr(0), '')}"
                with archive.open(f"{given}.npy".encode("utf-8", "replace").decode(), "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
