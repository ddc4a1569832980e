"""What each kind of record holds, as docs/log-format.md says: checked on every record that is read.

A checksum says that a record is as it was written, not that its writer kept to the format. Readers rely on these
tables instead of asking at every use. Unknown fields and kinds pass: later versions add some.
"""

from reprlib import repr as brief

from common import step_times
from ps.logfile.epoch_fields import EPOCH, epoch_spec
from ps.logfile.records import CONTINUATIONS, Record
from ps.logfile.validation import (
    FLAG,
    MAP,
    NUMBER,
    RANKS,
    TEXT,
    WHOLE,
    FieldSpec,
    Validator,
    by_rank,
    each,
    list_of,
    map_of,
    nullable,
    optional,
    table,
)

TIME = FieldSpec("a Unix time", frozenset({float}), low=0, high=1e11)
PID = FieldSpec("a process id", frozenset({int}), low=1, high=2**31 - 1)
LABEL = FieldSpec("a label", frozenset({int, str}))
INTERVAL = table(each(NUMBER, "median low high"))
TRIAL_SECONDS = ("seconds", "step_s", "compute_s", "reduce_s", "input_s", "wait_s", "transfer_s")
"""Fields of a trial whose medians a comparison holds."""
TIMESTAMPS = (*step_times.TIMESTAMPS, "last")
"""Of a sampled step, in ``steps`` records: each a list by step of lists by rank."""

PROCESSES = {
    "world": RANKS,
    "nodes": list_of(table(host=TEXT, ranks=list_of(WHOLE))),
    "pid": PID,
    "pid_start": optional(nullable(WHOLE)),
    "boot_id": optional(nullable(TEXT)),
    "launch_s": optional(nullable(NUMBER)),
    "cores": by_rank(list_of(WHOLE)),
    "bound": optional(nullable(FLAG)),
    "memory_nodes": optional(nullable(WHOLE)),
    "threads": table(per_rank=by_rank(WHOLE), set_by=TEXT),
    "blas": nullable(table(each(nullable(TEXT), "internal_api version architecture"))),
    "mpi": table(each(TEXT, "vendor library standard")),
    "versions": table(each(TEXT, "python rankwise mpi4py numpy msgpack")),
    "system": TEXT,
    "packet_bytes": WHOLE,
    "time_limit": optional(
        nullable(
            table(
                ends=TIME,
                limit_s=nullable(NUMBER),
                requeues=nullable(WHOLE),
                restarts=WHOLE,
                source=TEXT,
                stop_before_s=optional(nullable(NUMBER)),
            )
        )
    ),
}
"""What the header says of the job's processes, and again each event after which other ones continue."""

_MODE_TRIALS = list_of(table(mode=TEXT, steps=WHOLE, median_s=nullable(NUMBER), reason=nullable(TEXT)))
_SUM = table(way=TEXT, measured=nullable(list_of(table(way=TEXT, sums=WHOLE, least_s=NUMBER))))
_COMPARED = table(each(WHOLE, "trials steps dropped_steps"), modes=list_of(TEXT), sizes=list_of(WHOLE),
                  until_loss=optional(NUMBER), left_out=list_of(table(mode=TEXT, reason=TEXT)))  # fmt: skip
_COMPARED_MODE = table(
    each(TEXT, "mode outcome"), dict.fromkeys((*TRIAL_SECONDS, "time_to_loss_s"), INTERVAL),
    each(WHOLE, "sent_bytes_most sent_bytes_all rank_peak_bytes node_bytes"),
    each(NUMBER, "loss parameter_difference ratio"),
    bus_bytes_per_s=nullable(INTERVAL), agrees=FLAG, p=nullable(NUMBER),
)  # fmt: skip
_TO_LOSS = each(nullable(NUMBER), "rows_to_loss host_bytes_to_loss rows_per_s metric")
_LOSS_MODE = table(
    each(TEXT, "mode outcome"), each(WHOLE, "reached diverged epochs"), each(nullable(NUMBER), "loss ratio p"),
    _TO_LOSS,
    seconds_to_loss=table(each(nullable(NUMBER), "median low high")),
)  # fmt: skip
_POINT = table(bytes=WHOLE, measured_s=NUMBER, predicted_s=nullable(NUMBER), error=nullable(NUMBER))
_FITTED_MODE = table(
    each(TEXT, "mode formula note"), each(nullable(NUMBER), "alpha_s beta_s_per_byte largest_error"),
    each(optional(nullable(NUMBER)), "network_alpha_s network_beta_s_per_byte"),
    points=list_of(_POINT), predicted=list_of(table(ranks=WHOLE, nodes=WHOLE, seconds=NUMBER)),
)  # fmt: skip

