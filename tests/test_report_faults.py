"""``python -m ps.log report`` of broken, hostile and unfinished runs, and where it cannot be written."""

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from common.errors import RankwiseError
from common.run_files import LOG_NAME
from ps.reader.commands.report import report
from ps.reader.report.comparison import side_by_side
from ps.reader.report.data import RunData
from ps.reader.report.findings import findings
from ps.reader.report.tiles import tiles
from tests.ranks import finish, popen
from tests.report_page import Page, fields_of, log_of, make_page
from tests.synthetic import header, write_run

MARKUP = "<script>window.pwned=1</script><img src=x onerror='window.pwned=2'>]]>--></script>"
HOSTILE = f"{MARKUP}\x1b[31m\x07"


@pytest.fixture
def page(tmp_path: Path) -> Callable[..., Page]:
    """Make the page of a run that never was, or of the given ones."""
    return partial(make_page, tmp_path)


def test_texts_of_a_log_are_inert(page: Callable[..., Page], tmp_path: Path) -> None:
    head = header(2)
    head["nodes"] = [{"host": HOSTILE + str(i), "ranks": [i]} for i in range(2)]
    head["model"]["parameters"] = {HOSTILE: [2], "b": [1]}
    head["config"] = {**head["config"], "mode": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}}
    source = write_run(tmp_path / "source", ranks=2, epochs=2)
    records = fields_of(source)
    for fields in records:
        for value in fields.values():
            if isinstance(value, dict) and "W1" in value:
                value[HOSTILE], value["b"] = value["W1"], value["b1"]
                for name in ("W1", "b1", "W2", "b2"):
                    del value[name]
    verdict = {"code": HOSTILE, "severity": HOSTILE, "ranks": [1], "text": HOSTILE, "remedy": HOSTILE,
               "evidence": {HOSTILE: HOSTILE}}  # fmt: skip
    made = page(
        log_of(tmp_path / "<b>run", ("header", head), *(("epoch", fields) for fields in records), ("verdict", verdict))
    )
    assert [tag for tag, _ in made.tags].count("script") == len(made.drawings) + 2
    assert not {"img", "b"} & {tag for tag, _ in made.tags}
    assert f"{MARKUP}\\x1b[31m\\x07" in made.text
    assert not {"\x1b", "\x07"} & set(made.text)
    names = [t.get("name", "") for drawing in made.drawings.values() for traces in drawing["choices"] for t in traces]
    assert any("&lt;script&gt;" in name for name in names)
    assert not any("<" in name for name in names)


@pytest.mark.parametrize(
    ("end", "cut", "failure", "said"),
    [
        ("", 0, "", ["State: no end yet", "The log has no end: the job still runs, or was killed."]),
        ("", 100, "", ["bytes of the log, from byte", "that was not finished"]),
        ("", 0, "rank 1: MemoryError", ["State: died.", "The job died: rank 1: MemoryError"]),
        ("stopped", 0, "", ["State: stopped.", "End: stopped after 6 epochs,"]),
        ("failed", 0, "", ["State: failed.", "Error job failed Parameters: not finite after epoch 6."]),
    ],
)
def test_a_run_that_did_not_end_well(
    end: str, cut: int, failure: str, said: list[str], page: Callable[..., Page], tmp_path: Path
) -> None:
    more = [("event", {"what": "error", "message": "parameters: not finite after epoch 6"})] if end == "failed" else []
    run = write_run(tmp_path / "run", epochs=6, end=end, more=more)
    log = run / LOG_NAME
    log.write_bytes(log.read_bytes()[: -cut or None])
    if failure:
        (run / "failure.txt").write_text(f"Traceback\n{failure}\n")
    made = page(run)
    for text in said:
        assert text in made.text
    assert len(made.chart("Loss")["choices"][0][0]["x"]) >= 5


def test_the_comparison_counts_findings_like_the_tile_and_writes_no_powers_of_ten(tmp_path: Path) -> None:
    bad = write_run(tmp_path / "bad", end="", more=[("event", {"what": "error", "message": "not finite"})])
    source = write_run(tmp_path / "source")
    slow = fields_of(source)
    for fields in slow:
        fields["compute_s"] = [0.25 * fields["steps"]] * len(fields["rows"])
    runs = [RunData(bad), RunData(log_of(tmp_path / "slow", ("header", header(4)), *(("epoch", own) for own in slow)))]
    made = side_by_side(runs, ["bad", "slow"])
    assert made.lead is not None
    rows = [dict(zip(made.lead.columns, row, strict=True)) for row in made.lead.rows]
    assert [row["findings"] for row in rows] == ["1", "0"]
    assert [tiles(run, findings(run))[-1].value for run in runs] == ["1", "none"]
    assert re.fullmatch(r"25\d,\d{3}", rows[1]["step, us"])
    assert re.search(r"25\d,\d{3} us in slow, the most", made.charts[0].summary)
    assert " against " in made.tables[0].rows[0][-1]


