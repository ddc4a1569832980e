"""Settings of Open MPI that a site or a user has made in files stand: ours do not replace them."""

import os
from pathlib import Path

import pytest

from workers.launch import mpi, site_files
from workers.launch.site_files import set_in_files


@pytest.fixture
def library(tmp_path: Path) -> str:
    """An Open MPI of a site, by the link that a process loads."""
    for name in ("opt/lib", "opt/etc", "home/.openmpi", "link"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "opt" / "lib" / "libmpi.so.40.40.7").touch()
    (tmp_path / "link" / "libmpi.so.40").symlink_to(tmp_path / "opt" / "lib" / "libmpi.so.40.40.7")
    (tmp_path / "opt" / "etc" / "openmpi-mca-params.conf").write_text(
        "# btl_tcp_eager_limit = 1\n\n  #mpi_yield_when_idle=0\nosc = ^ucx,pt2pt\nno parameter\n"
    )
    (tmp_path / "opt" / "etc" / "openmpi-mca-params-override.conf").write_text("pml = ob1\n")
    (tmp_path / "home" / ".openmpi" / "mca-params.conf").write_bytes(b"mpi_yield_when_idle=0\n\xff = 1\n")
    return str(tmp_path / "link" / "libmpi.so.40")


def test_what_is_set_in_files(tmp_path: Path, library: str) -> None:
    site = {"OMPI_MCA_osc", "OMPI_MCA_pml"}
    assert set_in_files(library, {}) == site
    home = {"HOME": str(tmp_path / "home")}
    assert {"OMPI_MCA_osc", "OMPI_MCA_pml", "OMPI_MCA_mpi_yield_when_idle"} < set_in_files(library, home)
    assert set_in_files("", home) >= {"OMPI_MCA_mpi_yield_when_idle"}
    own = tmp_path / "own.conf"
    own.write_text("btl_tcp_eager_limit=65536")
    given = {**home, "OMPI_MCA_mca_base_param_files": f"{own},{tmp_path / 'missing.conf'}"}
    assert set_in_files(library, given) == {*site, "OMPI_MCA_btl_tcp_eager_limit"}
    assert set_in_files("", {"OPAL_PREFIX": str(tmp_path / "opt")}) == site
    assert set_in_files("/libmpi.so", {}) == set_in_files("", {}) == set()


def test_ours_replace_nothing(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*mpi.QUIET, *mpi.FASTER, *mpi.SMALLER, *site_files.GIVEN, "HOME", "OPAL_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMPI_MCA_btl_tcp_eager_limit", "70000")
    monkeypatch.setattr(site_files, "loaded_from", lambda: library)
    before = dict(os.environ)
    try:
        mpi._set_for("Intel MPI")
        assert dict(os.environ) == before
        mpi._set_for("Open MPI")
        assert os.environ.items() - before.items() == {("OMPI_MCA_mpi_yield_when_idle", "1")}
    finally:
        os.environ.pop("OMPI_MCA_mpi_yield_when_idle", None)
