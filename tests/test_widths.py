"""Tables and sentences fit the width of the output, and what they print is whole: no word and no number is cut."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.run_files import LOG_NAME
from common.wording import about
from ps.logfile.records import Record
from ps.logfile.writer import RunLog
from ps.reader import history, many_ranks
from ps.reader.commands import list_runs as list_module
from ps.reader.commands import show as show_module
from ps.reader.commands import watch_screen
from ps.reader.commands.compare import compare
from ps.reader.commands.list_runs import list_runs
from ps.reader.commands.show import show
from ps.reader.commands.whatif import whatif
from ps.text.contributions import ends
from ps.text.formatting import aligned, microseconds, percent
from ps.text.layout import Table, blocks, cells, fold, lines_of
from tests.synthetic import Again, header, write_run
from tests.test_readers import BALANCE
from tests.test_whatif import comparison

RANKS = (1, 2, 7, 64, 300)
LONG_HOST = "compute-partition-with-a-long-name-and-a-domain.example.org-"
LONG_RUN = "a-run-whose-name-tells-everything-about-it-and-fills-the-line"
VERDICT: Record = {"code": "straggler", "severity": "warning", "ranks": [1], "evidence": {}, "remedy": "look " * 40}
WIDTHS = (60, 80, 120, 200)


@pytest.fixture(autouse=True)
def wide_output() -> None:
    """Replace the fixture of all other tests: here the width counts."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs of few and many ranks, of long and short names, resumed, and a comparison."""
    folder = tmp_path_factory.mktemp("runs")
    for ranks in RANKS:
        far = [0.1] * ranks
        balance: Record = dict.fromkeys(BALANCE) | {"of": "shard", "rows": [1] * ranks, "feature_distance": far}
        more = [("balance", balance), ("verdict", {**VERDICT, "text": "words " * 50})]
        write_run(folder / f"few-{ranks}", ranks=ranks, epochs=60, more=more, nodes=min(ranks, 40))
        name = f"{ranks}-{LONG_RUN}"
        write_run(
            folder / name, ranks=ranks, sizes=(9, 8, 7, 6, 5, 4, 3, 2), host=LONG_HOST, nodes=min(ranks, 3), end=""
        )
    again = [Again(2, 3, end="stopped"), Again(3, 2, dead=(1,))]
    write_run(folder / "resumed", ranks=3, epochs=4, again=again, mode="reduce-bcast")
    for n_modes in (2, 5):
        names = ("allreduce", "reduce-bcast", "send-recv", "shared", "factors")[:n_modes]
        measured = comparison(dict.fromkeys(names, (0.123456789, 0.0987654321)))
        (folder / f"comparison-{n_modes}").mkdir()
        log = RunLog(folder / f"comparison-{n_modes}" / LOG_NAME)
        log.append("header", **header(2, host=LONG_HOST), purpose="comparison")
        log.append("comparison", **measured)
        sums = [{"mode": name, "bytes": 8, "median_s": 0.1234, "low_s": 0.1, "high_s": 0.2} for name in names]
        log.append("sweep", n=1, rounds=9, sums=1, modes=sums)
        log.close()
    return folder


def printed(command: Callable[..., int], capsys: pytest.CaptureFixture[str], *runs: Path, **options: bool) -> list[str]:
    assert command(*runs, **options) == 0
    return capsys.readouterr().out.splitlines()


