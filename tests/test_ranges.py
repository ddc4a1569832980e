"""Ranks and hosts as short texts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ranges import named_hosts, named_ranks, node_ranges, ranges, ranks_on


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([2], "2"),
        ([0, 1, 2, 3, 7], "0-3, 7"),
        ([0, 2, 4, 6, 8, 10, 12, 14], "0, 2, 4, 6, 8, 10, 12, 14"),
        (range(0, 1024, 64), "0-960:64"),
        (range(1024), "0-1023"),
        ([*range(0, 100, 7), 300], "0-98:7, 300"),
        ([n * n for n in range(40)], "0-1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, ... and 1521 (40 in all)"),
    ],
)
def test_ranks_are_ranges(numbers: list[int], text: str) -> None:
    assert ranges(list(numbers)) == text


@given(st.sets(st.integers(0, 2000)))
def test_no_rank_is_lost_or_added(numbers: set[int]) -> None:
    found = set()
    for piece in ranges(sorted(numbers), most=10_000).split(", "):
        if piece:
            first, last, step = re.fullmatch(r"(\d+)(?:-(\d+))?(?::(\d+))?", piece).groups()  # type: ignore[union-attr]
            found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    assert found == numbers


@given(st.sets(st.integers(0, 100_000)))
def test_a_list_of_ranks_is_short(numbers: set[int]) -> None:
    assert len(ranges(sorted(numbers))) < 12 * 16 + 30


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["n1"], "n1"),
        (["login", "n1", "n1", "login"], "login, n1"),
        ([f"n{i}" for i in range(1, 65)], "n[1-64]"),
        ([*(f"node{i:02d}" for i in range(1, 17)), "node20"], "node[01-16,20]"),
        (["n9", "n10", "n11"], "n[9-11]"),
        (["n08", "n09", "n10", "n100"], "n[08-10], n100"),
        (["n1", "n01"], "n1, n01"),
        (["gpu3.a.b", "gpu4.a.b", "gpu5.c"], "gpu[3-4].a.b, gpu5.c"),
        (["r1-n1x", "r1-n2x", "r2-n1x"], "r1-n[1-2]x, r2-n1x"),
        ([f"n{i * i}" for i in range(30)], "n[0-1,4,9,16,25,36,49,64,81,100,121,144] and 17 more"),
        ([f"h{c}" for c in "abcdefghijklmnopqrst"], "ha, hb, hc, hd, he, hf, hg, hh, hi, hj, hk, hl and 8 more"),
        (["n" + "9" * 40], "n" + "9" * 40),
        ([f"10.0.{net}.{host}" for net in (0, 1) for host in (1, 2, 4)], "10.0.0.[1-2,4], 10.0.1.[1-2,4]"),
        (["fe80::1", "fe80::2", "fe80::a", "fe80::1f"], "fe80::[1-2], fe80::a, fe80::1f"),
        (["gpu.rack1.org", "gpu.rack2.org", "n7.rack3.org"], "gpu.rack[1-2].org, n7.rack3.org"),
        (["0", "1", "2"], "[0-2]"),
    ],
)
def test_hosts_are_ranges_as_slurm_has_them(names: list[str], text: str) -> None:
    assert node_ranges(names) == text


def test_few_are_named_one_by_one() -> None:
    assert [named_ranks([2]), named_ranks([0, 1, 2, 3, 7])] == ["rank 2", "ranks 0-3, 7"]
    assert ranks_on([3, 5], ["n1", "n2"]) == "rank 3 on n1, 5 on n2"
    assert ranks_on(range(16, 48), [f"n{r // 16}" for r in range(16, 48)]) == "ranks 16-47 on n[1-2]"
    assert named_hosts(["b", "a", "b"]) == "b, a"
    assert named_hosts(f"n{i}" for i in range(5)) == "n[0-4]"
