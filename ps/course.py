"""Findings on the course of training: contributions, losses and noise from epoch to epoch."""

import math
from collections import deque
from statistics import fmean

from ps.log import Record
from ps.verdicts import Rule, Verdict, named

PULL_EPOCHS = 8
PULL_ENOUGH = 7
PULL_LEAST_EPOCHS = 3
"""Epochs of a run that ends before there are ``PULL_EPOCHS``."""
PULL_SHARE = -0.25
"""Mean share, as a multiple of the 1/P that a rank has when all pull alike."""
CANCELLED = 2.0
"""Diversity from which a share is a quotient of next to nothing: independent gradients have 1."""
STALL_EPOCHS = 10
STALL_FROM = 20
STALL_FALL = 0.999
NOISE_EPOCHS = 5
NOISE_FROM = 10
NOISE_TIMES = 4.0


class PullsAgainst(Rule):
    """A rank whose share of the gradient is negative: what it adds undoes what the others' rows ask for.

    Not every negative share is a fault. Where fixed rows have been learnt, their ranks' gradients cancel in the sum,
    and shares, which are divided by its square, may be anything, of one sign for long. So epochs count whose ranks did
    not cancel (gradient diversity at most 2), and for a rank that has pulled against since the first epoch all of them.
    """

    def __init__(self, n_ranks: int) -> None:
        self.ranks = n_ranks
        self.bound = PULL_SHARE / self.ranks
        self.always = [True] * self.ranks
        self.recent: deque[tuple[int, list[float | None]]] = deque(maxlen=PULL_EPOCHS)
        self.said: set[int] = set()

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        shares, diversity = epoch["share_all"], epoch["diversity_all"]
        told = diversity is not None and diversity <= CANCELLED
        self.always = [before and (s is None or s < 0) for before, s in zip(self.always, shares, strict=True)]
        counted = [s if told or always else None for s, always in zip(shares, self.always, strict=True)]
        self.recent.append((epoch["epoch"], counted))
        return self._look(PULL_ENOUGH) if len(self.recent) == PULL_EPOCHS else None

    def finish(self) -> Verdict | None:
        """See Rule."""
        n = len(self.recent)
        return self._look(n) if PULL_LEAST_EPOCHS <= n < PULL_EPOCHS else None

    def _look(self, enough: int) -> Verdict | None:
        """Return the ranks with ``enough`` negative shares in the epochs kept whose mean is low enough."""
        means, counts = {}, {}
        for rank in set(range(self.ranks)) - self.said:
            shares = [s for _, by_rank in self.recent if (s := by_rank[rank]) is not None]
            negative = sum(s < 0 for s in shares)
            if negative >= enough and fmean(shares) <= self.bound:
                means[rank], counts[rank] = fmean(shares), negative
        self.said.update(means)
        return self._verdict(means, counts) if means else None

    def _verdict(self, means: dict[int, float], counts: dict[int, int]) -> Verdict:
        ranks, first, last = sorted(means), self.recent[0][0], self.recent[-1][0]
        one = len(ranks) == 1
        shares = ", ".join(f"{100 * means[rank]:.1f} %{'' if one else f' on rank {rank}'}" for rank in ranks[:4])
        return Verdict(
            code="pulls-against",
            severity="warning",
            ranks=ranks,
            text=f"{named(ranks)} pull{'s' * one} against the update: the mean share of the gradient in epochs {first} "
            f"to {last} is {shares}{', ...' * (len(ranks) > 4)} (of 100 % over all ranks), negative in "
            f"{'' if one else 'at least '}{min(counts.values())} of these {len(self.recent)} epochs",
            remedy="compare the rows and targets of these ranks with the others' (record balance in the log), and how "
            "they were made; a random seed that depends on the rank is a usual cause",
            evidence={
                "epochs": [first, last],
                "mean_share": [means[rank] for rank in ranks],
                "negative_epochs": [counts[rank] for rank in ranks],
            },
        )


