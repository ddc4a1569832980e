"""The doctor where no launcher started it: looks at this process, finds the launcher, and starts a job."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from importlib import util

from common import one_process
from common.errors import EXIT_ERROR, EXIT_OK
from common.run_files import RUNS
from workers.diagnosis import checks, publish, trial_job
from workers.diagnosis.finding import Finding, failed
from workers.diagnosis.options import NAME, TEXT, DoctorConfig, as_arguments
from workers.diagnosis.remedies import by_rankwise
from workers.launch import cli, launcher
from workers.launch.launch_options import LaunchConfig, number_of_ranks
from workers.launch.start import environment, path_of_this_copy, program

START_S = 60.0
"""What the start of a job may take, besides what stalls."""
NUMERIC = ("numpy", "msgpack", "threadpoolctl")
HOST = ("cores", "threads", "blas", "shared memory", "run folder", "interfaces")
"""Checks of a job's facts that one process knows enough for."""


def command(name: str = NAME, text: str = TEXT) -> cli.Command:
    """Return the command line. ``name``, ``text``: what the help says."""
    return cli.Command(name, text, (LaunchConfig, DoctorConfig))


def main(arguments: list[str]) -> int:
    """Do it as a command; return the exit code."""
    return one_process.run(lambda: run(arguments, command()))


def run(arguments: list[str], given: cli.Command) -> int:
    """Examine; return the exit code. Raises ConfigError."""
    values = cli.parse(given, arguments)
    if isinstance(values, int):
        return values
    launch = LaunchConfig(**{one.name: values[one.name] for one in fields(LaunchConfig)})
    config = DoctorConfig(**{one.name: values[one.name] for one in fields(DoctorConfig)})
    if launch.dry_run:
        sys.stdout.write(f"{launcher.shown(*_command(launch, config))}\n")
        return EXIT_OK
    told = Told(as_lines=not config.json)
    told.add(
        checks.of_process({**checks.PROCESS, **{name: partial(of, launch.mpirun) for name, of in checks.START.items()}})
    )
    outcome = trial_job.Outcome([])
    if not failed(told.findings):
        started, settings = _command(launch, config)
        ranks, _ = number_of_ranks(launch)
        limit_s = START_S + config.stall_seconds
        outcome = trial_job.run(started, settings, environment(settings), ranks, limit_s)
    if not outcome.job:
        told.add(_of_this_host(config))
    told.add(one for one in outcome.findings if one.check not in checks.PROCESS)
    if config.json:
        publish.json_object(told.findings, outcome.job, outcome.measured)
    else:
        publish.last_line(told.findings, f"rankwise train -n {number_of_ranks(launch)[0]}")
    return EXIT_ERROR if failed(told.findings) else EXIT_OK


class Told:
    """Findings, in the order in which they are made; ``as_lines``: each is printed at once."""

    def __init__(self, *, as_lines: bool) -> None:
        self.findings: list[Finding] = []
        self._as_lines = as_lines

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep findings, and print them."""
        for found in findings:
            finding = replace(found, command=by_rankwise(found.command))
            self.findings.append(finding)
            if self._as_lines:
                publish.line(finding)


def _command(launch: LaunchConfig, config: DoctorConfig) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts the ranks, and what to set for it. Raises LaunchError."""
    found = launcher.find(launcher.loaded_library(), launch.mpirun)
    (ranks, _), hosts = number_of_ranks(launch), launch.places()
    started = found.command(ranks, program("workers.doctor", as_arguments(config)), hosts, launch.more)
    return started, {**path_of_this_copy(), **found.settings(ranks, placed=bool(hosts))}


def _of_this_host(config: DoctorConfig) -> Iterator[Finding]:
    """Yield what can be said of this host without any job."""
    if any(util.find_spec(name) is None for name in NUMERIC):
        return
    from workers.diagnosis import collect

    facts = collect.without_job(config.output or str(RUNS))
    yield from checks.of_job(facts, HOST)
