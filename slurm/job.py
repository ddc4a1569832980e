"""A submitted job: its number, its files, and its way to the end, followed on a login node."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import EXIT_ERROR, EXIT_OK, ConfigError
from common.run_files import RUNS
from common.wording import printable
from slurm.cluster import Partition, SlurmError, ask, shown
from slurm.options import SubmitConfig
from slurm.script import TASK, asked, parted
from workers.batch.batch_id import BatchId
from workers.batch.options import BatchConfig, own_options
from workers.launch.run_arguments import take_option

POLL_S = (1.0, 10.0)
"""Between two looks at the job: at first, and when nothing has changed for long."""
OVER = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip
PATIENCE = 5
"""So many looks in a row may fail, since a controller may be restarted."""
NAME = "rankwise"
"""What the scripts call a job."""
FIELDS = re.compile(r"(\w+)=(.*?)(?= \w+=|\s*$)")
"""Of a job in a line of scontrol's: a value may have spaces."""
PLACES = re.compile(r"%([%jAax])")
"""In the name of an output file: % itself, the job's number, the array's, the task's, the job's name."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that Slurm has taken. ``number``: as squeue has it; ``prints``: the pattern of its output file's name."""

    number: str
    config: SubmitConfig
    prints: str

    @property
    def output(self) -> Path:
        """The file of what it, or its first task, prints."""
        return self.output_of(str(self.config.tasks[0]) if self.config.tasks else "")

    def output_of(self, task: str) -> Path:
        """The file of what a task of an array prints, or with none the job."""
        meant = {"%": "%", "j": self.number, "A": self.number, "a": task, "x": self.config.job_name or NAME}
        return Path.cwd() / self._start / PLACES.sub(lambda place: meant[place[1]], self.prints)

    @property
    def _start(self) -> str:
        """The folder in which it starts, as --chdir names it; empty: the current one."""
        return dict(parted(word) for word in self.config.more).get("chdir") or ""

    @property
    def run(self) -> Path:
        """The run folder of it or of its first task, as the script will name it. Raises ConfigError."""
        words, variables, config = list(self.config.arguments), {"SLURM_JOB_ID": self.number}, self.config
        if config.tasks:
            first = str(config.tasks[0])
            words = [word.replace(TASK, first) for word in words]
            variables |= {"SLURM_ARRAY_JOB_ID": self.number, "SLURM_ARRAY_TASK_ID": first}
        program = ("-m", "workers.run", *words)
        batch = BatchConfig(lines=config.lines, resume=not config.compare, program=program)
        named = take_option("output", own_options(batch, BatchId(variables)))[0] or [str(RUNS / "latest")]
        return Path(self._start) / named[-1]


def submit(script: str, config: SubmitConfig, there: Sequence[Partition] = ()) -> Job:
    """Hand a script to sbatch. Raises ConfigError with sbatch's words, and the partitions, if it takes none."""
    answer = ask("sbatch", "--parsable", text=script)
    if answer.returncode:
        said = printable(" ".join(answer.stderr.replace("sbatch: error: ", "").split()), 600)
        raise ConfigError(f"submit: sbatch does not take the job: {said}{shown(there)}")
    return Job(answer.stdout.strip().partition(";")[0], config, asked(script).get("output", "slurm-%j.out"))


@dataclass(slots=True)
class _Task:
    """A task of an array, or the whole job: what was last said of it, and how far its output is shown."""

    said: str = ""
    shown: int = 0
    over: bool = False
    code: int = EXIT_OK
    torn: bytes = field(default=b"")


def follow(job: Job, say: Say) -> int:
    """Say what becomes of the job and what it prints, until it is over; return its exit code. Raises SlurmError."""
    tasks: dict[str, _Task] = {}
    wait, failed = POLL_S[0], 0
    while True:
        answer = ask("scontrol", "--oneliner", "show", "job", job.number)
        records = [fields(line, job) for line in answer.stdout.splitlines() if line.startswith("JobId=")]
        failed = 0 if records else failed + 1
        if failed > PATIENCE:
            why = printable(answer.stderr.strip(), 300) or "no answer"
            raise SlurmError(f"submit: scontrol no longer says how job {job.number} is ({why}); sacct -j {job.number}")
        news = False
        for record in records:
            task = tasks.setdefault(record.get("ArrayTaskId", ""), _Task())
            news |= _look(job, record, task, say)
        # of an array, tasks that wait are one record, as task 2-9
        if records and all(tasks[record.get("ArrayTaskId", "")].over for record in records):
            return max(task.code for task in tasks.values())
        wait = POLL_S[0] if news else min(POLL_S[1], 1.2 * wait)
        time.sleep(wait)


def fields(line: str, job: Job) -> dict[str, str]:
    """Return what a line of scontrol's says of the job."""
    # its name, and the paths behind all that is read here, may look like fields
    line = line.replace(f"JobName={job.config.job_name or NAME} ", "", 1)
    return dict(reversed(FIELDS.findall(line)))  # of several of a name the first counts


def _look(job: Job, record: dict[str, str], task: _Task, say: Say) -> bool:
    """Say what is new of one task; return whether anything is."""
    of = f" task {record['ArrayTaskId']}" if record.get("ArrayTaskId") else ""
    state, reason = record.get("JobState", ""), record.get("Reason", "None")
    task.over = state in OVER
    where = f" on {record['NodeList']}" if state == "RUNNING" else ""
    why = f" ({reason})" if state == "PENDING" and reason != "None" else ""
    if int(record.get("Restarts", "0") or 0) and state in ("PENDING", "RUNNING"):
        why += f", restart {record['Restarts']}"
    line = f"Job {job.number}{of}: {state.lower().replace('_', ' ')}{where}{why}"
    if task.over:
        code, _, number = record.get("ExitCode", "0:0").partition(":")
        task.code = int(code) or (128 + int(number) if int(number or 0) else EXIT_OK)
        if state != "COMPLETED":
            task.code = task.code or EXIT_ERROR
        line += f" after {record.get('RunTime', '')}, exit code {task.code}"
    news = line != task.said
    if news and not task.over:
        say(line)
    path = job.output_of(record.get("ArrayTaskId", ""))
    news |= _show(
        str(path) if path.exists() else record.get("StdOut", ""),
        task,
        f"{of.removeprefix(' task ')}: " if of else "",
        say,
    )
    if task.over and line != task.said:
        say(line)
    task.said = line
    return news


def _show(path: str, task: _Task, prefix: str, say: Say) -> bool:
    """Say the whole lines that the task has printed since the last look."""
    try:
        with Path(path).open("rb") as file:
            file.seek(task.shown)
            new = file.read()
    except OSError:  # not begun, or not to be seen from here
        return False
    task.shown += len(new)
    lines = (task.torn + new).split(b"\n")
    task.torn = b"" if task.over else lines.pop()
    for line in lines:
        if line or not task.over:
            say(prefix + printable(line.decode(errors="replace")))
    return bool(new)
