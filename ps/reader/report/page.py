"""The page itself: texts and charts of each run, put into the template together with the plotting library."""

import base64
import hashlib
import itertools
from collections.abc import Iterator
from importlib import resources
from typing import Any

from ps.reader.output import library
from ps.reader.report import facts
from ps.reader.report.balance import balance
from ps.reader.report.charts import Section, clip
from ps.reader.report.comparison import modes, side_by_side
from ps.reader.report.data import RunData
from ps.reader.report.training import contribution, learning, timing


def template_and_plotly() -> tuple[Any, str]:
    """Return the page's template and the plotting library. Raises RankwiseError without the extra ``report``."""
    with library("report", "report"):
        import jinja2
        from plotly.offline import get_plotlyjs
    loader, strict = jinja2.PackageLoader("ps.reader.report", "."), jinja2.StrictUndefined
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=strict, trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template("page.html"), get_plotlyjs()


def render(template: Any, plotly: str, runs: list[RunData]) -> str:
    """Return the page of one or more runs."""
    names = [clip(run.view.folder.resolve().name or "run") for run in runs]
    names = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]
    found = [_run(data, name, f"run-{i}") for i, (data, name) in enumerate(zip(runs, names, strict=True), 1)]
    several = side_by_side(runs, names) if len(runs) > 1 else None
    if several:
        contents = [("several-1", several.title), *((run["id"], run["name"]) for run in found)]
    else:
        contents = [(f"run-1-{i}", section.title) for i, section in enumerate(found[0]["sections"], 1)]
    kind = "Comparison" if runs[0].view.is_comparison else "Run"
    script = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
    page: str = template.render(
        title=several.title if several else f"{kind} {names[0]}",
        contents=[("findings", "Findings"), *contents],
        runs=found,
        several=several,
        plotly=plotly,
        script=script,
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
    findings = facts.findings(data)
    return {
        "id": place,
        "name": name,
        "state": facts.state(data),
        "findings": findings,
        "left_out": data.view.n_verdicts - len(findings),
        "no_verdict": facts.nothing_found(data),
        "not_judged": facts.not_judged(data),
        "summary": facts.summary(data) if data.header else None,
        "sections": list(_sections(data)) if data.header else [],
    }


def _sections(data: RunData) -> Iterator[Section]:
    if data.view.is_comparison:
        yield modes(data)
    if data.n_epochs:
        yield from (make(data) for make in (learning, contribution, timing, facts.history))
    if data.view.balance:
        yield balance(data)
    yield facts.set_up(data)
