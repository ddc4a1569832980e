"""Files that claim or become far more than they hold: refused in one message, in bounded memory and time."""

from pathlib import Path
from typing import Any

from tests.faults.case import MIB, SMALL, Case, Details, Place
from tests.faults.foreign import READERS, read_by
from tests.faults.judge import Judge, tail
from tests.fuzz import array_files, hostile_arrays
from tests.fuzz.hostile import config_bomb, csv_bomb, log_bomb, zip_bomb

JOB_BYTES = 4 << 30
"""Address space of a rank: a bomb goes off here, and not in the memory of the machine."""
FILES = ("npz claimed", "npz filled", "csv", "log", "config", "checkpoint")
CSV = ("sparse", "quote", "columns", "cell")
LOG = ("lists", "maps", "texts", "numbers", "deep", "header", "keys")
CONFIG = ("sparse", "deep", "keys", "long")
SHAPES = {2 << 30: (1 << 23, 64), 8 << 30: (1 << 25, 64), 40 << 30: (5 << 25, 64), 1 << 50: (1 << 42, 64)}
"""Of arrays in float32, by the bytes that they claim."""
FEW = ("--max-memory", "500M")
"""For claims that a large machine would allow."""
TOO_LATE = ("Unable to allocate", "out of memory", "MemoryError")
"""What is said when memory was asked for, and was not there."""
ROOM_BYTES = 700 * MIB
TIMES = 4
"""What refusing a bomb may take of memory, and as many times what there is of it on the disk."""
N_HOSTILE = 40
"""Small hostile files in a case, read one after another by one process."""


def draw(case: Case) -> Details:
    """Draw a bomb, and who opens it."""
    rng = case.rng()
    file = FILES[case.index % len(FILES)]
    return {"file": file, "claimed": rng.choice(list(SHAPES)), "csv": rng.choice(CSV), "log": rng.choice(LOG),
            "config": rng.choice(CONFIG), "ranks": rng.choice((1, 2)),
            "few": rng.random() < 0.5, "readers": [list(command) for command in rng.sample(READERS, 2)]}  # fmt: skip


def strike(details: Details, place: Place, judge: Judge) -> None:
    """Have a command open a bomb."""
    file, n = details["file"], details["ranks"]
    limits: dict[str, Any] = {"address_bytes": JOB_BYTES}
    few = FEW if details["few"] or details["claimed"] == min(SHAPES) else ()
    if file == "log":
        log_bomb(place.run, details["log"], 62 * MIB)
        for command in (tuple(words) for words in details["readers"]):
            outcome = read_by(place, command, place.run)
            judge.answered(outcome, " ".join(command))
            judge.bounded(outcome, " ".join(command), ROOM_BYTES + TIMES * _on_disk(place.path))
        outcome = place.resume(n, **limits)
    elif file == "config":
        config_bomb(place.path / "own.toml", details["config"], 1 << 30)
        outcome = place.job(n, "--config", "own.toml", "--output", "elsewhere", *few, **limits)
    elif file == "csv":
        csv_bomb(place.path / "own.csv", details["csv"], 1 << 30)
        outcome = place.job(n, "--data", "own.csv", "--target", "-1", "--output", "elsewhere", *few, **limits)
    elif file == "checkpoint":
        place.copy_killed(n, SMALL)
        _zip(place.run / "checkpoint-5000.npz", "parameters/W1", details, filled=True)
        outcome = place.resume(n, **limits)
        judge.ended(outcome, "--resume", (0,))  # it is passed over
        judge.bounded(outcome, "--resume", ROOM_BYTES)
        outcome = place.job(n, "--from", "run/checkpoint-5000.npz", "--output", "elsewhere", *few, **limits)
    else:
        _zip(place.path / "own.npz", "X", details, filled=file.endswith("filled"))
        outcome = place.job(n, "--data", "own.npz", "--output", "elsewhere", *few, **limits)
    judge.refused(outcome, file)
    judge.need(not any(words in outcome.err for words in TOO_LATE), f"{file}: refused too late: {tail(outcome)}")
    judge.bounded(outcome, file, ROOM_BYTES + TIMES * _on_disk(place.path))


def _zip(path: Path, name: str, details: Details, *, filled: bool) -> None:
    claimed = details["claimed"] if not filled else min(details["claimed"], 8 << 30)
    zip_bomb(path, name, claimed + 128, SHAPES[claimed], filled=filled)


def _on_disk(folder: Path) -> int:
    """Return what the largest file of a case takes of the disk."""
    return max((512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file()), default=0)


def draw_hostile(case: Case) -> Details:
    """Draw where small hostile files come from."""
    return {"soil": case.rng().randrange(1 << 30)}


def strike_hostile(details: Details, place: Place, judge: Judge) -> None:
    """Have one process read many small hostile .npz files in every way: each ends in an answer or an error of ours."""
    outcome = place.start(
        place.mpi.python, "-m", hostile_arrays.__name__, "--files", str(N_HOSTILE), "--seed", str(details["soil"]),
        "--kinds", *array_files.SMALL_KINDS, address_bytes=JOB_BYTES,
    )  # fmt: skip
    judge.ended(outcome, "reader", (0,))
    judge.bounded(outcome, "reader", ROOM_BYTES)
