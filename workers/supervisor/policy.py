"""What to do after an attempt: start again with how many ranks on which hosts, or give up; decisions only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import EXIT_STOPPED
from workers.launch.hosts import LaunchHost

HOST_DEATHS = 2
"""A host on which ranks died in so many attempts is left out."""


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """How an attempt is started; no hosts: where the launcher wants."""

    ranks: int
    hosts: tuple[LaunchHost, ...] = ()

    def without(self, gone: Sequence[LaunchHost]) -> "AttemptPlan":
        """Return the plan for the other hosts, with the ranks for which they have slots."""
        hosts = tuple(host for host in self.hosts if host not in gone)
        return AttemptPlan(min(self.ranks, sum(host.slots for host in hosts)), hosts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    ``message``: rankwise's own, if there was one. ``deaths``: (rank, host) of ranks whose process died.
    ``checkpoint``: the newest, empty if there is none; ``progress``: whether it is newer than at the attempt's start.
    """

    code: int
    message: str = ""
    deaths: tuple[tuple[int, str], ...] = ()
    checkpoint: str = ""
    progress: bool = False

    @property
    def reason(self) -> str:
        """What happened, for people."""
        if self.code == EXIT_STOPPED:
            return "stopped on request, but not on the supervisor's"
        return self.message or "died without a message"

    @property
    def unknown(self) -> bool:
        """Whether nothing says why it ended."""
        return not self.message and not self.deaths and self.code != EXIT_STOPPED


class Policy:
    """Decides after each attempt; ``refusal`` says why there is no next one."""

    def __init__(self, fewest: int, restarts: int) -> None:
        self.fewest, self.restarts = fewest, restarts
        self.refusal = ""
        self._attempts = 0
        self._last: Outcome | None = None
        self._deaths_on: Counter[LaunchHost] = Counter()

    def after(self, plan: AttemptPlan, outcome: Outcome, lost: Sequence[LaunchHost] = ()) -> AttemptPlan | None:
        """Return the plan of the next attempt, or None. ``lost``: hosts that no longer answer."""
        self._attempts += 1
        before = None if outcome.progress else self._last
        self._last = outcome
        if before and outcome.message and not outcome.deaths and outcome.message == before.message:
            self.refusal = "the same error twice, with no progress between"
            return None
        if self._attempts > self.restarts:
            self.refusal = f"{self.restarts} restarts, which is the limit (--restarts)"
            return None
        plan = self._without_dead(plan, outcome, again=before is not None and before.unknown)
        plan = plan.without(lost) if lost else plan
        if plan.ranks < self.fewest:
            self.refusal = f"the hosts that are left have slots for {plan.ranks} ranks; --fewest says {self.fewest}"
            return None
        return plan

    def _without_dead(self, plan: AttemptPlan, outcome: Outcome, *, again: bool) -> AttemptPlan:
        """Return the plan without the ranks that died, or without their host if that is not the first time.

        If all ranks died, or none is known to have, no rank is known to be bad: then one is taken off only if the
        cause was unknown ``again``.
        """
        n_deaths = len(outcome.deaths)
        if outcome.unknown and again:
            n_deaths = 1
        elif not n_deaths or outcome.code == EXIT_STOPPED or n_deaths >= plan.ranks > 1:
            return plan
        elif len(plan.hosts) > 1:
            hit = {host for host in plan.hosts for _, name in outcome.deaths if host.is_called(name)}
            self._deaths_on.update(hit)
            bad = [host for host in hit if self._deaths_on[host] >= HOST_DEATHS]
            return plan.without(bad) if len(bad) < len(plan.hosts) else plan
        return replace(plan, ranks=max(plan.ranks - n_deaths, min(self.fewest, plan.ranks)))
