"""Records as bytes: written with a checksum, and looked for in bytes that cannot be trusted."""

import struct
import zlib
from typing import Any

import msgpack

from common.limits import RECORD_BYTES, TEXT_BYTES

Record = dict[str, Any]

FORMAT = "rankwise-log"
VERSION = 1
CONTINUATIONS = ("resume", "shrink")
"""Events after which a run continues as other processes, from the epoch and the step they name."""
CRC_KEY = b"\xa3crc"
CRC_BYTES = len(CRC_KEY) + 5  # the key, the marker 0xce and four bytes
FIRST_KEY = b"\xa4kind"
MAP_HEADER_BYTES = (1, 3)  # a map of up to 15 keys, and one of up to 65,535
LOOK_BYTES = 1000
"""Looking whether a record begins at a place takes as long as that many bytes of its checksum."""
WRONG_LENGTH = "damaged record (its length is wrong)"


SMALL_BYTES = 1 << 20
"""Bytes whose records may hold lists and maps without number: 80 MB at most."""
BYTES_A_LIST, LISTS_A_MAP = 8, 3
"""Of larger records: the least bytes a list takes on average, and as how many lists a map counts.

An empty list takes one byte in the file and 80 in memory, an empty map three times as much. Long records of ours hold
long lists; their shortest are of one number, ten bytes.
"""


