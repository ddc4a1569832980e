"""TODO."""

from importlib import resources

import numpy as np

from common.data.dataset import Raw


def read_digits() -> Raw:
    """1,797 handwritten digits, 8x8 pixels of 0 to 16 (UCI optical digits, CC BY 4.0: see NOTICE)."""
    with resources.files("common").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
        return Raw("digits", arrays["X"].astype(np.float32), arrays["y"])
