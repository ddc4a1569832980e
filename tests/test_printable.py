"""Texts from outside, of logs, files, hosts and exceptions, reach a terminal only as what does not steer it."""

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from common import standard_streams, wording
from common.run_files import LOG_NAME
from common.wording import printable
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.reader.export.csv_json import _cell
from ps.text import terminal
from tests.ranks import environment, records
from tests.synthetic import Again, write_run

HOSTILE = "\x1b]0;pwned\x07\x1b[31m\x9b2J\u202e\u200b\u2066\u2028\U000e0041\x7f\rX\nY|`<b>=1+1"
SHOWN = r"\x1b]0;pwned\x07\x1b[31m\x9b2J\u202e\u200b\u2066\u2028\U000e0041\x7f\x0dX"
KEPT = ("kind", "status", "what", "format", "metric", "effect", "severity", "purpose", "path", "changes")
"""Fields by whose texts a reader knows what a record is."""


def test_what_steers_or_misleads_is_written_out() -> None:
    assert printable(HOSTILE) == f"{SHOWN}\nY|`<b>=1+1"
    assert printable(os.fsdecode(b"run\xff\x80")) == r"run\xff\x80"
    assert printable("\ud834") == r"\ud834"
    plain = "a\tb\nΓειά σου, 東京 한국 שלום مرحبا naïve 🙂 \u00a0\u3000"
    assert printable(plain) == plain
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(c) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        ):  # fmt: skip
            assert printable(c) != c or c in "\t\n", hex(code)
        shown = printable(c)
        assert shown == c or shown.isascii()


def test_of_a_long_text_the_middle_is_left_out() -> None:
    text = f"model: {'x' * 10**6}; do this"
    shown = printable(text, 300)
    assert shown.startswith("model: xxx")
    assert shown.endswith("xxx; do this")
    assert "... (999,716 characters left out) ..." in shown
    assert len(shown) < 400
    lines = "\n".join(str(i) for i in range(100))
    assert printable(lines, 0, 9) == "0\n1\n2\n3\n4\n5\n... (91 lines left out) ...\n97\n98\n99"
    for whole in (lines, "", "a\nb\n"):
        assert printable(whole) == whole
    assert printable("abc", 3, 1) == "abc"
    assert printable("a\nb\nc", 5, 2) == "a\nb\nc"


def test_messages_and_lines_are_printed_so(capsys: pytest.CaptureFixture[str]) -> None:
    standard_streams.complain(f"rankwise: {HOSTILE}{'z' * 10**6}")
    terminal.say(f"Epoch {HOSTILE}")
    terminal.warn(f"{HOSTILE}\n" * 1000)
    out, err = capsys.readouterr()
    assert SHOWN in out
    assert SHOWN in err
    assert len(err) < 4 * wording.MOST_CHARACTERS
    assert err.count("\n") < 3 * wording.MOST_LINES
    assert not wording.NOT_SHOWN.search(out + err)


def test_a_sheet_takes_no_text_for_a_formula() -> None:
    assert [_cell(text) for text in ("=1+1", "@x", "+1", "-1")] == ["'=1+1", "'@x", "'+1", "'-1"]
    assert _cell("n07=\x1b") == "n07=\\x1b"


def hostile(value: Any, names: set[str]) -> Any:
    """Return a value of a record in which each text, and each parameter's name, ends in what is hostile."""
    if isinstance(value, dict):
        return {
            key + HOSTILE if key in names else key: entry if key in KEPT else hostile(entry, names)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [hostile(entry, names) for entry in value]
    return value + HOSTILE if isinstance(value, str) else value


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The log of a run of several jobs, hostile throughout, in a folder whose name is hostile and not UTF-8."""
    folder = tmp_path_factory.mktemp("runs")
    more: list[tuple[str, Record]] = [
        ("verdict", {"code": "x", "severity": "warning", "ranks": [1], "text": "t", "remedy": "r", "evidence": {}}),
        ("event", {"what": "new", "message": "hello"}),
        ("event", {"what": "newer", "facts": "hello"}),
        ("event", {"what": "stall", "message": "m", "stacks": {"1": "File x\n  line"}}),
    ]
    source = write_run(folder / "source", epochs=4, ranks=3, nodes=2, again=[Again(3, 2)], more=more)
    target = os.fsdecode(os.fsencode(folder) + b"/run\xff\x1b[31m")
    os.mkdir(target)
    log = RunLog(Path(target, LOG_NAME))
    names = set(records(source)[0]["model"]["parameters"])
    for record in records(source):
        fields = {k: v for k, v in record.items() if k not in ("kind", "seq", "t", "crc")}
        log.append(record["kind"], **hostile(fields, names))
    log.close()
    Path(target, "failure.txt").write_text(f"{HOSTILE}{'w' * 10**5}{HOSTILE}")
    return target


GOOD = [
    ["show", "--every", "--wide"], ["list", "."], ["compare", "RUN"], ["whatif"], ["watch"],
    ["export", "--csv"], ["export", "--markdown"], ["export", "--jsonl"], ["export", "--tensorboard", "OUT"],
    ["report", "--output", "OUT.html"], ["plot", "--output", "OUT"], ["trace", "--output", "OUT.json"],
]  # fmt: skip
BAD = [
    ["show", "--epoch", "99"], ["show", "no\x1b[31m\udcff"], ["show", "--no\x1b[31m"], ["no\x1b[31m\udcff"],
    ["trace", "--output", "RUN/no/such"],
]  # fmt: skip


@pytest.mark.parametrize("words", GOOD + BAD, ids=lambda words: " ".join(words).encode("ascii", "replace").decode())
def test_no_command_hands_on_what_a_log_or_a_name_holds(words: list[str], run: str, tmp_path: Path) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/new\xfe\x1b")
    command = [word.replace("RUN", run).replace("OUT", out) for word in words]
    if words[0] == "list":
        command[1] = os.path.dirname(run)
    elif words[1:2] != ["no\x1b[31m\udcff"]:
        command.insert(1, run)
    exported = words[0] == "export"
    env = environment(PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8", COLUMNS="150")
    whole = [sys.executable, "-m", "ps.log", *command]
    result = subprocess.run(whole, env=env, capture_output=True, timeout=60, check=False)
    shown, err = result.stdout.decode(), result.stderr.decode()
    assert (result.returncode == 0) == (words in GOOD), err
    assert "Traceback" not in err
    assert err.count("\n") == (result.returncode != 0)
    assert not wording.NOT_SHOWN.search(shown + err)
    assert len(shown) < 10**5
    assert exported or shown.isascii()
    if "--csv" in words:
        assert len({len(row) for row in csv.reader(io.StringIO(shown))}) == 1
    elif "--jsonl" in words:
        first, *_ = map(json.loads, shown.splitlines())
        assert first["nodes"][0]["host"] == f"node0{HOSTILE}"
    elif words in GOOD and words[0] in ("report", "trace"):
        (written,) = tmp_path.iterdir()
        assert not set("\x1b\x07\u202e\u2066") & set(written.read_text())
