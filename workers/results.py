"""What a run leaves behind beside its log, and the last lines that rank 0 prints."""

from collections.abc import Callable
from typing import Any

from common.errors import RankwiseError
from common.flat import Array, Flat
from ps import outputs
from ps.console import say, warn
from ps.coordinator import Coordinator
from ps.guard import fingerprint
from ps.log import LOG_NAME


def save(
    lead: Coordinator, flat: Flat, scaling: tuple[Array, Array], status: str, unsaved: str, facts: dict[str, Any],
    tick: Callable[[], object],
) -> None:  # fmt: skip
    """Write the model, the text files and the log's end. Raises RankwiseError if something is missing.

    ``unsaved``: why the last checkpoint could not be written, if so. ``facts``: for the end record. ``tick``: is called
    while the model is written.
    """
    standard = {"x_mean": scaling[0], "x_scale": scaling[1]}
    missing = [
        *_attempt("the model", lambda: outputs.save_model(lead.folder, flat.p, standard, tick)),
        *_attempt("text files", lambda: outputs.save_tables(lead.folder, lead.log.path)),
    ]
    if unsaved and status == "stopped":
        missing.append(f"the checkpoint could not be written ({unsaved})")
    lead.spool.flush()
    missing += filter(None, [lead.spool.missing()])
    if missing:
        raise RankwiseError(
            f"output: {'; '.join(missing)}; make room in {lead.folder} and go on with --resume {lead.folder}"
        )
    lead.finish(status, fingerprint=fingerprint(flat.params), **facts)
    if unsaved:
        warn(f"the last checkpoint could not be written ({unsaved})")
    say("Sync time per epoch, mean over the ranks (sync = wait for the last rank + transfer):")
    say("epoch      sync s      wait s  transfer s   of epoch")
    for line in lead.sync_lines:
        say(line)
    say(f"Saved in {lead.folder}: {LOG_NAME}, model.npz, text files. Read: python -m ps.log show {lead.folder}")


def _attempt(what: str, act: Callable[[], object]) -> list[str]:
    """Save something; return what is to be said if that fails."""
    try:
        act()
    except OSError as error:
        return [f"{what} could not be written ({error.strerror or error})"]
    return []
