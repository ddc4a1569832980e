"""A doctor on hosts; the clock of n2 is ahead by as many seconds as CLOCK_OF_N2 says."""

import os
import sys
import time
from unittest import mock

import workers.doctor
from common.host import host

ahead_s = float(os.environ.get("CLOCK_OF_N2", "0")) * (host() == "n2")
now = time.time
with mock.patch("time.time", side_effect=lambda: now() + ahead_s):
    sys.exit(workers.doctor.main())
