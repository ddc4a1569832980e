"""The options of a run on rank 0: defaults < the run that is resumed < TOML file < RANKWISE_* environment < flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import module_file, own_code, synonyms
from common.config import OPTIONS, RunConfig
from common.data import held_out_files, sources
from common.errors import ConfigError
from common.option import OUTPUT, option, unknown_value
from common.run_files import RUNS
from common.toml_file import read_toml
from ps.coordinator import earlier_run
from workers.launch import cli, fault_spec

NAME = "python -m workers.run"
HELP = "Train a model on all ranks of an MPI job: mpirun -np 4 python -m workers.run --mode allreduce"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """The option that names a file of more options."""

    config: str = option("", "a TOML file of these options", group=OUTPUT)


def command(
    modes: Mapping[str, str], name: str = NAME, text: str = HELP, *more: type, hidden: tuple[str, ...] = ()
) -> cli.Command:
    """Return the command line of a run. ``modes``: name and help line of every sync mode.

    ``name``, ``text``, ``hidden``: what the help says and leaves out. ``more``: dataclasses of options besides a run's.
    """
    texts = {
        "modes": ", ".join(f"{mode} ({line})" for mode, line in modes.items()),
        "sources": sources.allowed(),
    }
    return cli.Command(name, text, (ConfigFile, RunConfig, *more), texts, hidden, trains=True)


def parse(arguments: list[str], modes: Mapping[str, str]) -> RunConfig | int:
    """Return the configuration, or the exit code after printing help or version. Raises ConfigError."""
    parsed = parse_with(command(modes), arguments, modes)
    return parsed if isinstance(parsed, int) else parsed[0]


def parse_with(
    command: cli.Command, arguments: list[str], modes: Mapping[str, str]
) -> tuple[RunConfig, dict[str, Any]] | int:
    """Do the same for a command that may have options besides a run's; return those by name, too."""
    values = cli.parse(command, arguments)
    if isinstance(values, int):
        return values
    given = read_file(Path(values["config"])) if values["config"] else {}
    output = values["output"] or str(given.get("output", ""))
    _check_one_origin(values)
    saved = saved_config(values["resume"], output) if values["resume"] else {}
    taken, asked = saved or _of_the_start(values), {name: values[name] for name in OF_CODE}
    if given or taken:
        again = cli.parse(command, arguments, {**taken, **given})
        assert not isinstance(again, int)
        other = again["data"] != taken.get("data")
        if other and not sources.has_named_columns(again["data"]):  # what is taken over says how to read another file
            again |= {name: values[name] for name in ("target", "header", "index_column")}
        values = again
    # asked for now? Not where a job that is started again by itself repeats what it was given at first
    if saved and values["resume"] != "auto" and values["sum_algorithm"] == "auto":
        named = cli.parse(command, arguments, {"sum_algorithm": "library"})
        values["measure_sums"] = not isinstance(named, int) and named["sum_algorithm"] == "auto"
    config = _checked({name: values.pop(name) for name in OPTIONS}, modes)
    _check_same(saved, config)
    for name in OF_CODE:
        by_hand = getattr(config, name) == asked[name]
        _check_place_of_code(name, config, values["config"], by_hand=by_hand)
        if name == "data" and not by_hand and config.data != given.get("data"):
            _check_trust(config)
    del values["config"]
    return config, values


