"""Verdict ``pulls-against``: a rank's contribution to the gradient is negative, and not by chance."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from common.ranges import named_ranks
from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record
from ps.metrics.share_interval import BAND, student_t

EPOCHS, ENOUGH = 8, 7
"""Reported where it is so in so many of the last epochs."""
MIN_EPOCHS = 3
"""Of a run that ends before there are ``EPOCHS``."""
MEAN_SHARE = -0.25
"""Mean share, as a multiple of the 1/P that a rank has when all pull alike."""
CANCELLED = 2.0
"""Diversity from which a share is a quotient of next to nothing: independent gradients have 1."""
ROWS_DIFFER = ("skewed-labels", "skewed-targets", "targets-differ")
LEVEL = 0.05
"""How often chance may put one of all ranks below its band."""


@dataclass(frozen=True, slots=True)
class Pull:
    """A rank that pulls against: mean share over the epochs with its interval, and the band that chance gives."""

    share: float
    low: float
    high: float
    chance_low: float
    chance_high: float
    n_negative: int


class PullsAgainst(Detector):
    """A rank whose share of the gradient is negative: what it adds undoes what the others' rows ask for.

    Its mean share over the last epochs must lie below 0 with its whole 95 % interval (Student's t over the epochs), and
    below the band in which chance alone would leave it (see share_interval.py; widened so that one of all P ranks
    leaves it in 5 % of looks). Epochs that deal rows anew add up like steps. Where each rank has the same rows in every
    epoch, all epochs together say no more of chance than one does; unless it is known already that the ranks' rows
    differ.

    Where fixed rows have been learnt, their ranks' gradients cancel in the sum, and shares, which are divided by its
    square, may be anything. So only epochs count whose ranks did not cancel (gradient diversity at most 2), and all
    epochs for a rank that has pulled against since the first.
    """

    code = "pulls-against"

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.fixed = header["config"].get("rows") == "shard"
        """Whether a rank has the same rows in every epoch."""
        self.rows_differ = False
        """Whether another finding says that the ranks' rows are no random samples of the same data."""
        self.always = [True] * self.n_ranks
        self.recent: deque[tuple[int, list[float | None], list[tuple[float, float] | None]]] = deque(maxlen=EPOCHS)
        """Number of an epoch; by rank its shares, None where one does not count, and the ends of the band of chance."""
        self.reported: set[int] = set()
        self.sampled = True
        """Whether contributions were measured in the last epoch."""

    def note(self, code: str) -> None:
        """See Detector."""
        self.rows_differ = self.rows_differ or code in ROWS_DIFFER

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        shares, diversity = epoch["share_all"], epoch["diversity_all"]
        self.sampled = bool(epoch["sampled_steps"])
        unknown = [None] * self.n_ranks
        ends = zip(epoch.get("chance_low", unknown), epoch.get("chance_high", unknown), strict=True)
        bands = [None if low is None or high is None else (low, high) for low, high in ends]
        self.fixed = self.fixed or epoch["steps"] == 1  # the order of all rows is left as it is
        reliable = diversity is not None and diversity <= CANCELLED
        self.always = [before and (s is None or s < 0) for before, s in zip(self.always, shares, strict=True)]
        counted = [s if reliable or always else None for s, always in zip(shares, self.always, strict=True)]
        self.recent.append((epoch["epoch"], counted, bands))
        return self._look(ENOUGH) if len(self.recent) == EPOCHS else None

    def finish(self) -> Verdict | None:
        """See Detector."""
        n = len(self.recent)
        return self._look(n) if MIN_EPOCHS <= n < EPOCHS else None

    def not_judged(self) -> str:
        """See Detector."""
        if self.n_ranks < 2:
            return ""
        if len(self.recent) < MIN_EPOCHS:
            return self.too_few(MIN_EPOCHS)
        if not self.sampled:
            return "contributions are not measured where ranks do not keep in step"
        if not any(share is not None for _, shares, _ in self.recent for share in shares):
            return "the ranks' gradients cancel, or are zero"
        if not any(band for *_, bands in self.recent for band in bands):
            return "the log has no band of chance"
        return ""

    def _look(self, enough: int) -> Verdict | None:
        """Look for ranks with ``enough`` negative shares in the recent epochs whose mean is low, and not by chance."""
        found = {rank: pull for rank in range(self.n_ranks) if (pull := self._pull(rank, enough))}
        return self._verdict(found) if found else None

    def _pull(self, rank: int, enough: int) -> Pull | None:
        """Return by how much a rank that was not reported pulls against; None if it does not, or may not."""
        known = [
            (share, band)
            for _, shares, bands in self.recent
            if (share := shares[rank]) is not None and (band := bands[rank])
        ]
        negative = sum(share < 0 for share, _ in known)
        if rank in self.reported or negative < enough:
            return None
        n, mean = len(known), fmean(share for share, _ in known)
        half = student_t(n - 1) * stdev(share for share, _ in known) / math.sqrt(n)
        wider = NormalDist().inv_cdf(1 - LEVEL / self.n_ranks) / BAND
        middle = fmean((low + high) / 2 for _, (low, high) in known)
        halves = [(high - low) / 2 for _, (low, high) in known]
        chance = wider * (fmean(halves) if self.fixed and not self.rows_differ else math.hypot(*halves) / n)
        pull = Pull(mean, mean - half, mean + half, middle - chance, middle + chance, negative)
        return pull if pull.high < 0 and mean < min(pull.chance_low, MEAN_SHARE / self.n_ranks) else None

    def _verdict(self, found: dict[int, Pull]) -> Verdict:
        self.reported.update(found)
        ranks, pulls = list(found), list(found.values())
        first, last, one = self.recent[0][0], self.recent[-1][0], len(found) == 1
        listed = [_interval(pull) + f" on rank {rank}" * (not one) for rank, pull in found.items()]
        low, high = min(pull.chance_low for pull in pulls), max(pull.chance_high for pull in pulls)
        least = min(pull.n_negative for pull in pulls)
        return Verdict(
            code=self.code,
            ranks=ranks,
            text=f"{named_ranks(ranks)} pull{'s' * one} against the update: in epochs {first} to {last} the mean share "
            f"is {', '.join(listed[:4])}{', ...' * (len(ranks) > 4)}, negative in {'at least ' * (not one)}{least} of "
            f"{len(self.recent)} epochs; chance alone gives {100 * low:.1f} to {100 * high:.1f} %",
            remedy="compare the rows and targets of these ranks with the others' (record balance in the log), and how "
            "they were made; a random seed that depends on the rank is a usual cause",
            evidence={
                "epochs": [first, last],
                "mean_share": [pull.share for pull in pulls],
                "interval": [[pull.low, pull.high] for pull in pulls],
                "by_chance": [[pull.chance_low, pull.chance_high] for pull in pulls],
                "negative_epochs": [pull.n_negative for pull in pulls],
            },
        )


def _interval(pull: Pull) -> str:
    return f"{100 * pull.share:.1f} % ({100 * pull.low:.1f} to {100 * pull.high:.1f} %)"
