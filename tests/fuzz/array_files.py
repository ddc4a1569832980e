"""Makes hostile .npz and .csv files of many kinds, each drawn from a source of chance."""

import io
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack
import numpy as np

from workers.checkpoint import checkpoint_file

Rng = np.random.Generator
SHAPES = (
    "(-1,)", "(0,)", "(0, 3)", "(60, 0)", "(9223372036854775807,)", "(18446744073709551616, 2)", "(1099511627776,)",
    "(4294967296, 4294967296)", "(0, 9223372036854775807)", "(1, " * 300 + "1" + ")" * 300, "(60, 3.0)", "(True, 3)",
    "(60,) * 10**9", "None", "()", "60", "[60, 3]", "(" + "1, " * 70 + ")", "(60L, 3L)", "(6_0, 3)", "(0x3c, 3)",
    "(\u0663, 1)", "(" * 2000, "(60, 3), 'shape': (1,)", "(180,)", "(3, 60)", "(60, 3, 1)", "(1000000000, 1000000000)",
)  # fmt: skip
DTYPES = (
    "'|O'", "'O'", "'<f99'", "'<U1000000'", "'|V0'", "'<U0'", "'|S0'", "'<U'", "'<M8[ns]'", "'<m8[25s]'", "'<M8[x]'",
    "'>f8'", "'<f2'", "'<f16'", "'<c16'", "'f8,f8'", "[('a', '<f8')]", "[('a', '|O')]", "'<i3'", "'|b1'", "'?'", "''",
    "'<f8" + "8" * 5000 + "'", "'<f9999999'", "'\\x00'", "'<f8'*9", "('<f8', (3,))", "{'names': ['a']}", "'|a5'",
    "'float64'", "b'<f8'", "'<u8'", "'<i8'", "lambda: 0", "__import__('os').abort()", "'=f8'", "'f8' 'f8'", "'\u00b5'",
    "'V99999999999'", "'<U1000000000'",
)  # fmt: skip
ORDERS = (
    "False",
    "True",
    "1",
    "None",
    "'x'",
    "",
    "False, 'more': 1",
    "False, 'x': [" + "[" * 200,
    "False # '''",
    "\\",
    "-" * 9000,
)
NAMES = ("X", "X.npy.npy", "../X.npy", "/etc/X.npy", "X\0.npy", "\x1b[31mX.npy", "x.npy", "", ".npy", "X" * 60_000,
         "about.npy", "\u202eX.npy", "X_test.npy", "parameters/W.npy")  # fmt: skip
CELLS = ("1e999", "-inf", "nan", "0x10", "1_000", "\u0663", "1e", '"1', '"1"', '"1\n2"', "1;2", "", " ", "-",
         "1" * 5000, "\ufeff1", "9" * 400, "1e-400", "True", "\x1b[31m", "=1+1", "1,2", "\\", "'1'", "1j",
         "\u2028", "a" * 200_000)  # fmt: skip


def array(shape: str = "(60, 3)", dtype: str = "'<f8'", order: str = "False", data: bytes = bytes(1440)) -> bytes:
    """Return an .npy with any text in its header."""
    text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("utf-8", "replace")
    version = b"\1\0" + struct.pack("<H", len(text)) if len(text) < 65536 else b"\2\0" + struct.pack("<L", len(text))
    return b"\x93NUMPY" + version + text + data


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip file of these members, of which several may have one name."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def whole(rng: Rng, *, packed: bool = False) -> bytes:
    """Return data that are right, with a test set or without one, or a checkpoint."""
    file, x, y = io.BytesIO(), rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    kind = int(rng.integers(3))
    if kind == 2 and not packed:
        about = {"position": {"epoch": 1}, "counts": {"t": 3}, "world": 2}
        checkpoint_file.write(file, checkpoint_file.Snapshot(5, {"parameters/W": x}, about))
        return file.getvalue()
    save = np.savez_compressed if packed else np.savez
    test = {"X_test": x[:5], "y_test": y[:5]} if kind else {}
    save(file, allow_pickle=False, X=x, y=y, W=x, **test)
    return file.getvalue()