def _of_the_start(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a new run takes over from the one it starts from; none without ``--from``.

    Raises RankwiseError.
    """
    return earlier_run.start_options(_start_path(values["start_from"])) if values["start_from"] else {}


def _check_one_origin(values: dict[str, Any]) -> None:
    """Raise ConfigError for a job that is to continue a run and to start a new one; ``auto`` does either."""
    if values["start_from"] and values["resume"] not in ("", "auto"):
        raise ConfigError(
            f"from: got --from {values['start_from']} and --resume {values['resume']}; --resume continues a run, "
            "--from starts a new one from the parameters of another: give one of them"
        )


def _start_path(text: str) -> str:
    """Return what ``--from`` names as a path that works from anywhere."""
    path = Path(text)
    is_name = path.name == str(path) and not path.exists() and (RUNS / path).exists()
    return str((RUNS / path if is_name else path).absolute())


def read_file(path: Path) -> dict[str, Any]:
    """Return the options of a TOML file, checked as they stand there. Raises ConfigError."""
    try:
        values = read_toml(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError(f"config: no file {path}") from error
    except OSError as error:
        raise ConfigError(f"config: {path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # ValueError also for numbers of thousands of digits
        raise ConfigError(f"config: {path} is no TOML file ({error})") from error
    read: dict[str, Any] = {}
    for given, value in values.items():
        name = given.replace("-", "_")
        if name not in OPTIONS:
            hint = synonyms.advice(name, OPTIONS, str) or f"The options are {', '.join(OPTIONS)}."
            raise ConfigError(f"config: unknown option {given!r} in {path}. {hint}")
        if name in read:
            raise ConfigError(f"config: {path} has {name} twice, with _ and with -; leave one of them out")
        cli.refuse_elsewhere(OPTIONS[name], f"in {path}")
        read[name] = tuple(value) if isinstance(value, list) else value
        OPTIONS[name].check(read[name])
        if name in cli.PATHS and read[name]:
            read[name] = cli.path_of(OPTIONS[name], read[name])
    return read


WHY_SAME = {
    **dict.fromkeys(("model", "hidden", "activation", "loss", "dtype"), "the saved parameters are of that model"),
    **dict.fromkeys(
        ("standardize", "standardize_target", "start_from"),
        "the saved parameters belong to features scaled as they were",
    ),
    **dict.fromkeys(
        ("test_fraction", "validation_fraction", "split_seed", "group", "time"),
        "rows held out so far would be trained on",
    ),
    "seed": "rows of the epoch would be used twice",
    **dict.fromkeys(("weight", "class_weight"), "it decides what is minimised"),
    **dict.fromkeys(("rows", "shards"), "it decides which rows are left of an epoch"),
    "optimizer": "the checkpoint holds the state of that one",
    "init": "it decides whether the ranks share their parameters",
}
"""Why an option cannot change when a run is resumed."""


def saved_config(resume: str, output: str) -> dict[str, Any]:
    """Return the options of the run to resume, without those that belong to its last job alone.

    Nothing if there is no such run. Raises RankwiseError.
    """
    folder = earlier_run.find_run(resume, output)
    return {} if folder is None else earlier_run.saved_options(folder)


def _check_same(saved: dict[str, Any], config: RunConfig) -> None:
    """Raise ConfigError if an option differs that must not."""
    same = [name for name in saved if OPTIONS[name].on_resume == "same"]
    changed = [
        f"{OPTIONS[name].flag}: got {_shown(now)}, the run has {_shown(saved[name])}"
        + (f" ({WHY_SAME[name]})" if name in WHY_SAME else "")
        for name in same
        if saved[name] != (now := getattr(config, name))
    ]
    if changed:
        raise ConfigError(
            f"resume: {'; '.join(changed)}; a resumed run keeps it: leave it out, or start a new run from the "
            f"parameters of this one: --from {config.resume} instead of --resume"
        )


OF_CODE = ("model", "data", "prepare")
"""Options that may name code of one's own."""


def _check_place_of_code(option: str, config: RunConfig, file: str, *, by_hand: bool) -> None:
    """Raise ConfigError if a model class or a function of one's own lies where no code is imported from.

    ``file``: of options, if there is one. ``by_hand``: whether the user has named the code, rather than a file that
    may be somebody else's: that must not name any in its own folder, nor among the runs.
    """
    name = getattr(config, option)
    if not own_code.is_name(name):
        return
    folders = {config.output: "the folder of this run; choose another --output"} if config.output else {}
    if not by_hand:
        name_it = f"and was not named by you but by a file; if you trust that code, name it: --{option} {name}"
        folders[str(RUNS)] = f"among the runs, {name_it}"
        beside = [] if not file else [Path(file).expanduser().absolute(), Path(file).expanduser().resolve()]
        here = Path.cwd().resolve()
        folders |= {
            str(path.parent): f"beside the options, {name_it}" for path in beside if path.parent.resolve() != here
        }
    module_file.refuse_inside(name, folders, option)


def _check_trust(config: RunConfig) -> None:
    """Raise ConfigError if data are a function that nobody but an earlier run has named. Its model: see changes.py."""
    if own_code.is_name(config.data) and not config.trust_model:
        raise ConfigError(
            f"data {config.data}: the earlier run took its data from that function; code that a run names is not run, "
            f"for the run may be somebody else's; if the function is your own, name it: --data {config.data}"
        )


def _shown(value: Any) -> str:
    """Return an option's value as on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "none"


def _checked(values: dict[str, Any], modes: Mapping[str, str]) -> RunConfig:
    """Return the configuration with paths that work from anywhere. Raises ConfigError."""
    if values["mode"] not in modes:
        raise ConfigError(unknown_value("mode", values["mode"], modes))
    values["data"] = sources.absolute(values["data"])
    for name in ("test_data", "validation_data"):
        values[name] = values[name] and str(Path(values[name]).absolute())
    if values["start_from"]:
        values["start_from"] = _start_path(values["start_from"])
        if values["init"] == "per-rank":
            raise ConfigError("from: with --init per-rank each rank starts on its own; leave one of them out")
    if any(fault.kind == fault_spec.SKEW for fault in fault_spec.parse(values["inject"])):
        values["rows"] = "shard"
    config = RunConfig(**values)
    sources.check_columns(config)
    sources.check_prepare(config)
    held_out_files.check_options(config)
    return config
