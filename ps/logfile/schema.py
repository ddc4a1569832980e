"""What each kind of record holds, as docs/log-format.md tells: one line a field, checked on every record that is read.

A checksum says that a record is as it was written, not that its writer kept to the format. Readers rely on these
tables instead of asking at every use. Unknown fields and kinds pass: later versions add some.
"""

from reprlib import repr as brief
from typing import Any

from common import step_times
from ps.logfile.epoch_fields import EPOCH, epoch_spec
from ps.logfile.records import GOING_ON, Record
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
    list_of,
    nullable,
    optional,
    table,
)

TIME = FieldSpec("a Unix time", frozenset({float}), low=0, high=1e11)
PID = FieldSpec("a process id", frozenset({int}), low=1, high=2**31 - 1)
INTERVAL = table(median=NUMBER, low=NUMBER, high=NUMBER)
TRIAL_SECONDS = ("seconds", "step_s", "compute_s", "reduce_s", "input_s", "wait_s", "transfer_s")
"""Fields of a trial whose medians a comparison holds."""
MOMENTS = (*step_times.NAMES, "last")
"""Of a sampled step, in ``steps`` records: each a list by step of lists by rank."""

PROCESSES = {
    "world": RANKS,
    "nodes": list_of(table(host=TEXT, ranks=list_of(WHOLE))),
    "pid": PID,
    "pid_start": optional(nullable(WHOLE)),
    "boot_id": optional(nullable(TEXT)),
    "cores": by_rank(list_of(WHOLE)),
    "threads": table(per_rank=by_rank(WHOLE), set_by=TEXT),
    "blas": nullable(table(internal_api=nullable(TEXT), version=nullable(TEXT), architecture=nullable(TEXT))),
    "mpi": table(vendor=TEXT, library=TEXT, standard=TEXT),
    "versions": table(python=TEXT, rankwise=TEXT, mpi4py=TEXT, numpy=TEXT, msgpack=TEXT),
    "system": TEXT,
    "packet_bytes": WHOLE,
}
"""What the header says of the job's processes, and again each event after which other ones go on."""

RECORDS = {
    "header": table(
        t=TIME,
        **PROCESSES,
        config=table(
            mode=TEXT,
            model=TEXT,
            epochs=WHOLE,
            batch_size=WHOLE,
            optimizer=TEXT,
            dtype=TEXT,
            patience=WHOLE,
        ),
        data=table(
            name=TEXT,
            rows=table(train=WHOLE, validation=WHOLE, test=WHOLE),
            features=WHOLE,
            classes=nullable(WHOLE),
            targets=WHOLE,
            sha256=TEXT,
        ),
        model=table(
            kind=TEXT,
            sizes=list_of(WHOLE),
            loss=TEXT,
            parameters=FieldSpec("a map", frozenset({dict}), of=list_of(WHOLE)),
            n_parameters=WHOLE,
            initial_fingerprint=TEXT,
        ),
        steps_per_epoch=WHOLE,
        sync=table(
            mode=TEXT,
            phases=WHOLE,
            factored=list_of(TEXT),
            in_place=optional(FLAG),
            trials=nullable(list_of(table(mode=TEXT, steps=WHOLE, median_s=nullable(NUMBER), reason=nullable(TEXT)))),
        ),
        timing=table(method=TEXT, clock=TEXT, offset_error_s=NUMBER),
        contribution=table(method=TEXT),
        purpose=optional(TEXT),
        comparison=optional(
            table(
                modes=list_of(TEXT),
                trials=WHOLE,
                steps=WHOLE,
                dropped_steps=WHOLE,
                sizes=list_of(WHOLE),
                left_out=list_of(table(mode=TEXT, reason=TEXT)),
            )
        ),
    ),
    "balance": table(
        t=TIME,
        of=TEXT,
        rows=by_rank(WHOLE),
        labels=nullable(by_rank(list_of(WHOLE))),
        label_z=nullable(by_rank(nullable(NUMBER))),
        label_distance=nullable(by_rank(nullable(NUMBER))),
        target_mean=nullable(by_rank(nullable(list_of(nullable(NUMBER))))),
        target_variance=nullable(by_rank(nullable(list_of(nullable(NUMBER))))),
        target_z=nullable(by_rank(nullable(NUMBER))),
        target_distance=nullable(by_rank(nullable(NUMBER))),
        feature_mean=nullable(by_rank(nullable(list_of(nullable(NUMBER))))),
        feature_distance=nullable(by_rank(nullable(NUMBER))),
    ),
    "epoch": epoch_spec(),
    "steps": table(
        t=TIME,
        epoch=EPOCH,
        steps=list_of(WHOLE),
        begin_s=NUMBER,
        moments_us=table(**{name: list_of(by_rank(WHOLE)) for name in MOMENTS}),
    ),
    "trial": table(
        t=TIME,
        round=WHOLE,
        place=WHOLE,
        mode=TEXT,
        steps=WHOLE,
        **dict.fromkeys(TRIAL_SECONDS, NUMBER),
        bus_bytes_per_s=nullable(NUMBER),
        sent_bytes=by_rank(WHOLE),
        rank_peak_bytes=WHOLE,
        node_bytes=WHOLE,
        loss=NUMBER,
        curve_s=list_of(NUMBER),
        curve_loss=list_of(NUMBER),
        parameter_difference=NUMBER,
        parameter_scale=NUMBER,
        replicas_equal=nullable(FLAG),
    ),
    "comparison": table(
        t=TIME,
        trials=WHOLE,
        confidence=NUMBER,
        method=TEXT,
        loss=NUMBER,
        tolerance=NUMBER,
        fastest=TEXT,
        modes=list_of(
            table(
                mode=TEXT,
                **dict.fromkeys((*TRIAL_SECONDS, "time_to_loss_s"), INTERVAL),
                bus_bytes_per_s=nullable(INTERVAL),
                sent_bytes_most=WHOLE,
                sent_bytes_all=WHOLE,
                rank_peak_bytes=WHOLE,
                node_bytes=WHOLE,
                loss=NUMBER,
                parameter_difference=NUMBER,
                agrees=FLAG,
                outcome=TEXT,
                ratio=NUMBER,
                p=nullable(NUMBER),
            )
        ),
        sentences=list_of(TEXT),
    ),
    "sweep": table(
        t=TIME,
        n=WHOLE,
        rounds=WHOLE,
        sums=WHOLE,
        modes=list_of(table(mode=TEXT, bytes=WHOLE, **dict.fromkeys(("median_s", "low_s", "high_s"), NUMBER))),
    ),
    "fit": table(
        t=TIME,
        packet_bytes=WHOLE,
        warning=TEXT,
        modes=list_of(
            table(
                mode=TEXT,
                formula=TEXT,
                alpha_s=nullable(NUMBER),
                beta_s_per_byte=nullable(NUMBER),
                largest_error=nullable(NUMBER),
                note=TEXT,
                points=list_of(
                    table(bytes=WHOLE, measured_s=NUMBER, predicted_s=nullable(NUMBER), error=nullable(NUMBER))
                ),
                predicted=list_of(table(ranks=WHOLE, nodes=WHOLE, seconds=NUMBER)),
            )
        ),
    ),
    "verdict": table(
        t=TIME,
        code=TEXT,
        severity=TEXT,
        ranks=list_of(WHOLE),
        text=TEXT,
        remedy=TEXT,
        evidence=MAP,
    ),
    "event": table(
        t=TIME,
        what=TEXT,
    ),
    "end": table(
        t=TIME,
        status=TEXT,
        wall_s=NUMBER,
        epochs=WHOLE,
        best_epoch=nullable(WHOLE),
        loss=nullable(NUMBER),
        validation_loss=nullable(NUMBER),
        validation_metric=nullable(NUMBER),
        metric=TEXT,
        test_loss=optional(nullable(NUMBER)),
        test_metric=optional(nullable(NUMBER)),
        stopped_epoch=optional(WHOLE),
        stopped_step=optional(WHOLE),
        fingerprint=optional(TEXT),
    ),
}


