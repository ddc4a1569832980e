"""A damaged log: what is whole is read, and resuming mends it; time and memory stay bounded whatever the file holds."""

import io
import json
import os
import random
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest

from common import limits
from common.errors import LogError, LogVersionError, RankwiseError
from common.run_files import LOG_NAME, checkpoints_in
from ps.coordinator.earlier_run import find_run, read_run
from ps.coordinator.run_folder import make_folder
from ps.logfile import mending, writer
from ps.logfile.deduplicated import DeduplicatedReader
from ps.logfile.reader import LogReader, read
from ps.logfile.rebuilt import rebuild_header
from ps.logfile.records import Record, encode
from ps.logfile.salvage import SalvageReader
from ps.logfile.schema import Check
from ps.logfile.writer import RetryQueue, RunLog
from ps.reader.commands.cli import main
from ps.reader.comparison_view import ComparisonView
from ps.reader.run_view import RunView
from tests import synthetic
from tests.ranks import finish, jobs, popen, records
from tests.synthetic import Again, write_run
from workers.supervisor.run_monitor import RunMonitor
from workers.watchdog.log_events import append_events

CONFIG = 'mode = "allreduce"\nloss = "cross-entropy"\n'


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (write_run(tmp_path_factory.mktemp("log") / "run", epochs=9, ranks=3) / LOG_NAME).read_bytes()


