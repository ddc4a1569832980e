"""Records as bytes: written with a checksum, and found again in bytes that cannot be trusted."""

import struct
import zlib
from typing import Any, NamedTuple

import msgpack

Record = dict[str, Any]

MAX_RECORD_BYTES = 64 << 20
MAX_TEXT_BYTES = 1 << 20
CRC_KEY = b"\xa3crc"
CRC_BYTES = len(CRC_KEY) + 5  # the key, the marker 0xce and four bytes
FIRST_KEY = b"\xa4kind"
MAX_CANDIDATES = 16
"""Places that look like a record's end and are tried before the record is decoded to find it."""
HEAD_BYTES = 128
MAX_TAIL_VALUES = 1 << 20
MAX_TAIL_BYTES = 4 * MAX_RECORD_BYTES
"""What is looked at in a tail that does not decode: a hostile file need not cost minutes."""


class Head(NamedTuple):
    """The keys that each record of ours begins with; ``epoch`` is 0 where that is not the one behind them."""

    kind: str
    seq: int
    epoch: int


def unpacker(data: bytes | memoryview) -> msgpack.Unpacker:
    """Return an unpacker over the bytes whose limits keep a hostile file from claiming memory it does not fill."""
    result = msgpack.Unpacker(
        max_buffer_size=3 * MAX_RECORD_BYTES,
        max_array_len=1 << 20,
        max_map_len=1 << 16,
        max_str_len=MAX_TEXT_BYTES,
        max_bin_len=MAX_TEXT_BYTES,
        max_ext_len=0,
    )
    result.feed(data)
    return result


def encode(record: Record) -> bytes:
    """Pack a record as one map with ``crc`` behind its own keys: CRC-32 of all bytes before the 0xce marker."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(record) + 1)
    for key, value in record.items():
        packer.pack(key)
        packer.pack(value)
    packer.pack("crc")
    body: bytes = packer.bytes()
    return body + b"\xce" + struct.pack(">I", zlib.crc32(body))


def record_end(window: bytes, start: int) -> int:
    """Return where the record that begins at ``start`` ends, found by its checksum and not decoded; 0 if it is not.

    Bytes up to a checksum that matches them are a record as it was written, or one in 2^32 by chance.
    """
    crc, done = 0, start
    view = memoryview(window)
    for _ in range(MAX_CANDIDATES):
        at = window.find(CRC_KEY + b"\xce", done)
        if at < 0:
            return 0
        body = at + len(CRC_KEY)
        crc, done = zlib.crc32(view[done:body], crc), body
        if window[body + 1 : body + 5] == crc.to_bytes(4):
            return body + 5
    return 0


def damage(record: Any, data: bytes) -> str:
    """Say what is wrong with ``data`` as the bytes of a record that was decoded from them; nothing if all is well."""
    if not isinstance(record, dict) or next(reversed(record), None) != "crc":
        return "damaged record (not a map that ends with its checksum)"
    if data[-CRC_BYTES:-4] != CRC_KEY + b"\xce":
        return "damaged record (checksum not where it belongs)"
    if record["crc"] != zlib.crc32(memoryview(data)[:-5]):
        return "damaged record (checksum does not match)"
    return ""


def peek(data: bytes) -> Head | None:
    """Return the head of a record that begins as ours do: ``kind``, ``seq``, ``t``; None of any other."""
    values = unpacker(memoryview(data)[:HEAD_BYTES])
    try:
        size = values.read_map_header()
        found = [values.unpack() for _ in range(min(2 * size, 6))]
        more = [values.unpack(), values.unpack()] if size > 4 else []
    except Exception:  # msgpack's own errors share no base class
        return None
    kinds = [type(value) for value in found]
    if found[::2] != ["kind", "seq", "t"] or kinds[1::2] != [str, int, float]:
        return None
    epoch = more[1] if more and more[0] == "epoch" and type(more[1]) is int else 0
    return Head(found[1], found[3], epoch)


def pick(data: bytes, names: set[str]) -> Record:
    """Decode only these fields of a whole record, and what must be passed over to come to them.

    Raises what msgpack raises. No rule has been asked about the values.
    """
    values = unpacker(data)
    found: Record = {}
    for _ in range(values.read_map_header()):
        key = values.unpack()
        if key in names:
            found[key] = values.unpack()
            if len(found) == len(names):
                break
        else:
            values.skip()
    return found


_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin 8, 16, 32 and str 8, 16, 32
_FIXED_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
                0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # fmt: skip


def claims_too_much(tail: bytes) -> bool:
    """Say whether an unfinished record holds a text or bytes over the limit, which no writer of ours began.

    msgpack itself looks at such a length only once the bytes are there. Values follow each other without
    padding, so their headers can be walked without regard to nesting.
    """
    at = 0
    for _ in range(MAX_TAIL_VALUES):
        if at >= len(tail):
            break
        code = tail[at]
        size = _LENGTH_BYTES.get(code, 0)
        length = int.from_bytes(tail[at + 1 : at + 1 + size]) if size else code & 0x1F if 0xA0 <= code <= 0xBF else 0
        if length > MAX_TEXT_BYTES:
            return True
        at += 1 + size + length + _FIXED_BYTES.get(code, 0)
    return False


def could_be_log(window: bytes) -> bool:
    """Say whether a file that starts like this may be a log: a map whose first key is ``kind``."""
    start = 1 if window[0] & 0xF0 == 0x80 else 3 if window[0] == 0xDE else 0
    return start > 0 and FIRST_KEY.startswith(window[start : start + len(FIRST_KEY)])


def ends_complete(tail: bytes) -> bool:
    """Say whether the bytes end as a whole record does, with its checksum."""
    return tail[-CRC_BYTES:-5] == CRC_KEY or tail[-CRC_BYTES + 1 : -4] == CRC_KEY[1:] + b"\xce"


def later_record(tail: bytes) -> bool:
    """Say whether a whole record stands somewhere behind the first bytes of ``tail``: its checksum tells."""
    view, left, crc_at = memoryview(tail), MAX_TAIL_BYTES, 0
    at = tail.find(FIRST_KEY, len(FIRST_KEY) + 3)
    while at >= 0 and left > 0:
        if crc_at < at:
            crc_at = tail.find(CRC_KEY + b"\xce", at)
        if crc_at < 0:
            break
        end = crc_at + len(CRC_KEY)
        for header in (1, 3):
            if tail[end + 1 : end + 5] == struct.pack(">I", zlib.crc32(view[at - header : end])):
                return True
            left -= end - at + 1000  # looking costs as much time as that many bytes
        at = tail.find(FIRST_KEY, at + 1)
    return False


FORMAT = "rankwise-log"


VERSION = 1


GOING_ON = ("resume", "shrink")
"""Events after which a run goes on as other processes, from the epoch and the step they name."""