_OF_STEPS = {
    "steps_per_epoch": WHOLE,
    "sync": table(mode=TEXT, phases=WHOLE, factored=list_of(TEXT), in_place=optional(FLAG),
                  divides_state=optional(FLAG), state_bytes=optional(WHOLE), moments=optional(TEXT),
                  trials=nullable(_MODE_TRIALS), sum=optional(nullable(_SUM))),
    "start": optional(table(path=TEXT, sha256=TEXT, epoch=nullable(WHOLE))),
}  # fmt: skip
_CONFIG = table(each(TEXT, "mode model optimizer dtype"), each(WHOLE, "epochs batch_size patience"))
_CHANGE = table(name=TEXT, effect=TEXT)

_METRICS = map_of(nullable(NUMBER))
_SCORES = table(
    rows=WHOLE, task=TEXT, targets=list_of(TEXT), metrics=_METRICS,
    baseline=nullable(table(of=TEXT, metrics=_METRICS)),
    by_class=optional(list_of(table(each(NUMBER, "precision recall f1 support"), label=LABEL))),
    by_target=optional(list_of(table(target=TEXT, metrics=_METRICS))),
    matrix=optional(nullable(list_of(list_of(NUMBER)))),
    points=optional(table(each(list_of(list_of(NUMBER)), "true predicted"))),
)  # fmt: skip
_COLUMN = table(each(TEXT, "name type distinct became"), missing=WHOLE)

RECORDS = {
    "header": table(
        PROCESSES,
        _OF_STEPS,
        config=_CONFIG,
        data=table(each(TEXT, "name sha256"), each(WHOLE, "features targets"), classes=nullable(WHOLE),
                   task=optional(TEXT), weighted=optional(FLAG), target_names=optional(nullable(list_of(TEXT))),
                   labels=optional(nullable(list_of(WHOLE))), notes=optional(list_of(TEXT)),
                   target_mean=optional(nullable(list_of(NUMBER))), target_scale=optional(nullable(list_of(NUMBER))),
                   columns=optional(list_of(_COLUMN)), label_names=optional(list_of(TEXT)),
                   rows=table(each(WHOLE, "train validation test"))),
        model=table(each(TEXT, "kind loss initial_fingerprint"), sizes=list_of(WHOLE), n_parameters=WHOLE,
                    parameters=map_of(list_of(WHOLE)), file=optional(TEXT), sha256=optional(TEXT)),
        timing=table(method=TEXT, clock=TEXT, offset_error_s=NUMBER),
        contribution=table(method=TEXT),
        purpose=optional(TEXT),
        comparison=optional(_COMPARED),
    ),
    "balance": table(
        each(nullable(by_rank(nullable(list_of(nullable(NUMBER))))), "target_mean target_variance feature_mean"),
        each(nullable(by_rank(nullable(NUMBER))), "label_z label_distance target_z target_distance feature_distance"),
        of=TEXT, rows=by_rank(WHOLE), labels=nullable(by_rank(list_of(WHOLE))),
    ),
    "steps": table(epoch=EPOCH, steps=list_of(WHOLE), begin_s=NUMBER,
                   moments_us=table(dict.fromkeys(TIMESTAMPS, list_of(by_rank(WHOLE))))),
    "trial": table(
        each(WHOLE, "round place steps rank_peak_bytes node_bytes"), dict.fromkeys(TRIAL_SECONDS, NUMBER),
        each(NUMBER, "loss parameter_difference parameter_scale"), each(list_of(NUMBER), "curve_s curve_loss"),
        mode=TEXT, bus_bytes_per_s=nullable(NUMBER), sent_bytes=by_rank(WHOLE), replicas_equal=nullable(FLAG),
    ),
    "comparison": table(each(TEXT, "method fastest"), each(NUMBER, "confidence loss tolerance"), trials=WHOLE,
                        modes=list_of(_COMPARED_MODE), sentences=list_of(TEXT)),
    "loss-trial": table(
        each(WHOLE, "round place epochs"), each(NUMBER, "seconds loss"), _TO_LOSS, mode=TEXT,
        seconds_to_loss=nullable(NUMBER), diverged=FLAG, sent_bytes=by_rank(WHOLE),
        curve_s=list_of(NUMBER), curve_rows=list_of(WHOLE), curve_loss=list_of(NUMBER),
    ),
    "loss-comparison": table(each(TEXT, "method fastest"), each(NUMBER, "confidence loss"), trials=WHOLE,
                             modes=list_of(_LOSS_MODE), sentences=list_of(TEXT)),
    "sweep": table(each(WHOLE, "n rounds sums"),
                   modes=list_of(table(each(NUMBER, "median_s low_s high_s"), mode=TEXT, bytes=WHOLE))),
    "fit": table(packet_bytes=WHOLE, warning=TEXT, modes=list_of(_FITTED_MODE)),
    "verdict": table(each(TEXT, "code severity text remedy"), ranks=list_of(WHOLE), evidence=MAP),
    "event": table(what=TEXT),
    "end": table(
        each(nullable(NUMBER), "loss validation_loss validation_metric"),
        each(optional(nullable(NUMBER)), "test_loss test_metric"),
        each(optional(WHOLE), "stopped_epoch stopped_step"), each(TEXT, "status metric"),
        wall_s=NUMBER, epochs=WHOLE, best_epoch=nullable(WHOLE), fingerprint=optional(TEXT),
        not_judged=optional(map_of(TEXT)), test=optional(nullable(_SCORES)),
    ),
}  # fmt: skip