def places(data: bytes) -> list[int]:
    """Return where each record begins, and where the last one ends, found without our reader."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    return [0, *(unpacker.tell() for _ in unpacker)]


def salvage(path: Path, data: bytes) -> tuple[list[int], SalvageReader]:
    path.write_bytes(data)
    reader = SalvageReader(path, Check(), header=rebuild_header)
    return [record["seq"] for record in reader.records()], reader


def test_a_whole_log_is_read_as_it_is(tmp_path: Path, good: bytes) -> None:
    found, reader = salvage(tmp_path / "log", good)
    assert found == list(range(len(places(good)) - 1))
    assert not reader.damage
    found, reader = salvage(tmp_path / "log", good[:-5])
    assert found == list(range(len(places(good)) - 2))
    assert (bool(reader.damage), reader.torn) == (False, len(good) - 5 - places(good)[-2])


def test_a_flipped_bit_costs_the_record_it_is_in(tmp_path: Path, good: bytes) -> None:
    """Anywhere but in the header; the same, what cuts the record in two or makes it claim another length."""
    begins, rng = places(good), random.Random(0)
    for _ in range(150):
        bit = rng.randrange(8 * begins[1], 8 * len(good))
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        hit = next(i for i, end in enumerate(begins[1:]) if bit // 8 < end)
        found, reader = salvage(tmp_path / "log", bytes(damaged))
        assert found == [seq for seq in range(len(begins) - 1) if seq != hit], bit
        (place,) = reader.damage.places
        last = hit == len(begins) - 2
        assert (place.offset, place.bytes, place.missing) == (begins[hit], begins[hit + 1] - begins[hit], not last), bit


def zeros(data: bytes, a: int, b: int) -> bytes:
    return data[:a] + bytes(b - a) + data[b:]


DAMAGES: dict[str, Callable[[bytes, list[int]], tuple[bytes, list[int], int]]] = {
    # the bytes, the records that are left, and the bytes of the file that are none of them
    "4,096 zeros": lambda d, p: (zeros(d, p[3] + 9, p[5] + 9), [0, 1, 2, *range(6, len(p) - 1)], p[6] - p[3]),
    "zeros at the end": lambda d, p: (d + bytes(4096), [*range(len(p) - 1)], 4096),
    "garbage at the end": lambda d, p: (d + b"\xde\x12junk" * 700, [*range(len(p) - 1)], 4200),
    "bytes cut out": lambda d, p: (d[: p[3] + 20] + d[p[5] + 9 :], [0, 1, 2, *range(6, len(p) - 1)], p[6] - p[5] + 11),
    "whole records cut out": lambda d, p: (d[: p[3]] + d[p[5] :], [0, 1, 2, *range(5, len(p) - 1)], 0),
    "appended to itself": lambda d, p: (d + d, [*range(len(p) - 1)], len(d)),
    "an older part again": lambda d, p: (d[: p[6]] + d[p[3] : p[5]] + d[p[6] :], [*range(len(p) - 1)], p[5] - p[3]),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_what_is_whole_is_read(tmp_path: Path, good: bytes, case: str) -> None:
    data, left, lost = DAMAGES[case](good, places(good))
    path = tmp_path / LOG_NAME
    found, reader = salvage(path, data)
    assert found == left
    assert (reader.damage.n, reader.damage.bytes) == (1, lost)
    with pytest.raises(LogError) as caught:
        list(read(path))
    assert caught.value.damaged
    log = RunLog(path, new=False)
    log.append("event", what="later")
    log.close()
    now = list(read(path))
    assert [(r["kind"], r["t"]) for r in now[:-2]] == [(r["kind"], r["t"]) for r in SalvageReader(path).records()][:-2]
    assert len(now) == len(left) + 2
    note = now[-2]
    assert (note["what"], note["bytes"]) == ("salvage", lost)
    aside = path.with_name("coordinator-damaged-1.msgpack")
    assert note["original"] == (aside.name if lost else "")
    assert not lost or aside.read_bytes() == data
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_original_never_replaces_another(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / LOG_NAME
    (tmp_path / "coordinator-damaged-1.msgpack").symlink_to(tmp_path / "elsewhere")
    for number in (2, 3):
        path.write_bytes(good + b"x" * number)
        RunLog(path, new=False).close()
        assert (tmp_path / f"coordinator-damaged-{number}.msgpack").read_bytes() == good + b"x" * number
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_that_cannot_be_kept_aside_stays_as_it_is(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / LOG_NAME
    path.write_bytes(good + b"x")
    monkeypatch.setattr(mending, "copy_with_holes", full)
    with pytest.raises(OSError, match="No space"):
        RunLog(path, new=False)
    assert path.read_bytes() == good + b"x"
    assert os.listdir(tmp_path) == [LOG_NAME]


def headless(folder: Path, good: bytes, config: str = CONFIG) -> Path:
    path = folder / LOG_NAME
    path.write_bytes(bytes(100) + good[100:])
    if config:
        (folder / "config.toml").write_text(config)
    return path


def test_a_lost_header_is_made_of_the_options_and_the_records(tmp_path: Path, good: bytes) -> None:
    path = headless(tmp_path, good)
    view = RunView(path, salvage=True)
    assert [record["seq"] for record in view.read()] == list(range(len(places(good)) - 1))
    assert (view.header["rebuilt"], view.header["world"], view.metric, view.state) == (True, 3, "accuracy", "done")
    assert view.header["data"]["rows"]["train"] == synthetic.ROWS * synthetic.STEPS


def test_without_the_options_there_is_one_message(
    tmp_path: Path, good: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = headless(tmp_path, good, config="")
    with pytest.raises(SystemExit):
        main(["show", str(path), "--salvage"])
    assert "the header is lost" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["export", str(path), "--jsonl", "--salvage"])
    assert not caught.value.code
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == [
        *range(1, len(places(good)) - 1)
    ]
    with pytest.raises(LogError, match="header is lost"):
        RunLog(path, new=False)  # as a watchdog opens it, which knows nothing of the run
    assert path.read_bytes() == bytes(100) + good[100:]


def test_a_job_that_knows_the_run_makes_a_header_of_that(tmp_path: Path, good: bytes) -> None:
    facts = synthetic.header(2)
    for data in (bytes(100) + good[100:], bytes(len(good)), b"", None):
        path = tmp_path / LOG_NAME
        path.unlink(missing_ok=True)
        if data is not None:
            path.write_bytes(data)
        said: list[str] = []
        RunLog(path, new=False, facts=facts, warn=said.append).close()
        check = Check()
        now = list(LogReader(path, check).records())
        assert now[0]["rebuilt"]
        assert now[0]["data"] == facts["data"]
        assert now[0]["world"] == (3 if data and data[-1] else 2)  # that of the records, if there are any
        assert len(now) == (len(places(good)) if data and data[-1] else 2)
        assert len(said) == 1


def test_another_version_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(encode({"kind": "header", "seq": 0, "t": 0.0, "format": "rankwise-log", "v": 2}))
    for open_it in (lambda: list(SalvageReader(path).records()), lambda: RunLog(path, new=False, facts={})):
        with pytest.raises(LogVersionError, match="format version 2"):
            open_it()


def test_an_event_that_is_lost_is_made_of_what_follows(tmp_path: Path) -> None:
    """Else lists would have another length than there are ranks, and epochs that were done again would count twice."""
    for again in (Again(4, 3), Again(4, 5), Again(3, 5, until=4)):
        run = write_run(tmp_path / f"{again.ranks}-{again.epoch}", epochs=6, ranks=3, again=[again])
        data, path = (run / LOG_NAME).read_bytes(), run / LOG_NAME
        whole = [r["epoch"] for r in DeduplicatedReader(path).records() if r["kind"] == "epoch"]
        hit = next(i for i, r in enumerate(records(run)) if r.get("what") == "resume")
        path.write_bytes(zeros(data, places(data)[hit] + 5, places(data)[hit] + 9))
        reader = DeduplicatedReader(path, Check(), salvage=True)
        assert [r["epoch"] for r in reader.records() if r["kind"] == "epoch"] == whole
        assert reader.damage.n == 1
        RunLog(path, new=False).close()
        reader = DeduplicatedReader(path, Check())
        assert [r["epoch"] for r in reader.records() if r["kind"] == "epoch"] == whole


COMMANDS = {
    "show": [], "list": [], "export": ["--csv"], "report": [], "plot": [], "compare": [], "trace": [], "whatif": [],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_what_is_whole(
    tmp_path: Path, good: bytes, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "bad"
    run.mkdir()
    (run / LOG_NAME).write_bytes(zeros(good, places(good)[3] + 5, places(good)[3] + 9))
    arguments = [command, str(tmp_path if command == "list" else run), *COMMANDS[command]]
    arguments += [str(run)] * (command == "compare")

    def end(*more: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as caught:
            main([*arguments, *more])
        said = capsys.readouterr()
        return caught.value.code or 0, " ".join(f"{said.out}{said.err}".split())

    code, said = end()
    assert (
        (code, "damaged: byte" in said) == (0, True) if command == "list" else (code, "--resume" in said) == (1, True)
    )
    code, said = end("--salvage")
    assert code == 0, said
    if command == "report":
        said = Path("report.html").read_text()
    assert ("1 damaged place" if command == "list" else "1 record lost") in said


def test_a_bad_log_of_another_program_has_no_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / LOG_NAME).write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    for more in ([], ["--salvage"]):
        with pytest.raises(SystemExit):
            main(["show", str(tmp_path), *more])
        said = capsys.readouterr().err
        assert "another program" in said
        assert "--resume" not in said


def test_where_nothing_is_whole_the_checkpoints_are_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG_NAME).write_bytes(bytes(5000))
    for remedy in (False, True):
        with pytest.raises(SystemExit):
            main(["show", str(tmp_path), "--salvage"])
        said = capsys.readouterr().err
        assert "no whole record in it (nothing but zeros, as a power cut leaves them)" in said
        assert ("training with --resume continues" in said) is remedy
        (tmp_path / "checkpoint-5.npz").touch()


def test_a_header_of_which_nothing_tells_when_it_was_is_as_old_as_the_options(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    os.utime(tmp_path / "config.toml", (1e9, 1e9))
    (tmp_path / LOG_NAME).write_bytes(bytes(5000))
    said: list[str] = []
    RunLog(tmp_path / LOG_NAME, new=False, facts=synthetic.header(2), warn=said.append).close()
    assert next(read(tmp_path / LOG_NAME))["t"] == 1e9
    assert "(5,000 bytes lost: nothing but zeros, as a power cut leaves them)" in said[0]


# the writer


def filled(path: Path, n: int) -> RunLog:
    log = RunLog(path)
    log.append("header", **synthetic.header(2))
    for number in range(n):
        log.append("event", what="error", message=f"{number}" * 50)
    return log


@pytest.mark.parametrize("size", [0, 100, 3000, 4000])
def test_what_is_cut_off_from_outside_is_written_again(tmp_path: Path, size: int) -> None:
    said: list[str] = []
    log = filled(tmp_path / LOG_NAME, 30)
    whole = (tmp_path / LOG_NAME).read_bytes()
    os.truncate(tmp_path / LOG_NAME, size)
    log._warn = said.append
    log.append("end", status="ok")
    log.close()
    assert (tmp_path / LOG_NAME).read_bytes().startswith(whole)
    assert len(list(read(tmp_path / LOG_NAME))) == 32
    assert "written again" in said[0]


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_what_is_not_known_any_more_is_noted(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RECENT_BYTES", 500)
    said: list[str] = []
    log = filled(tmp_path / LOG_NAME, 30)
    before = len([None for end in places((tmp_path / LOG_NAME).read_bytes())[1:] if end <= size])
    os.truncate(tmp_path / LOG_NAME, size)
    queue = RetryQueue(log, said.append)
    log._warn = said.append
    queue.append("event", what="later")
    log.close()
    now = list(LogReader(tmp_path / LOG_NAME, Check()).records())
    assert now[-1]["what"] == "later"
    note = now[-2]
    assert note["what"] == "salvage"
    assert max(before, 1) + note["missing"] + len(now) - 2 - max(before, 1) == 31
    assert note["missing"] > 0
    assert "lost" in said[0]
    assert not queue.missing()


def test_what_is_appended_from_outside_is_cut_off(tmp_path: Path) -> None:
    log = filled(tmp_path / LOG_NAME, 3)
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(b"junk")
    log.append("end", status="ok")
    log.close()
    assert len(list(read(tmp_path / LOG_NAME))) == 5


def test_a_log_that_somebody_else_made_meanwhile_is_not_taken(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job may have mended the log, and put a new one in its place, between opening and locking."""
    path = tmp_path / LOG_NAME
    path.write_bytes(good)

    def late(handle: int, log: Path) -> None:
        (tmp_path / "new").write_bytes(good)
        (tmp_path / "new").replace(path)

    monkeypatch.setattr(writer, "lock_file", late)
    with pytest.raises(BlockingIOError, match="just begun"):
        RunLog(path, new=False)


