"""The coordinator's side of training: exchange between ranks, metrics, findings, the log and its readers.

The training process itself lives in ``workers``, which imports this package and is never imported by it.
"""

import os
import sys

if sys.argv[:1] == ["-m"]:  # a command begins
    from importlib.util import module_from_spec, spec_from_file_location

    # by its place, for ``common`` may be somebody else's
    _ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    _spec = spec_from_file_location("common.shadowed", os.path.join(_ROOT, "common", "shadowed.py"))
    assert _spec is not None
    assert _spec.loader is not None
    _shadowed = module_from_spec(_spec)
    _spec.loader.exec_module(_shadowed)
    _shadowed.refuse(_ROOT, ("common",), _shadowed.NEEDED | _shadowed.FOR_READERS)
    from common.module_file import leave_run_folders

    leave_run_folders()