SHOWN = (*(f"few-{n}" for n in RANKS), *(f"{n}-{LONG_RUN}" for n in RANKS), "resumed", "comparison-2", "comparison-5")
REPLAYED = (*(f"few-{n}" for n in RANKS), f"300-{LONG_RUN}")
COMMANDS: dict[str, tuple[Callable[..., int], list[str]]] = {
    **{f"show {name}": (show, [name]) for name in SHOWN},
    **{f"whatif {name}": (whatif, [name]) for name in REPLAYED},
    "list": (list_runs, ["."]),
    "compare": (compare, ["few-2", "few-7", f"2-{LONG_RUN}", "comparison-2"]),
    "compare many": (compare, [f"few-{n}" for n in RANKS] * 4),
}
LEFT_OUT = re.compile(r"^Not\s+shown\s+in\s.*?--wide\s+shows\s+all\.$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_fit_the_width_and_cut_nothing(
    name: str, width: int, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command, arguments = COMMANDS[name]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(runs)  # so that names are not those of pytest's folders
    monkeypatch.setattr("time.time", lambda: 2e9)  # of runs without an end, how long ago was that
    given = [Path(name) for name in arguments]
    lines = printed(command, capsys, *given)
    for line in lines:
        assert cells(line) <= width or len(line.split()) == 1, line
        assert "…" not in line
    whole = set(" ".join(printed(command, capsys, *given, wide=True)).split()) | {"state:"}
    if command is compare:  # long names stand above the table, and their numbers in it
        whole |= {"Run", "run", *(f"{i}{colon}" for i in range(1, 21) for colon in ("", ":"))}
    for word in LEFT_OUT.sub("", "\n".join(lines)).split():
        assert word in whole or word.strip("─") == "", f"{word!r} is not whole"


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_every_line_fits_where_no_word_is_longer(
    width: int, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.chdir(runs)
    for lines in (printed(show, capsys, Path("few-300")), printed(whatif, capsys, Path("few-300"))):
        assert max(map(cells, lines)) <= width


def test_the_output_is_80_columns_wide_where_nothing_says_otherwise(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError()))
    lines = printed(show, capsys, runs / "few-7")
    assert 70 < max(map(cells, lines)) <= 80


def test_columns_are_left_out_in_the_stated_order_and_named(capsys: pytest.CaptureFixture[str], runs: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    text = " ".join(printed(show, capsys, runs / "few-2"))
    assert "Not shown in 80 columns: rate, elapsed s, transfer s, bus MB/s; --wide shows all." in text
    wide = printed(show, capsys, runs / "few-2", wide=True)
    head = next(line for line in wide if line.startswith("epoch "))
    assert head.split("  ")[0] == "epoch"
    assert all(title in head for title in ("rate", "elapsed s", "transfer s", "efficiency %", "bus MB/s"))


def test_what_does_not_fit_in_either_way() -> None:
    columns, rows = ["name", "a", "b", "state"], [["x", "1.5", "22.25", "well enough"], ["y" * 30, "2", "3", "gone"]]
    table = Table("", columns, rows, drop=("b",), text=("state",))
    assert lines_of(table, 60) == [
        "name                              a      b  state",
        "x                               1.5  22.25  well enough",
        "y" * 30 + "    2      3  gone",
    ]
    assert lines_of(table, 20, rule="-", more="look there") == [
        "name    a  state",
        "-" * 20,
        "x     1.5  well",
        "           enough",
        "y" * 30,
        "        2  gone",
        "Not shown in 20",
        "columns: b; look",
        "there.",
    ]
    (block,) = blocks(Table("", columns, rows, text=("state",)), 17)  # words go below where nothing may be dropped
    assert block.rows[0] == ["x     1.5  22.25", "  state: well", "    enough"]
    split = lines_of(Table("", ["of", *"abcdefgh"], [["one", *["1234567"] * 8]], split=True), 30)
    assert max(map(len, split)) <= 30
    assert " ".join(split).split().count("1234567") == 8


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Zl", "Zp", "Cc", "Zs"], include_characters=" ")),
       st.integers(1, 60))  # fmt: skip
def test_folding_keeps_every_word(text: str, width: int) -> None:
    lines = fold(text, width)
    assert " ".join(lines).split() == text.split()
    assert all(cells(line) <= width or " " not in re.sub(r" +%", "%", line.strip()) for line in lines)


def test_numbers_of_a_column_have_the_same_decimals() -> None:
    assert aligned([0.004904, 0.0867, None]) == ["0.00490", "0.08670", "-"]
    assert aligned([12.3456, 0.5]) == ["12.35", "0.50"]
    assert aligned([12345.6]) == ["12346"]
    assert aligned([float("nan"), 1e300, 0.0]) == ["nan", "1e+300", "0"]
    assert aligned([0.0, 0.0]) == ["0", "0"]
    assert [about(v) for v in (541.3, 3.777, 1299.0, 1e300, 0.0234)] == ["540", "3.8", "1,300", "1e+300", "0.023"]
    assert list(itertools.chain(aligned([]))) == []
    assert [percent(v) for v in (0.5, -12.3456, 1e300, float("nan"))] == ["50.00 %", "-1234.56 %", "1e+302 %", "nan %"]
    assert [microseconds(s) for s in (1.2345e-6, 0.012345, 1e300)] == ["1.23", "12,345", "1e+306"]
    huge = {f"{key}_{end}": [1e300] for key in ("share", "chance") for end in ("low", "high")}
    assert ends(huge, "share", 0) == "1e+302 to 1e+302 %"


def test_the_documentation_states_the_order_in_which_columns_are_left_out() -> None:
    page = (Path(__file__).parent.parent / "docs" / "output.md").read_text()
    stated = {
        "`show`, epochs": show_module.EPOCHS_DROPPED, "`show`, ranks": show_module.RANKS_DROPPED,
        "`show`, contribution": show_module.SHARES_DROPPED, "`show`, rows dealt": show_module.BALANCE_DROPPED,
        "`show`, certainty of the shares": show_module.CERTAINTY_DROPPED,
        "`show`, spread over many ranks": many_ranks.SPREAD_DROPPED,
        "`show`, hosts of many ranks": many_ranks.HOSTS_DROPPED,
        "`show`, jobs": history.DROPPED, "`list`": (*list_module.DROPPED, "best metric"),
        "`watch`, ranks": watch_screen.DROPPED,
    }  # fmt: skip
    for table, columns in stated.items():
        assert f"| {table} | {', '.join(columns)} |".replace("accuracy %, R2 ", "accuracy % or R2 ") in page
