"""What strikes a job in training, and where: drawn from what it is given alone, so any can be repeated."""

import json
import random
from dataclasses import asdict, dataclass, field

MODES = ("allreduce", "reduce-bcast", "send-recv", "shared", "factors")
ONE_COPY = ("shared", "factors")
"""Modes in which the ranks of a node have one copy of the parameters between them."""
EPOCHS, STEPS = 4, 13
LOOP = ("input", "compute", "exchange")
EVERY_EPOCH = ("evaluation", "end of epoch", "checkpoint")
AT_THE_END = ("final test", "saving", "closing")
COORDINATOR_ONLY = ("writing the log", "writing the model")
KINDS = {
    "kill": "SIGKILL of a rank",
    "stop": "SIGSTOP of a rank",
    "exception": "an exception in a rank",
    "nan": "a gradient that is not finite, `--nonfinite stop`",
    "nan-skip": "the same, `--nonfinite skip`",
    "flip": "a flipped bit in a rank's parameters",
    "flip-heal": "the same, `--heal`",
    "disk": "no room on the disk, to the end",
    "disk-while": "no room on the disk, for a while",
    "torn-log": "SIGKILL in the middle of a log record",
    "torn-checkpoint": "SIGKILL while a checkpoint is written",
    "signal": "SIGTERM, SIGINT or SIGUSR1 to one rank",
    "second-kill": "SIGKILL, and another after `--resume`",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes a rank when it enters a phase for the ``nth`` time in its job.

    ``delay_s``: after that. ``place``: of a bit, as a share of the parameters' bytes or, if ``aimed``, of those whose
    checksum travels in the same step. ``share``: of a write that is torn. ``while_steps``: how long a disk stays full;
    0: to the end.
    """

    kind: str
    rank: int = 0
    phase: str = ""
    nth: int = 0
    delay_s: float = 0.0
    place: float = 0.0
    bit: int = 0
    aimed: bool = False
    share: float = 0.0
    stage: str = ""
    signal: str = ""
    while_steps: int = 0

    @property
    def epoch(self) -> int:
        """The epoch it strikes in; 0 behind the last."""
        if self.phase in LOOP:
            return (self.nth - 1) // STEPS + 1
        if self.phase == "end of epoch":  # entered behind the loop, and behind the evaluation
            return (self.nth + 1) // 2
        return 0 if self.phase in (*AT_THE_END, "writing the model") else self.nth

    @property
    def step(self) -> int:
        """The step of the epoch, from 1; 0 outside of the training loop."""
        return (self.nth - 1) % STEPS + 1 if self.phase in LOOP else 0

    @property
    def last_epoch(self) -> int:
        """The last epoch that was whole before it strikes."""
        return self.epoch - 1 if self.epoch else EPOCHS

    def to_json(self) -> str:
        """Return it as text for the command line of a job."""
        return json.dumps(asdict(self))


NOTHING = Fault("none")


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """A job that is struck in training. ``second``: strikes the job that goes on."""

    mode: str
    kind: str
    ranks: int
    per_node: int
    dtype: str
    fault: Fault
    second: Fault | None = None
    options: tuple[str, ...] = field(default=())

    @property
    def arguments(self) -> tuple[str, ...]:
        """The job's options, but for its folder."""
        shape = ("--hidden", "16", "--batch-size", "100", "--epochs", str(EPOCHS), "--checkpoint-every", "1")
        nodes = ("--ranks-per-node", str(self.per_node)) if self.per_node else ()
        return ("--mode", self.mode, "--dtype", self.dtype, *shape, *nodes, *self.options)


def draw(rng: random.Random, kind: str, mode: str) -> TrainingCase:
    """Draw a case of a kind."""
    copies = kind.startswith("flip")
    ranks = rng.choice((3, 3, 4) if copies else (2, 3, 3, 4))
    per_node = 0
    if mode in ONE_COPY:
        per_node = 1 if copies else rng.choice((0, 0, 2))
    fault = DRAW[kind](rng, ranks, kind)
    second = _kill(rng, ranks, "kill", jobs_last=STEPS) if kind == "second-kill" else None
    options = {
        "stop": ("--stall-seconds", "2", "--abort-stall", "2"),
        "nan-skip": ("--nonfinite", "skip"),
        "flip-heal": ("--heal",),
    }.get(kind, ())
    return TrainingCase(mode, kind, ranks, per_node, rng.choice(("float32", "float64")), fault, second, options)


def _kill(rng: random.Random, ranks: int, kind: str, jobs_last: int = EPOCHS * STEPS) -> Fault:
    """Strike anywhere; within the first ``jobs_last`` steps, if those are not all."""
    whole = jobs_last == EPOCHS * STEPS
    if not whole or rng.random() < 0.6:
        delay_s = rng.choice((0.0, rng.uniform(0, 0.003)))
        last = jobs_last - (3 if delay_s else 0)  # with the delay it is still alive
        return Fault(kind, rng.randrange(ranks), rng.choice(LOOP), rng.randint(1, last), delay_s)
    phase = rng.choice((*EVERY_EPOCH, *AT_THE_END, *COORDINATOR_ONLY))
    rank = 0 if phase in COORDINATOR_ONLY else rng.randrange(ranks)
    times = 1 if phase in (*AT_THE_END, "writing the model") else 2 * EPOCHS if phase == "end of epoch" else EPOCHS
    return Fault(kind, rank, phase, rng.randint(1, times))


def _second_kill(rng: random.Random, ranks: int, kind: str) -> Fault:
    return Fault("kill", rng.randrange(ranks), rng.choice(LOOP), rng.randint(STEPS + 1, (EPOCHS - 1) * STEPS))


def _exception(rng: random.Random, ranks: int, kind: str) -> Fault:
    struck = _kill(rng, ranks, kind)
    return Fault(kind, struck.rank, struck.phase, struck.nth)


def _nan(rng: random.Random, ranks: int, kind: str) -> Fault:
    return Fault("nan", rng.randrange(ranks), "compute", rng.randint(1, EPOCHS * STEPS))


def _flip(rng: random.Random, ranks: int, kind: str) -> Fault:
    nth = rng.randint(1, EPOCHS * STEPS)
    return Fault("flip", rng.randrange(ranks), "compute", nth, place=rng.random(), bit=rng.randrange(8),
                 aimed=rng.random() < 0.5)  # fmt: skip


def _disk(rng: random.Random, ranks: int, kind: str) -> Fault:
    phase = rng.choice(("writing the log", "checkpoint", "input"))
    epoch = rng.randint(1, EPOCHS - 1)
    nth = epoch if phase != "input" else rng.randint(1, (EPOCHS - 2) * STEPS)
    while_steps = rng.randint(1, STEPS - 1) if kind == "disk-while" else 0
    return Fault("disk", 0, phase, nth, stage=rng.choice(("full", "limit")), while_steps=while_steps)


def _torn_log(rng: random.Random, ranks: int, kind: str) -> Fault:
    return Fault("torn-log", 0, "", rng.randint(1, 10), share=rng.random())


def _torn_checkpoint(rng: random.Random, ranks: int, kind: str) -> Fault:
    stage = rng.choice(("bytes", "bytes", "verified", "renamed"))
    return Fault("torn-checkpoint", 0, "", rng.randint(1, EPOCHS), share=rng.random(), stage=stage)


def _signal(rng: random.Random, ranks: int, kind: str) -> Fault:
    phase = rng.choice((*LOOP, "evaluation"))
    nth = rng.randint(1, EPOCHS * STEPS - 3) if phase in LOOP else rng.randint(1, EPOCHS)
    delay_s = rng.choice((0.0, rng.uniform(0, 0.003))) if phase in LOOP else 0.0
    return Fault(kind, rng.randrange(ranks), phase, nth, delay_s, signal=rng.choice(("SIGTERM", "SIGINT", "SIGUSR1")))


DRAW = {
    "kill": _kill,
    "stop": _kill,
    "exception": _exception,
    "nan": _nan,
    "nan-skip": _nan,
    "flip": _flip,
    "flip-heal": _flip,
    "disk": _disk,
    "disk-while": _disk,
    "torn-log": _torn_log,
    "torn-checkpoint": _torn_checkpoint,
    "signal": _signal,
    "second-kill": _second_kill,
}