class LossStalled(Rule):
    """The training loss has not fallen for ten epochs: its least is no more than 0.1 % below that of all before."""

    def __init__(self) -> None:
        self.recent: deque[float] = deque(maxlen=STALL_EPOCHS)
        self.before = math.inf
        self.count = 0
        self.said = False

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        if len(self.recent) == STALL_EPOCHS:
            self.before = min(self.before, self.recent[0])
        self.recent.append(epoch["loss"])
        self.count += 1
        least = min(self.recent)
        if self.said or self.count < STALL_FROM or least < STALL_FALL * self.before:
            return None
        self.said = True
        return Verdict(
            code="loss-stalled",
            severity="info",
            ranks=[],
            text=f"the loss no longer falls: its least of epochs {epoch['epoch'] - STALL_EPOCHS + 1} to "
            f"{epoch['epoch']} is {least:.4g}, that of all epochs before {self.before:.4g}",
            remedy="stop here (--patience does so by the validation loss), or lower the learning rate "
            "(--schedule cosine)",
            evidence={"epoch": epoch["epoch"], "least_recent": least, "least_before": self.before},
        )


class NoiseScaleExceeded(Rule):
    """The batch is far above the gradient noise scale, so more rows a step, and more ranks for them, gain little.

    Not said where a step takes all rows: that is plain gradient descent by choice, without noise.
    """

    def __init__(self) -> None:
        self.recent: deque[float | None] = deque(maxlen=NOISE_EPOCHS)
        self.said = False

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        batch, scale = sum(epoch["rows"]) / max(epoch["steps"], 1), epoch["noise_scale"]
        beyond = scale is not None and epoch["steps"] > 1 and batch > NOISE_TIMES * scale
        self.recent.append(scale if beyond else None)
        if self.said or epoch["epoch"] < NOISE_FROM or len(self.recent) < NOISE_EPOCHS or None in self.recent:
            return None
        self.said = True
        return Verdict(
            code="noise-scale-exceeded",
            severity="info",
            ranks=[],
            text=f"a step takes {batch:.4g} rows, {batch / scale:.2g} times the gradient noise scale: beyond about "
            f"{scale:.3g} rows a step more ranks stop paying",
            remedy=f"try a smaller --batch-size, down to about {max(round(scale), 1)}, or fewer ranks",
            evidence={"epoch": epoch["epoch"], "batch": batch, "noise_scale": scale},
        )


SLIGHT = 0.01
"""A change of a loss by less than this share of it is none."""


class LocalLossMisleads(Rule):
    """The loss of rank 0's fixed rows went the other way than that over all ranks, from first epoch to last."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None
        self.last: tuple[float, float] | None = None
        self.known = True

    def add(self, epoch: Record) -> Verdict | None:
        """See Rule."""
        own = epoch["loss_by_rank"][0]
        if own is None:  # it had no rows
            self.known = False
            return None
        self.last = epoch["loss"], own
        self.first = self.first or self.last
        return None

    def finish(self) -> Verdict | None:
        """See Rule."""
        if not self.known or self.first is None or self.last is None:
            return None
        (loss, local), (end_loss, end_local) = self.first, self.last
        change, local_change = end_loss - loss, end_local - local
        slight = abs(change) < SLIGHT * abs(loss) or abs(local_change) < SLIGHT * abs(local)
        if change * local_change >= 0 or slight:
            return None
        ways = ("falls", "rises")
        return Verdict(
            code="local-loss-misleads",
            severity="warning",
            ranks=[0],
            text=f"the loss of rank 0's rows alone {ways[local_change > 0]} from {local:.4g} to {end_local:.4g} while "
            f"the loss over all ranks {ways[change > 0]} from {loss:.4g} to {end_loss:.4g}; a program that prints rank "
            "0's loss shows the wrong trend",
            remedy="read the loss over all ranks (field loss), not that of one rank",
            evidence={"loss": [loss, end_loss], "rank_0_loss": [local, end_local]},
        )
