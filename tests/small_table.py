"""Prepares a small table within this process, by the questions that a rank asks its child."""

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


def prepare_table(path: Path, options: dict[str, str], block_bytes: int = 1 << 20) -> Prepared:
    """Prepare a file, so many bytes at a time. Raises DataError with the message that a user gets."""
    answers = Answers(lambda: None)

    def ask(question: str, **about: Any) -> Any:
        kind, value = answers.answer(question, about)
        if kind == "fault":
            raise DataError(value[0])
        return value

    with mock.patch.object(byte_pieces, "BLOCK_BYTES", block_bytes):
        opened = ask("open", paths=[str(path)], options=options, folder=str(path.parent))
        ask("know", tables=opened["tables"], options=opened["options"])
        table = TableFile.from_dict(opened["tables"][0])
        places = range(table.first_row, table.extent)
        found = ask("analyse", table=0, start=places.start, stop=places.stop)
        ask("merge", analysis=found)
        decided = ask("decide", notes=opened["notes"])
        plan = Plan.from_dict(decided["plan"])
        ask("plan", plan=decided["plan"], arrays={})
        ask("write", table=0, start=places.start, stop=places.stop, row=0, rows=found["kept"])
        pieces = [encode(frame, plan) for _, frame in table.frames(places.start, places.stop)]
    assert list(pieces[0]) == list(decided["arrays"])
    return Prepared(plan, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]})
