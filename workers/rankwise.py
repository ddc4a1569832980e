"""Entry of the command ``rankwise``: starts ranks by the right launcher, and opens all other doors by their names."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common import one_process
from common.config import MODELS
from common.errors import EXIT_OK, ConfigError, LaunchError
from common.given_paths import given_folder
from common.option import option
from common.shadowed import launcher_rank
from common.version import version_line
from common.wording import printable
from workers.launch import cli, command_names, completion, examples, launch_options, launcher, start, words
from workers.launch.command_names import ALONE, COMMANDS, MODULES

NAME = "rankwise"
HELP = "Data-parallel training on CPU clusters with MPI. A first command: rankwise train -n 2"
FOOT = (
    "Options of a command: rankwise train --help. Under a launcher of your own, on a cluster say, the same is: "
    "mpirun -np 4 python -m workers.run"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyConfig:
    """What ``rankwise examples`` takes besides the folder."""

    overwrite: bool = option(False, "replace files that are there and differ")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoConfig:
    """What a command without options takes."""


def main() -> int:
    """Run a command; return its exit code, unless another program takes the place of this one."""
    return one_process.run(lambda: _run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    name, rest = (arguments or ["--help"])[0], arguments[1:]
    if name == "doctor" and start.is_rank():
        return start.continue_as_rank("workers.doctor", *launch_options.split(rest))
    if name not in MODULES and start.is_rank() and launcher_rank():
        return EXIT_OK  # it is no work for ranks: the first one does it
    if name == "help" and rest:
        return _run([rest[0], "--help"])
    if name in ("--help", "-h", "help"):
        _help()
    elif name == "--version":
        _say(_version())
    elif name in MODULES:
        return _start(name, rest)
    else:
        acts: dict[str, Callable[[list[str]], int]] = {
            "log": _log, "supervise": _supervise, "submit": _submit, "export": _export, "doctor": _doctor,
            "examples": _examples, "completion": _completion,
        }  # fmt: skip
        if name not in acts:
            raise ConfigError(command_names.unknown(name, _of_log()))
        return acts[name](rest)
    return EXIT_OK


def _say(line: str) -> None:
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def _help() -> None:
    from cyclopts import App

    app = App(name=NAME, help=HELP, help_format="plaintext", help_epilogue=FOOT, version=version_line)
    for place, (name, text) in enumerate(COMMANDS.items()):
        app.command(App(name=name, help=text, sort_key=place))
    with contextlib.suppress(SystemExit):  # rich's way to say that nobody reads the help any more
        app.help_print([])


def _version() -> str:
    try:
        return f"{version_line()}, {launcher.loaded_library()}"
    except LaunchError:
        return f"{version_line()}, no MPI library"


def _of_log() -> list[str]:
    from ps.reader.commands.cli import COMMANDS as OF_LOG

    return [command.removesuffix("_runs") for command in OF_LOG]


def _modes() -> Mapping[str, str]:
    """Return name and help line of what ``--mode`` takes, also without an MPI library."""
    from ps.sync import mode_names

    try:
        launcher.loaded_library()  # first, so that the modes, which import MPI, do not start it
    except LaunchError:
        return mode_names.read()
    from ps.sync.modes import help_lines

    return help_lines()


def _launched(modes: Mapping[str, str]) -> dict[str, tuple[cli.Command, Callable[[list[str]], Any]]]:
    """Return, of each command that ranks run, its options and what checks them, as its module does."""
    from ps.sync.mode_names import AUTO
    from workers.benchmark import options as measuring
    from workers.launch import run_options
    from workers.prediction import options as predicting
    from workers.preparation import prepare_options as preparing

    own = [mode for mode in modes if mode != AUTO]
    train, compare, bench, prepare, predict, evaluate = map(_named, MODULES)
    return {
        "train": (run_options.command(modes, *train), lambda given: run_options.parse(given, modes)),
        "compare": (
            measuring.compare_command(modes, own, *compare), lambda given: measuring.parse_compare(given, modes, own)
        ),
        "bench": (measuring.bench_command(own, *bench), lambda given: measuring.parse_bench(given, own)),
        "prepare": (preparing.command(*prepare), preparing.parse),
        "predict": (predicting.predict_command(*predict), predicting.parse_predict),
        "evaluate": (predicting.evaluate_command(*evaluate), predicting.parse_evaluate),
    }  # fmt: skip


def _named(name: str) -> tuple[str, str]:
    """Return what the help of a command calls it, and says of it."""
    return f"{NAME} {name}", COMMANDS[name]


def _commands(modes: Mapping[str, str]) -> dict[str, cli.Command]:
    """Return the commands that have options, by name."""
    from slurm import options as submitting
    from workers.diagnosis import alone as examining
    from workers.exporting import options as exporting
    from workers.supervisor import options as supervising

    return {
        **{
            name: replace(command, configs=(launch_options.LaunchConfig, *command.configs))
            for name, (command, _) in _launched(modes).items()
        },
        "supervise": supervising.command(*_named("supervise")),
        "submit": submitting.command(*_named("submit")),
        "export": exporting.command(*_named("export")),
        "examples": cli.Command(*_named("examples"), (CopyConfig,), takes="DIR"),
        "completion": cli.Command(*_named("completion"), (NoConfig,), takes="bash|zsh|fish"),
        "doctor": examining.command(*_named("doctor")),
    }


def _asks_for_help(arguments: list[str]) -> bool:
    return bool({"--help", "-h", "--version"} & set(arguments))


def _start(name: str, arguments: list[str]) -> int:
    """Start ranks. Options are checked here, too: a wrong one is told without starting any."""
    own, others = launch_options.split(arguments)
    if start.is_rank():
        start.continue_as_rank(MODULES[name], own, others)
    modes = _modes()
    command = _commands(modes)[name]
    if _asks_for_help(others):
        cli.parse(command, ["--version" if "--version" in others else "--help"])
        return EXIT_OK
    options = words.split(command, others)[1] if command.takes else others
    values = cli.parse(command, [*options, *own])  # together, so that a wrong one is told which of all was meant
    assert not isinstance(values, int)
    launch = launch_options.LaunchConfig(**{option: values[option] for option in launch_options.OPTIONS})
    if name in ALONE and launch.ranks == launch_options.UNSAID and not launch.places():
        launch = replace(launch, ranks=1)
    config = _launched(modes)[name][1](others)
    return start.start(MODULES[name], launch, others, elastic=getattr(config, "elastic", False))


def _log(arguments: list[str]) -> int:
    from ps.reader.commands.cli import main as read

    read(arguments, f"{NAME} log")
    return EXIT_OK


def _supervise(arguments: list[str]) -> int:
    """Start the supervisor with the launcher of the MPI library, and with what this needs."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    own = arguments[:split]
    values = cli.parse(_commands(_modes())["supervise"], own)
    if isinstance(values, int):
        return values
    placed = bool(values["hosts"] or values["hostfile"])
    ranks = values["ranks"]
    if not ranks and not placed:
        ranks, why = launch_options.number_of_ranks(launch_options.LaunchConfig())
        own += ["--ranks", str(ranks)]
        start.say_ranks(ranks, why)
    found = launcher.find(launcher.loaded_library(), values["mpirun"])
    if not values["mpirun"]:
        own += ["--mpirun", found.path]
    settings = found.settings(ranks, placed=placed)
    return start.replace_process(
        start.program("workers.supervise", [*own, *arguments[split:]]), start.environment(settings)
    )


