"""What ``python -m ps.log watch`` shows of a running job: lines, or a picture that is drawn again and again."""

import math
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from common.limits import TABLE_RANKS, TABLE_ROWS
from common.wording import count, printable
from ps.logfile.header import host_names
from ps.logfile.records import CONTINUATIONS, Record
from ps.reader.console import write
from ps.reader.downsample import Downsampler
from ps.reader.history import event_line
from ps.reader.run_view import RunView, ending, extremes, mean
from ps.text import loose
from ps.text.formatting import efficiency, epoch_line, losses, mode_name, points, verdict_line
from ps.text.layout import GAP, blocks, cells
from ps.text.layout import Table as PlainTable
from ps.text.run_facts import where

OTHER_LINES = 12
"""Of the picture, besides the ranks."""
BAR_CELLS, LEAST_BAR = 40, 8
DROPPED = ("contribution %", "host", "transfer s", "wait s", "compute s")
"""Columns of the ranks' table in the order in which they are left out, to fit the width; the bar always stays."""
SPARKS, ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
BARS, ASCII_BARS = "█░▒", "#.="
SECONDS, COLOURS = ("compute_s", "wait_s", "transfer_s"), ("green", "red", "yellow")
"""Fields whose seconds make up a rank's bar, one character and one colour each."""


class Lines:
    """A line for each record, for a pipe or a file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def add(self, view: RunView, record: Record) -> None:
        """Show a new record, which is in the view."""
        if line := _record_line(view, record):
            self.say(line)

    def draw(self, view: RunView) -> None:
        """Show the run as it is after a look at its log: nothing to do, all its lines are printed."""

    def say(self, line: str) -> None:
        """Print a line at once, though a pipe would wait for more."""
        write(line.replace("\n", " "))


class Picture(Lines):
    """A progress bar, the loss, and the ranks as rows, for a terminal; findings scroll by above."""

    def __init__(self, out: Console, *, all_ranks: bool = False) -> None:
        """``all_ranks``: show as many ranks as fit, not just some of many."""
        self.out, self.all_ranks = out, all_ranks
        self.losses: Downsampler[tuple[int, float]] = Downsampler(TABLE_ROWS)
        self._live = Live(console=out, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def add(self, view: RunView, record: Record) -> None:
        """Take a loss into the curve; print a finding or an event."""
        kind = record["kind"]
        if kind == "epoch":
            self.losses.add((record["epoch"], record["loss"]))
        elif kind == "header":  # the first one, or of a run that took the place of the one before
            self._keep_losses_before(0)
        elif kind in ("verdict", "event"):
            self.say(_record_line(view, record))
            if kind == "event" and record["what"] in CONTINUATIONS:
                self._keep_losses_before(record["epoch"])

    def _keep_losses_before(self, epoch: int) -> None:
        """Drop the losses from an epoch on, which is done again."""
        kept, self.losses = self.losses.kept(), Downsampler(TABLE_ROWS)
        for point in kept:
            if point[0] < epoch:
                self.losses.add(point)

    def draw(self, view: RunView) -> None:
        """Draw the run as it is now."""
        header, record = view.header, view.last
        folder = printable(str(view.folder))
        contents: list[RenderableType] = [Text(f"{folder}: no record yet")]
        if header:
            title = printable(f": {view.state}, mode {mode_name(header)}, {where(header)}")
            contents = [Text.assemble((folder, "bold"), title), _progress(view)]
        if header and record:
            sparks = ASCII_SPARKS if self.out.options.ascii_only else SPARKS
            curve = sparkline([loss for _, loss in self.losses.kept()], sparks)
            contents += [Text(f"loss {curve} {losses(record, view.metric)}"), Text(efficiency(record))]
            if line := loose.summary(record):
                contents.append(Text(line))
            contents.append(self._ranks(view.header_at(record), record))
        if view.end:
            contents.append(Text(printable(ending(view))))
        self._live.update(Group(*contents), refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the picture."""
        self.out.print(Text(line))

    def _ranks(self, header: Record, record: Record) -> Text:
        hosts, world = host_names(header), len(record["rows"])
        room = self.out.height - OTHER_LINES
        ranks = extremes(record, max(2, room if self.all_ranks else min(TABLE_RANKS, room)))
        characters = ASCII_BARS if self.out.options.ascii_only else BARS
        few = "" if len(ranks) == world else f", {len(ranks)} of {world} ranks that stand out"
        names = ", ".join(f"{character} {key[:-2]}" for key, character in zip(SECONDS, characters, strict=True))
        rows = []
        for rank in ranks:
            seconds = (f"{record[key][rank]:.3f}" for key in SECONDS)
            rows.append([str(rank), hosts.get(rank, "-"), *seconds, points(record["share_all"][rank])])
        columns = ["rank", "host", *(f"{key[:-2]} s" for key in SECONDS), "contribution %"]
        (block,) = blocks(PlainTable("", columns, rows, DROPPED, ("host",)), self.out.width - GAP - LEAST_BAR)
        used = GAP + max(cells(line) for lines in (block.head, *block.rows) for line in lines)
        bars = _bars(record, ranks, characters, max(LEAST_BAR, min(BAR_CELLS, self.out.width - used)))
        result = Text.assemble("\n", (f"Epoch {record['epoch']}{few}: {names}", "bold"))
        for line in block.head:
            result.append(f"\n{line}")
        for lines, own in zip(block.rows, bars, strict=True):
            *before, last = lines
            result.append("".join(f"\n{line}" for line in before))
            result.append(f"\n{last}{' ' * (used - cells(last))}").append_text(own)
        return result


