"""The log is read by a msgpack library of another language."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import need
from tests.ranks import Result, epochs, records


def test_perl_reads_the_log(job: Callable[..., Result], tmp_path: Path) -> None:
    perl = shutil.which("perl") or "perl"
    check = [perl, "-MData::MessagePack::Stream", "-MCompress::Zlib", "-e", "1"]
    need(subprocess.run(check, capture_output=True, check=False).returncode == 0, "libdata-messagepack-stream-perl")
    assert job(2, "--epochs", "3", "--hidden", "4").code == 0
    log = tmp_path / "run" / "coordinator.msgpack"
    with log.open("ab") as file:
        file.write(log.read_bytes()[:50])  # a torn tail
    script = str(Path(__file__).parent / "read_log.pl")
    out = subprocess.run([perl, script, str(log)], capture_output=True, text=True, check=True).stdout.split()
    ours = epochs(tmp_path / "run")
    assert [int(out[i]) for i in (0, 1, 3, 4)] == [len(records(tmp_path / "run")), 3, 3 * 1259, 50]
    assert float(out[2]) == pytest.approx(sum(e["loss"] for e in ours), abs=1e-11)
