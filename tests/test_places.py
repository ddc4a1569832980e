"""Files that not all nodes have are named with the hosts, before anybody reads them."""

from ps.comm.places import LISTED, fault_of


def test_hosts_with_and_without_a_file_are_named() -> None:
    assert fault_of("/d/t.csv", {"a": 5, "b": 5}) == ""
    assert fault_of("/d/t.csv", {"a": -1, "b": -1}) == ""
    assert fault_of("/d/t.csv", {"a": "No such file", "b": "No such file"}) == "", "whoever reads it says so"
    text = fault_of("/d/t.csv", {"a": 5, "b": "No such file or directory", "c": "No such file or directory"})
    assert text.startswith("/d/t.csv is not on b, c (No such file or directory), but on a; ")
    text = fault_of("/d/t.csv", {"a": 5, "b": 1234567, "c": 5})
    assert "5 bytes on a, c; 1,234,567 bytes on b" in text


def test_of_many_hosts_some_are_listed() -> None:
    found: dict[str, int | str] = {f"n{i}": "gone" for i in range(LISTED + 3)}
    assert "t is not on n[0-10] (gone), but on first" in fault_of("t", {**found, "first": 1})
