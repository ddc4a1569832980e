"""On every rank: rounds of mode local against steps taken one by one, and rounds that come to nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI

from common.config import RunConfig
from common.data.loader import BatchLoader
from common.errors import NotFiniteError, ReplicasDivergedError
from common.flat import ASK_SAVE, ASK_STOP, Array, Flat
from common.nn import models, optimizers
from common.nn.functional import SoftmaxCrossEntropy
from common.nn.mlp import Mlp
from ps.comm.topology import Topology
from ps.sync.local import LocalSync
from tests.assembly import assemble

comm = MPI.COMM_WORLD.Dup()
topology, pairs = Topology(comm), Topology(comm, ranks_per_node=2)
FEATURES, CLASSES, ROWS, BATCH, RATE = 5, 3, 61, 10, 0.05
rng = np.random.default_rng(0)
x = np.concatenate([rng.standard_normal((ROWS, FEATURES)), np.ones((ROWS, 1))], axis=1)
y = rng.integers(0, CLASSES, ROWS)
model = Mlp((FEATURES, 6, CLASSES), "tanh", SoftmaxCrossEntropy())
PLAIN = RunConfig(mode="local", optimizer="sgd", batch_size=BATCH, dtype="float64", weight_decay=0.01)


def begin(mode: str, config: RunConfig) -> tuple[Any, BatchLoader]:
    where = pairs if config.local_group == "node" else topology
    sync, loader, _ = assemble(mode, where, model, config, x.copy(), y, CLASSES)
    return sync, loader


def train(mode: str, config: RunConfig, epochs: int = 2) -> tuple[Array, Any]:
    sync, loader = begin(mode, config)
    for epoch in range(1, epochs + 1):
        for batch in loader.epoch(epoch):
            sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
    return sync.flat.param_vector.copy(), sync


def expected(config: RunConfig, epochs: int = 2) -> Array:
    """Return what the formulas give: sum n_i x_i / sum n_i, then v = mu v + d, w += rate (d + mu v)."""
    _, loader = begin("local", config)
    flat = Flat(model.shapes(), np.dtype("f8"))
    if comm.rank == 0:
        model.init(flat.params, np.random.default_rng(1))
    comm.Bcast(flat.param_vector)
    rule = optimizers.build(config, [flat.param_vector])
    group = pairs.local if config.local_group == "node" else MPI.COMM_SELF
    common, velocity, rows, moments = flat.param_vector.copy(), np.zeros(flat.n), 0, config.local_momentum
    for epoch in range(1, epochs + 1):
        for k, batch in enumerate(loader.epoch(epoch), 1):
            together = group.allreduce(batch.n)
            models.gradient(model, flat, batch.n).loss_grad(batch, rule.begin(RATE) / max(together, 1), None)
            group.Allreduce(MPI.IN_PLACE, flat.grad_vector)
            if together:
                rule.update(0, flat.grad_vector)
            rows += batch.n
            if k % config.sync_every and k < loader.steps:
                continue
            all_rows = comm.allreduce(rows)
            moved = comm.allreduce(rows * flat.param_vector) / all_rows - common
            velocity = config.outer_momentum * velocity + moved
            common += config.outer_rate * (moved + config.outer_momentum * velocity)
            for own in (a for blocks in rule.state().values() for a in blocks):
                own[...] = {"reset": 0, "keep": own}.get(moments, comm.allreduce(rows * own) / all_rows)
            rule.t = 0 if moments == "reset" else rule.t
            flat.param_vector[:], rows = common, 0
    return common


def same(found: Array, wanted: Array, what: object) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-13, err_msg=str(what))


def check_one_step_a_round_is_allreduce() -> None:
    for decay, group in ((0.0, "rank"), (0.01, "rank"), (0.01, "node")):
        config = replace(PLAIN, weight_decay=decay, sync_every=1, local_group=group)
        same(train("local", config)[0], train("allreduce", config)[0], decay)


def check_rounds() -> None:
    for every, (momentum, rate), moments, optimizer, group in (
        (3, (0.0, 1.0), "reset", "momentum", "rank"), (4, (0.5, 0.7), "reset", "nesterov", "rank"),
        (3, (0.0, 1.0), "keep", "adam", "rank"), (3, (0.9, 1.0), "average", "adamw", "rank"),
        (100, (0.0, 0.5), "average", "momentum", "rank"), (2, (0.3, 1.0), "reset", "adam", "rank"),
        (3, (0.4, 1.0), "reset", "momentum", "node"), (2, (0.0, 1.0), "keep", "adam", "node"),
    ):  # fmt: skip
        config = replace(
            PLAIN, sync_every=every, outer_momentum=momentum, outer_rate=rate, local_momentum=moments,
            optimizer=optimizer, local_group=group,
        )  # fmt: skip
        found, sync = train("local", config)
        same(found, expected(config), config)
        same(found, comm.bcast(found), "all ranks")
        figures = sync.epoch_figures()
        assert figures["pushes"] == 2 * -(-7 // every)  # 61 rows are 7 steps
        assert abs(comm.allreduce(figures["update_share"]) - 1) < 1e-10
        assert 0 < comm.allreduce(figures["drift"]) < comm.size
        sums = 1 + len(sync.state.optimizer.names) * (moments == "average")
        in_steps = 14 * sync.flat.packet.nbytes if group == "node" and pairs.count == 1 < comm.size else 0
        assert sync.sent_in(14) == sync.sent_bytes * figures["pushes"] * sums + in_steps
        assert sync.epoch_figures() == {}


def check_what_is_asked() -> None:
    """Between averages nobody hears of it."""
    sync, loader = begin("local", replace(PLAIN, sync_every=3))
    asked = []
    for k, batch in enumerate(loader.epoch(1)):
        last = comm.rank == comm.size - 1
        loss = sync.backward(batch, RATE, sample=False)
        asked.append(sync.step(batch, loss, stop=last and k >= 1, save=last and k >= 4, sample=False))
        assert sync.meter.open_steps == (0 if k in (2, 5, 6) else k % 3 + 1)
    assert asked == [0, 0, ASK_STOP, 0, 0, ASK_STOP | ASK_SAVE, ASK_STOP | ASK_SAVE], asked


def check_a_round_that_is_not_finite(group: str) -> None:
    """NaN in the round's second step on the last rank: all are back where the round began, and go on as without it."""
    config = replace(PLAIN, sync_every=3, optimizer="momentum", outer_momentum=0.5, local_group=group)
    places = []
    sync, loader = begin("local", config)
    clean, clean_loader = begin("local", config)
    for epoch in (1, 2):
        pairs = zip(loader.epoch(epoch), clean_loader.epoch(epoch), strict=True)
        for k, (batch, other) in enumerate(pairs):
            dropped = epoch == 1 and k in (3, 4, 5)
            bad = epoch == 1 and k == 4 and comm.rank == comm.size - 1
            if bad and batch.n:
                batch.x[0, 0] = np.nan
            if dropped and k == 3:
                before = clean.flat.param_vector.copy()
            try:
                with np.errstate(all="ignore"):
                    sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
                assert not (dropped and k == 5)
            except NotFiniteError as fault:
                assert dropped
                places.append((k, fault.steps))
                found = comm.allgather(sync.not_finite(batch))
                assert not any(found[:-1]), found
                assert found[-1] == ["loss", "W1", "b1", "W2", "b2 in step 5"], found
                same(sync.flat.param_vector, before, "back")
                sync.state.optimizer.undo_begin()
            if not dropped:
                clean.step(other, clean.backward(other, RATE, sample=False), stop=False, sample=False)
            elif k == 5:
                clean.seek(6)
    same(sync.flat.param_vector, clean.flat.param_vector, "after")
    assert places == [(5, 3)]
    sync, loader = begin("local", replace(config, optimizer="adam"))
    for k, batch in enumerate(loader.epoch(1)):
        if k == 1 and comm.rank == 0:
            batch.x[0, 0] = np.nan
        try:
            with np.errstate(all="ignore"):
                sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
        except NotFiniteError:
            sync.state.optimizer.undo_begin()
            places.append((k, sync.state.optimizer.t))
    assert (places[1:], sync.state.optimizer.t) == ([(2, 0)], 4)  # moments began anew


