"""The picture that ``python -m ps.log watch`` draws of a running job in a terminal."""

import math
import time
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ps.logfile.header import host_names
from ps.logfile.reader import Entry
from ps.logfile.records import GOING_ON, Record
from ps.reader import console
from ps.reader.downsample import Downsampler
from ps.reader.events import event_line
from ps.reader.run_view import RunView, end_line, extremes
from ps.text.numbers import number, percent
from ps.text.record_lines import mode_name, named_metric, verdict_line

MOST_LOSSES = 40
MOST_RANKS = 16
OTHER_LINES = 12
"""Of the picture, beside the ranks."""
MOST_BAR_CELLS = 40
OTHER_CELLS = 66
"""Of a line of the ranks' table, beside the bar."""
Kinds = tuple[tuple[str, str, str], ...]
SPARKS = "▁▂▃▄▅▆▇█"
BAR: Kinds = (("compute_s", "█", "green"), ("wait_s", "░", "red"), ("transfer_s", "▒", "yellow"))
"""Field, mark and colour."""
ASCII_SPARKS = "_.-=+*#@"
ASCII_BAR: Kinds = (("compute_s", "#", "green"), ("wait_s", ".", "red"), ("transfer_s", "=", "yellow"))


class Picture:
    """A progress bar, the loss, and the ranks as rows, drawn anew at each look; findings scroll by above it."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.losses: Downsampler[tuple[int, float]] = Downsampler(MOST_LOSSES)
        self._live = Live(console=out, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def begin(self) -> None:
        """Forget the losses of another run."""
        self.losses = Downsampler(MOST_LOSSES)

    def add(self, view: RunView, entry: Entry) -> None:
        """Take a loss into the curve; print a finding or an event."""
        if entry.kind == "epoch":
            found = entry.pick("epoch", "loss")
            epoch, loss = found.get("epoch"), found.get("loss")
            if isinstance(epoch, int) and isinstance(loss, int | float) and math.isfinite(loss):
                self.losses.add((epoch, loss))
        elif entry.kind == "verdict":
            self.say(verdict_line(entry.record()))
        elif entry.kind == "event":
            self.say(event_line(view.events[-1]))
            if view.events[-1]["what"] in GOING_ON:
                self._forget(view.events[-1]["epoch"])

    def _forget(self, epoch: int) -> None:
        """Drop the losses from an epoch on, which is done again."""
        kept, self.losses = self.losses.kept(), Downsampler(MOST_LOSSES)
        for point in kept:
            if point[0] < epoch:
                self.losses.add(point)

    def draw(self, view: RunView) -> None:
        """Draw the run as it is now. Raises LogError."""
        view.settle()
        self._live.update(Group(*self._parts(view)), refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the picture."""
        self.out.print(Text(line))

    def _parts(self, view: RunView) -> list[RenderableType]:
        header, record = view.header, view.last
        if not header:
            return [Text(f"{view.folder}: no record yet")]
        title = f": {view.state}, mode {mode_name(header)}, {header['world']} ranks on {len(header['nodes'])} node(s)"
        parts: list[RenderableType] = [Text.assemble((str(view.folder), "bold"), title)]
        parts.append(_progress(header, record, view))
        if record:
            parts += [self._loss_line(view), _time_line(record), self._ranks(view.header_at(record), record)]
        if view.end:
            parts.append(Text(end_line(view.end)))
        return parts

    def _loss_line(self, view: RunView) -> Text:
        record = view.last
        curve = sparkline(
            [loss for _, loss in self.losses.kept()], ASCII_SPARKS if self.out.options.ascii_only else SPARKS
        )
        text = f"loss {curve} {number(record['loss'])}"
        if record["validation_loss"] is not None:
            text += f", validation loss {number(record['validation_loss'])}, "
            text += named_metric(view.metric, record["validation_metric"])
        return Text(text)

    def _ranks(self, header: Record, record: Record) -> Table:
        ranks = extremes(record, max(2, min(MOST_RANKS, self.out.height - OTHER_LINES)))
        hosts, world = host_names(header), len(record["rows"])
        kinds = ASCII_BAR if self.out.options.ascii_only else BAR
        few = "" if len(ranks) == world else f", {len(ranks)} of {world} ranks that stand out"
        names = ", ".join(f"{mark} {key[:-2]}" for key, mark, _ in kinds)
        cells = min(max(self.out.width - OTHER_CELLS, 8), MOST_BAR_CELLS)
        rows: list[list[str | Text]] = [
            [
                str(rank),
                hosts.get(rank, "-"),
                *(f"{record[key][rank]:.3f}" for key, _, _ in kinds),
                percent(record["share_all"][rank]),
                bar,
            ]
            for rank, bar in zip(ranks, _bars(record, ranks, kinds, cells), strict=True)
        ]
        columns = ["rank", "host", *(f"{key[:-2]} s" for key, _, _ in kinds), "contribution", "time"]
        table = console.table(f"Epoch {record['epoch']}{few}: {names}", columns, rows)
        table.columns[-1].justify = "left"
        return table


def sparkline(values: list[float], marks: str) -> str:
    """Return a curve of one character a value, from ``marks``, lowest first."""
    if not values:
        return ""
    low, span = min(values), max(values) - min(values)
    top = len(marks) - 1
    return "".join(marks[round(top * ((v - low) / span)) if 0 < span < math.inf else 0] for v in values)


def remaining_s(header: Record, record: Record) -> float:
    """Return the seconds that the epochs to come will take if they are as long as those that are done."""
    an_epoch_s = record["elapsed_s"] / max(1, record["epoch"])
    return float(max(0.0, (header["config"]["epochs"] - record["epoch"]) * an_epoch_s))


def _progress(header: Record, record: Record, view: RunView) -> Table:
    total, done = max(1, header["config"]["epochs"]), record.get("epoch", view.jobs[-1].first - 1)
    left = ""
    if record and not view.end:
        seconds = min(remaining_s(header, record), 1e9)
        left = f"{int(seconds) // 3600}:{time.strftime('%M:%S', time.gmtime(seconds))} left"
    line = Table.grid(padding=(0, 1), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    line.add_row(f"epoch {done}/{total}", ProgressBar(total=total, completed=min(max(done, 0), total)), left)
    return line


def _time_line(record: Record) -> Text:
    parts = record["efficiency"]
    return Text(
        f"efficiency {percent(parts['parallel'])} = load balance {percent(parts['load_balance'])} x communication "
        f"{percent(parts['communication'])}"
    )


def _bars(record: Record, ranks: list[int], kinds: Kinds, cells: int) -> list[Text]:
    """Return for each of these ranks its time as marks; the rank with the most time has ``cells`` of them."""
    seconds = {rank: [max(0.0, record[key][rank]) for key, _, _ in kinds] for rank in ranks}
    longest = max(sum(own) for own in seconds.values())
    if not 0 < longest < math.inf:
        return [Text()] * len(ranks)
    return [
        Text.assemble(
            *((mark * round(cells * s / longest), style) for s, (_, mark, style) in zip(own, kinds, strict=True))
        )
        for own in seconds.values()
    ]
