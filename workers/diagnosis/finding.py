"""What a check has found, in words for people and as an object for programs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from common.wording import count
from ps.text.layout import fold

OK, NOTE, WARN, FAIL = "ok", "note", "warn", "fail"
"""Well; worth knowing; training works, but slower or with a risk; training does not work, or cannot be resumed."""
STATES = (OK, NOTE, WARN, FAIL)
INDENT = " " * 6
FORMAT, VERSION = "rankwise-doctor", 1


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and how it is.

    ``remedy``: what to do, in words. ``command``: a line for a shell that does it, as it stands, if there is one.
    ``check``: the name in ``checks.py``, filled in there. ``about``: hosts or ranks that it holds for, if not for all.
    """

    state: str
    text: str
    remedy: str = ""
    check: str = ""
    about: str = ""
    command: str = ""

    def lines(self, width: int) -> list[str]:
        """Return it for people, folded to so many columns; the command stays in one line, as it is to be copied."""
        words = [line for text in (self.text, self.remedy) if text for line in fold(text, width - len(INDENT))]
        first, *rest = filter(None, [*words, self.command])
        return [f"{self.state:<{len(INDENT)}}{first}", *(INDENT + line for line in rest)]


def failed(findings: Iterable[Finding]) -> bool:
    """Say whether one of them fails."""
    return any(finding.state == FAIL for finding in findings)


def size(n_bytes: float) -> str:
    """Return bytes in a unit that suits them: ``64 MB``, ``25.3 GB``."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def closing_line(findings: Sequence[Finding], next_command: str) -> str:
    """Return the last line for people: how many checks failed, or what to begin with."""
    states = [finding.state for finding in findings]
    n_fail, n_warn = states.count(FAIL), states.count(WARN)
    if n_fail:
        return f"{count(n_fail, 'check')} failed: do what is said there, and run rankwise doctor again."
    hint = f" ({count(n_warn, 'warning')} above)" if n_warn else ""
    return f"Ready{hint}. Begin with: {next_command}"


def as_object(findings: Sequence[Finding], job: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Return the object that ``--json`` prints; see docs/doctor.md."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "ok": not failed(findings),
        "findings": [asdict(finding) for finding in findings],
        "job": job,
        "measured": measured,
    }
