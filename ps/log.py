"""The log's door: ``python -m ps.log show | watch | report | ...``, and ``read`` for programs of one's own.

The format is described in docs/log-format.md.
"""

import contextlib

from common.packages import needed

with needed() if __name__ == "__main__" else contextlib.nullcontext():
    from ps.logfile.reader import LogReader, read
    from ps.logfile.records import Record

__all__ = ["LogReader", "Record", "read"]

if __name__ == "__main__":
    with needed():
        from ps.reader.commands.cli import main

        main()
