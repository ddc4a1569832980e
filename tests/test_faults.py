"""The campaign of faults in short: each kind once; in full: ``python -m tests.faults``."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import need
from tests.faults import campaign
from tests.faults.case import Case, Kept, Mpi, plain
from tests.faults.kinds import AROUND, KINDS, TRAINING
from tests.faults.plan import EPOCHS, LOOP, MODES, STEPS

SEED = 2
HERE = Mpi.at(Path(sys.prefix))


LOST = "test_nothing_is_lost"
AT_ONCE = 2
"""Cases, each in a process of its own: they mostly wait, for a job to start or to be gone."""


kept = Kept(Path())


def strike(kind: str, folder: Path) -> dict[str, Any]:
    """Run the first case of a kind; the runs to compare with are made once in each process."""
    kept.folder = kept.folder if kept.done else folder / f"kept-{os.getpid()}"
    return campaign.run(Case(SEED, kind, 0, HERE), folder / kind, kept)


@pytest.fixture(scope="module")
def struck(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Return the cases of the tests that are to run, by kind, begun in their order."""
    need(sys.platform == "linux", "Linux")
    folder = tmp_path_factory.mktemp("struck")
    asked = [i.callspec.params["kind"] for i in request.session.items if i.nodeid.partition("[")[0].endswith(LOST)]  # type: ignore[attr-defined]
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("spawn")) as pool:
        yield {kind: pool.submit(strike, kind, folder) for kind in asked if KINDS[kind].vendor in ("", HERE.vendor)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(campaign.CASE_S * 2)
def test_nothing_is_lost(struck: dict[str, Any], kind: str) -> None:
    if kind not in struck:
        pytest.skip(f"needs {KINDS[kind].vendor}")
    result = struck[kind].result()
    assert not result["problems"], result


def test_a_case_follows_from_seed_kind_and_index_alone() -> None:
    cases = [Case(seed, kind, index, HERE) for kind in KINDS for index in (0, 1, 7) for seed in (1, 2)]
    drawn = [plain(KINDS[case.kind].draw(case)) for case in cases]
    assert drawn == [plain(KINDS[case.kind].draw(case)) for case in cases]
    one, other = ([d for case, d in zip(cases, drawn, strict=True) if case.seed == seed] for seed in (1, 2))
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_every_fault_in_training_meets_every_mode() -> None:
    drawn = [
        KINDS[kind].draw(Case(SEED, kind, index, HERE))["case"] for kind in TRAINING for index in range(len(MODES))
    ]
    assert len({(case.mode, case.kind) for case in drawn}) == len(drawn)
    assert {case.fault.epoch for case in drawn if case.fault.phase in LOOP} <= set(range(1, EPOCHS + 1))
    assert all(1 <= case.fault.step <= STEPS for case in drawn if case.fault.phase in LOOP)


def test_the_kinds_take_turns_and_so_do_the_launchers_that_can() -> None:
    one, other = (Mpi(Path(name), "python", "mpirun", name, "") for name in ("mpich", "openmpi"))
    kinds = ["kill", "elastic"]
    assert campaign.possible(kinds, [one]) == ["kill"]
    dealt = [(case.kind, case.index, case.mpi.vendor) for case in campaign.deal(SEED, kinds, [one, other], 3, 4)]
    assert dealt == [("kill", 3, "openmpi"), ("elastic", 3, "openmpi"), ("kill", 4, "mpich"), ("elastic", 4, "openmpi")]


@pytest.mark.parametrize("kind", ["kill", "bomb", "odd-output", "escapes", "damaged-log"])
def test_a_case_that_falls_short_is_told_of(tmp_path: Path, kind: str) -> None:
    """Nothing starts, so nothing ends as it must; what repeats the case is said."""
    broken = Mpi(HERE.prefix, "false", "false", HERE.vendor, "")
    kept = Kept(tmp_path / "kept")
    case = Case(SEED, kind, 0, broken)
    result = campaign.run(case, tmp_path / "case", kept)
    assert result["problems"]
    text = "\n".join(campaign.lines([result], markdown=False))
    assert f"again: python -m tests.faults --seed {SEED} --kinds {kind} --first 0 --cases 1" in text
    row = next(row for row in campaign.table([result]) if row[0] == KINDS[kind].told)
    assert row[1:3] == ["1", "0"]


def test_a_job_that_names_nobody_and_saves_nothing_is_told_of(tmp_path: Path) -> None:
    """As above, with something to compare it with."""
    broken = Mpi(HERE.prefix, "false", "false", HERE.vendor, "")
    kept, case = Kept(tmp_path / "kept"), Case(SEED, "kill", 0, broken)
    drawn = KINDS["kill"].draw(case)["case"]
    kept.done[broken.prefix, drawn.ranks, drawn.arguments, "none"] = tmp_path
    result = campaign.run(case, tmp_path / "case", kept)
    assert result["named"] is False
    assert "other bits than undisturbed" in result["lost"]


def test_each_kind_is_described() -> None:
    assert set(AROUND) | set(TRAINING) == set(KINDS)
    assert len({kind.told for kind in KINDS.values()}) == len(KINDS)
