"""Where prepared tables are kept: found again, renewed when the file changes, never half, never in each other's way."""

import json
import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from common.config import RunConfig
from common.data.prepared_file import META_NAME, read_prepared
from common.errors import ConfigError, DataError
from tests.ranks import jobs, program
from workers import prepare
from workers.preparation import cache, for_training, meta, prepared_folder
from workers.preparation.child_process import KEEP_MEMORY, environment
from workers.preparation.column_options import of_columns
from workers.preparation.prepared_folder import NewFolder, is_whole, remove_left_over

PREPROCESSING = {"columns": [{"kind": "number", "name": "a", "missing": False, "offset": 0.0}]}


def fill(new: NewFolder, source: Path, value: float = 1) -> dict[str, Any]:
    """Write arrays of two rows as a job does; return the facts for meta.json."""
    arrays = {"x": [[1], "float32"], "y": [[1], "float64"]}
    for path, begin, row_bytes in new.allocate(arrays, 2).values():
        with open(path, "r+b") as file:
            file.seek(begin)
            file.write(np.full(2, value, "f4" if row_bytes == 4 else "f8").tobytes())
    found = source.stat()
    files = [
        {"path": str(source), "role": "data", "rows": 2, "size": found.st_size, "mtime_ns": found.st_mtime_ns,
         "sha256": "0"}
    ]  # fmt: skip
    plan = {
        "preprocessing": PREPROCESSING, "columns": [], "notes": [], "handed": [],
        "target": {"names": ["y"], "kind": "numbers", "labels": []},
    }  # fmt: skip
    return meta.describe(files, {}, plan, arrays, [{"digests": {"x": b"1", "y": b"2"}, "moments": None}])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,2\n3,4\n")
    return path


