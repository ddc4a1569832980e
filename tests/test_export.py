"""``python -m ps.log export``: CSV, JSON lines, Markdown and TensorBoard."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from common.errors import ConfigError, LogError, RankwiseError
from common.run_files import FAILURE_NAME, LOG_NAME
from ps.logfile.records import Record, encode
from ps.logfile.writer import RunLog
from ps.reader.commands.export import export
from ps.reader.commands.trace import trace
from ps.reader.export import tensorboard
from tests.ranks import epochs, finish, popen, records
from tests.synthetic import places, write_run

NASTY = "a|b\\|c\n<b>*d* `e` _f_ [g](h) $i$ ~~j~~ &amp; #k"
VERDICT = {
    "code": "straggler",
    "severity": "warning",
    "ranks": [2, 3],
    "text": NASTY,
    "remedy": "look at it",
    "evidence": {},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of 100 epochs on 2 nodes that was killed while it wrote a record."""
    folder = write_run(
        tmp_path_factory.mktemp("runs") / "killed",
        epochs=100,
        nodes=2,
        slow={2: 3.0},
        end="",
        more=[("verdict", VERDICT)],
    )
    (folder / FAILURE_NAME).write_text("rank 2: killed\n")
    with (folder / LOG_NAME).open("ab") as file:
        file.write(b"\x85\xa4kind\xa5epoch\xa3seq")
    return folder


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Return a run that has written its header only."""
    return write_run(tmp_path / "begun", epochs=0, end="")


def test_csv_has_a_line_per_epoch_and_rank_with_all_columns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(run, csv=True) == 0
    captured = capsys.readouterr()
    assert "unfinished record and were left out" in captured.err
    table, found = list(csv.DictReader(io.StringIO(captured.out))), epochs(run)
    assert [(int(row["epoch"]), int(row["rank"])) for row in table] == [(e, r) for e in range(1, 101) for r in range(4)]
    assert [row["host"] for row in table[:4]] == ["node0", "node0", "node1", "node1"]
    by_rank = ["loop_s", "input_s", "compute_s", "reduce_s", "wait_s", "transfer_s", "sync_s", "sampling_s"]
    by_rank += ["evaluation_s", "sent_bytes", "share_all", "norm_ratio_all", "cosine_all", "leave_one_out_all"]
    for row in table:
        epoch, rank = found[int(row["epoch"]) - 1], int(row["rank"])
        for key in ("loss", "noise_scale", "diversity_all", "effective_ranks", "bus_bytes_per_s"):
            assert float(row[key]) == epoch[key]
        for key in ("load_balance", "communication", "parallel"):
            assert float(row[f"efficiency_{key}"]) == epoch["efficiency"][key]
        for key in by_rank:
            assert float(row[key]) == epoch[key][rank]
        for key in ("gradient_mean", "norm_ratio", "share", "cosine", "leave_one_out"):
            assert float(row[f"{key}_W2"]) == epoch[key]["W2"][rank]


def test_json_lines_are_the_records(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(run, jsonl=True, output=tmp_path / "x.jsonl") == 0
    assert [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()] == records(run)
    assert "unfinished record" in capsys.readouterr().err


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return the tables under their headings as an independent parser reads them."""
    found: dict[str, list[list[str]]] = {}
    heading, cells, where = "", list[str](), ""
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type.endswith("_open"):
            where = token.type
        if token.type == "tr_open":
            cells = []
        elif token.type == "tr_close":
            found.setdefault(heading, []).append(cells)
        elif token.type == "inline":
            assert {child.type for child in token.children or ()} <= {"text", "text_special"}  # nothing is markup
            words = "".join(child.content for child in token.children or ())
            if where == "heading_open":
                heading = words
            elif where in ("th_open", "td_open"):
                cells.append(words)
    return found


