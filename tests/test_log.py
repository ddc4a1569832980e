"""The log: whole records survive anything, and nothing damaged is ever read as numbers."""

import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import LogError
from ps.logfile.reader import LogReader, read
from ps.logfile.records import Record, encode
from ps.logfile.writer import RunLog
from tests.ranks import finish, popen

N_EPOCHS = 12
relaxed = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(path: Path, epochs: int = N_EPOCHS, ranks: int = 3) -> Path:
    log = RunLog(path)
    log.append("header", format="rankwise-log", v=1, world=ranks)
    for epoch in range(1, epochs + 1):
        log.append("epoch", epoch=epoch, loss=1 / epoch, rows=[epoch] * ranks, share={"W": [1 / ranks] * ranks})
    log.append("end", status="ok")
    log.close()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("log") / "good.msgpack").read_bytes()


def ends(data: bytes) -> list[int]:
    """Return where each record ends, found without our reader."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    return [unpacker.tell() for _ in unpacker]


def load(path: Path, data: bytes) -> tuple[list[Record], LogReader]:
    path.write_bytes(data)
    reader = LogReader(path)
    return list(reader.records()), reader


def test_records_come_back(tmp_path: Path, good: bytes) -> None:
    found, reader = load(tmp_path / "log", good)
    assert [r["kind"] for r in found] == ["header", *["epoch"] * N_EPOCHS, "end"]
    assert [r["seq"] for r in found] == list(range(N_EPOCHS + 2))
    assert all((*r,)[:: len(r) - 1] == ("kind", "crc") for r in found)
    assert found[3]["loss"] == 1 / 3
    assert (reader.torn, reader.offset) == (0, len(good))


def test_any_msgpack_reads_the_file_and_the_checksum_is_as_told(good: bytes) -> None:
    start = 0
    for end in ends(good):
        assert good[end - 9 : end - 4] == b"\xa3crc\xce"
        assert struct.unpack(">I", good[end - 4 : end])[0] == zlib.crc32(good[start : end - 5])
        start = end


def test_every_truncation_keeps_the_records_before_it(tmp_path: Path, good: bytes) -> None:
    places = [0, *ends(good)]
    for cut in range(len(good)):
        found, reader = load(tmp_path / "log", good[:cut])
        whole = sum(1 for place in places[1:] if place <= cut)
        assert len(found) == whole, cut
        assert (reader.offset, reader.torn) == (places[whole], cut - places[whole])


@relaxed
@given(data=st.data())
def test_a_flipped_bit_is_never_read_as_numbers(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    path = tmp_path / "log"
    path.write_bytes(damaged)
    whole = sum(1 for place in ends(good) if place <= bit // 8)
    found: list[Record] = []
    with pytest.raises(LogError) as caught:
        found.extend(read(path))  # extend keeps what came before the error
    assert len(found) == whole
    assert (caught.value.path, caught.value.offset) == (path, [0, *ends(good)][whole])


@relaxed
@given(junk=st.binary(min_size=1, max_size=200))
def test_junk_gives_a_log_error_or_a_torn_beginning(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(junk)
    try:
        found, offset = list(read(path)), 0
    except LogError as error:
        found, offset = [], error.offset
    assert (found, offset) == ([], 0)


HOSTILE = {
    "another program's file": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "text": b"epoch,loss\n1,0.5\n",
    "zeros": bytes(1000),
    "a map without kind": msgpack.packb({"a": 1}),
    "another format": encode({"kind": "header", "seq": 0, "t": 0.0, "format": "x", "v": 1}),
    "a later version": encode({"kind": "header", "seq": 0, "t": 0.0, "format": "rankwise-log", "v": 2}),
    "deep nesting": b"\x82\xa4kind" + b"\x91" * 100_000,
    "a huge array": b"\x82\xa4kind\xdd\xff\xff\xff\xff" + bytes(100),
    "a huge text": b"\x82\xa4kind\xdb\xff\xff\xff\xff" + bytes(100),
    "huge bytes": b"\x82\xa4kind\xc6\xff\xff\xff\xff" + bytes(100),
    "a huge map": b"\xdf\xff\xff\xff\xff\xa4kind" + bytes(100),
    "an extension": b"\x82\xa4kind\xc7\x05\x01hello",
    "no utf-8": b"\x82\xa4kind\xa2\xff\xfe" + bytes(20),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_give_one_log_error(tmp_path: Path, case: str) -> None:
    with pytest.raises(LogError, match="byte 0"):
        load(tmp_path / "log", HOSTILE[case])


def test_damage_behind_good_records_names_its_place(tmp_path: Path, good: bytes) -> None:
    for tail in (bytes(500), b"\xdd\xff\xff\xff\xff", good):
        with pytest.raises(LogError, match=f"byte {len(good)}:"):
            load(tmp_path / "log", good + tail)


def test_a_missing_record_is_noticed(tmp_path: Path, good: bytes) -> None:
    a, b, c = ends(good)[:3]
    with pytest.raises(LogError, match=f"byte {b}: record 3 where 2 belongs"):
        load(tmp_path / "log", good[:b] + good[c:])
    assert a < b


def test_a_reader_knows_where_each_record_stands(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(good)
    reader = LogReader(path)
    found = [(reader.start, reader.offset, record["seq"]) for record in reader.records()]
    assert found == list(zip([0, *ends(good)], ends(good), range(N_EPOCHS + 2), strict=False))
    assert reader.error("odd").offset == ends(good)[-2]


def test_keys_in_another_order_and_false_checksums_are_read(tmp_path: Path, good: bytes) -> None:
    """Other writers may order keys as they like; a record may hold what looks like the end of one, many times."""
    start = good[: ends(good)[0]]
    looks_like_ends = [b"\xa3crc\xce" + bytes(4)] * 50
    strange = encode({"kind": "strange", "bytes": looks_like_ends, "t": 1.0, "seq": 1})
    found, reader = load(tmp_path / "log", start + strange + encode({"kind": "last", "seq": 2, "t": 1.0}))
    assert [r["kind"] for r in found] == ["header", "strange", "last"]
    assert found[1]["bytes"] == looks_like_ends
    assert reader.torn == 0


def test_a_record_that_its_checksum_cuts_short_is_no_record(tmp_path: Path, good: bytes) -> None:
    """A forged checksum in the midst of a record does not end it."""
    start = good[: ends(good)[0]]
    forged = bytearray(encode({"kind": "epoch", "seq": 1, "t": 1.0, "epoch": 1}))
    forged[0] += 1  # one more key than there is
    body = bytes(forged[:-5])
    (tmp_path / "log").write_bytes(start + body + b"\xce" + struct.pack(">I", zlib.crc32(body)) + b"\xa1x\x01")
    found = read(tmp_path / "log")
    next(found)
    with pytest.raises(LogError, match=f"byte {len(start)}: damaged record"):
        next(found)


def test_memory_stays_bounded_on_an_endless_record(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"\xde\xff\xff\xa4kind" + (b"\xda\xff\xff" + b"x" * 65535) * 1200)
        file.truncate(8 << 30)  # sparse: 8 GiB that would not fit
    program = (
        "import sys; from pathlib import Path; from common.errors import LogError; from ps.log import read\n"
        "try: list(read(Path(sys.argv[1])))\n"
        "except LogError as error: print(error.reason)\n"
        # not getrusage: its peak includes pytest's, from before the exec
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    result = finish(popen([sys.executable, "-c", program, str(path)]))
    assert "no whole record within 64 MiB" in result.out, result.err
    assert int(result.out.split()[-2]) < 350_000  # KiB; a record may take 64 MiB, some times over while it is decoded


def test_a_hostile_tail_costs_no_minutes(tmp_path: Path, good: bytes) -> None:
    """Each place in it could be the beginning of a record that goes on to the end."""
    endless = b"\x82\xa4kind" + 100 * b"\xdd\x00\x0f\xff\xff"  # arrays in arrays, a million entries each
    for junk in (b"\xa4kind" * 3_000_000, b"\xa4kind" * 500_000 + bytes(12 << 20), b"\xa4kind\xa3crc\xce" * 1_500_000):
        start = time.process_time()
        found, reader = load(tmp_path / "log", good + endless + junk)
        assert time.process_time() - start < 5
        assert len(found) == N_EPOCHS + 2
        assert reader.torn


def test_fields_are_judged_with_their_place(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(good)
    place = ends(good)[1]
    with pytest.raises(LogError, match=f"byte {place}: second epoch"):
        list(LogReader(path, lambda record: "second epoch" if record.get("epoch") == 2 else "").records())


def test_a_growing_file_is_followed(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"")
    seen: list[str] = []

    def grow() -> Iterator[None]:
        for piece in (good[:10], good[10:200], good[200:-3], good[-3:]):
            with path.open("ab") as file:
                file.write(piece)
            yield

    reader = LogReader(path)
    for _ in grow():
        seen.extend(record["kind"] for record in reader.records())
    assert seen == ["header", *["epoch"] * N_EPOCHS, "end"]


def test_a_full_disk_damages_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = RunLog(path)
    log.append("header", format="rankwise-log", v=1)
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))  # a write over it is cut short, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            log.append("epoch", text="x" * 500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == size
    log.append("end", status="failed")
    log.close()
    assert [r["kind"] for r in read(path)] == ["header", "end"]


def test_the_writer_never_overwrites(tmp_path: Path) -> None:
    write(tmp_path / "log")
    with pytest.raises(FileExistsError):
        RunLog(tmp_path / "log")


def test_numpy_scalars_do_not_slip_in() -> None:
    import numpy as np

    with pytest.raises(TypeError):
        encode({"kind": "epoch", "loss": np.float32(1)})
