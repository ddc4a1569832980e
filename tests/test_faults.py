"""The campaign of faults in short: each fault once, the modes in turn; in full: ``python -m tests.faults``."""

from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.__main__ import without_mounting
from tests.faults.drive import References, may_mount
from tests.faults.plan import EPOCHS, KINDS, LOOP, MODES, STEPS, draw

SEED = 2


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    return References(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(KINDS)), ids=list(KINDS))
def test_nothing_is_lost(tmp_path: Path, references: References, number: int) -> None:
    case = without_mounting(draw(SEED, number, MODES, list(KINDS)), may_mount(tmp_path / "mount"))
    result = campaign.run(case, tmp_path / "case", references)
    assert not result["problems"], case


def test_every_fault_meets_every_mode() -> None:
    kinds = list(KINDS)
    cases = [draw(SEED, number, MODES, kinds) for number in range(len(MODES) * len(kinds))]
    assert len({(case.mode, case.kind) for case in cases}) == len(cases)
    assert cases == [draw(SEED, number, MODES, kinds) for number in range(len(cases))]
    assert {case.fault.epoch for case in cases if case.fault.phase in LOOP} <= set(range(1, EPOCHS + 1))
    assert all(1 <= case.fault.step <= STEPS for case in cases if case.fault.phase in LOOP)


def test_a_run_that_goes_wrong_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher that could be struck: nothing is named, and nothing can be gone on with."""
    for name in ("tests.faults.drive.MPIRUN", "tests.faults.drive.sys.executable"):
        monkeypatch.setattr(name, "false")
    references = References(tmp_path / "undisturbed")
    case = draw(SEED, 0, MODES, ["kill"])
    with pytest.raises(RuntimeError, match="the undisturbed run failed"):
        references.of(case)
    references.done[case.ranks, case.arguments] = tmp_path
    result = campaign.run(case, tmp_path / "case", references)
    assert result["named"] is False
    assert "other bits than undisturbed" in result["lost"]
    rows = campaign.table([result], KINDS, [case.mode])
    assert rows[1][:4] == [KINDS["kill"], "0 of 1", "0 of 1", "1"]