def check_take_back() -> None:
    """Where somebody dies in a round, it is begun again."""
    config = replace(PLAIN, sync_every=3, optimizer="momentum")
    sync, loader = begin("local", config)
    whole, _ = train("local", config, 1)
    for k, batch in enumerate(loader.epoch(1)):
        if k == 5:
            sync.backward(batch, RATE, sample=False)
            break
        sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
    sync.state.optimizer.undo_begin()
    assert (sync.take_back(), sync.take_back()) == (2, 0)
    sync.seek(3)
    for batch in loader.epoch(1, 3):
        sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
    same(sync.flat.param_vector, whole, "again")
    sync, loader = begin("local", replace(config, optimizer="adam"))
    for k, batch in enumerate(loader.epoch(1)):
        if k == 5:
            break
        sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
    assert isinstance(sync, LocalSync)
    assert (sync.take_back(), sync.state.optimizer.t) == (2, 3)


def check_other_parameters() -> None:
    """A bit of what ranks have in common flips on one: the round comes to nothing, and the step is taken again."""
    sync, loader = begin("local", replace(PLAIN, sync_every=3, outer_momentum=0.5))
    before, faults = sync.flat.param_vector.copy(), 0
    for k, batch in enumerate(loader.epoch(1)):
        if k == 1 and comm.rank == comm.size - 1:
            sync.state.common.view(np.uint8)[3] ^= 8
        while True:
            try:
                sync.step(batch, sync.backward(batch, RATE, sample=False), stop=False, sample=False)
                break
            except ReplicasDivergedError:
                faults += 1
                sync.state.optimizer.undo_begin()
                named, majority = sync.state.compare()
                if majority:
                    assert list(named) == [comm.size - 1], named
                sync.state.repair([comm.size - 1])
                same(sync.flat.param_vector, before, "repaired")
        assert sync.meter.open_steps == (0 if k in (2, 5, 6) else k % 3 + 1)
    assert faults == 1
    same(sync.flat.param_vector, comm.bcast(sync.flat.param_vector), "all ranks")
    same(sync.flat.param_vector, sync.state.common, "common")


check_one_step_a_round_is_allreduce()
check_rounds()
check_what_is_asked()
check_take_back()
check_a_round_that_is_not_finite("rank")
check_a_round_that_is_not_finite("node")
if comm.size > 1:
    check_other_parameters()
comm.Barrier()
if comm.rank == 0:
    print("ok", comm.size)
