"""The page itself: what is said and drawn of each run, put into the template with the library that draws."""

import base64
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

from common.errors import RankwiseError
from ps.reader.report import facts
from ps.reader.report.contribution import contribution
from ps.reader.report.data import RunData
from ps.reader.report.figures import Section, Table, clip
from ps.reader.report.learning import learning
from ps.reader.report.modes import comparison
from ps.reader.report.rows import balance
from ps.reader.report.seconds import timing
from ps.reader.report.side_by_side import side_by_side


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the template takes it."""

    name: str
    state: list[str]
    findings: list[facts.Finding]
    left_out: int
    no_verdict: str
    facts: Table | None
    sections: list[Section]


class Renderer:
    """Makes pages. Raises RankwiseError without the libraries of the extra ``report``."""

    def __init__(self) -> None:
        try:
            import jinja2
            from plotly.offline import get_plotlyjs
        except ImportError as error:
            raise RankwiseError(
                f"report: {str(error.name).split('.')[0]} is not installed; pip install 'rankwise[report]' brings it"
            ) from error
        self.plotly = get_plotlyjs()
        self.templates = jinja2.Environment(
            loader=jinja2.PackageLoader("ps.reader.report", "."),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, runs: list[RunData]) -> str:
        """Return the page of one or more runs."""
        names = _names(runs)
        several = [side_by_side(runs, names)] if len(runs) > 1 else []
        script = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
        return self.templates.get_template("page.html").render(
            title="Runs side by side" if several else _title(runs[0], names[0]),
            runs=[_run(data, name) for data, name in zip(runs, names, strict=True)],
            several=several,
            plotly=self.plotly,
            script=script,
            policy=_policy(self.plotly, script),
            number=itertools.count(1).__next__,
        )


def _policy(*scripts: str) -> str:
    """Return what the browser may load and run: nothing from outside, no script but these."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _names(runs: list[RunData]) -> list[str]:
    """Return what each run is called: its folder's name, with a number where two are equal."""
    names = [clip(run.view.folder.resolve().name or "run") for run in runs]
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, 1)]


def _title(data: RunData, name: str) -> str:
    return f"{'Comparison' if data.header.get('purpose') == 'comparison' else 'Run'} {name}"


def _run(data: RunData, name: str) -> Run:
    findings = facts.findings(data)
    return Run(
        name=name,
        state=facts.state(data),
        findings=findings,
        left_out=data.view.n_verdicts - len(findings),
        no_verdict=facts.no_verdict(data),
        facts=facts.facts(data) if data.header else None,
        sections=list(_sections(data)),
    )


def _sections(data: RunData) -> Iterator[Section]:
    if not data.header:
        return
    if data.header.get("purpose") == "comparison":
        yield comparison(data)
    if data.n_epochs:
        yield learning(data)
        yield contribution(data)
        yield timing(data)
        yield facts.history(data)
    if data.view.balance:
        yield balance(data)
    yield facts.set_up(data)
