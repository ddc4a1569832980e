"""Verdict ``pulls-against``: a rank's contribution to the gradient is negative, epoch after epoch."""

from collections import deque
from statistics import fmean

from ps.findings.verdict import Detector, Verdict, named
from ps.logfile.records import Record

EPOCHS, ENOUGH = 8, 7
"""Reported where it is so in so many of the last epochs."""
MIN_EPOCHS = 3
"""Of a run that ends before there are ``EPOCHS``."""
MEAN_SHARE = -0.25
"""Mean share, as a multiple of the 1/P that a rank has when all pull alike."""
CANCELLED = 2.0
"""Diversity from which a share is a quotient of next to nothing: independent gradients have 1."""


class PullsAgainst(Detector):
    """A rank whose share of the gradient is negative: what it adds undoes what the others' rows ask for.

    Where fixed rows have been learnt, their ranks' gradients cancel in the sum, and shares, which are divided by its
    square, may be anything. So only epochs count whose ranks did not cancel (gradient diversity at most 2), and all
    epochs for a rank that has pulled against since the first.
    """

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.always = [True] * self.n_ranks
        self.recent: deque[tuple[int, list[float | None]]] = deque(maxlen=EPOCHS)
        """Number and shares by rank of an epoch, None where a share does not count."""
        self.reported: set[int] = set()

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        shares, diversity = epoch["share_all"], epoch["diversity_all"]
        reliable = diversity is not None and diversity <= CANCELLED
        self.always = [before and (s is None or s < 0) for before, s in zip(self.always, shares, strict=True)]
        counted = [s if reliable or always else None for s, always in zip(shares, self.always, strict=True)]
        self.recent.append((epoch["epoch"], counted))
        return self._look(ENOUGH) if len(self.recent) == EPOCHS else None

    def finish(self) -> Verdict | None:
        """See Detector."""
        n = len(self.recent)
        return self._look(n) if MIN_EPOCHS <= n < EPOCHS else None

    def _look(self, enough: int) -> Verdict | None:
        """Look for ranks with ``enough`` negative shares in the recent epochs whose mean is low enough."""
        ranks, means, counts = [], [], []
        for rank in (rank for rank in range(self.n_ranks) if rank not in self.reported):
            shares = [s for _, by_rank in self.recent if (s := by_rank[rank]) is not None]
            n_negative = sum(s < 0 for s in shares)
            if n_negative >= enough and fmean(shares) <= MEAN_SHARE / self.n_ranks:
                ranks.append(rank)
                means.append(fmean(shares))
                counts.append(n_negative)
        if not ranks:
            return None
        self.reported.update(ranks)
        first, last, one = self.recent[0][0], self.recent[-1][0], len(ranks) == 1
        listed = [
            f"{100 * mean:.1f} %" + f" on rank {rank}" * (not one) for rank, mean in zip(ranks, means, strict=True)
        ]
        return Verdict(
            code="pulls-against",
            ranks=ranks,
            text=f"{named(ranks)} pull{'s' * one} against the update: the mean share of the gradient in epochs {first} "
            f"to {last} is {', '.join(listed[:4])}{', ...' * (len(ranks) > 4)} (of 100 % over all ranks), negative in "
            f"{'at least ' * (not one)}{min(counts)} of these {len(self.recent)} epochs",
            remedy="compare the rows and targets of these ranks with the others' (record balance in the log), and how "
            "they were made; a random seed that depends on the rank is a usual cause",
            evidence={"epochs": [first, last], "mean_share": means, "negative_epochs": counts},
        )
