"""Replicas that differ are found in the step's own message, named, and repaired."""

import numpy as np
import pytest

from common.flat import N_SLOTS as STATUS
from common.flat import numbers
from ps.sync.replica_check import RotatingChecksum, agree, weight
from tests.ranks import program


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 64, 4095])
def test_weights_cancel_out_and_none_is_nothing(size: int) -> None:
    weights = [weight(rank, size) for rank in range(size)]
    assert sum(weights) == 0
    assert 0 not in weights
    assert max(map(abs, weights)) <= 2


def stamps(replicas: list[np.ndarray], steps: int) -> list[bool]:
    """Return, step by step, whether the replicas are said to be equal."""
    rotations = [RotatingChecksum(p, rank, len(replicas), steps) for rank, p in enumerate(replicas)]
    said = []
    for _ in range(steps):
        packets = np.zeros((len(replicas), STATUS), np.float32)
        for rotation, packet in zip(rotations, packets, strict=True):
            rotation.stamp(numbers(packet))
        said.append(agree(numbers(packets.sum(axis=0, dtype=np.float32))))
    return said


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("n", [1, 3, 1000])  # fewer numbers than steps, too
@pytest.mark.parametrize("steps", [1, 7])
def test_each_of_many_single_bits_is_found_once_in_a_rotation(size: int, n: int, steps: int) -> None:
    rng = np.random.default_rng(n)
    original = rng.standard_normal(n).astype(np.float32)
    for _ in range(50):
        replicas = [original.copy() for _ in range(size)]
        assert all(stamps(replicas, steps))
        replicas[rng.integers(size)].view(np.uint8)[rng.integers(4 * n)] ^= 1 << rng.integers(8)
        assert stamps(replicas, steps).count(False) == 1


@pytest.mark.parametrize(("n", "flips"), [(2, 100), (3, 1000)])
def test_flipped_bits_in_every_mode(n: int, flips: int) -> None:
    assert program(n, "flips.py", str(flips)).out == f"{flips} of {flips}\n"
