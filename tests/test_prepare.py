"""Tables prepared by several ranks are what pandas reads, in the same bits whatever the number of ranks."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from common.config import RunConfig
from common.data import sources
from common.data.dataset import check
from common.data.prepared_file import Prepared, read_prepared, sha256_of
from common.data.stacked import is_mapped
from common.data.training_features import scale_alone
from common.errors import DataError
from ps.text import column_table
from tests.ranks import program

RANKS = (1, 3)
N = 3000


def frame(seed: int, n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "size": np.round(rng.normal(50, 20, n), 3),
        "rooms": rng.integers(1, 9, n),
        "town": rng.choice(["Bonn", "Köln", 'the "old"\ntown', "a, b"], n),
        "built": pd.to_datetime("1990-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "D"),
        "price": np.round(rng.lognormal(5, 1, n), 2),
    })  # fmt: skip
    table.loc[rng.random(n) < 0.1, "size"] = np.nan
    return table


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    table, other = frame(0), frame(1, 200)
    table.to_csv(folder / "plain.csv", index=False)
    table.to_csv(folder / "packed.csv.gz", index=False)
    table.to_csv(folder / "wide.csv", index=False, encoding="utf-16")
    columns = {name: column.tolist() for name, column in table.items()}
    pl.DataFrame(columns).with_columns(pl.col("size").fill_nan(None)).write_parquet(folder / "typed.parquet")
    other[[*reversed(other.columns)]].assign(more=1).to_csv(folder / "test.csv", index=False)
    lines = (folder / "plain.csv").read_bytes().split(b"\n")
    whole = gzip.compress(b"\n".join(lines))
    (folder / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    table.assign(size=[f"{v}" for v in table["size"]]).to_csv(folder / "wrong.csv", index=False)
    text = (folder / "plain.csv").read_text().splitlines()
    (folder / "ragged.csv").write_text("\n".join([*text[:2500], "1,2", *text[2500:]]))
    other.drop(columns="town").to_csv(folder / "lacks.csv", index=False)

    def request(*files: tuple[str, str], ranks: tuple[int, ...] = (3,), **options: str) -> dict[str, object]:
        named = [[str(folder / name), role] for name, role in files]
        return {"files": named, "options": {"target": "price", **options}, "ranks": ranks}

    requests = {
        "plain": request(("plain.csv", "data")),
        "packed": request(("packed.csv.gz", "data")),
        "wide": request(("wide.csv", "data"), encoding="utf-16"),
        "typed": request(("typed.parquet", "data")),
        "several": request(("plain.csv", "data"), ("plain.csv", "data"), ("test.csv", "test"), ranks=RANKS),
        "cut": request(("cut.csv.gz", "data")),
        "ragged": request(("ragged.csv", "data"), ranks=(1, 3)),
        "lacks": request(("plain.csv", "data"), ("lacks.csv", "test")),
        "by_row": request(("plain.csv", "data"), weight="rooms", group="town", time="built"),
    }
    (folder / "requests.json").write_text(json.dumps(requests))
    program(max(RANKS), "preparations.py", str(folder))
    return folder


def expected(table: pd.DataFrame) -> np.ndarray:
    """Return what the columns become, worked out by pandas."""
    built = table["built"].dt
    columns = {
        "size": table["size"], "size is missing": table["size"].isna(), "rooms": table["rooms"],
        **{f"town={name}": table["town"] == name for name in sorted(table["town"].unique())},
        "built year": built.year, "built month": built.month, "built weekday": built.day_of_week,
    }  # fmt: skip
    return np.asarray(pd.DataFrame(columns).to_numpy(np.float32))


@pytest.mark.parametrize("name", ["plain", "packed", "wide", "typed"])
def test_a_table_becomes_what_pandas_makes_of_it(prepared: Path, name: str) -> None:
    found, table = read_prepared(prepared / f"{name}-3"), frame(0)
    np.testing.assert_array_equal(found.x, expected(table))
    np.testing.assert_array_equal(found.y, table["price"])
    assert is_mapped(found.x)
    assert found.target_names == ["price"]


def test_the_number_of_ranks_changes_no_bit(prepared: Path) -> None:
    files = {path.name for path in (prepared / "several-1").iterdir()}
    assert files == {"x.npy", "y.npy", "meta.json"}
    for n in RANKS[1:]:
        for file in files:
            assert (prepared / f"several-{n}" / file).read_bytes() == (prepared / "several-1" / file).read_bytes()


def test_several_files_lie_behind_each_other(prepared: Path) -> None:
    found = read_prepared(prepared / "several-3")
    np.testing.assert_array_equal(found.x[:N], found.x[N:])
    np.testing.assert_array_equal(found.y, [*frame(0)["price"]] * 2)
    assert found.test is not None
    np.testing.assert_array_equal(found.test[0], expected(frame(1, 200)))
    assert any("'more'" in note and "test.csv" in note for note in found.notes)
    parts = Prepared.load(prepared / "several-3").facts["parts"]
    assert parts == [{"role": "data", "first": 0, "rows": 2 * N}, {"role": "test", "first": 2 * N, "rows": 200}]


def test_what_is_said_of_files_and_statistics_is_true(prepared: Path) -> None:
    for name, file in (("plain", "plain.csv"), ("packed", "packed.csv.gz"), ("typed", "typed.parquet")):
        facts = Prepared.load(prepared / f"{name}-3").facts
        (said,) = facts["files"]
        path = prepared / file
        assert said["path"] == str(path)
        assert said["sha256"] == sha256_of(path)
        assert (said["size"], said["mtime_ns"]) == (path.stat().st_size, path.stat().st_mtime_ns)
        x = expected(frame(0)).astype(np.float64)
        np.testing.assert_allclose(facts["statistics"]["mean"], np.nanmean(x, axis=0), rtol=1e-12)
        np.testing.assert_allclose(facts["statistics"]["variance"], np.nanvar(x, axis=0), rtol=1e-10)


def test_faults_are_told_by_file_and_line_whoever_finds_them(prepared: Path) -> None:
    for name, words in {
        "cut": ("cut.csv.gz", "truncated"),
        "ragged": ("ragged.csv", "line 2,501,", "2 cells", "5 columns"),
        "lacks": ("lacks.csv", "'town'", "plain.csv"),
    }.items():
        (text,) = {path.read_text() for path in prepared.glob(f"{name}-*.fault")}
        assert all(word in text for word in words), text
        assert not [path for path in prepared.glob(f"{name}-*") if path.is_dir()]
    assert not [*prepared.glob(".*.part")], "nothing is left of what was begun"


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of a prepared folder with its own source file."""
    source = tmp_path / "plain.csv"
    source.write_bytes((prepared / "plain.csv").read_bytes())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (prepared / "plain-3").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    facts = json.loads((copy / "meta.json").read_text())
    facts["files"][0] |= {"path": str(source), "mtime_ns": source.stat().st_mtime_ns}
    (copy / "meta.json").write_text(json.dumps(facts))
    return copy


