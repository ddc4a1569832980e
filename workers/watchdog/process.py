"""The process of a watchdog: it takes its orders, lets the job continue, and goes where no launcher finds it."""

import json
import os
import signal
import sys

from common.job_signals import STOP_SIGNALS
from workers.watchdog.watchdog import Watchdog


def main() -> None:
    """Take orders from standard input, begin to watch the ranks, let their job continue, and watch."""
    orders = json.load(sys.stdin)
    sys.path += orders["path"]
    try:
        watchdog = Watchdog(orders)
    except OSError as error:
        sys.stdout.write(str(error))
        sys.exit(1)
    if os.fork():  # the process that started this one waits for its end, and then has no child to look after
        os._exit(0)
    os.setsid()  # a launcher that kills the job's processes must not find this one
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir("/")
    for number in STOP_SIGNALS:  # sent to all processes of the job, which this one outlives
        signal.signal(number, signal.SIG_IGN)
    watchdog.run()
