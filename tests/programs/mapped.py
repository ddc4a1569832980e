"""A training job that holds no scaled features, however small the data: ``mapped.py [arguments]``."""

import sys

from common.data import features
from workers import run

features.MOST_HELD = features.MOST_HELD_OF_MAPS = 0
sys.exit(run.main())