def _record_line(view: RunView, record: Record) -> str:
    """Return what a record says, on one line; nothing for kinds that are not shown."""
    kind, header = record["kind"], view.header
    if kind == "header":
        size = f"{count(header['world'], 'rank')}, {count(header['config']['epochs'], 'epoch')}"
        return f"{view.folder}: mode {mode_name(header)}, {size}"
    if kind == "epoch":
        waits = record["wait_s"]
        longest = max(range(len(waits)), key=waits.__getitem__)
        more = loose.summary(record)
        return (
            f"{epoch_line(record, header['config']['epochs'], view.metric)}, "
            f"compute {mean(record['compute_s']):.3f} s, sync {mean(record['sync_s']):.3f} s, "
            f"longest wait {waits[longest]:.3f} s (rank {longest})" + f", {more}" * bool(more)
        )
    if kind == "end":
        return ending(view)
    if kind == "event":
        return event_line(record)
    return verdict_line(record) if kind == "verdict" else ""


def sparkline(values: list[float], characters: str) -> str:
    """Return a curve of one character a value, from ``characters``, lowest first."""
    if not values:
        return ""
    low, span = min(values), max(values) - min(values)
    top = len(characters) - 1
    return "".join(characters[round(top * ((v - low) / span)) if 0 < span < math.inf else 0] for v in values)


def _progress(view: RunView) -> Table:
    """Return the progress bar, and the time left if the epochs to come take as long as those that are done."""
    record, total = view.last, max(1, view.header["config"]["epochs"])
    done, left = record.get("epoch", view.sessions[-1].first - 1), ""
    if record and not view.end:
        seconds = (view.header["config"]["epochs"] - done) * (record["elapsed_s"] / max(1, done))
        seconds = min(max(0.0, seconds), 1e9)
        left = f"{int(seconds) // 3600}:{time.strftime('%M:%S', time.gmtime(seconds))} left"
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    line.add_row(f"epoch {done}/{total}", ProgressBar(total=total, completed=min(max(done, 0), total)), left)
    return line


def _bars(record: Record, ranks: list[int], characters: str, cells: int) -> list[Text]:
    """Return for each of these ranks its time as characters; the rank with the most time has ``cells`` of them."""
    seconds = [[max(0.0, record[key][rank]) for key in SECONDS] for rank in ranks]
    longest = max(sum(own) for own in seconds)
    if not 0 < longest < math.inf:
        return [Text()] * len(ranks)
    parts = ((c * round(cells * s / longest) for c, s in zip(characters, own, strict=True)) for own in seconds)
    return [Text.assemble(*zip(own, COLOURS, strict=True)) for own in parts]
