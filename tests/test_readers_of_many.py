"""A run of 1,024 ranks on 64 hosts reads at one look: short lists, hosts, quantiles, the ranks that stand out."""

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ps.findings.straggler import Straggler
from ps.logfile.records import Record
from ps.reader.commands.compare import compare
from ps.reader.commands.export import export
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.report import report
from ps.reader.commands.show import show
from ps.reader.commands.watch import watch
from ps.reader.commands.whatif import whatif
from ps.reader.many_ranks import LEVELS, host_table, hosts_line, spread_table
from ps.text.layout import cells
from tests.synthetic import Again, epoch, header, write_run
from tests.test_readers import BALANCE

RANKS, HOSTS = 1024, 64
SLOW = {700: 1.6, 3: 1.2}
SIZES = (64, 32, 32, 16, 10)
"""Four layers: 8 parameters."""


@pytest.fixture(autouse=True)
def wide_output() -> None:
    """Replace the fixture of all other tests: here the width counts."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of 1,024 ranks, and one that lost many of its ranks; with findings and events."""
    folder = tmp_path_factory.mktemp("runs")
    balance: Record = dict.fromkeys(BALANCE) | {"of": "shard", "rows": [1] * RANKS, "feature_distance": [0.1] * RANKS}
    signals = {str(rank): "SIGUSR1" for rank in range(RANKS)}
    more = [
        ("balance", balance),
        ("verdict", {"code": "x", "severity": "warning", "ranks": [*range(0, 900, 3)], "text": "Many ranks are slow",
                     "remedy": "look", "evidence": {"z": [1.0] * 300}}),
        ("event", {"what": "stop", "epoch": 5, "step": 3, "signals": signals}),
    ]  # fmt: skip
    of_run: dict[str, Any] = {"nodes": HOSTS, "sizes": SIZES, "host": "node"}
    write_run(folder / "many", ranks=RANKS, epochs=20, slow=SLOW, more=more, **of_run)
    dead = tuple(range(16, 48))
    write_run(folder / "shrunk", ranks=RANKS, epochs=3, again=[Again(2, RANKS - len(dead), dead=dead)], **of_run)
    return folder


COMMANDS: dict[str, tuple[Callable[..., int], list[str], dict[str, Any]]] = {
    "show": (show, ["many"], {}),
    "show shrunk": (show, ["shrunk"], {}),
    "show all": (show, ["many"], {"all_ranks": True}),
    "whatif": (whatif, ["many"], {}),
    "list": (list_runs, ["."], {}),
    "compare": (compare, ["many", "shrunk"], {}),
}