def unpacker(data: bytes) -> msgpack.Unpacker:
    """Return an unpacker over the bytes whose limits keep a hostile file from claiming memory it does not fill."""
    hooks = _Containers(len(data) // BYTES_A_LIST).hooks() if len(data) > SMALL_BYTES else {}
    result = msgpack.Unpacker(
        max_buffer_size=3 * RECORD_BYTES,
        max_array_len=1 << 20,
        max_map_len=1 << 16,
        max_str_len=TEXT_BYTES,
        max_bin_len=TEXT_BYTES,
        max_ext_len=0,
        **hooks,
    )
    result.feed(data)
    return result


class _Containers:
    """Counts the lists and maps of records while they are decoded, and stops that when there are too many."""

    def __init__(self, most: int) -> None:
        self._left = most

    def hooks(self) -> dict[str, Any]:
        """Return the arguments by which an unpacker calls this."""
        return {"list_hook": self._list, "object_hook": self._map}

    def _list(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("more lists and maps than a record of its size holds")
        return value

    def _map(self, value: Any) -> Any:
        self._left -= LISTS_A_MAP - 1
        return self._list(value)


def encode(record: Record) -> bytes:
    """Pack a record as one map with ``crc`` after its own keys: CRC-32 of all bytes before the 0xce marker."""
    packer = msgpack.Packer(autoreset=False, unicode_errors="backslashreplace")  # names of files need not be UTF-8
    packer.pack_map_header(len(record) + 1)
    for key, value in record.items():
        packer.pack(key)
        packer.pack(value)
    packer.pack("crc")
    body: bytes = packer.bytes()
    return body + b"\xce" + struct.pack(">I", zlib.crc32(body))


def damage(record: Any, data: memoryview) -> str:
    """Say what is wrong with ``data`` as the bytes of a record that was decoded from them; nothing if all is well."""
    if not isinstance(record, dict) or next(reversed(record), None) != "crc":
        return "damaged record (not a map that ends with its checksum)"
    if data[-CRC_BYTES:-4] != CRC_KEY + b"\xce":
        return "damaged record (checksum not where it belongs)"
    if record["crc"] != zlib.crc32(data[:-5]):
        return "damaged record (checksum does not match)"
    return ""


def misfit(record: Record, seq: int) -> str:
    """Say why a record cannot stand at place ``seq`` of a log; nothing if it can."""
    kind, own, t = record.get("kind"), record.get("seq"), record.get("t")
    if not isinstance(kind, str) or not isinstance(own, int) or not isinstance(t, float):
        return "record without kind, seq and t"
    if own != seq:
        return f"record {own} where {seq} belongs: records are missing"
    if seq == 0 and (kind != "header" or record.get("format") != FORMAT):
        return "not a rankwise log (no header)"
    if seq == 0 and record.get("v") != VERSION:
        return f"format version {record.get('v')}; this reader knows {VERSION}"
    return ""


def is_missing(record: Record, seq: int) -> bool:
    """Say whether ``record``, which cannot stand at place ``seq``, is of a log of which records are missing."""
    return isinstance(record.get("seq"), int) and record["seq"] != seq


def is_other_version(record: Record) -> bool:
    """Say whether a record is the header of a log that another version of the format wrote."""
    return record.get("seq") == 0 and record.get("format") == FORMAT and record.get("v") != VERSION


def could_be_log(data: bytes) -> bool:
    """Say whether a file that starts like this may be a log: a map whose first key is ``kind``."""
    start = 1 if data[0] & 0xF0 == 0x80 else 3 if data[0] == 0xDE else 0
    return start > 0 and FIRST_KEY.startswith(data[start : start + len(FIRST_KEY)])


def tail_damage(tail: bytes) -> str:
    """Say why bytes at the end of a file that do not decode are not just the beginning of a record.

    A flipped length also makes a record look unfinished. But then its end stands in the file: its checksum, or a whole
    later record.
    """
    if _claims_too_much(tail):
        return "damaged record (a text in it claims to be longer than any is)"
    ends_whole = tail[-CRC_BYTES:-5] == CRC_KEY or tail[-CRC_BYTES + 1 : -4] == CRC_KEY[1:] + b"\xce"
    return WRONG_LENGTH if ends_whole or Search().find(tail, 1)[0] >= 0 else ""


_LENGTH_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bin 8, 16, 32 and str 8, 16, 32
_FIXED_BYTES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
                0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # fmt: skip


def _claims_too_much(tail: bytes) -> bool:
    """Say whether an unfinished record holds a text or bytes over the limit, which no writer of ours began.

    msgpack itself looks at such a length only once the bytes are there. Values follow each other without padding, so
    their headers can be walked without regard to nesting. The first million must do: a hostile file may not cost
    minutes.
    """
    at = 0
    for _ in range(1 << 20):
        if at >= len(tail):
            break
        code = tail[at]
        size = _LENGTH_BYTES.get(code, 0)
        length = int.from_bytes(tail[at + 1 : at + 1 + size]) if size else code & 0x1F if 0xA0 <= code <= 0xBF else 0
        if length > TEXT_BYTES:
            return True
        at += 1 + size + length + _FIXED_BYTES.get(code, 0)
    return False


class Search:
    """Finds the next whole record, as its checksum shows, in bytes that cannot be trusted.

    The time grows with the bytes alone: where very many places look like the beginning of a record, as in a hostile
    file, only the first of them before each checksum are looked at.
    """

    def __init__(self) -> None:
        self._left = RECORD_BYTES
        """Bytes that looking at false beginnings may cost now; more bytes bring more of them."""

    def find(self, data: bytes, begin: int) -> tuple[int, int]:
        """Return where a whole record begins, from ``begin`` on, or -1; and from where on to look with more bytes."""
        view, crc_end = memoryview(data), -1
        at = data.find(FIRST_KEY, begin)
        while at >= 0:
            if crc_end < at:
                found = data.find(CRC_KEY + b"\xce", at)
                if found < 0 or found + CRC_BYTES > len(data):
                    return -1, max(begin, at - max(MAP_HEADER_BYTES))
                crc_end = found + len(CRC_KEY)
            for header in MAP_HEADER_BYTES:
                if at - header >= begin and _is_whole(view, at - header, crc_end):
                    return at - header, at - header
            after = at + 1 if self._left > 0 else crc_end
            self._left -= crc_end - at + LOOK_BYTES
            last, at = at, data.find(FIRST_KEY, after)
            self._left = min(RECORD_BYTES, self._left + 4 * ((at if at >= 0 else len(data)) - last))
        return -1, max(begin, len(data) - len(FIRST_KEY) - max(MAP_HEADER_BYTES))


def _is_whole(view: memoryview, start: int, crc_end: int) -> bool:
    """Say whether bytes are a map whose checksum, after ``crc_end``, is right."""
    is_map = view[start] & 0xF0 == 0x80 or view[start] == 0xDE
    return is_map and view[crc_end + 1 : crc_end + 5] == struct.pack(">I", zlib.crc32(view[start:crc_end]))
