"""A path that can be none is one message and exit code 2, whichever command and option it is given to."""

import json
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.given_paths import given_path
from common.toml_file import read_toml
from ps.reader.commands import cli
from workers import rankwise
from workers.benchmark.options import parse_bench, parse_compare
from workers.exporting import options as exporting
from workers.launch.run_arguments import named_folder
from workers.launch.run_options import parse
from workers.prediction.options import parse_predict
from workers.preparation import prepare_options
from workers.supervisor import options as supervising

MODES = {"allreduce": ""}
BAD = ("~nouser/x", "x" * 5000, "y" * 300, "a.csv/b", "loop", "loop/x", "a\0b")
OF_LOG = (
    "show", "watch", "report", "trace", "plot", "list", "export --csv", "compare a.csv", "report -o", "trace -o",
    "plot -o", "export --csv -o", "export --tensorboard", "whatif --other",
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").touch()
    Path("loop").symlink_to("loop")


@pytest.mark.parametrize("bad", [*BAD, ""])
def test_every_option_that_takes_a_path(bad: str) -> None:
    for option in ("--config", "--data", "--output", "--resume", "--from"):
        for command in (lambda words: parse(words, MODES), lambda words: parse_compare(words, MODES, ["allreduce"])):
            with pytest.raises(ConfigError):
                command([f"{option}={bad}"])
    with pytest.raises(ConfigError):
        parse_bench([f"--json={bad}"], ["allreduce"])
    for option in ("--hostfile", "--mpirun"):
        with pytest.raises(ConfigError):
            supervising.parse(["-np", "2", f"{option}={bad}"])
        with pytest.raises(ConfigError):
            rankwise._run(["train", f"{option}={bad}", "--dry-run"])
    with pytest.raises(ConfigError):
        rankwise._run(["examples", bad])


@pytest.mark.parametrize("bad", BAD)
def test_in_a_file_and_behind_the_supervisor(bad: str) -> None:
    Path("run.toml").write_text(f"output = {json.dumps(bad)}\n")
    with pytest.raises(ConfigError, match=r"^output: got"):
        parse(["--config", "run.toml"], MODES)
    with pytest.raises(ConfigError, match=r"^output: got"):
        named_folder([f"--output={bad}"])


@pytest.mark.parametrize(
    ("command", "bad"), [*((command, "a.csv/b") for command in OF_LOG), *(("show", bad) for bad in (*BAD, ""))]
)
def test_every_command_of_the_log(command: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), bad])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("rankwise: ")
    assert said.count("\n") == 1
    assert len(said) < 400


def test_the_root_is_no_folder_for_a_run() -> None:
    Path("root").symlink_to("/")
    for words in (["--output", "/"], ["-o", "/tmp/.."], ["-o", "//"], ["-o", "root"]):
        with pytest.raises(ConfigError, match=r"output: got .* the root of all folders"):
            parse(words, MODES)


@pytest.mark.parametrize("command", ["report -o", "plot -o", "export --csv -o", "export --tensorboard"])
def test_nor_for_what_a_command_of_the_log_makes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "/"])
    assert ended.value.code == 2
    assert "the root of all folders" in capsys.readouterr().err


def test_what_may_be_a_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for text, path in (("~/x", "/home/me/x"), ("./mpirun", "./mpirun"), ("no/such", "no/such"), ("a.csv", "a.csv")):
        assert given_path("data", text) == path
    assert given_path("run", "not-utf-8-\udcff") == "not-utf-8-\udcff"
    monkeypatch.setenv("RANKWISE_OUTPUT", "")  # set to nothing, as job scripts do
    config = parse([], MODES)
    assert not isinstance(config, int)
    assert config.output == ""


def test_a_key_of_very_many_parts_is_refused_at_once() -> None:
    Path("run.toml").write_text("epochs = 3\n" + ".".join(["a"] * 100_000) + " = 1\n")
    with pytest.raises(ValueError, match="more than 100 dots in line 2"):
        read_toml(Path("run.toml"))
    with pytest.raises(ConfigError, match="is no TOML file"):
        parse(["--config", "run.toml"], MODES)
    Path("run.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="is no TOML file"):
        parse(["--config", "run.toml"], MODES)


def test_a_dash_is_standard_output_where_that_is_written_to() -> None:
    for words in (["-o", "-"], ["--output", "-"], ["-o=-"], ["--output=-"], []):
        config = parse_predict(["run", "new.csv", *words])
        assert not isinstance(config, int)
        assert (config.run, config.data, config.output) == ("run", "new.csv", "-")
    for command in (
        lambda: parse(["--output", "-"], MODES),
        lambda: prepare_options.parse(["a.csv", "-o", "-"]),
        lambda: exporting.parse(["run", "--onnx", "-o", "-"], exporting.command()),
    ):
        with pytest.raises(ConfigError, match=r"^output: got '-'; allowed is a path"):
            command()
