"""Whatever is in a file or the environment, reading it gives an answer or one of our own errors."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

Edit = tuple[str, int, bytes]
EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "insert", "cut", "again"]), st.integers(0, 10**6), st.binary(max_size=8)),
    max_size=6,
)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Return data with pieces replaced, put in, left out or doubled."""
    for kind, at, piece in edits:
        i = at % (len(data) + 1)
        n = len(piece)
        middle = {"put": piece, "insert": piece + data[i : i + n], "cut": b"", "again": 2 * data[i : i + 4 * n]}[kind]
        data = data[:i] + middle + data[i + (4 * n if kind == "again" else n) :]
    return data


@pytest.fixture(scope="module", params=TARGETS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def seeds(name: str, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return TARGETS[name].seeds(tmp_path_factory.mktemp("seeds"))


@settings(
    max_examples=60,
    deadline=None,
    derandomize="TEST_EVERYTHING" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(which=st.integers(0, 2), edits=EDITS)
def test_edited_inputs(tmp_path: Path, name: str, seeds: list[bytes], which: int, edits: list[Edit]) -> None:
    TARGETS[name].run(edited(seeds[which % len(seeds)], edits), tmp_path)


def test_right_inputs(tmp_path: Path, name: str, seeds: list[bytes]) -> None:
    for seed in seeds:
        TARGETS[name].run(seed, tmp_path)
