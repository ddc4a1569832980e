"""Verdict ``stale-momentum``: momentum on gradients of old parameters, which add a momentum of their own."""

from typing import Any

from ps.findings.verdict import Detector, Verdict
from ps.logfile.records import Record
from ps.text.loose import known, mean_staleness

CODE = "stale-momentum"
OPTIMIZERS = ("momentum", "nesterov")


def stale_momentum(header: Record) -> Verdict | None:
    """Look at the options: equal ranks see gradients of about P - 1 updates before, unless a bound holds them back."""
    config, n_ranks = header["config"], header["world"]
    if config.get("mode") != "async":
        return None
    age = min(bound_of(config), n_ranks - 1)
    apart = "any number of" if age < bound_of(config) == float("inf") else config["staleness"]
    said = f"ranks may be {apart} steps apart, so that gradients are about {age:g} updates old"
    return _verdict(momentum_of(config), age, said)


class StaleMomentum(Detector):
    """Momentum m with gradients of mean staleness s.

    Staleness acts like momentum s / (s + 1) (Mitliagkas et al. 2016, arXiv 1605.09774, who have 1 - 1/P for P equal
    ranks). Together they must stay below 1. Momentum 0.9 with staleness 3 diverged; Adam tolerated it (docs/loose.md).
    """

    code = CODE

    def __init__(self, header: Record) -> None:
        super().__init__(header)
        self.momentum = momentum_of(header["config"])

    def add(self, epoch: Record) -> Verdict | None:
        """See Detector."""
        if not known(epoch, "staleness_mean"):
            return None
        age = mean_staleness(epoch)
        return _verdict(self.momentum, age, f"gradients are {age:.2g} updates old (epoch {epoch['epoch']}, mean)")


def bound_of(config: dict[str, Any]) -> float:
    """Return ``--staleness`` as a number; infinite without a bound."""
    return float(config.get("staleness", 0))


def momentum_of(config: dict[str, Any]) -> float:
    """Return the momentum that gradients are added to as they are; 0 of optimizers that scale them."""
    return float(config.get("momentum", 0.0)) if config.get("optimizer") in OPTIMIZERS else 0.0


def _verdict(momentum: float, age: float, said: str) -> Verdict | None:
    """Return the finding where momentum and what staleness acts like add up to more than 1."""
    if not momentum or momentum + age / (age + 1) <= 1:
        return None
    most = 1 / (age + 1)
    return Verdict(
        code=CODE,
        ranks=[],
        text=f"{said}, which acts like a momentum of {age / (age + 1):.2g}, and --momentum {momentum:g} comes on top: "
        "together they are above 1, and training may diverge",
        remedy=f"set --momentum below {most:.2g}, or --optimizer adam, which tolerates old gradients, or --staleness 0",
        evidence={"staleness": age, "momentum": momentum, "acts_like": age / (age + 1)},
    )
