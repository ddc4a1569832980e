"""The log's door: ``python -m ps.log show | watch | report | ...``, and ``read`` for programs of one's own.

The format is described in docs/log-format.md.
"""

from ps.logfile.reader import LogReader, read
from ps.logfile.records import Record

__all__ = ["LogReader", "Record", "read"]

if __name__ == "__main__":
    from ps.reader.commands.cli import main

    main()