def test_a_watchdog_adds_its_events_to_a_damaged_log(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(good + bytes(50))
    event = {"what": "death", "rank": 1, "host": "node0", "message": "rank 1 on node0 died", "noticed": 5.0}
    for _ in range(2):
        assert append_events(path, [event], 0.0)
    assert [r["what"] for r in read(path) if r["kind"] == "event"] == ["salvage", "death"]


def test_a_supervisor_knows_what_is_new_in_a_log_that_was_mended(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / LOG_NAME
    path.write_bytes(zeros(good, places(good)[3] + 5, places(good)[3] + 9))
    monitor = RunMonitor(tmp_path)
    assert not monitor.done
    log = RunLog(path, new=False)
    log.append("event", what="death", rank=1, host="a", message="rank 1 on a died (gone)", noticed=5.0)
    log.close()
    outcome = monitor.outcome(1, "")
    assert outcome.deaths == ((1, "a"),)
    assert not monitor.done
    assert monitor.outcome(1, "").deaths == ()
    (tmp_path / "checkpoint-5.npz").write_bytes(b"")
    path.write_bytes(b"")
    monitor.clear()
    assert path.exists()  # it is the sign of a run that can be continued


# hostile files


def test_a_log_that_claims_a_terabyte_takes_no_longer(tmp_path: Path, good: bytes) -> None:
    """Its holes are neither read nor copied, whatever lies between them."""
    path, begins = tmp_path / LOG_NAME, places(good)
    path.write_bytes(good[: begins[4]])
    os.truncate(path, 1 << 40)
    with path.open("ab") as file:
        file.write(good[begins[6] :])
    os.truncate(path, 1 << 41)
    reader = SalvageReader(path)
    left = [0, 1, 2, 3, *range(6, len(begins) - 1)]
    assert [record["seq"] for record in reader.records()] == left
    assert reader.damage.bytes == (1 << 41) - begins[4] - (len(good) - begins[6])
    RunLog(path, new=False).close()
    assert len(list(read(path))) == len(left) + 1
    aside = (tmp_path / "coordinator-damaged-1.msgpack").stat()
    assert (aside.st_size, aside.st_blocks < 10_000) == (1 << 41, True)


def test_a_log_that_cannot_be_mended_for_want_of_room_is_named(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def close(self) -> None:
            raise OSError(28, "No space left on device")

        flush = close

        def fileno(self) -> int:
            return 0

    def create(path: Path, *_: object, **how: object) -> Full:
        assert how == {"append": True}
        path.touch()
        return Full()

    path = tmp_path / LOG_NAME
    path.write_bytes(good + b"x")
    monkeypatch.setattr(mending, "create_new", create)
    monkeypatch.setattr(mending, "_keep", lambda log: "")
    with pytest.raises(OSError, match="No space") as caught:
        RunLog(path, new=False, lock=False)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == [LOG_NAME]


def forged(seq: int, key: str, payload: bytes, **fields: object) -> bytes:
    """Return a record with a right checksum that ends with bytes as they are."""
    record = {"seq": seq, "t": 1.0, **fields}
    body = bytes([0x80 | len(record) + 2]) + b"".join(map(msgpack.packb, (x for pair in record.items() for x in pair)))
    body += msgpack.packb(key) + payload + msgpack.packb("crc")
    return body + b"\xce" + struct.pack(">I", zlib.crc32(body))


def of_kind(kind: str, seq: int, payload: bytes, **fields: object) -> bytes:
    data = forged(seq, "x", payload, **fields)
    body = bytes([data[0] + 1]) + msgpack.packb("kind") + msgpack.packb(kind) + data[1:-5]
    return body + b"\xce" + struct.pack(">I", zlib.crc32(body))


def lists(n: int) -> bytes:
    return b"\xdd" + struct.pack(">I", n) + b"\x90" * n


def nested(n: int, inner: bytes) -> bytes:
    return b"\xdc" + struct.pack(">H", n) + inner * n


FINDING = {"code": "a", "severity": "info", "ranks": [], "text": "a", "remedy": "b"}
PLACE = {"epoch": 1, "step": 0, "ranks_before": 3, "ranks": 3}


def bombs() -> Iterator[tuple[str, bytes]]:
    big = lists(200_000)
    yield "lists in a record", of_kind("strange", 1, nested(8, lists(1 << 20)))
    yield "maps in a record", of_kind("strange", 1, nested(4, b"\xdd\x00\x08\x00\x00" + b"\x81\xa0\xc0" * (1 << 19)))
    yield "verdicts", b"".join(of_kind("verdict", i, big, **FINDING, evidence={}) for i in range(1, 30))
    yield "events", b"".join(of_kind("event", i, big, what=f"w{i}") for i in range(1, 30))
    yield "jobs", b"".join(of_kind("event", i, b"\xc0", what="resume", **PLACE) for i in range(1, 6_000))


@pytest.mark.parametrize(("name", "data"), [pytest.param(*bomb, id=bomb[0].replace(" ", "-")) for bomb in bombs()])
def test_a_log_takes_memory_by_its_size(tmp_path: Path, good: bytes, name: str, data: bytes) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / LOG_NAME).write_bytes(good[: places(good)[1]] + data)
    program = (
        "import sys, runpy\n"
        "from ps.reader.commands.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    )
    result = finish(popen([sys.executable, "-c", program, "show", str(run)], cwd=tmp_path))
    assert "Traceback" not in result.err, result.err
    peak = 1024 * int(result.err.split("VmHWM:")[1].split()[0])
    assert peak < (250 << 20) + 10 * len(data), f"{name}: {peak >> 20} MB"


def test_time_grows_with_the_bytes_of_a_hostile_file(tmp_path: Path, good: bytes) -> None:
    """Every few bytes could begin a record, or end one, or are damage; what is found is counted, not timed."""
    begin = good[: places(good)[1]]
    small = [encode({"kind": "event", "seq": seq, "t": 1.0, "what": "x"}) for seq in range(1, 3_000)]
    for junk in (
        b"\x82\xa4kind" * 100_000,
        b"\x82\xa4kind\xda\xff\xff" * 50_000,
        b"\x82\xa4kind\xa3crc\xce" * 50_000,
        b"\xa4kind" * 50_000 + b"\xa3crc\xce" + bytes(4),
        b"".join(one + b"\xc1" for one in small),
        b"".join(b"\xdf\x00\xff" + one for one in small),
    ):
        found, reader = salvage(tmp_path / "log", begin + junk + good[len(begin) :])
        assert found[0] == 0
        assert len(found) <= 3_000 + len(places(good))
        assert reader.damage.n <= limits.DAMAGES
        assert len(reader.damage.places) <= limits.DAMAGES_NAMED


def test_too_many_damaged_places_end_the_search(tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from ps.logfile import damage

    monkeypatch.setattr(damage, "DAMAGES", 5)
    small = b"".join(encode({"kind": "event", "seq": seq, "t": 1.0, "what": "x"}) + b"\xc1" for seq in range(1, 20))
    found, reader = salvage(tmp_path / "log", good[: places(good)[1]] + small)
    assert found == list(range(7))
    assert "too many damaged places" in reader.damage.places[-1].reason
    assert reader.damage.end == (tmp_path / "log").stat().st_size


def test_a_forged_number_does_not_keep_out_the_rest(tmp_path: Path, good: bytes) -> None:
    p = places(good)
    far = encode({"kind": "event", "seq": 2**60, "t": 1.0, "what": "x"})
    found, reader = salvage(tmp_path / "log", good[: p[3]] + far + good[p[3] :])
    assert found == list(range(len(p) - 1))
    assert "more than there can be" in reader.damage.places[0].reason


@pytest.mark.slow
@pytest.mark.any_mpi
def test_views_keep_as_many_values_as_they_may() -> None:
    view, measured = RunView(Path("log")), ComparisonView()
    view.add({"kind": "header", "seq": 0, "t": 0.0, **synthetic.header(3)})
    big = [[] for _ in range(25_000)]  # type: ignore[var-annotated]
    for i in range(1, 30):
        view.add({"kind": "verdict", "seq": i, "t": 1.0, **FINDING, "evidence": {"x": big}})
        view.add({"kind": "event", "seq": i, "t": 1.0, "what": f"w{i}", "x": big})
        view.add({"kind": "event", "seq": i, "t": 1.0, "what": "resume", **PLACE, "x": big})
        measured.add({"kind": "trial", "x": big})
        measured.add({"kind": "sweep", "x": big})
    most = limits.VALUES // 100_000 - 1  # each holds a few more values than that
    assert (len(view.verdicts), view.n_verdicts) == (most, 29)
    assert len(view.events) <= most
    assert view.events[-1]["seq"] == 29
    assert len(view.sessions) <= most + 1
    assert len(view.sessions) + view.n_left_out == 30
    assert view.header_at({"seq": 29}) == view.sessions[-1].header
    assert len(measured.trials) + len(measured.sweeps) <= most
    whole: Record = {}
    view.add({"kind": "verdict", "seq": 31, "t": 1.0, **FINDING, "evidence": whole})
    assert len(view.verdicts) == most + 1


# whole jobs


def test_a_run_with_a_damaged_log_is_resumed_with_the_bits_of_one_without(tmp_path: Path) -> None:
    options = ("--hidden", "16", "--batch-size", "300", "--epochs", "3", "--checkpoint-every", "1", "--keep", "9")
    begun = jobs(2, tmp_path / "first", {"whole": ["-m", "workers.run", *options]})["whole"]
    assert begun.code == 0, begun.err
    whole = tmp_path / "first" / "whole"
    log, oldest = (whole / LOG_NAME).read_bytes(), checkpoints_in(whole)[-1]
    p = places(log)
    epoch = next(i for i, r in enumerate(records(whole)) if r["kind"] == "epoch")
    cut = log[: p[epoch + 4]]  # as a job leaves it that was killed later
    copies = {
        "damaged": zeros(cut, p[epoch] + 20, p[epoch] + 30),
        "headless": zeros(cut, 0, 60),
        "zeros": bytes(len(cut)),
        "gone": None,
        "cut off": log[: p[epoch]],
    }
    for name, data in copies.items():
        folder = tmp_path / name
        folder.mkdir()
        for path in (whole / "config.toml", oldest):
            shutil.copy(path, folder)
        if data is not None:
            (folder / LOG_NAME).write_bytes(data)
    resumed = {name: ["-m", "workers.run", "--resume", str(tmp_path / name)] for name in copies}
    with np.load(whole / "model.npz", allow_pickle=False) as arrays:
        want = {name: arrays[name].tobytes() for name in arrays.files}
    for name, result in jobs(2, tmp_path / "second", resumed).items():
        assert result.code == 0, f"{name}: {result.err}"
        with np.load(tmp_path / name / "model.npz", allow_pickle=False) as arrays:
            assert {key: arrays[key].tobytes() for key in arrays.files} == want, name
        now = list(LogReader(tmp_path / name / LOG_NAME, Check()).records())
        events = [r["what"] for r in now if r["kind"] == "event"]
        (resume,) = (r for r in now if r.get("what") == "resume")
        assert resume["unlogged"] == ([1, 1] if name in ("zeros", "gone", "cut off") else []), name
        if name == "cut off":
            assert f"{LOG_NAME}: epoch 1 is not in it, though trained: its end was cut off or lost" in result.err
            continue
        assert events.index("salvage") < events.index("resume"), name
        assert now[0]["data"]["sha256"] == records(whole)[0]["data"]["sha256"], name
        assert "warning: " in result.err, name
        aside = tmp_path / name / "coordinator-damaged-1.msgpack"
        data = copies[name]
        assert aside.read_bytes() == data if data else not aside.exists()


def test_a_folder_with_checkpoints_of_another_run_is_not_trained_in(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-7.npz").write_bytes(b"")
    with pytest.raises(RankwiseError, match=r"holds checkpoint-7\.npz"):
        make_folder(str(tmp_path), "x")
    assert find_run("auto", str(tmp_path)) == find_run(str(tmp_path), "") == tmp_path
    with pytest.raises(RankwiseError, match=r"config\.toml"):
        read_run(tmp_path / LOG_NAME)