def test_markdown_tables_hold_the_figures_and_no_name_is_markup(run: Path, tmp_path: Path) -> None:
    assert export(run, markdown=True, output=tmp_path / "x.md") == 0
    found, log = tables((tmp_path / "x.md").read_text()), epochs(run)
    assert list(found) == [
        "Facts", "Epochs", "Ranks in epoch 100", "Contribution in epoch 100", "Scaling in epoch 100", "Verdicts",
    ]  # fmt: skip
    facts = dict(found["Facts"])
    assert facts["Mode"] == "allreduce"
    assert facts["Ranks"] == "4 on 2 nodes"
    assert facts["Ended"] == "The job died: rank 2: killed"
    names, *shown = found["Epochs"]
    assert [int(row[0]) for row in shown] == [*range(1, 100, 4), 100]
    for row in shown:
        epoch, line = log[int(row[0]) - 1], dict(zip(names, row, strict=True))
        assert math.isclose(float(line["Loss"]), epoch["loss"], rel_tol=1e-3)
        assert math.isclose(float(line["Wait s"]), sum(epoch["wait_s"]) / 4, abs_tol=1e-6)
        assert line["Load balance"] == f"{100 * epoch['efficiency']['load_balance']:.2f} %"
    assert [row[:2] for row in found["Ranks in epoch 100"][1:]] == [
        ["0", "node0"], ["1", "node0"], ["2", "node1"], ["3", "node1"],
    ]  # fmt: skip
    share = found["Contribution in epoch 100"][3]
    assert share[1] == f"{100 * log[-1]['share_all'][2]:.2f} %"
    assert share[2:4] == ["5.0 to 45.0 %", "10.0 to 40.0 %"]
    assert share[7] == f"{100 * log[-1]['share']['W1'][2]:.2f} %"
    assert found["Verdicts"][1] == ["warning", "straggler", "2, 3", " ".join(NASTY.split()), "look at it"]


def test_markdown_of_many_ranks_and_parameters_is_cut_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unsure = ("end", {"status": "ok", "wall_s": 1.0, "epochs": 1, "best_epoch": None, "loss": 1.0, "metric": "accuracy",
              "validation_loss": None, "validation_metric": None, "not_judged": {"straggler": "busy"}})  # fmt: skip
    write_run(tmp_path / "wide", epochs=1, ranks=70, sizes=(4, 4, 4, 4, 4, 4), end="", more=[unsure])
    assert export(tmp_path / "wide", markdown=True) == 0
    text = capsys.readouterr().out
    found = tables(text)
    assert len(found["Ranks in epoch 1"]) == 1 + 16
    assert "16 of 70 ranks: most and least compute, wait and contribution; all with --all-ranks." in text
    assert "The first 8 parameters, 2 more in the log." in text
    assert "## Verdicts\n\nNone.\n\nNot judged: straggler (busy)." in text


