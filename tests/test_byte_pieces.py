"""A file is cut between records, whatever stands inside of quotes; what is counted in pieces is what the whole has."""

import csv
import hashlib
import io
import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from common.data.prepared_file import N_PIECES, sha256_of
from common.errors import BrokenFileError
from workers.preparation import byte_pieces, pieces
from workers.preparation.moments import Moments


def records(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]


def cut(path: Path, first_row: int) -> list[str]:
    """Return the text of each piece, as ranks that know only their own bytes find it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        bounds = byte_pieces.bounds(size)
        counts = [byte_pieces.scan(file, *pair, first_row)[0] for pair in itertools.pairwise(bounds)]
        starts = [
            first_row if at <= first_row
            else byte_pieces.record_start(file, at, size, inside=bool(sum(counts[:i]) % 2))
            for i, at in enumerate(bounds[:-1])
        ]  # fmt: skip
        starts.append(size)
        return [
            b"".join(block for _, block in byte_pieces.blocks(file, a, b)).decode()
            for a, b in itertools.pairwise(starts)
        ]


CELLS = ["1", "", "x y", '"a\nb"', '"a,""b"" c"', '""', '"\n\n\n"', '"""\n"""', "é", '"' + "long\n" * 300 + '"']


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("block", [1 << 23, 64])
def test_pieces_hold_whole_records(tmp_path: Path, ending: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_pieces, "BLOCK_BYTES", block)
    monkeypatch.setattr(byte_pieces, "READ_BYTES", 37)
    for seed in range(40):
        rng = random.Random(seed)
        rows = [",".join(rng.choices(CELLS, k=3)) for _ in range(rng.choice([0, 1, 5, 60, 500]))]
        text = ending.join(["a,b,c", *rows]) + ending * rng.randrange(2)
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode())
        first_row = len(f"a,b,c{ending}")
        parts = cut(path, min(first_row, len(text)))
        assert len(parts) == N_PIECES
        assert "".join(parts) == text[first_row:]
        assert [row for part in parts for row in records(part)] == records(text)[1:]


def test_quotes_before_the_rows_do_not_count(tmp_path: Path) -> None:
    head = '# it is 5" long\na,b\n'
    path = tmp_path / "t.csv"
    path.write_text(head + '1,"x\ny"\n' * 50)
    assert "".join(cut(path, len(head))) == '1,"x\ny"\n' * 50
    assert all(part.count('"') % 2 == 0 for part in cut(path, len(head)))


def test_a_quote_that_stays_open_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_pieces, "LONGEST_RECORD", 1000)
    monkeypatch.setattr(byte_pieces, "BLOCK_BYTES", 100)
    path = tmp_path / "t.csv"
    path.write_text('1,"x\n' + "1,2\n" * 2000 + '"\n' + "1,2\n" * 10)
    with path.open("rb") as file, pytest.raises(BrokenFileError, match="quote is not closed"):
        list(byte_pieces.blocks(file, 0, path.stat().st_size))
    with path.open("rb") as file, pytest.raises(BrokenFileError, match="quote is not closed"):
        byte_pieces.record_start(file, 100, path.stat().st_size, inside=True)


def test_a_file_that_shrinks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1,2\n" * 10)
    with path.open("rb") as file, pytest.raises(BrokenFileError, match="shorter"):
        byte_pieces.scan(file, 0, 41)
    with path.open("rb") as file, pytest.raises(BrokenFileError, match="shorter"):
        list(byte_pieces.blocks(file, 0, 41))


def test_the_checksum_is_that_of_the_pieces(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(np.random.default_rng(0).bytes(3_000_017))
    size, data = path.stat().st_size, path.read_bytes()
    bounds = [size * i // 64 for i in range(65)]
    with path.open("rb") as file:
        found = byte_pieces.merged([byte_pieces.scan(file, a, b)[2] for a, b in itertools.pairwise(bounds)])
    digests = [hashlib.sha256(data[a:b]).digest() for a, b in itertools.pairwise(bounds)]
    assert found == sha256_of(path) == hashlib.sha256(b"".join(digests)).hexdigest()


def test_each_rank_reads_pieces_in_one_go_and_about_as_many_bytes() -> None:
    for n in (1, 2, 3, 4, 7, 64, 100):
        owners = pieces.owners([10**9, 3 * 10**9], n)
        assert len(owners) == 2 * N_PIECES
        assert owners == sorted(owners)
        if n <= 4:
            read = [sum((10**9, 3 * 10**9)[i // 64] / 64 for i, o in enumerate(owners) if o == r) for r in range(n)]
            assert max(read) / min(read) < 1.1
    assert set(pieces.owners([1000], 4)) == {0}
    assert set(pieces.owners([0], 4)) == {0}


def test_merged_moments_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(10_000, 5)) * [1, 1e-3, 1e6, 1, 0] + [0, 1e8, -5, 0, 7]
    x[rng.random(len(x)) < 0.3, 3] = np.nan
    x[:4000, 0] = np.nan
    x[:, 3][:100] = np.nan
    merged = Moments.of(x[:0])
    for block in np.array_split(x, 64):
        merged = merged.merge(Moments.from_list(Moments.of(block).as_list()))
    facts = merged.facts()
    np.testing.assert_allclose(facts["mean"], np.nanmean(x, axis=0), rtol=1e-12)
    np.testing.assert_allclose(facts["variance"], np.nanvar(x, axis=0), rtol=1e-8, atol=0)
    assert facts["variance"][4] == 0
    np.testing.assert_array_equal(facts["minimum"], np.nanmin(x, axis=0))
    np.testing.assert_array_equal(facts["maximum"], np.nanmax(x, axis=0))
    assert facts["count"] == (~np.isnan(x)).sum(axis=0).tolist()
    nothing = Moments.of(np.full((3, 1), np.nan)).facts()
    assert nothing["mean"] == nothing["minimum"] == [None]
    assert nothing["count"] == [0]