_PLACE = {"epoch": EPOCH, "step": WHOLE}
_CONTINUATION = {name: optional(rule) for name, rule in (PROCESSES | _OF_STEPS).items()} | _PLACE
_CONTINUATION |= {"ranks_before": WHOLE, "ranks": RANKS}
EVENTS = {
    "resume": table(_CONTINUATION, each(optional(NUMBER), "rate_before rate_now"), epochs=optional(WHOLE),
                    passed_over=optional(list_of(TEXT)), unlogged=optional(list_of(WHOLE)), config=optional(_CONFIG),
                    changes=optional(list_of(_CHANGE))),
    "shrink": table(_CONTINUATION, dead=list_of(WHOLE), hosts=list_of(TEXT), seconds=NUMBER,
                    alive=optional(by_rank(WHOLE))),
    "salvage": table(each(WHOLE, "bytes missing n_places"), original=TEXT, header_rebuilt=FLAG, message=TEXT,
                     places=list_of(table(each(WHOLE, "offset bytes missing"), reason=TEXT))),
    "checkpoint": table(file=TEXT),
    "checkpoint-failed": table(reason=TEXT),
    "shares": table(each(by_rank(NUMBER), "shares parts"), each(NUMBER, "before_s after_s"), epoch=EPOCH,
                    units=TEXT, message=TEXT, row_s=by_rank(nullable(NUMBER))),
    "skip": table(_PLACE, not_finite=map_of(list_of(TEXT))),
    "heal": table(_PLACE, ranks=list_of(WHOLE), parameters=map_of(list_of(TEXT))),
    # in a comparison, which has no epochs, only its message
    "stop": table(epoch=optional(EPOCH), step=optional(WHOLE), signals=optional(map_of(TEXT))),
}  # fmt: skip
"""By ``what``, the events of which readers use more than they print as it is."""


class Check(Validator):
    """Says what is wrong with each record of a log, which depends on the header and on events that change the ranks.

    So the records are to come in their order; one that was refused may come again.
    """

    def __init__(self, *ignored: str) -> None:
        """``ignored``: kinds of records that are not checked, since the reader makes nothing of them."""
        super().__init__()
        records = RECORDS | {"epoch": epoch_spec()}
        self._records = {kind: spec for kind, spec in records.items() if kind not in ignored}

    def __call__(self, record: Record) -> str:
        """Return the first fault, or nothing."""
        kind = record["kind"]
        if kind not in self._records:
            return ""
        if kind == "header" and record["seq"]:
            return "a second header"
        what = str(record.get("what")) if kind == "event" else ""
        if kind == "header" or what in CONTINUATIONS:
            if {"ranks", "world"} <= record.keys() and record["ranks"] != record["world"]:
                return f"{kind}.ranks is {brief(record['ranks'])}, but world {brief(record['world'])}"
            self.world = record.get("world", record.get("ranks"))
        if found := self.fault(record["t"], TIME):
            return f"{kind}.t{found}"
        if found := self.fault(record, EVENTS.get(what, self._records[kind])):
            return f"{kind}{found}"
        if kind == "header":
            self.parameters = record["model"]["parameters"].keys()
        return ""
