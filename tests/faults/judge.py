"""The rules by which a case is judged: it ends in time, in one message, in bounded memory, and nothing is lost."""

import re
import stat
from collections.abc import Collection
from pathlib import Path

import numpy as np

from common import files, run_files
from common.errors import RankwiseError
from common.run_files import LOG_NAME
from ps.logfile.reader import read
from ps.logfile.records import Record
from tests.faults.case import MIB, Place
from tests.faults.process import Outcome

MOST_LINES = 12
MOST_CHARACTERS = 4000
"""What a message may take of a terminal."""
MOST_BYTES = 1024 * MIB
"""Memory that a process may take, whatever a file claims."""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udc9f]")
"""What does something to a terminal instead of being shown: control characters, those of C1 too, and bidi."""
LEFT_BEHIND = (files.TEMPORARY, run_files.UNFINISHED, re.compile(r"\..+\.(?:\d+|part)"))


class Judge:
    """Collects what is wrong with a case. ``lost``: what is gone. ``named``: whether the right rank is named."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.problems: list[str] = []
        self.lost: list[str] = []
        self.named: bool | None = None
        self.note = ""

    @property
    def run(self) -> Path:
        """The run folder, wherever the kind has put it."""
        return self.place.run

    def need(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition holds."""
        if not condition:
            self.problems.append(problem)

    def keep(self, condition: object, loss: str) -> None:
        """Note a loss, which is a problem too, unless the condition holds."""
        if not condition:
            self.lost.append(loss)
            self.problems.append(loss)

    def name(self, condition: object, problem: str) -> None:
        """Note whether the right rank is named; all of several times."""
        self.named = bool(condition) and self.named is not False
        self.need(condition, problem)

    def records(self) -> list[Record]:
        """Return the log's whole records; that it cannot be read is a loss."""
        try:
            return list(read(self.run / LOG_NAME))
        except (RankwiseError, OSError) as error:
            self.keep(False, f"log: {error}")
            return []

    def ended(self, outcome: Outcome, who: str, codes: Collection[int] = ()) -> None:
        """Check that a job is gone, in time, without a traceback, with one of some codes if any are given."""
        self.need(outcome.in_time, f"{who}: did not end in {outcome.seconds:.0f} s: {tail(outcome)}")
        self.need(not outcome.left, f"{who}: left processes behind: {outcome.left}")
        self.need("Traceback" not in outcome.err + outcome.out, f"{who}: traceback {tail(outcome)}")
        self.need(not codes or outcome.code in codes or not outcome.in_time, f"{who}: code {told(outcome)}")

    def bounded(self, outcome: Outcome, who: str, most: int = MOST_BYTES) -> None:
        """Check how much memory it took."""
        self.need(outcome.peak_bytes <= most, f"{who}: took {outcome.peak_bytes // MIB} MiB, of {most // MIB} allowed")

    def refused(self, outcome: Outcome, who: str) -> None:
        """Check that bad input ended in one message of a few lines, in bounded memory."""
        self.need(outcome.code != 0, f"{who}: not refused: {tail(outcome)}")
        self.answered(outcome, who)
        if outcome.code and outcome.in_time:
            self.need("rankwise:" in outcome.err, f"{who}: no message: {tail(outcome)}")

    def answered(self, outcome: Outcome, who: str) -> None:
        """Check that a command did its work, or said in one message of a few lines why not, in bounded memory."""
        self.ended(outcome, who, (0, 1, 2))
        self.bounded(outcome, who)
        self.printable(outcome, who)
        messages = len(re.findall("rankwise: (?!warning:)", ours(outcome)))
        self.need(messages <= 1 or outcome.code == 0, f"{who}: {messages} messages: {tail(outcome)}")
        self.need(not outcome.code or outcome.err or outcome.out, f"{who}: code {outcome.code}, and nothing is said")
        self.short(outcome, who)

    def short(self, outcome: Outcome, who: str) -> None:
        """Check that errors are a few lines."""
        lines = ours(outcome).splitlines()
        self.need(len(lines) <= MOST_LINES, f"{who}: {len(lines)} lines of errors: {tail(outcome)}")
        self.need(
            sum(map(len, lines)) <= MOST_CHARACTERS,
            f"{who}: {sum(map(len, lines))} characters of errors: {tail(outcome)}",
        )

    def printable(self, outcome: Outcome, who: str) -> None:
        """Check that nothing in its output does anything to a terminal."""
        for name, text in (("stdout", outcome.out), ("stderr", outcome.err)):
            found = UNSAFE.search(text)
            self.need(
                found is None, f"{who}: {name} has {found and text[max(0, found.start() - 40) : found.end() + 20]!r}"
            )

    def same_bits(self, undisturbed: Path) -> None:
        """Check that the model is that of the undisturbed run."""
        self.keep(same_bits(self.run / "model.npz", undisturbed / "model.npz"), "other bits than undisturbed")

    def close(self, undisturbed: Path) -> None:
        """Check that the model is that of the undisturbed run up to rounding."""
        self.keep(close(self.run / "model.npz", undisturbed / "model.npz"), "another model than undisturbed")

    def clean(self) -> None:
        """Check that no unfinished file is left in the run folder."""
        torn = [path.name for path in self.run.glob(".*") if any(name.fullmatch(path.name) for name in LEFT_BEHIND)]
        self.need(not torn, f"left behind: {torn}")

    def done(self, outcome: Outcome, who: str, last_epoch: int) -> None:
        """Check that a run came to its end, with every epoch in its log."""
        self.ended(outcome, who, (0,))
        records = self.records()
        epochs = [record["epoch"] for record in records if record["kind"] == "epoch"]
        whole = follow(epochs) and set(epochs) == set(range(1, last_epoch + 1))
        self.keep(whole, f"{who}: log at the end: epochs {shortened(epochs)}")
        ends = [record["status"] for record in records if record["kind"] == "end"]
        self.keep(ends and ends[-1] == "ok", f"{who}: log at the end: {ends}")
        self.clean()


