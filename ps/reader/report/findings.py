"""What was found in a run: why it ended before its time, its verdicts, and the faults that were injected on purpose."""

import re
from collections.abc import Iterator
from typing import Any

from common.limits import PAGE_FINDINGS, PAGE_TEXT
from common.ranges import listed_ranks
from ps.logfile.records import Record
from ps.reader.report.charts import clip
from ps.reader.report.data import RunData
from ps.reader.run_view import check_lines, death

SEVERITIES = ("error", "warning", "info")
FAILED, DIED, INJECTED = "job failed", "job died", "injected on purpose"
CAUSED = {
    "slow": ("straggler",),
    "skew": ("skewed-labels", "skewed-targets", "pulls-against", "local-loss-misleads", "targets-differ"),
    "nan": (FAILED,),
    "diverge": ("replicas-differ", FAILED),
    "hang": (FAILED, DIED),
    "die": (FAILED, DIED),
}
"""By kind of fault that ``--inject`` brings in, the codes of what it shows itself by."""

Card = dict[str, Any]


def findings(data: RunData) -> list[Card]:
    """Return all as the page shows them, the most severe first, and of very many only the first.

    A finding that an injected fault explains says so, and a fault that explains none is a card of its own.
    """
    cards = [*_ends(data), *(_verdict(record) for record in data.view.verdicts)]
    faults = injected(data)
    unseen = [fault for fault in faults if not any(_explains(fault, card) for card in cards)]
    for card in cards:
        card["injected"] = "; ".join(fault for fault in faults if _explains(fault, card))
    cards += [_fault(fault) for fault in unseen]
    return sorted(cards, key=lambda card: SEVERITIES.index(card["severity"]))[:PAGE_FINDINGS]


def n_found(data: RunData) -> int:
    """Return how many there are, also those that the page leaves out; a fault that explains none is none of them."""
    return data.view.n_verdicts + len(list(_ends(data)))


def nothing_found(data: RunData) -> str:
    """Return what stands in place of findings where there are none."""
    if not (data.n_epochs or data.measured.comparison):
        return "No verdict yet: there was too little to look at."
    if passed(data):
        return "No verdict: none of the checks found anything to report."
    return "No verdict so far." if not data.view.end else "No verdict."


def passed(data: RunData) -> bool:
    """Say whether every check could judge, so that no verdict is good news."""
    return data.view.is_comparison or data.view.end.get("not_judged") == {}


def not_judged(data: RunData) -> str:
    """Return which checks could not judge, and why; nothing if all could, or the log does not say."""
    return " ".join(check_lines(data.view)) if data.view.end.get("not_judged") else ""


def injected(data: RunData) -> list[str]:
    """Return the faults that any of the run's jobs was given, as ``--inject`` takes them."""
    texts = [str(event.get("faults", "")) for event in data.view.events if event["what"] == "inject"]
    if not texts and data.header:
        texts = [str(data.header["config"].get("inject", ""))]
    return list(dict.fromkeys(clip(part.strip()) for text in texts for part in text.split(";") if part.strip()))


def _explains(fault: str, card: Card) -> bool:
    kind, _, rest = fault.partition(":")
    rank = re.search(r"\brank=(\d+)", rest)
    same_rank = rank is None or not card["ranks"] or int(rank[1]) in card["ranks"]
    return card["code"] in CAUSED.get(kind, ()) and same_rank


def _ends(data: RunData) -> Iterator[Card]:
    """Yield why the run ended before its time."""
    for event in [event for event in data.view.events if event["what"] == "error"][-3:]:
        yield _card("error", FAILED, sentence(str(event.get("message", ""))))
    if data.view.state == "died":
        yield _card("error", DIED, sentence(death(data.view)))


def _verdict(record: Record) -> Card:
    ranks = listed_ranks(record["ranks"])
    code, several = clip(record["code"]), "s" if len(record["ranks"]) > 1 else ""
    return {
        "severity": record["severity"] if record["severity"] in SEVERITIES else "info",
        "code": code,
        "ranks": record["ranks"],
        "about": f"{code}, rank{several} {ranks}" if ranks else code,
        "text": sentence(record["text"]),
        "remedy": sentence(record["remedy"]),
        "evidence": [(clip(key), plain(value)) for key, value in record["evidence"].items()],
        "injected": "",
    }


def _fault(fault: str) -> Card:
    text = f"The run was started with --inject {fault}. What follows from it is no fault of the machine or the data."
    return _card("info", INJECTED, text)


def _card(severity: str, code: str, text: str) -> Card:
    """Return a card on the job, which has neither remedy nor evidence of its own."""
    return {"severity": severity, "code": code, "about": code, "ranks": [], "text": text, "remedy": "",
            "evidence": None, "injected": ""}  # fmt: skip


def sentence(text: str) -> str:
    """Return a text of the log as a sentence."""
    text = clip(text.strip(), PAGE_TEXT)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "…", "!", "?")) else ".")


def plain(value: Any) -> str:
    """Return any value of a log as a short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = ", ".join(plain(entry) for entry in value[:PAGE_TEXT]) or "none"
    elif isinstance(value, dict):
        value = "; ".join(f"{clip(key)}: {plain(entry)}" for key, entry in value.items()) or "none"
    return "none" if value is None else clip(value, PAGE_TEXT) or '""'