def test_a_file_that_changed_after_it_was_prepared_is_told(folder: Path) -> None:
    source = folder.parent / "plain.csv"
    os.utime(source, (1, 1))
    read_prepared(folder)  # touched, with the same content
    content = source.read_bytes()
    source.write_bytes(content[:-2] + (b"8\n" if content[-2:] == b"9\n" else b"9\n"))
    with pytest.raises(DataError, match=r"plain\.csv: has changed since it was prepared"):
        read_prepared(folder)
    source.write_bytes(content + b"1,2,Bonn,2000-01-01,5\n")
    with pytest.raises(DataError, match="prepare it again"):
        read_prepared(folder)
    source.unlink()
    read_prepared(folder)


def test_weights_groups_and_times_are_those_that_were_prepared(prepared: Path) -> None:
    """A run need not name them; what else it names is refused, and not silently left undone."""
    folder, rooms = prepared / "by_row-3", frame(0)["rooms"].to_numpy()
    raw = read_prepared(folder)
    np.testing.assert_array_equal(raw.weight, rooms)
    notes = " ".join(check(raw, RunConfig()).notes)
    assert "Split by groups, because of --group town: of 4 different values" in notes
    assert "Rows are weighted, from 1 to 8." in notes
    named = read_prepared(folder, RunConfig(weight="rooms", time="built"))
    assert named.names == {"weight": "rooms", "time": "built"}
    assert named.group is None
    assert "because of --time built: of" in " ".join(check(named, RunConfig(time="built")).notes)
    with pytest.raises(DataError, match=r"^weight: got 'size', but .* was prepared with --weight rooms; prepare the"):
        read_prepared(folder, RunConfig(weight="size"))
    with pytest.raises(DataError, match=r"^group: got 'town', but .* was prepared without --group; .* --group out"):
        sources.read(RunConfig(data=str(prepared / "plain-3"), group="town"), 0, 1)