def scalars(folder: Path) -> dict[str, list[Any]]:
    """Return TensorBoard's own reading of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}


def test_tensorboard_reads_every_series(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # exporting again replaces the file
        assert export(run, tensorboard=tmp_path / "new" / "events") == 0
    assert "unfinished record" in capsys.readouterr().err
    found, log = scalars(tmp_path / "new" / "events"), epochs(run)
    single = ["loss", "validation_loss", "validation_accuracy", "learning_rate", "noise_scale"]
    single += [f"efficiency/{key}" for key in ("load_balance", "communication", "parallel")]
    by_rank = [f"{series}/rank_{r}" for series in ("compute_s", "wait_s", "transfer_s", "share") for r in range(4)]
    assert sorted(found) == sorted(single + by_rank)
    expected: dict[str, list[float]] = {
        "loss": [epoch["loss"] for epoch in log],
        "validation_accuracy": [epoch["validation_metric"] for epoch in log],
        "efficiency/parallel": [epoch["efficiency"]["parallel"] for epoch in log],
        "wait_s/rank_3": [epoch["wait_s"][3] for epoch in log],
        "share/rank_1": [epoch["share_all"][1] for epoch in log],
    }
    for tag, values in expected.items():
        assert [event.step for event in found[tag]] == [epoch["epoch"] for epoch in log]
        assert [event.wall_time for event in found[tag]] == [epoch["t"] for epoch in log]
        assert [event.value for event in found[tag]] == pytest.approx(values, rel=1e-6)


def test_tensorboard_leaves_out_what_is_undefined_and_survives_extremes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", epochs=1, end="")
    header, record, *_ = records(folder)
    (folder / LOG_NAME).unlink()
    strip = ("kind", "seq", "t", "crc")
    changed = {k: v for k, v in record.items() if k not in strip} | {"noise_scale": None, "loss": 1e300, "epoch": 7}
    fields = {k: v for k, v in header.items() if k not in strip}
    rewrite(folder, [("header", fields), ("epoch", changed | {"share_all": [None, 1.0, 0.0, 0.0]})])
    assert export(folder, tensorboard=tmp_path / "events") == 0
    found = scalars(tmp_path / "events")
    assert "noise_scale" not in found
    assert "share/rank_0" not in found
    assert found["share/rank_1"][0].step == 7
    assert found["loss"][0].value > 1e38


def rewrite(folder: Path, found: list[tuple[str, Record]]) -> None:
    log = RunLog(folder / LOG_NAME)
    for kind, fields in found:
        log.append(kind, **fields)
    log.close()


def test_a_folder_with_another_runs_events_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    with pytest.raises(ConfigError, match=r"holds events\.out\.tfevents\.1\.host.* a folder of its own"):
        export(run, tensorboard=tmp_path)
    with pytest.raises(ConfigError, match="cannot make"):
        export(run, tensorboard=tmp_path / "events.out.tfevents.1.host" / "x")


def test_a_missing_library_names_the_extra(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    with pytest.raises(RankwiseError, match=r"pip install 'rankwise\[tensorboard\]'"):
        export(run, tensorboard=tmp_path)


def test_series_by_rank_are_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "run", epochs=1, ranks=70)
    assert export(tmp_path / "run", tensorboard=tmp_path / "events") == 0
    assert "the first 64 of 70 ranks" in capsys.readouterr().out
    assert sum(1 for tag in scalars(tmp_path / "events") if tag.startswith("wait_s/")) == 64


def test_a_log_without_epochs(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(begun, csv=True) == 0
    assert capsys.readouterr().out.startswith("epoch,steps,")
    assert export(begun, jsonl=True) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert export(begun, markdown=True) == 0
    out = capsys.readouterr().out
    assert "No epoch yet." in out
    assert list(tables(out)) == ["Facts"]
    with pytest.raises(RankwiseError, match="no epoch in this log"):
        export(begun, tensorboard=tmp_path / "events")
    assert not (tmp_path / "events").exists()
    (begun / LOG_NAME).write_bytes(b"")
    assert export(begun, markdown=True) == 0
    assert capsys.readouterr().out == "# Run begun: empty\n\nNo record yet.\n"


def formats(folder: Path) -> Iterator[dict[str, Any]]:
    for name in ("csv", "jsonl", "markdown"):
        yield {name: True, "output": folder / "file"}
    yield {"tensorboard": folder}


def test_damage_leaves_no_half_file(run: Path, tmp_path: Path) -> None:
    damaged = bytearray((run / LOG_NAME).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tmp_path / LOG_NAME).write_bytes(damaged)
    for chosen in formats(tmp_path / "out"):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(LogError, match="byte "):
            export(tmp_path, **chosen)
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "chosen", [{}, {"csv": True, "markdown": True}, {"jsonl": True, "tensorboard": Path("x")}], ids=str
)
def test_exactly_one_format(run: Path, chosen: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="choose one of --csv, --jsonl, --markdown and --tensorboard"):
        export(run, **chosen)


def test_output_is_for_texts_and_must_be_writable(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not with --tensorboard"):
        export(run, tensorboard=tmp_path / "events", output=tmp_path / "x")
    with pytest.raises(ConfigError, match=r"cannot write .*No such file or directory"):
        export(run, markdown=True, output=tmp_path / "missing" / "x.md")


def test_the_event_file_is_named_after_the_run(run: Path, tmp_path: Path) -> None:
    export(run, tensorboard=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{tensorboard.PREFIX}{int(records(run)[0]['t'])}.rankwise"]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["export", "--markdown", "--output", "x.md"], "x.md"),
        (["export", "--tensorboard", "events"], "events"),
        (["trace", "-o", "x.json"], "x.json"),
        (["plot", "--output", "pictures"], "pictures/loss_plot.png"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_from_the_command_line(arguments: list[str], written: str, run: Path, tmp_path: Path) -> None:
    command, *options = arguments
    result = finish(popen([sys.executable, "-m", "ps.log", command, str(run), *options], cwd=tmp_path))
    assert result.code == 0, result.err
    assert (tmp_path / written).exists()
    assert result.err.splitlines()[-1].endswith("are an unfinished record and were left out")


def test_wrong_fields_are_refused_or_written_but_never_crash(
    tmp_path: Path,
) -> None:
    """Every field of the records behind exports and trace gets values it must not have, one after the other."""
    found = records(write_run(tmp_path / "run", epochs=1, ranks=2, end=""))
    path = tmp_path / "run" / LOG_NAME
    wrongs: list[Any] = [None, 1e300]
    commands: list[Callable[[], int]] = [
        lambda: export(path, tensorboard=tmp_path / "events"),
        lambda: trace(path, output=tmp_path / "trace.json"),
    ]
    written = refused = 0
    for i, record in enumerate(found):
        for place in places({key: value for key, value in record.items() if key not in ("kind", "seq", "crc")}):
            for wrong in wrongs:
                changed = deepcopy(found)
                owner: Any = changed[i]
                for key in place[:-1]:
                    owner = owner[key]
                owner[place[-1]] = wrong
                whole = ({key: value for key, value in r.items() if key != "crc"} for r in changed)
                path.write_bytes(b"".join(encode(r) for r in whole))
                for command in commands:
                    try:
                        command()
                        written += 1
                    except RankwiseError:
                        refused += 1
    assert min(written, refused) > 100
