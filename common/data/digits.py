"""The built-in set ``digits``: handwritten digits (UCI optical digits, CC BY 4.0: see NOTICE)."""

from pathlib import Path

import numpy as np

from common.data.dataset import Raw


def read_digits() -> Raw:
    """Return 1,797 digits, 8x8 pixels of 0 to 16."""
    with np.load(Path(__file__).with_name("digits.npz")) as arrays:
        return Raw("digits", arrays["X"].astype(np.float32), arrays["y"])
