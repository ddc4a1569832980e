"""Independent random streams from one seed, so that drawing more of one thing never changes another."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What the numbers of a stream are used for."""

    INIT = 0
    SPLIT = 1
    ORDER = 2
    SKEW = 3
    DELAY = 4
    FACTORS = 5


def generator(seed: int, stream: Stream, *index: int) -> np.random.Generator:
    """Return the generator of a stream; ``index`` is the epoch or the rank, where there is one."""
    return np.random.default_rng([seed, int(stream), *index])
