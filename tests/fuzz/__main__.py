"""``python -m tests.fuzz TARGET``: look for bytes that break a reader, with atheris, or so many of a seed (--cases)."""

import argparse
import os
import random
import resource
import sys
import tempfile
import zipfile
from pathlib import Path

NAMES = ("log", "checkpoint", "config", "npz", "csv", "npy", "libsvm", "idx", "hosts")
READERS = ["common", "ps", "workers", "zipfile", "tomllib"]
"""What is instrumented, for atheris to see which bytes lead where."""
ROOM_BYTES = 512 << 20
"""Memory that reading may take beyond what the process has at the start."""
MOST_BYTES = 20_000


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="a folder of inputs to begin with, which new ones are added to")
    parser.add_argument("--cases", type=int, help="edit right and hostile inputs so many times, without atheris")
    parser.add_argument("--seed", type=int, default=0, help="what these are drawn from")
    parser.add_argument("--input", type=Path, help="read this one only, as a crash leaves it")
    return parser.parse_args()


def limit_memory() -> None:
    """Let this process have little more memory than now: more is a fault."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def without_checksums() -> None:
    """Have zipfile take members whatever their checksum is, or hardly any edited file would get beyond it."""
    zipfile.ZipExtFile._update_crc = lambda self, data: None  # type: ignore[attr-defined]


def edit_and_read(options: argparse.Namespace, folder: Path) -> int:
    """Read inputs with edits drawn from the seed; say what broke a reader, and return how many did."""
    from tests.fuzz.edits import drawn_edits, edited
    from tests.fuzz.targets import TARGETS

    target, rng = TARGETS[options.target], random.Random(f"{options.seed} {options.target}")
    seeds = target.seeds(folder)
    reading = folder / "reading"
    reading.mkdir()
    limit_memory()
    broken = 0
    for number in range(options.cases):
        data = edited(rng.choice(seeds), drawn_edits(rng))
        try:
            target.run(data, reading)
        except Exception as error:
            broken += 1
            kept = folder / f"{options.target}-{number}"
            kept.write_bytes(data)
            again = f"python -m tests.fuzz {options.target} --input {kept}"
            print(f"{number}: {type(error).__name__}: {str(error)[:200]!r}; again: {again}")
    print(f"{options.target}: {options.cases} inputs, {broken} broke a reader")
    return broken


def main() -> None:
    """Fuzz until the time is over or something is found; then atheris leaves the input in a file ``crash-...``."""
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="rankwise-fuzz-"))
    without_checksums()
    if options.input:
        from tests.fuzz.targets import TARGETS

        TARGETS[options.target].run(options.input.read_bytes(), folder)
        return
    if options.cases is not None:
        sys.exit(int(edit_and_read(options, folder) > 0))
    try:
        import atheris
    except ImportError:
        sys.exit("needs atheris: pip install atheris")
    with atheris.instrument_imports(include=READERS):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[options.target]
    corpus = options.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds(folder)):
        (corpus / f"seed-{number}").write_bytes(seed)
    reading = folder / "reading"
    reading.mkdir()
    flags = [f"-max_total_time={options.seconds}", f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], lambda data: target.run(data, reading))
    limit_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    main()
