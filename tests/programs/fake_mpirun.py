"""A launcher that starts nothing: each call does the next thing in ``plan.json`` beside it, and is kept in ``calls``.

What it can do: start no rank (``marked``); leave a checkpoint (``step``), ``failure``, ``events`` in the log; ``say``
on stderr; ``sleep``; ``end`` the log well; exit with ``code``.
"""

import json
import signal
import sys
import time
from pathlib import Path

from common.run_files import LOG_NAME, note_start
from ps.logfile.records import FORMAT, VERSION
from ps.logfile.writer import RunLog

here = Path(sys.argv[0]).parent
if "--version" in sys.argv:
    print((here / "version").read_text() if (here / "version").exists() else "HYDRA build details: --with-openpa")
    sys.exit(0)
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\n")
plan = json.loads((here / "plan.json").read_text())
now = plan[min(len((here / "calls").read_text().splitlines()), len(plan)) - 1]
signal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(75))
folder = Path(sys.argv[sys.argv.index("--output") + 1])
folder.mkdir(parents=True, exist_ok=True)
if not now.get("marked"):
    note_start(str(folder))
new = not (folder / LOG_NAME).exists()
log = RunLog(folder / LOG_NAME, new=new)
if new:
    log.append("header", format=FORMAT, v=VERSION)
if "step" in now:
    (folder / f"checkpoint-{now['step']}.npz").touch()
for event in now.get("events", []):
    log.append("event", **event)
if "failure" in now:
    with (folder / "failure.txt").open("x") as file:
        file.write(now["failure"] + "\n")
if "say" in now:
    sys.stderr.write(now["say"] + "\n")
(here / "ready").touch()
time.sleep(now.get("sleep", 0))
if now.get("end"):
    log.append("end", status="ok")
sys.exit(now.get("code", 0))