def told(outcome: Outcome) -> str:
    """Return code and last words of a command."""
    return f"{outcome.code}: {tail(outcome)}"


def tail(outcome: Outcome) -> str:
    """Return the last words of a command, as one line."""
    words = (outcome.err or outcome.out).strip()
    return repr(words[-600:])


def ours(outcome: Outcome) -> str:
    """Return what is on stderr but for the launcher's own report of a job that failed."""
    kept = re.sub(r"^=====.*?^=====[^\n]*$|^-----+\n.*?^-----+$", "", outcome.err, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(line for line in kept.splitlines() if line.strip() and not line.startswith("["))


def shortened(values: list[int]) -> str:
    """Return a list as text, a long one without its middle."""
    return str(values) if len(values) < 12 else f"{values[:4]} ... {values[-4:]}"


def follow(epochs: list[int]) -> bool:
    """Say whether no epoch is missing in between; some may be there again, from where a job went on."""
    return all(1 <= b <= a + 1 for a, b in zip([0, *epochs], epochs, strict=False))


def same_bits(one: Path, other: Path) -> bool:
    """Say whether two files hold the same arrays."""
    try:
        with np.load(one, allow_pickle=False) as a, np.load(other, allow_pickle=False) as b:
            return a.files == b.files and all(a[name].tobytes() == b[name].tobytes() for name in a.files)
    except OSError:
        return False


def close(one: Path, other: Path) -> bool:
    """Say whether two files hold the same arrays up to rounding in float64."""
    try:
        with np.load(one, allow_pickle=False) as a, np.load(other, allow_pickle=False) as b:
            return a.files == b.files and all(
                a[name].shape == b[name].shape
                and (a[name].dtype.kind not in "fc" or np.allclose(a[name], b[name], 1e-8, 1e-10))
                for name in a.files
            )
    except OSError:
        return False


def events(records: list[Record], what: str) -> list[Record]:
    """Return the events of a kind."""
    return [record for record in records if record["kind"] == "event" and record["what"] == what]


def failure(run: Path) -> str:
    """Return the message that a job ended with, or why there is none."""
    try:
        if not stat.S_ISREG((run / "failure.txt").lstat().st_mode):
            return "no regular file"
        return (run / "failure.txt").read_text(errors="backslashreplace")
    except OSError as error:
        return str(error)
