"""A training job that holds no scaled features, however small the data: ``mapped.py [arguments]``."""

import sys

from common.data import features
from workers import run

features.HELD_BYTES = 0
sys.exit(run.main())
