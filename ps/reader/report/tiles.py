"""The tiles at the top of the page: what a run came to, in five figures."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.wording import count
from ps.logfile.records import Record
from ps.reader.report.charts import clip
from ps.reader.report.data import RunData
from ps.reader.report.findings import INJECTED, SEVERITIES, n_found, passed
from ps.reader.report.timing import crowd
from ps.text.formatting import fixed, metric, number

NONE = "–"


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure, what it is, and a line about it; ``tone``: the severity whose colour it has."""

    title: str
    value: str
    about: str
    tone: str = ""


def tiles(data: RunData, cards: list[dict[str, Any]]) -> list[Tile]:
    """Return the tiles of a run that is no comparison; ``cards``: its findings."""
    return [_metric(data), _loss(data), _time(data), _efficiency(data), _findings(data, cards)]


def duration(seconds: float) -> str:
    """Return seconds as people read them."""
    if seconds < 119.5:
        return f"{number(seconds, 3)} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def _metric(data: RunData) -> Tile:
    view, name = data.view, "accuracy" if data.view.metric == "accuracy" else "R2"
    rows = data.header["data"]["rows"]
    if view.end.get("test_metric") is not None:
        loss = number(view.end.get("test_loss"))
        return Tile(f"Test {name}", metric(view.metric, view.end["test_metric"]), f"loss {loss}, {rows['test']:,} rows")
    untested = "not tested" if rows["test"] else "no test rows"
    known = view.last.get("validation_metric")
    if known is not None:
        return Tile(f"Validation {name}", metric(view.metric, known), f"epoch {view.last['epoch']}; {untested}")
    return Tile(f"Test {name}", NONE, untested)


def _loss(data: RunData) -> Tile:
    last: Record = data.view.last
    if not last:
        return Tile("Loss", NONE, "no epoch yet")
    validation = last.get("validation_loss")
    about = f"validation {number(validation)}" if validation is not None else f"{number(data.first['loss'])} at first"
    return Tile("Training loss", number(last["loss"]), f"epoch {last['epoch']}; {about}")


def _time(data: RunData) -> Tile:
    epochs = count(data.n_epochs, "epoch")
    if not data.view.end:
        epochs = f"up to the end of epoch {data.view.last['epoch']}" if data.view.last else epochs
    if data.launch_s is None:
        return Tile("Time", duration(data.wall_s), f"{epochs}; start not in this log")
    return Tile("Time", duration(data.wall_s), f"{duration(data.budget()['start-up'])} of it start-up; {epochs}")


def _efficiency(data: RunData) -> Tile:
    title = "Parallel efficiency"
    if data.ranks == 1:
        return Tile(title, NONE, "one rank: nothing to wait for")
    factors = {key: data.series(key) for key in ("parallel", "load_balance", "communication")} if data.n_epochs else {}
    if not factors or not all(np.isfinite(values).any() for values in factors.values()):
        return Tile(title, NONE, "not known yet")
    medians = {key: float(np.nanmedian(values)) for key, values in factors.items()}
    about = f"balance {_whole(medians['load_balance'])}, communication {_whole(medians['communication'])}"
    if data.sharing:
        about = f"not meaningful: {crowd(data.sharing[0])}"
    low = "warning" if medians["parallel"] < 0.8 and not data.sharing else ""
    return Tile(title, _whole(medians["parallel"]), about, low)


def _whole(share: float) -> str:
    return f"{fixed(100 * share, 0)} %"


def _findings(data: RunData, cards: list[dict[str, Any]]) -> Tile:
    found = [card for card in cards if card["code"] != INJECTED]
    on_purpose = sum(bool(card["injected"]) or card["code"] == INJECTED for card in cards)
    n = n_found(data)
    counts = Counter(card["severity"] for card in found)
    words = {"error": "error", "warning": "warning", "info": "note"}
    listed = ", ".join(count(counts[s], words[s]) for s in SEVERITIES if counts[s])
    unjudged = len(data.view.end.get("not_judged") or ())
    notes = [listed or f"state: {clip(data.view.state)}"] + [f"{on_purpose} injected"] * bool(on_purpose)
    notes += [f"{count(unjudged, 'check')} could not judge"] * bool(unjudged)
    tone = next((severity for severity in SEVERITIES if counts[severity]), "none" if passed(data) else "")
    return Tile("Findings", f"{n:,}" if n else "none", "; ".join(notes), tone)