def edited(rng: Rng) -> bytes:
    """Return a right file with bits flipped, and pieces left out, doubled or put in."""
    data = bytearray(whole(rng, packed=bool(rng.integers(2))))
    for _ in range(int(rng.integers(1, 6))):
        at, n = int(rng.integers(len(data))), int(rng.integers(1, 40))
        if (act := int(rng.integers(4))) == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif act == 1:
            del data[at : at + n]
        elif act == 2:
            data[at:at] = rng.bytes(n)
        else:
            data[at:at] = data[at : at + n]
    return bytes(data)


def cut(rng: Rng) -> bytes:
    """Return the beginning of a right file, or its end, or what somebody put something before."""
    data = whole(rng, packed=bool(rng.integers(2)))
    at = int(rng.integers(len(data)))
    return (data[:at], data[at:], rng.bytes(at % 100) + data, data + rng.bytes(at % 100))[int(rng.integers(4))]


def header(rng: Rng) -> bytes:
    """Return arrays whose headers claim what is not there, or are none."""
    shape = str(rng.choice(SHAPES)) if rng.integers(2) else "(60, 3)"
    dtype = str(rng.choice(DTYPES)) if rng.integers(2) else "'<f8'"
    order = str(rng.choice(ORDERS))
    one = array(shape, dtype, order, bytes(int(rng.choice([0, 8, 480, 1440, 4000]))))
    if rng.integers(4) == 0:
        one = rng.choice([b"\x93NUMPX", b"\x93NUMPY"]) + rng.bytes(4) + one[10:]
    if rng.integers(8) == 0:
        one = array(f"(60, 3), {' ' * int(rng.choice([9000, 70_000, 3_000_000]))}")
    if rng.integers(8) == 0:
        one = b"\x93NUMPY\2\0" + struct.pack("<L", int(rng.choice([0, 1 << 31, 0xFFFFFFFF]))) + b"{" * 1000
    if rng.integers(16) == 0:
        one = rng.bytes(int(rng.integers(200)))
    others = [("y.npy", array("(60,)", "'<i8'", data=bytes(480))), ("W.npy", one)]
    return zipped([("X.npy", one), *others], int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))


def named(rng: Rng) -> bytes:
    """Return members with odd names, twice the same, or packed in another way."""
    members = [(str(rng.choice(NAMES)), array()) for _ in range(3)] + [("X.npy", array()), ("y.npy", array("(60,)"))]
    return zipped(members[int(rng.integers(5)) :], int(rng.choice([zipfile.ZIP_STORED, 8, 12, 14])))


def lied(rng: Rng) -> bytes:
    """Return a zip file with numbers of its headers replaced: sizes, places, counts, methods, flags, zip64."""
    data = bytearray(whole(rng, packed=bool(rng.integers(2))))
    for _ in range(int(rng.integers(1, 4))):
        sign, fields = ((b"PK\1\2", range(4, 46, 2)), (b"PK\3\4", range(4, 30, 2)), (b"PK\5\6", range(4, 22, 2)))[
            int(rng.integers(3))
        ]
        places = [match.start() for match in re.finditer(re.escape(sign), bytes(data))]
        if places:
            at = int(rng.choice(places)) + int(rng.choice(list(fields)))
            value = int(rng.choice([0, 1, 8, 9, 12, 14, 93, 99, 2048, 0x7FFF, 0xFFFF]))
            data[at : at + 2] = struct.pack("<H", value)
            if rng.integers(2):
                data[at : at + 4] = b"\xff\xff\xff\xff"
    if rng.integers(4) == 0:  # the end of a zip64 file, with any numbers
        at = data.rfind(b"PK\5\6")
        numbers = [int(n) for n in rng.choice([0, 1, 3, 100, 2**32, 2**62], 4)]
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *numbers)
        data[at:at] = end + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return bytes(data)


