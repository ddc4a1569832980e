"""Whether the job of a log still runs, as far as this host can tell."""

import os

from common.host import boot_id, has_ended, process_start
from ps.log import Record


def alive(header: Record) -> bool:
    """Say whether the header's process runs on this host; another one may have its id by now."""
    pid = header["pid"]
    for noted, now in ((header.get("boot_id"), boot_id()), (header.get("pid_start"), process_start(pid))):
        if None not in (noted, now) and noted != now:
            return False
    if has_ended(pid):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
