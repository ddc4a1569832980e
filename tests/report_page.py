"""A report's page taken apart, and logs made to be reported on."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from common.run_files import LOG_NAME
from ps.logfile.writer import RunLog
from ps.reader.commands.report import report
from tests.ranks import epochs
from tests.synthetic import write_run

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart: headings, texts, ids and drawings; fails on tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        from plotly.offline import get_plotlyjs

        whole = path.read_text(encoding="utf-8")
        assert whole.count(get_plotlyjs()) == 1
        self.source = whole.replace(get_plotlyjs(), "")
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[tuple[int, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.drawings: dict[str, Any] = {}
        self.texts: list[str] = []
        self.feed(self.source)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append((tag, dict(attrs)))
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            if data.startswith("{"):
                self.drawings[self.ids[-1].removesuffix("-drawing")] = json.loads(data)
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)
            if self.open and re.fullmatch("h[1-6]", self.open[-1]):
                level, text = self.headings[-1]
                self.headings[-1] = (level, text + data)

    def chart(self, title: str) -> Any:
        """Return the drawing under a heading."""
        (found,) = re.findall(f'<h[34] id="(chart-[0-9]+)-title">{re.escape(html.escape(title))}</h', self.source)
        return self.drawings[found]


def make_page(folder: Path, *runs: Path, **options: Any) -> Page:
    """Make the page of these runs, or of one that never was with the options of ``write_run``."""
    chosen = list(runs) or [write_run(folder / "run", **options)]
    assert report(*chosen, output=folder / "report.html") == 0
    return Page(folder / "report.html")


def log_of(folder: Path, *records: tuple[str, dict[str, Any]]) -> Path:
    """Write a log of these kinds and fields into a new folder, which is returned."""
    folder.mkdir()
    log = RunLog(folder / LOG_NAME)
    for kind, fields in records:
        log.append(kind, **fields)
    log.close()
    return folder


def fields_of(run: Path) -> list[dict[str, Any]]:
    """Return the fields of a run's epochs, to be changed and written again."""
    return [{k: v for k, v in e.items() if k not in ("kind", "seq", "t", "crc")} for e in epochs(run)]
