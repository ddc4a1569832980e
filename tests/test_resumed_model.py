"""A model class of one's own is the file that the run was trained with, when it is resumed or started from."""

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common import module_file
from common.config import RunConfig
from common.errors import ConfigError
from ps.logfile.writer import RunLog
from tests.ranks import Result, records
from tests.test_module_file import EVIL, HONEST, RAN
from workers.checkpoint import changes

Job = Callable[..., Result]


def test_a_module_must_be_the_file_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(EVIL)
    found = module_file.find("net:Net")
    assert found
    config, trusting = RunConfig(model="net:Net"), RunConfig(model="net:Net", trust_model=True)
    same = {"kind": "net:Net", "file": "/there/net.py", "sha256": found.sha256}
    assert changes.changed_model(same, config, of="resume", trained=True) == []
    other = {**same, "sha256": 64 * "a"}
    text = rf"^resume: model net:Net: {tmp_path}/net\.py is not what the run .* a{{12}}\.\.\. of /there/net\.py then, "
    with pytest.raises(ConfigError, match=text + r".*--trust-model"):
        changes.changed_model(other, config, of="resume", trained=True)
    (change,) = changes.changed_model(other, trusting, of="resume", trained=True)
    assert (change.before, change.now, change.effect) == (12 * "a", found.sha256[:12], "result")
    of_older_runs: list[Any] = [{"kind": "net:Net"}, None, [], {"sha256": None}]
    for older in of_older_runs:
        with pytest.raises(ConfigError, match=r"its log does not hold the checksum; look, and add --trust-model"):
            changes.changed_model(older, config, of="resume", trained=True)
        assert changes.changed_model(older, trusting, of="resume", trained=True)[0].before == "not known"
    (tmp_path / "net.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=r"no such module, neither installed nor in the folder .*; start in"):
        changes.changed_model(same, config, of="resume", trained=True)
    assert changes.changed_model(None, RunConfig(), of="resume", trained=True) == []


@pytest.mark.slow
def test_a_job_takes_up_its_own_model_and_no_other(job: Job, tmp_path: Path) -> None:
    """Resumed, with the file as it was and changed; from a log that was made to name a class beside it."""
    (tmp_path / "net.py").write_text(HONEST)
    first = job(2, "--model", "net:Net", "--epochs", "1", "--checkpoint-every", "1", "--output", "runs/mine")
    assert first.code == 0, first.err
    header = records(tmp_path / "runs" / "mine")[0]
    assert header["model"]["file"] == str(tmp_path / "net.py")
    again = job(2, "--resume", "runs/mine", "--epochs", "2")
    assert again.code == 0, again.err
    assert "model file" not in again.out
    (tmp_path / "net.py").write_text(f"{HONEST}# and more\n")
    changed = job(2, "--resume", "runs/mine", "--epochs", "3")
    assert changed.code == 2
    assert changed.err.count("--trust-model") == changed.err.count("rankwise:") == 1
    trusted = job(2, "--resume", "runs/mine", "--epochs", "3", "--trust-model")
    assert trusted.code == 0, trusted.err
    assert f"Changed on resume: model file {header['model']['sha256'][:12]} -> " in trusted.out
    (resumed,) = [r for r in records(tmp_path / "runs" / "mine") if r.get("what") == "resume"][1:]
    assert resumed["model"]["sha256"] != header["model"]["sha256"]
    started = job(2, "--from", "runs/mine", "--epochs", "1")  # as the run was left
    assert started.code == 0, started.err

    evil = tmp_path / "runs" / "evil"
    shutil.copytree(tmp_path / "runs" / "mine", evil)
    (evil / "evil.py").write_text(f"{EVIL}{HONEST}")
    (evil / "coordinator.msgpack").unlink()
    log = RunLog(evil / "coordinator.msgpack")
    for record in records(tmp_path / "runs" / "mine")[:-1]:
        for part in (record.get("config", {}), record.get("model", {})):
            part.update({key: "runs.evil.evil:Net" for key in ("model", "kind") if part.get(key) == "net:Net"})
        log.append(record["kind"], **{k: v for k, v in record.items() if k not in ("kind", "seq", "t", "crc")})
    log.close()
    for arguments in (["--resume", "runs/evil"], ["--resume", "runs/evil", "--trust-model"], ["--from", "runs/evil"]):
        result = job(2, *arguments, "--epochs", "9")
        assert result.code == 2
        assert result.err.startswith("rankwise: model runs.evil.evil:Net: ")
        assert result.err.count("rankwise:") == 1  # the launcher may add lines of its own
    assert not list(tmp_path.rglob(RAN))
