"""``python -m tests.fuzz log|checkpoint|config --seconds N``: look for bytes that break a reader, with atheris."""

import argparse
import os
import resource
import sys
import tempfile
import zipfile
from pathlib import Path

NAMES = ("log", "checkpoint", "config")
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


def main() -> None:
    """Fuzz until the time is over or something is found; then atheris leaves the input in a file ``crash-...``."""
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="rankwise-fuzz-"))
    without_checksums()
    if options.input:
        from tests.fuzz.targets import TARGETS

        TARGETS[options.target].run(options.input.read_bytes(), folder)
        return
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
