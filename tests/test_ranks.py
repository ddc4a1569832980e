"""What tests start jobs with: nothing that a user has set reaches them, and waiting ends."""

import os
import sys

import pytest

from tests.ranks import environment, popen, wait_until

SET_BY_USERS = (
    "RANKWISE_EPOCHS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_JOB_ID", "SLURMD_NODENAME",
    "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "PRTE_LAUNCHED", "HYDRA_HOST_FILE", "PYTHONOPTIMIZE",
    "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "BASH_ENV",
)  # fmt: skip
KEPT = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "MPI4PY_LIBMPI", "OMPI_MCA_btl_tcp_if_include", "PYTHONUSERBASE")


def test_a_users_variables_reach_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SET_BY_USERS, *KEPT):
        monkeypatch.setenv(name, "3")
    found = environment()
    assert not found.keys() & set(SET_BY_USERS)
    assert found.keys() >= set(KEPT)
    assert environment(OMP_NUM_THREADS="2")["OMP_NUM_THREADS"] == "2"


def test_a_wait_ends_with_what_it_waits_for() -> None:
    process = popen([sys.executable, "-c", "print('over'); raise SystemExit(7)"])
    with pytest.raises(AssertionError, match=r"no epoch: Result\(code=7, out='over"):
        wait_until(lambda: False, "no epoch", process)


def test_a_wait_that_fails_leaves_no_process() -> None:
    process = popen(["sleep", "1000"])
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, "never", process)
    assert process.wait() < 0
    process.communicate()
    assert not os.path.exists(f"/proc/{process.pid}")
