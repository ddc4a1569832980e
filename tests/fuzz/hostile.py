"""Files made to do harm, each drawn from a source of chance: bombs, odd nodes, pickles, and texts for a terminal."""

import io
import os
import pickle
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common.run_files import LOG_NAME
from ps.logfile.records import FORMAT, VERSION, encode

MIB = 1 << 20
TERMINAL_TEXTS = (
    "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b[2J\x1b[H", "a\rb", "\x9b31m", "\u202egnp.exe", "\u2066x\u2069",
    "\x08\x08\x08", "\x1b]52;c;cm0gLXJm\x07", "bell\x07", "\x7f", "\x1bP+q\x1b\\",
    "line\nrankwise: all is well", "\u200fx",
)  # fmt: skip
NODES = (
    "pipe", "socket", "endless device", "device node", "folder", "dangling link", "circle of links", "giant",
    "link to memory", "empty", "noise",
)  # fmt: skip


class Payload:
    """Pickled, it opens a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.canary, "w")


def pickled_npz(path: Path, canary: Path) -> None:
    """Write an .npz whose arrays are pickles that leave a canary when they are read."""
    array = np.array([Payload(canary)], dtype=object)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("X", "y", "W1", "parameters/W1", "about"):
            file = io.BytesIO()
            np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
            file.write(pickle.dumps(array.tolist()))
            archive.writestr(f"{name}.npy", file.getvalue())


def make_node(path: Path, node: str, rng: random.Random) -> None:
    """Put something at a path that is not the file that one would expect there. Raises OSError if that may not be."""
    path.unlink(missing_ok=True)
    MAKE_NODE[node](path, rng)


def _socket(path: Path, _: random.Random) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        handle = os.open(path.parent, os.O_RDONLY)  # the name of a socket may not be long
        try:
            made.bind(f"/proc/self/fd/{handle}/{path.name}")
        finally:
            os.close(handle)


def _giant(path: Path, _: random.Random) -> None:
    with path.open("wb") as file:
        file.truncate(200 << 30)


MAKE_NODE: dict[str, Callable[[Path, random.Random], object]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "socket": _socket,
    "endless device": lambda path, rng: path.symlink_to(
        rng.choice(("/dev/zero", "/dev/urandom", "/dev/full", "/dev/tty"))
    ),
    "device node": lambda path, _: os.mknod(path, 0o20666, os.makedev(1, 5)) if os.geteuid() == 0 else os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "dangling link": lambda path, _: path.symlink_to("nowhere"),
    "circle of links": lambda path, _: path.symlink_to(path.name),
    "giant": _giant,
    "link to memory": lambda path, rng: path.symlink_to(
        rng.choice(("/proc/self/mem", "/proc/kmsg", "/proc/self/fd/1"))
    ),
    "empty": lambda path, _: path.touch(),
    "noise": lambda path, rng: path.write_bytes(rng.randbytes(5000)),
}


def _header(descr: object, shape: object, more: str = "") -> bytes:
    """Return the beginning of an .npy file, whatever it claims."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}{more}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) & 0xFFFF) + text


def zip_bomb(path: Path, name: str, claimed: int, shape: tuple[int, ...], *, filled: bool) -> None:
    """Write an .npz whose one array claims so many bytes of float32; ``filled``: they would come.

    The stream repeats one packed piece, each of which begins anew, so it costs nothing to make.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(_header("<f4", shape)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = b""
    if filled:
        piece = packer.compress(bytes(64 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
        body = piece * (claimed // (64 * MIB))
    packed = head + body + b"\x03\x00"
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    info.compress_size, info.file_size, info.CRC = len(packed), claimed, 0
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("y.npy", _header("<i8", (10,)) + bytes(80))
        file: Any = archive.fp  # what it would refuse to write is written by hand
        info.header_offset = file.tell()
        file.write(info.FileHeader(zip64=True) + packed)
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        vars(archive).update(start_dir=file.tell(), _didModify=True)


def csv_bomb(path: Path, how: str, n_bytes: int) -> None:
    """Write a table that is one line, or one cell, or very many columns; ``sparse`` takes no room on the disk."""
    with path.open("wb") as file:
        if how == "sparse":
            file.truncate(n_bytes)
        elif how == "quote":
            file.write(b'"' + b"x" * (n_bytes // 8))
        elif how == "columns":
            file.write(b"1," * (n_bytes // 16))
        else:
            file.write(b"a,b\n1,2\n3," + b"4" * (n_bytes // 8))


def log_bomb(folder: Path, how: str, n_bytes: int) -> None:
    """Write a log whose records are right, and take many times their size in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    head: dict[str, Any] = {"kind": "header", "seq": 0, "t": 1.0, "format": FORMAT, "v": VERSION, "world": 2}
    inner: dict[str, Any] = {
        "lists": [[]] * 1_000_000, "maps": [{}] * 1_000_000, "texts": ["ab"] * 1_000_000, "numbers": [1.5] * 1_000_000,
        "deep": _deep(400),
    }  # fmt: skip
    piece = inner.get(how, [])
    with (folder / LOG_NAME).open("wb") as file:
        file.write(encode({**head, "x": [piece] * 8} if how == "header" else head))
        seq = 1
        while file.tell() < n_bytes:
            fields = (
                {f"x{i}": piece for i in range(24)} if how in inner else {f"{seq}-{i}": None for i in range(30_000)}
            )
            file.write(encode({"kind": "epoch", "seq": seq, "t": 1.0, "epoch": seq, **fields}))
            seq += 1


def _deep(n: int) -> Any:
    value: Any = []
    for _ in range(n):
        value = [value]
    return value


def config_bomb(path: Path, how: str, n_bytes: int) -> None:
    """Write a TOML file that is long, deep or endless."""
    if how == "sparse":
        with path.open("wb") as file:
            file.truncate(n_bytes)
    elif how == "deep":
        path.write_text(f"hidden = {'[' * 100_000}")
    elif how == "keys":
        path.write_text(".".join("a" * 50_000) + " = 1\n")
    else:
        path.write_text("".join(f"k{i} = 1\n" for i in range(n_bytes // 100)))
