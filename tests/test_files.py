"""Reading and writing files: only what is a regular file is read, and nothing is written through a link."""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import files
from common.files import (
    SMALL_FILE_BYTES,
    TEMPORARY,
    create_new,
    open_own,
    open_regular,
    read_small,
    require_replaceable,
    write_atomic,
    write_bytes,
)
from tests.kinds import NOBODY, OTHERS, giant, limited


@pytest.mark.parametrize("read", [open_regular, read_small, open_own])
@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_regular_file_is_named_at_once(kind: str, read: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "file"
    OTHERS[kind](path)
    found = limited(lambda: read(path), tmp_path)
    said = "a symbolic link" if path.is_symlink() and read is open_own else kind
    assert said in found.err.splitlines()[-1]
    assert f"'{path}'" in found.err


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read_small(tmp_path / "link") == b"text"
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"text"


def test_a_small_file_is_read_as_far_as_it_may_be_large(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SMALL_FILE_BYTES))
    assert len(read_small(path)) == SMALL_FILE_BYTES
    giant(path)
    found = limited(lambda: read_small(path), tmp_path)
    assert f"has more than {SMALL_FILE_BYTES} bytes" in found.err.splitlines()[-1]


def test_a_file_that_the_kernel_has_yet_to_fill_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(io.BytesIO):
        def read(self, _: int | None = None) -> Any:
            return None  # as /proc/kmsg, a regular file, when it has nothing to say

    monkeypatch.setattr(files, "open_regular", lambda _: Waiting())
    assert read_small(tmp_path) == b""


def test_nothing_is_created_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        create_new(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_nothing_is_written_through_another_name(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"precious")
    link(target, path)
    with pytest.raises(OSError, match="link"):
        open_own(path)
    write_bytes(path, b"new")
    assert target.read_bytes() == b"precious"
    assert path.read_bytes() == b"new"
    assert not path.is_symlink()
    assert path.stat().st_nlink == 1


def test_files_of_other_users_are_not_written_into(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make a file of another user")
    path = tmp_path / "file"
    path.write_bytes(b"precious")
    os.chown(path, NOBODY, -1)
    with pytest.raises(PermissionError, match=f"belongs to user {NOBODY}, so it is not written to"):
        open_own(path)
    assert os.listdir(tmp_path) == ["file"]


def test_where_a_file_server_gives_new_files_to_another_user_they_are_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"text")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)  # as root where root is squashed
    with open_own(tmp_path / "file", append=True) as file:
        file.write(b" more")
    assert (tmp_path / "file").read_bytes() == b"text more"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["a named pipe", "a socket", "a folder"])
def test_only_regular_files_and_links_are_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    OTHERS[kind](path)
    before = path.lstat()
    with pytest.raises(OSError, match=f"is {kind}, not a regular file"):
        write_bytes(path, b"text")
    assert os.path.samestat(path.lstat(), before)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_not_replaced(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "null"
    try:
        os.mknod(path, kind | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("only root can make a device here")
    with pytest.raises(OSError, match="is a device, not a regular file"):
        write_bytes(path, b"text")
    assert stat.S_IFMT(path.lstat().st_mode) == kind


def test_nothing_is_replaced_among_the_devices() -> None:
    for name in ("null", "stdout", "stderr", "no-such-device"):
        with pytest.raises(OSError, match=r"is a device|files are not replaced in /dev"):
            require_replaceable(Path("/dev") / name)


def test_a_file_that_cannot_be_finished_leaves_nothing_and_the_older_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")

    def half(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, half)
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["file"]


def test_temporary_names_cannot_be_known_before_and_fit_any_name(tmp_path: Path) -> None:
    seen = set[str]()
    for name in ["file"] * 3 + ["n" * 255, "ü" * 127]:
        write_atomic(tmp_path / name, lambda _: seen.update(os.listdir(tmp_path)))
    names = [match for name in seen if (match := TEMPORARY.fullmatch(name))]
    assert len(names) == len({match["token"] for match in names}) == 5
    assert {match["name"] for match in names} == {"file", "long"}


def test_a_folder_that_cannot_be_listed_can_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o300)
    write_bytes(folder / "file", b"text")
    folder.chmod(0o700)
    assert os.listdir(folder) == ["file"]
    assert files.read_small(folder / "file") == b"text"
