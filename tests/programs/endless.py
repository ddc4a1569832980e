"""Prepares a table, or trains on one, with children that come to no end: ``endless.py prepare|run ARGUMENTS``."""

import importlib
import sys

from workers.preparation import parallel, pieces

pieces.LEAST_BYTES = pieces.LEAST_PART = 1  # all ranks have some of a small file
parallel.Preparation.child_module = "tests.programs.endless_child"

if __name__ == "__main__":
    command = importlib.import_module(f"workers.{sys.argv.pop(1)}")
    sys.exit(command.main())