def bomb(rng: Rng) -> bytes:
    """Return little that claims to be much: zeros well packed, members in each other's bytes, very many members."""
    kind, n = int(rng.integers(5)), int(rng.choice([1, 4, 40, 400])) << 20
    if kind == 0:
        return zipped([("X.npy", array(f"({n // 8}, 1)", data=bytes(n))), ("y.npy", array("(60,)"))], 8)
    if kind == 1:
        return zipped([("X.npy", array(f"({n}, 1000)", data=b"")), ("y.npy", array(f"({n},)", data=b""))], 8)
    if kind == 2:  # both begin at the first one's bytes
        data = bytearray(zipped([("X.npy", array()), ("y.npy", array())]))
        entries = [match.start() for match in re.finditer(b"PK\1\2", bytes(data))]
        data[entries[1] + 42 : entries[1] + 46] = data[entries[0] + 42 : entries[0] + 46]
        return bytes(data)
    if kind == 3:
        entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *[0] * 16)
        return entry * 150_000 + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * 150_000, 0, 0)
    about = msgpack.packb({"format": "rankwise-checkpoint", "v": 1, "step": 5, "x": [{}] * (n // 8)})
    one = array(f"({len(about)},)", "'|u1'", data=about)
    return zipped([("about.npy", one), ("X.npy", zipped([("X.npy", array())]))])


def numbers(rng: Rng) -> bytes:
    """Return right files of wrong arrays: shapes that do not fit, values that nothing can be learned from."""
    of = (
        "<f8",
        "<f4",
        "<f2",
        "<f16",
        ">f8",
        "<i8",
        "<u8",
        "|i1",
        "|b1",
        "<c16",
        "<U3",
        "|S3",
        "<M8[s]",
        "|V8",
        "<m8[s]",
    )
    special = [0.0, np.nan, np.inf, 1e308, -1e308, 5e-324, 2.0**53, 1e19, 1.0]

    def one(*shape: int) -> Any:
        values = rng.choice(special, shape) if rng.integers(2) else rng.integers(0, 3, shape)
        kind = str(rng.choice(of)) if rng.integers(2) else "<f8"
        with np.errstate(all="ignore"):
            made = np.zeros(shape, kind) if kind[1] in "MmV" else np.asarray(values).astype(kind)
        return np.asfortranarray(made) if rng.integers(2) else made

    sizes = [int(n) for n in rng.choice([0, 1, 2, 60, 100], 3)]
    arrays = {"X": one(sizes[0], sizes[1]), "y": one(sizes[0], sizes[2]) if rng.integers(2) else one(60)}
    if rng.integers(3) == 0:
        arrays |= {"X_test": one(5, sizes[1]), "y_test": one(5)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, W=one(60, 3), **arrays)
    return file.getvalue()


def table(rng: Rng) -> bytes:
    """Return a .csv with odd cells, lines, quotes and encodings."""
    cells = [[str(n) for n in row] for row in rng.integers(0, 5, (20, 3)).tolist()]
    for _ in range(int(rng.integers(4))):
        cells[int(rng.integers(20))][int(rng.integers(3))] = str(rng.choice(CELLS))
    lines = ["a,b,y", *(",".join(row) for row in cells)]
    if rng.integers(3) == 0:
        lines[0] = str(
            rng.choice(["a,b,y", "y,y,y", "a,b", ",,y", '"a\n","b",y', "a\tb\ty", ",".join("ab" * 99), "1,2,y"])
        )
    if rng.integers(6) == 0:
        lines.insert(
            int(rng.integers(20)), str(rng.choice(["", ",", "," * 2_000_000, "1" * 200_000, '"' + "\n," * 9999]))
        )
    text = str(rng.choice(["\n", "\r", "\r\n", "\n\n"])).join(lines)
    data = text.encode(
        str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"], p=[0.8, 0.08, 0.04, 0.04, 0.04]))
    )
    at = int(rng.integers(len(data)))
    return data[:at] + rng.bytes(3) + data[at:] if rng.integers(8) == 0 else data


KINDS: dict[str, Callable[[Rng], bytes]] = {
    kind.__name__: kind for kind in (edited, cut, header, named, lied, bomb, numbers, table)
}


SMALL_KINDS = [kind for kind in KINDS if kind not in ("bomb", "table")]
"""Of .npz files that take little to make."""


def hostile(seed: int, files: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[tuple[str, bytes]]:
    """Yield so many files, each with its kind, in turn; each depends on the seed and its number alone."""
    for number in range(files):
        kind = kinds[number % len(kinds)]
        yield kind, KINDS[kind](np.random.default_rng([seed, number]))
