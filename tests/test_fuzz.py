"""Whatever is in a file or the environment, reading it gives an answer or one of our own errors."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.edits import KINDS, MOST_EDITS, MOST_PIECE, MOST_PLACE, Edit, edited
from tests.fuzz.targets import TARGETS

EDITS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, MOST_PLACE), st.binary(max_size=MOST_PIECE)), max_size=MOST_EDITS
)


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
@given(which=st.integers(0, 99), edits=EDITS)
def test_edited_inputs(tmp_path: Path, name: str, seeds: list[bytes], which: int, edits: list[Edit]) -> None:
    TARGETS[name].run(edited(seeds[which % len(seeds)], edits), tmp_path)


def test_seeds(tmp_path: Path, name: str, seeds: list[bytes]) -> None:
    for seed in seeds:
        TARGETS[name].run(seed, tmp_path)