def edited(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**facts, **changes}))


def test_a_folder_that_is_not_whole_is_refused(folder: Path) -> None:
    whole = (folder / "x.npy").read_bytes()
    for content, words in (
        (whole[:-4], "damaged or cut off; prepare it again"),
        (whole + b"1", "damaged or cut off; prepare it again"),
        (whole[:50], "x.npy"),
        (b"", "x.npy"),
        (whole.replace(b"<f4", b"<i4"), "int32"),
        (whole.replace(b"(3000, ", b"(3001, "), "3001"),
        (whole.replace(b"<f4", b"|O "), "x.npy"),
    ):
        (folder / "x.npy").write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_prepared(folder)
    (folder / "x.npy").unlink()
    with pytest.raises(DataError, match=r"x\.npy: is not there"):
        read_prepared(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"), ({"format": "other"}, "another program"), ({"rows": 2999}, "damaged"),
        ({"parts": []}, "damaged"), ({"arrays": {}}, "damaged"), ({"arrays": 5}, "damaged"),
        ({"files": [{}]}, "damaged"), ({"features": ["a"]}, "damaged"), ({"target": None}, "damaged"),
        ({"preprocessing": {"columns": [{}]}}, "describ"), ({"preprocessing": {"columns": []}}, "damaged"),
        ({"parts": [{"role": "data", "first": 0, "rows": 3000.0}]}, "damaged"), ({"notes": [5]}, "damaged"),
        ({"target": {"names": [7], "labels": []}}, "damaged"), ({"columns": [{"name": "a"}]}, "damaged"),
        ({"target": {"names": ["y"], "labels": ["a", "b"]}}, "y.npy has other labels than meta.json tells of"),
    ],
)  # fmt: skip
def test_facts_that_do_not_fit_are_refused(folder: Path, changes: dict[str, object], words: str) -> None:
    edited(folder, **changes)
    with pytest.raises(DataError, match=words):
        read_prepared(folder)


def _places(facts: object, place: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield where values are in plain values, of lists the first three."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            yield from [(*place, key), *_places(value, (*place, key))]
    elif isinstance(facts, list):
        for i, value in enumerate(facts[:3]):
            yield from [(*place, i), *_places(value, (*place, i))]


def test_whatever_facts_say_ends_in_data_or_in_a_message(folder: Path) -> None:
    text = (folder / "meta.json").read_text()
    odd = [None, -1, 7, 1.5, True, "x", [], {}, [None], 1e300, 10**30, "\0", {"a": 1}]
    rng, places = np.random.default_rng(0), [*_places(json.loads(text))]
    ended = []
    for _ in range(300):
        *above, last = places[rng.integers(len(places))]
        inner = facts = json.loads(text)
        for key in above:
            inner = inner[key]
        inner[last] = odd[rng.integers(len(odd))]
        (folder / "meta.json").write_text(json.dumps(facts))
        try:
            data = check(read_prepared(folder), RunConfig())
            scale_alone(data, "float32", standardize=True)
            ended.append(len(column_table.lines(data.columns, 80)))
        except DataError:
            ended.append(0)
    assert 30 < ended.count(0) < 300


def test_a_folder_without_facts_is_refused(folder: Path) -> None:
    (folder / "meta.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        read_prepared(folder)
    (folder / "meta.json").unlink()
    with pytest.raises(DataError, match="not a prepared folder"):
        read_prepared(folder)