def printed(
    name: str, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int = 100
) -> list[str]:
    command, given, options = COMMANDS[name]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(runs)
    assert command(*map(Path, given), **options) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("name", "width"),
    [(name, width) for name in COMMANDS for width in (80, 100, 120) if name != "show all" or width == 80],
)
def test_no_line_is_longer_than_the_terminal(
    name: str, width: int, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(name, runs, capsys, monkeypatch, width)
    assert max(map(cells, lines)) <= width
    assert len(lines) < (6400 if name == "show all" else 200)


def test_show_says_in_few_lines_where_the_ranks_are_and_which_stand_out(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed("show", runs, capsys, monkeypatch)
    text = " ".join(" ".join(lines).split())
    assert "1,024 ranks on 64 nodes (node[0-63])" in text
    assert "Hosts: node[0-63]: 16 ranks each, consecutive (0-15 on node0)" in text
    assert "all ranks stopped on request after epoch 5, step 3 (SIGUSR1 on ranks 0-1023)" in text
    (compute,) = [line.split() for line in lines if line.startswith("compute s")]
    assert compute[-1] == "700"  # the slowest rank
    hosts = [line.split() for line in lines if re.match(r"(node\d+ +\d+-\d+|56 others) ", line)]
    assert len(hosts) == 9
    assert {"node0", "node43", "56"} <= {own[0] for own in hosts}
    assert "8 of 1,024: most and least compute, wait and contribution; all with --all-ranks" in text
    by_rank = [line for line in lines if re.match(r"(3|700) +node", line)]
    assert len(by_rank) == 2


def test_all_ranks_and_hosts_are_there_on_request(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed("show all", runs, capsys, monkeypatch)
    ranks = [int(found[1]) for line in lines if (found := re.match(r"(\d+) +node\d+ ", line))]
    assert ranks == list(range(RANKS))
    assert sum(bool(re.match(r"node\d+ +\d+-\d+ ", line)) for line in lines) == HOSTS
    assert "--all-ranks" not in " ".join(lines)


def test_lost_ranks_are_named_in_ranges(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(printed("show shrunk", runs, capsys, monkeypatch))
    assert "lost ranks 16-47" in text
    assert "ranks 16-47 on node0 died; 992 of 1024 ranks continued" in text


def test_watching_a_pipe_has_short_lines(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(runs / "many") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 160


def test_markdown_has_hosts_and_quantiles_or_every_rank(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert export(runs / "many", markdown=True, output=page) == 0
    lines = page.read_text().splitlines()
    assert len(lines) < 160
    assert max(len(line) for line in lines if not line.startswith("|")) < 200
    assert "16 of 1,024 ranks: most and least compute" in page.read_text()
    assert any(re.match(r"\| +x? *\| warning|\| warning +\| x +\| 0-897:3 ", line) for line in lines)
    assert any(line.startswith("| 56 others ") for line in lines)
    assert export(runs / "many", markdown=True, all_ranks=True, output=page) == 0
    assert sum(bool(re.match(r"\| +\d+ \| node\d+ ", line)) for line in page.read_text().splitlines()) == RANKS


def test_the_page_is_bounded_and_has_every_rank_on_request(runs: Path, tmp_path: Path) -> None:
    pages = {every: tmp_path / f"{every}.html" for every in (False, True)}
    for every, page in pages.items():
        assert report(runs / "many", output=page, all_ranks=every) == 0
    few, full = pages[False].read_text(), pages[True].read_text()
    small = tmp_path / "small.html"
    write_run(tmp_path / "small", ranks=16, epochs=20, nodes=2, sizes=SIZES)
    assert report(tmp_path / "small", output=small) == 0
    assert len(few) - len(small.read_text()) < 1_000_000, "64 times the ranks, and less than 1 MB more"
    assert few.count("56 others</") == 1
    assert "node[0-63] (16 each)" in few
    assert "rank 0-897:3" in few.replace("ranks ", "rank ")
    assert len(full) > len(few)
    assert few.count("<tr>") < 1000 < 2 * RANKS < full.count("<tr>")


def test_quantiles_are_of_the_ranks_that_have_a_value() -> None:
    record = epoch(header(100, nodes=10), 1, random.Random(0), {7: 2.0})
    record["share_all"] = [None] * 50 + [rank / 100 for rank in range(50)]
    record["cosine_all"] = [None] * 100
    rows = {row[0]: row[1:] for row in spread_table(record).rows}
    assert "cosine" not in rows
    least, at, *levels, most_at = rows["contribution %"]
    assert (least, at, levels[1], levels[-1], most_at) == ("0.00", "50", "24.00", "49.00", "99")
    assert rows["compute s"][-1] == "7"
    assert rows["transfer s"][1] == rows["transfer s"][-1] == "-"
    assert len(rows["rows"]) == len(LEVELS) + 2


def test_hosts_are_described_by_how_ranks_were_dealt() -> None:
    def nodes(deal: Callable[[int], int], n: int = 20) -> Record:
        ranks = [[rank for rank in range(4 * n) if deal(rank) == node] for node in range(n)]
        return {"nodes": [{"host": f"n{i:02d}", "ranks": own} for i, own in enumerate(ranks)]}

    assert hosts_line(nodes(lambda rank: rank // 4)) == "n[00-19]: 4 ranks each, consecutive (0-3 on n00)"
    assert hosts_line(nodes(lambda rank: rank % 20)) == "n[00-19]: 4 ranks each, dealt in turn (0, 20, 40, 60 on n00)"
    assert "each, in no simple order" in hosts_line(nodes(lambda rank: rank * 7 % 80 // 4))
    assert hosts_line(nodes(lambda rank: rank // 4, 2)) == "n00: ranks 0-3; n01: ranks 4-7"


def test_every_rank_is_in_one_line_of_the_hosts() -> None:
    head = header(200, nodes=20)
    record = epoch(head, 1, random.Random(0), {})
    for every, lines in ((False, 9), (True, 20)):
        table = host_table(head, record, every=every)
        assert len(table.rows) == lines
        rows = table.columns.index("rows")
        assert sum(int(row[rows].replace(",", "")) for row in table.rows) == sum(record["rows"])


def test_a_verdict_on_many_ranks_and_hosts_is_short() -> None:
    head = header(RANKS, nodes=HOSTS)
    detector, rng = Straggler(head), random.Random(0)
    slow = dict.fromkeys(itertools.chain(range(0, 400, 5), range(512, 528)), 2.0)
    epochs = [epoch(head, n, rng, slow) | {"rows": [2] * RANKS} for n in range(1, 8)]
    found = [verdict for record in epochs if (verdict := detector.add(record))]
    (verdict,) = found
    assert verdict.ranks == sorted(slow)
    assert verdict.text.startswith("ranks 0, 5, 10") or verdict.text.startswith("ranks 0-")
    assert len(verdict.text) < 500
    assert len(verdict.remedy) < 300