def _submit(arguments: list[str]) -> int:
    from slurm import options, submitting

    return submitting.run(arguments, options.command(*_named("submit")))


def _export(arguments: list[str]) -> int:
    from workers.exporting import exporting

    return exporting.run(arguments, _commands(_modes())["export"])


def _doctor(arguments: list[str]) -> int:
    from workers.diagnosis import alone

    return alone.run(arguments, alone.command(*_named("doctor")))


def _examples(arguments: list[str]) -> int:
    folders = [word for word in arguments if not word.startswith("-")]
    options = [word for word in arguments if word.startswith("-")]
    values = cli.parse(_commands(_modes())["examples"], options)
    if isinstance(values, int):
        return values
    if len(folders) != 1:
        raise ConfigError(f"examples: got {len(folders)} folders; write rankwise examples DIR")
    for path in examples.copy(Path(given_folder("examples", folders[0])), overwrite=values["overwrite"]):
        _say(str(path))
    return EXIT_OK


def _completion(arguments: list[str]) -> int:
    if _asks_for_help(arguments):
        return _parsed("completion", arguments)
    if len(arguments) != 1:
        raise ConfigError(f"completion: got {len(arguments)} words; allowed is one of {', '.join(completion.SHELLS)}")
    from ps.reader.commands.cli import make
    from ps.sync.mode_names import AUTO

    modes = _modes()
    own = [mode for mode in modes if mode != AUTO]
    commands = {name: one for name, one in _commands(modes).items() if name not in ("examples", "completion")}
    _say(
        completion.script(
            arguments[0], NAME, make(f"{NAME} log"), commands, {"mode": modes, "modes": own, "model": MODELS}
        )
    )
    return EXIT_OK


def _parsed(name: str, arguments: list[str]) -> int:
    """Parse the options of a command that has none but help and version; return the exit code."""
    values = cli.parse(_commands(_modes())[name], arguments)
    return values if isinstance(values, int) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