AGAIN = {name: optional(rule) for name, rule in PROCESSES.items()}
PLACE = {"epoch": EPOCH, "step": WHOLE}
EVENTS = {
    "resume": table(
        **AGAIN, **PLACE, ranks_before=WHOLE, ranks=RANKS, passed_over=optional(list_of(TEXT)), epochs=optional(WHOLE)
    ),
    "shrink": table(
        **AGAIN,
        **PLACE,
        ranks_before=WHOLE,
        ranks=RANKS,
        dead=list_of(WHOLE),
        hosts=list_of(TEXT),
        seconds=NUMBER,
        alive=optional(by_rank(WHOLE)),
    ),
    "checkpoint": table(file=TEXT),
    "checkpoint-failed": table(reason=TEXT),
    "skip": table(**PLACE, not_finite=MAP),
    "heal": table(**PLACE, ranks=list_of(WHOLE), parameters=MAP),
    "stop": table(epoch=optional(EPOCH), step=optional(WHOLE), signals=optional(MAP)),  # without in a comparison
}
"""By ``what``, the events of which readers use more than they print as it is."""


class Check(Validator):
    """Says what is wrong with each record of a log, which depends on the header and on events that change the ranks.

    So those are to come in their order; epochs may come later, since their number tells which ranks they are of.
    """

    def __init__(self) -> None:
        super().__init__()
        self._worlds: list[tuple[int, Any]] = []
        self._records = {**RECORDS, "epoch": epoch_spec()}

    def __call__(self, record: Record) -> str:
        """Return the first fault, or nothing."""
        kind = record["kind"]
        if kind not in RECORDS:
            return ""
        if kind == "header" and self._worlds:
            return "a second header"
        event = EVENTS.get(str(record.get("what"))) if kind == "event" else None
        if kind == "header" or (kind == "event" and record.get("what") in GOING_ON):
            if record.get("ranks", record.get("world")) != record.get("world", record.get("ranks")):
                return f"{kind}.ranks is {brief(record['ranks'])}, but world {brief(record['world'])}"
            self._worlds.append((record["seq"], record.get("world", record.get("ranks"))))
        self.world = next((world for seq, world in reversed(self._worlds) if seq <= record["seq"]), None)
        if found := self.fault(record, self._records[kind]) or (event and self.fault(record, event)):
            return f"{kind}{found}"
        if kind == "header":
            self.parameters = record["model"]["parameters"].keys()
        return ""
