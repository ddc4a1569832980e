"""The page itself: texts and charts of each run, put into the template together with the plotting library."""

import base64
import hashlib
import itertools
from collections.abc import Iterator
from importlib import resources
from typing import Any

from common.wording import printable
from ps.reader.output import library
from ps.reader.report import facts
from ps.reader.report.balance import balance
from ps.reader.report.charts import Section, clip
from ps.reader.report.colours import exchanged
from ps.reader.report.comparison import modes, side_by_side
from ps.reader.report.contribution import contribution
from ps.reader.report.data import RunData
from ps.reader.report.findings import findings, not_judged, nothing_found, passed
from ps.reader.report.learning import learning
from ps.reader.report.loose import has_any, loose
from ps.reader.report.predictions import predictions
from ps.reader.report.tiles import tiles
from ps.reader.report.timing import timing

CARDS, CARDS_EACH = 6, 4
"""Findings that are not folded up, the most severe ones: of one run, and of each of several."""


def template_and_plotly() -> tuple[Any, str]:
    """Return the page's template and the plotting library. Raises RankwiseError without the extra ``report``."""
    with library("report", "report"):
        import jinja2
        from plotly.offline import get_plotlyjs
    loader, strict = jinja2.PackageLoader("ps.reader.report", "."), jinja2.StrictUndefined
    templates = jinja2.Environment(
        loader=loader, autoescape=True, finalize=_without_controls, undefined=strict, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return templates.get_template("page.html"), get_plotlyjs()


def _without_controls(value: Any) -> Any:
    """Return a text of a log as HTML can hold it; what is markup already, and all other values, as they are."""
    return printable(value) if type(value) is str else value


def render(template: Any, plotly: str, runs: list[RunData]) -> str:
    """Return the page of one or more runs."""
    names = [clip(run.view.folder.resolve().name or "run") for run in runs]
    names = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]
    found = [_run(data, name, f"run-{i}") for i, (data, name) in enumerate(zip(runs, names, strict=True), 1)]
    several = side_by_side(runs, names) if len(runs) > 1 else None
    contents = [("findings", "Findings")]
    if several:
        contents = [("several-1", several.title), *contents, *((run["id"], run["name"]) for run in found)]
    else:
        contents += [(f"run-1-{i}", section.title) for i, section in enumerate(found[0]["sections"], 1)]
    kind = "Comparison" if runs[0].view.is_comparison else "Run"
    script = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
    page: str = template.render(
        title=clip(f"{len(names)} runs: {', '.join(names)}", 200) if several else f"{kind} {names[0]}",
        contents=contents,
        runs=found,
        several=several,
        most_cards=CARDS_EACH if several else CARDS,
        plotly=plotly,
        script=script,
        on_dark=exchanged(),
        policy=_policy(plotly, script),
        number=itertools.count(1).__next__,
    )
    return page


def _policy(*scripts: str) -> str:
    """Return what the browser may load and run: nothing from outside, no script but these."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _run(data: RunData, name: str, place: str) -> dict[str, Any]:
    """Return a run as the template takes it."""
    cards = findings(data)
    shown = sum(card["remedy"] != "" for card in cards)
    return {
        "id": place,
        "name": name,
        "headline": facts.headline(data) if data.header else "",
        "state": facts.state(data),
        "tiles": tiles(data, cards) if data.header and not data.view.is_comparison else [],
        "findings": cards,
        "left_out": max(0, data.view.n_verdicts - shown),
        "nothing_found": nothing_found(data),
        "not_judged": not_judged(data),
        "passed": passed(data),
        "sections": list(_sections(data)) if data.header else [],
    }


def _sections(data: RunData) -> Iterator[Section]:
    if data.view.is_comparison:
        yield modes(data)
    if data.n_epochs:
        yield learning(data)
        yield from [predictions(scores)] if (scores := data.view.end.get("test")) else []
        yield from [contribution(data)] if data.ranks > 1 and data.view.last["sampled_steps"] else []
        yield timing(data)
        yield from [loose(data)] if has_any(data) else []
    if data.view.balance and data.ranks > 1:
        yield balance(data)
    yield facts.history(data)
    yield facts.set_up(data)
