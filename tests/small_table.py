"""Prepares a small table within this process, by the questions that a rank asks its child."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from common.errors import DataError
from common.flat import Array
from workers.preparation import byte_pieces
from workers.preparation.child import Answers
from workers.preparation.encode import encode
from workers.preparation.plan import Plan
from workers.preparation.table_file import TableFile


class Prepared(NamedTuple):
    """What a table becomes: the plan, and the arrays of all rows."""

    plan: Plan
    arrays: dict[str, Array]


def asking(answers: Answers) -> Callable[..., Any]:
    """Return what asks a child, here in this process: its answer, or its fault as the DataError that a user gets."""

    def ask(question: str, **about: Any) -> Any:
        kind, value = answers.answer(question, about)
        if kind == "fault":
            raise DataError(value[0])
        return value

    return ask


def prepare_table(path: Path, options: dict[str, str], block_bytes: int = 1 << 20) -> Prepared:
    """Prepare a file, so many bytes at a time. Raises DataError with the message that a user gets."""
    answers = Answers(lambda _: None)
    ask = asking(answers)
    with mock.patch.object(byte_pieces, "BLOCK_BYTES", block_bytes):
        opened = ask("open", paths=[str(path)], options=options, folder=str(path.parent))
        know = {name: opened[name] for name in ("tables", "options", "numbers")}
        ask("know", **know)
        table = TableFile.from_dict(opened["tables"][0])
        piece = {"table": 0, "start": table.first_row, "stop": table.extent}
        found = ask("analyse", **piece, again=[])
        ask("merge", analyses=[found])
        if again := ask("unlike"):
            know["numbers"]["names"] = [name for name in know["numbers"]["names"] if name not in again]
            ask("know", **know)
            ask("merge", analyses=[ask("analyse", **piece, again=again)])
        decided = ask("decide", notes=opened["notes"])
        plan = Plan.from_dict(decided["plan"])
        ask("plan", plan=decided["plan"], arrays={})
        ask("write", **piece, row=0, rows=found["kept"])
        pieces = [encode(frame, plan) for _, frame in answers._frames(**piece)]
    assert list(pieces[0]) == list(decided["arrays"])
    return Prepared(plan, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})