def test_logs_without_an_epoch(page: Callable[..., Page], tmp_path: Path) -> None:
    made = page(log_of(tmp_path / "begun", ("header", header(4))))
    assert "Nothing was trained yet" in made.text
    assert "No verdict yet" in made.text
    assert not made.drawings
    assert "batch_size 64" in made.text
    assert "seed 0" in made.text
    assert "standardize yes" in made.text
    log_of(tmp_path / "empty")
    assert "The log is empty" in page(tmp_path / "empty").text
    made = page(tmp_path / "begun", tmp_path / "empty", write_run(tmp_path / "good", epochs=2))
    assert [name for level, name in made.headings if level == 2][-3:] == ["begun", "empty", "good"]


def test_undefined_figures_are_left_out(page: Callable[..., Page], tmp_path: Path) -> None:
    """No validation rows, and a gradient of zero, of which nothing is a share."""
    source = write_run(tmp_path / "source", ranks=20, epochs=3)
    records = fields_of(source)
    for fields in records:
        fields.update(dict.fromkeys(("validation_loss", "validation_metric", "effective_ranks", "noise_scale")))
        for key in ("share", "norm_ratio", "cosine", "leave_one_out"):
            fields[f"{key}_all"] = [None] * 20
            fields[key] = dict.fromkeys(fields[key], [None] * 20)
        fields["efficiency"] = dict.fromkeys(fields["efficiency"])
    made = page(log_of(tmp_path / "run", ("header", header(20)), *(("epoch", fields) for fields in records)))
    titles = [text for _, text in made.headings]
    assert not {"Validation accuracy", "Effective number of ranks", "Gradient noise scale", "Efficiency"} & set(titles)
    assert "The share of the update is undefined." in made.text
    assert not re.search(r"\bnan\b|NaN", made.source)


def test_figures_that_overflow_are_undefined(page: Callable[..., Page], tmp_path: Path) -> None:
    records = fields_of(write_run(tmp_path / "source", ranks=20, epochs=3))
    for fields in records:
        fields["elapsed_s"] = fields["loss"] = fields["noise_scale"] = 1.5e308
        for key in ("compute_s", "wait_s", "transfer_s", "share_all", "cosine_all"):
            fields[key] = [1.5e308] * 10 + [-1.5e308] * 10
    made = page(log_of(tmp_path / "run", ("header", header(20)), *(("epoch", fields) for fields in records)))
    assert not re.search("Infinity|NaN", made.source)


@pytest.mark.parametrize(
    ("run", "output", "said"),
    [
        ("missing", "r.html", "no log at missing"),
        ("foreign", "r.html", "not a rankwise log"),
        ("run", "no/such/folder/r.html", r"output: cannot write no/such/folder/r.html \(No such file"),
        ("run", ".", r"output: cannot write . \(is a folder"),
        ("run", "run/coordinator.msgpack", "is the log itself"),
    ],
)
def test_what_cannot_be_done(run: str, output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = write_run(tmp_path / "run", epochs=1) / LOG_NAME
    before = log.read_bytes()
    (tmp_path / "foreign").write_bytes(b"GIF89a")
    with pytest.raises(RankwiseError, match=said):
        report(Path(run), output=Path(output))
    assert log.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "foreign"}


def test_the_command_takes_several_runs_or_says_what_is_wrong(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_run(tmp_path / name, epochs=1)
    command = [sys.executable, "-m", "ps.log", "report", "first", "second"]
    made = finish(popen(command, cwd=tmp_path))
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("Wrote report.html, ")
    assert "Runs side by side" in Page(tmp_path / "report.html").text
    failed = finish(popen([*command, "-o", "no/r.html"], cwd=tmp_path))
    assert failed.code == 2
    assert failed.err == "rankwise: output: cannot write no/r.html (No such file or directory)\n"


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (("plotly.offline", "plotly"), ("jinja2", "jinja2")):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            with pytest.raises(RankwiseError, match=rf"report: {name} is not installed; .*'rankwise\[report\]'"):
                report(tmp_path, output=tmp_path / "report.html")


def test_runs_with_figures_that_cannot_be_compared(page: Callable[..., Page], tmp_path: Path) -> None:
    """A step without a duration, an accuracy of 500 %, other data, a metric of another kind."""
    records = fields_of(write_run(tmp_path / "source", epochs=8))
    for fields in records:
        fields |= {key: [0.0] * 4 for key in ("compute_s", "input_s", "wait_s", "transfer_s", "sampling_s", "reduce_s")}
    end = {"status": "ok", "wall_s": 1.0, "epochs": 8, "best_epoch": 8, "loss": 1.0, "validation_loss": None,
           "validation_metric": None, "metric": "accuracy", "test_loss": 1.0, "test_metric": 5.0}  # fmt: skip
    other, regression = header(4), header(4)
    other["data"] |= {"sha256": "1" * 64}
    regression["data"] |= {"classes": None}
    epochs = [("epoch", fields) for fields in records]
    runs = [
        log_of(tmp_path / str(number), ("header", head), *epochs, ("end", end))
        for number, head in enumerate((header(4), header(4), other, regression))
    ]
    made = page(*runs)
    assert made.text.count("undefined") >= 3
    assert "other data" in made.text
    assert not re.search("Infinity|NaN", made.source)
