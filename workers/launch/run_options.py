"""The options of a run on rank 0: defaults < the run that is resumed < TOML file < RANKWISE_* environment < flags."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.config import OPTIONS, RunConfig, from_dict, option, unknown_value
from common.data import sources
from common.errors import ConfigError, RankwiseError
from common.run_files import LOG_NAME
from ps.coordinator import earlier_run
from workers.launch import cli, fault_spec

HELP = "Train a model on all ranks of an MPI job: mpirun -np 4 python -m workers.run --mode allreduce"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The option that names a file of more options."""

    config: str = option("", "a TOML file of these options")


def parse(arguments: list[str], modes: Mapping[str, str]) -> RunConfig | int:
    """Return the configuration, or the exit code after printing help or version.

    ``modes``: name and help line of every sync mode. Raises ConfigError.
    """
    parsed = parse_with(arguments, modes, "python -m workers.run", HELP)
    return parsed if isinstance(parsed, int) else parsed[0]


def parse_with(
    arguments: list[str], modes: Mapping[str, str], name: str, text: str, *more: type, hidden: tuple[str, ...] = ()
) -> tuple[RunConfig, dict[str, Any]] | int:
    """Do the same for a command with options besides a run's, in ``more`` dataclasses; return those by name, too.

    ``name``, ``text``, ``hidden``: what the help says and leaves out.
    """
    texts = {"modes": ", ".join(f"{mode} ({line})" for mode, line in modes.items()), "sources": sources.allowed()}
    command = cli.Command(name, text, (ConfigFile, RunConfig, *more), texts, hidden, trains=True)
    values = cli.parse(command, arguments)
    if isinstance(values, int):
        return values
    given = read_file(_expanded("config", values["config"])) if values["config"] else {}
    output = values["output"] or str(given.get("output", ""))
    saved = saved_config(values["resume"], output) if values["resume"] else {}
    if given or saved:
        again = cli.parse(command, arguments, {**saved, **given})
        assert not isinstance(again, int)
        values = again
    config = _checked({name: values.pop(name) for name in OPTIONS}, modes)
    _check_same(saved, config)
    del values["config"]
    return config, values


def read_file(path: Path) -> dict[str, Any]:
    """Return the options of a TOML file, checked as they stand there. Raises ConfigError."""
    import tomllib

    if not path.is_file():
        raise ConfigError(f"config: no file {path}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
        raise ConfigError(f"config: {path} is no TOML file ({error})") from error
    for name, value in values.items():
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"Did you mean --{near[0]}?" if near else f"The options are {', '.join(OPTIONS)}."
            raise ConfigError(f"config: unknown option {name!r} in {path}. {hint}")
        cli.refuse_elsewhere(OPTIONS[name], f"in {path}")
        values[name] = tuple(value) if isinstance(value, list) else value
        OPTIONS[name].check(values[name])
    return values


def saved_config(resume: str, output: str) -> dict[str, Any]:
    """Return the options of the run to resume, without those that belong to its last job alone.

    Nothing if there is no such run. Raises RankwiseError.
    """
    folder = earlier_run.find_run(resume, output)
    if folder is None:
        return {}
    values = earlier_run.last_config(folder / LOG_NAME)
    known = isinstance(values, dict) and values.keys() <= OPTIONS.keys()
    if not known or not isinstance(values.get("hidden"), list):
        raise RankwiseError(f"resume: the log of {folder} holds no configuration that this version knows")
    before = {name: one.before for name, one in OPTIONS.items() if one.before is not None}
    if "standardize_target" not in values and values.get("loss") == "auto":  # whole numbers alone decided then
        values = {**values, "loss": _loss_of(folder)}
    checked = asdict(from_dict(RunConfig, {**before, **values, "resume": ""}))
    return {name: value for name, value in checked.items() if OPTIONS[name].on_resume != "own"}


def _loss_of(folder: Path) -> str:
    """Return the loss that a run was trained with which chose it by the type of its target."""
    data = earlier_run.header_of(folder / LOG_NAME).get("data")
    return "mse" if isinstance(data, dict) and data.get("classes") is None else "cross-entropy"


def _check_same(saved: dict[str, Any], config: RunConfig) -> None:
    """Raise ConfigError if an option differs that must not."""
    same = [name for name in saved if OPTIONS[name].on_resume == "same"]
    changed = [
        f"{name}: {saved[name]!r} then, {now!r} now" for name in same if saved[name] != (now := getattr(config, name))
    ]
    if changed:
        free = ", ".join(name for name, option in OPTIONS.items() if option.on_resume != "same")
        raise ConfigError(
            f"resume: other options than the run's ({'; '.join(changed)}); leave them out, or start a new run; what "
            f"may change is {free}"
        )


def _expanded(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{name}: got {text!r}, but that user has no home folder; write the whole path") from error


def _checked(values: dict[str, Any], modes: Mapping[str, str]) -> RunConfig:
    """Return the configuration with paths that work from anywhere. Raises ConfigError."""
    if values["mode"] not in modes:
        raise ConfigError(unknown_value("mode", values["mode"], modes))
    if sources.file_suffix(values["data"]):
        values["data"] = str(_expanded("data", values["data"]).absolute())
    if values["output"].startswith("~"):
        values["output"] = str(_expanded("output", values["output"]))
    if any(fault.kind == fault_spec.SKEW for fault in fault_spec.parse(values["inject"])):
        values["rows"] = "shard"
    config = RunConfig(**values)
    sources.check_target(config)
    return config