def test_a_folder_is_there_only_when_it_is_whole(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "key"
    new = NewFolder(place)
    facts = fill(new, source)
    assert not place.exists()
    assert not is_whole(new.path)
    new.finish(facts, replace=False)
    assert is_whole(place)
    assert {path.name for path in place.iterdir()} == {"x.npy", "y.npy", META_NAME}
    assert read_prepared(place).x[:].tolist() == [[1], [1]]
    with (place / "x.npy").open("r+b") as file:
        file.truncate(100)
    assert not is_whole(place)


def test_two_jobs_that_prepare_the_same_do_not_meet(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "key"
    first, second = NewFolder(place), NewFolder(place)
    facts = [fill(first, source, 1), fill(second, source, 2)]
    remove_left_over(place.parent)
    first.finish(facts[0], replace=False)
    mapped = read_prepared(place)
    second.finish(facts[1], replace=False)
    assert read_prepared(place).x[:].tolist() == [[1], [1]], "the first one stays: others have mapped it"
    assert [path.name for path in place.parent.iterdir()] == ["key"]
    third = NewFolder(place)
    third.finish(fill(third, source, 3), replace=True)
    assert read_prepared(place).x[:].tolist() == [[3], [3]]
    assert mapped.x[:].tolist() == [[1], [1]], "what is mapped stays as it was"


def test_a_damaged_folder_is_replaced(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "key"
    place.mkdir(parents=True)
    (place / META_NAME).write_text("{}")
    new = NewFolder(place)
    new.finish(fill(new, source), replace=False)
    assert is_whole(place)


def test_what_a_killed_job_left_is_removed_and_nothing_else(source: Path, tmp_path: Path) -> None:
    place, old = tmp_path / "cache" / "key", time.time() - 2 * prepared_folder.OLD_S
    alive, dead, foreign = NewFolder(place), NewFolder(place), tmp_path / "cache" / ".mine.part"
    fill(alive, source)
    foreign.mkdir()
    (foreign / "lock").write_text("of another program")
    dead._lock.close()  # as the system does at the end of a process
    for folder in (alive.path, dead.path, foreign):
        os.utime(folder / "lock", (old, old))
    young = NewFolder(place)
    young._lock.close()
    remove_left_over(place.parent)
    assert alive.path.exists()
    assert foreign.exists()
    assert young.path.exists(), "it may be about to take its lock"
    assert not dead.path.exists()
    alive.drop()


def test_the_key_follows_files_and_the_options_of_columns_only(source: Path) -> None:
    def key(**options: Any) -> str:
        config = RunConfig(data=str(source), target="y", **options)
        request = for_training.request_of(config)
        return cache.key(request.files, request.options)

    first = key()
    assert first == key() == key(epochs=3, seed=9, mode="shared", test_fraction=0.5)
    assert first != key(drop="a")
    assert first != key(header="yes")
    source.write_text("a,y\n1,2\n3,5\n")
    os.utime(source, (1, 1))
    changed = key()
    assert changed != first
    os.utime(source, (2, 2))
    now = key()
    assert now not in (first, changed)
    with mock.patch.object(cache, "RANKWISE", "0.0.1"):
        assert key() not in (first, changed, now)
    source.unlink()
    with pytest.raises(DataError, match=r"t\.csv cannot be read"):
        key()
    assert {"target", "drop", "weight"} <= of_columns(RunConfig()).keys()


def test_where_nothing_can_be_written_the_job_goes_on_or_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    request = for_training.request_of(RunConfig(data=str(source), target="y"))
    place, kept = for_training._place(request, "auto")
    assert kept
    assert Path(place).parent == tmp_path / "t.csv.rankwise-cache"
    monkeypatch.setattr(cache, "create_new", refuse)
    place, kept = for_training._place(request, "auto")
    assert not kept
    assert "nothing can be written beside it" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="give another folder, or --cache off"):
        for_training._place(request, str(tmp_path / "other"))
    assert for_training._place(request, "off")[1] is False


def test_what_was_prepared_of_an_earlier_file_goes_once_nobody_uses_it(source: Path, tmp_path: Path) -> None:
    places = [tmp_path / "t.csv.rankwise-cache" / name for name in ("old", "used", "other", "version")]
    for place in places:
        new = NewFolder(place)
        new.finish(fill(new, source), replace=False)
    facts = json.loads((places[2] / META_NAME).read_text())
    source.write_text("a,y\n1,2\n3,4\n5,6\n")
    found = source.stat()
    facts["files"][0] |= {"size": found.st_size, "mtime_ns": found.st_mtime_ns}
    (places[2] / META_NAME).write_text(json.dumps(facts))
    (places[3] / META_NAME).write_text(json.dumps({**facts, "rankwise": "0.0.1"}))
    long_ago = time.time() - 2 * cache.UNUSED_S
    for place in (places[0], *places[2:]):
        os.utime(place / META_NAME, (long_ago, long_ago))
    cache.remove_outdated(places[0].parent / "new")
    assert [place.exists() for place in places] == [False, True, True, False]


def test_a_child_is_no_rank() -> None:
    own = {
        "PATH": "/bin", "HOME": "/", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "SLURM_PROCID": "0",
        "HYDRA_X": "1", "PMIX_RANK": "1", "MPIR_CVAR_X": "1", "OMP_NUM_THREADS": "7", "LANG": "C",
    }  # fmt: skip
    assert environment(own, 3) == {
        "PATH": "/bin", "HOME": "/", "LANG": "C", "POLARS_MAX_THREADS": "3", "OMP_NUM_THREADS": "1", **KEEP_MEMORY,
    }  # fmt: skip


@pytest.mark.slow
def test_training_prepares_once_and_says_what_is_wrong(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    lines = [
        f"{a:.4f},{'xyz'[k]},{a + k:.4f}" for a, k in zip(rng.normal(size=90), rng.integers(0, 3, 90), strict=True)
    ]
    table.write_text("a,b,y\n" + "\n".join(lines) + "\n")
    held_out = tmp_path / "held_out.csv"
    held_out.write_text("\n".join(["y,b,a", *(",".join(reversed(line.split(","))) for line in lines[:20])]))
    bad = tmp_path / "bad.csv"
    bad.write_text("a,b,y\n" + "\n".join([*lines[:50], "oops,x,1", *lines[50:]]) + "\n")
    train = ("-m", "workers.run", "--epochs", "1", "--mode", "allreduce", "--target", "y", "--data")
    ended = jobs(2, tmp_path / "runs", {
        "first": (*train, str(table)),
        "second": (*train, str(table)),
        "off": (*train, str(table), "--cache", "off"),
        "sets": (*train, str(table), "--test-data", str(held_out), "--cache", str(tmp_path / "kept")),
        "prepare": (prepare.__file__, str(table), "--output", str(tmp_path / "prepared"), "--target", "y"),
        "folder": (*train[:-3], "--data", str(tmp_path / "prepared")),
        "bad": (*train, str(bad)),
    })  # fmt: skip
    for name in ("first", "second", "off", "sets", "prepare", "folder"):
        assert ended[name].code == 0, ended[name].err
    (kept,) = (tmp_path / "t.csv.rankwise-cache").iterdir()
    assert is_whole(kept)
    models = [dict(np.load(tmp_path / "runs" / name / "model.npz")) for name in ("first", "second", "off", "folder")]
    for model in models[1:]:
        for parameter in ("W1", "b1", "W2", "x_mean"):
            np.testing.assert_array_equal(model[parameter], models[0][parameter])
    assert "(20 rows)" in ended["sets"].out
    assert len([*(tmp_path / "kept" / "t.csv.rankwise-cache").iterdir()]) == 1
    assert ended["bad"].code == 2
    assert "bad.csv: line 52" in ended["bad"].err
    assert "'oops'" in ended["bad"].err
    assert not [*tmp_path.glob("bad.csv.rankwise-cache/*")]


def test_nodes_with_disks_of_their_own_prepare_for_themselves(tmp_path: Path) -> None:
    rows = "".join(f"{i}.5,{i * i % 7}\n" for i in range(50))
    (tmp_path / "t.csv").write_text(f"a,y\n{rows}")
    (tmp_path / "bad.csv").write_text(f"a,y\n{rows}1,2,3\n")
    program(2, "node_disks.py", str(tmp_path))
    for rank in range(2):
        assert is_whole(tmp_path / f"disk-{rank}" / "t")
        assert "line 52" in (tmp_path / f"bad-{rank}.fault").read_text()
        assert [path.name for path in (tmp_path / f"disk-{rank}").iterdir()] == ["t"]
        assert not (tmp_path / f"t-{rank}.fault").exists()
