"""Ways to sum across nodes: which ones there are, how one is chosen, and that all give the sum of one rank."""

import itertools
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from mpi4py import MPI

from common.config import SUM_ALGORITHMS, RunConfig
from common.errors import JobError, RankwiseError
from ps.sync import chosen_sum, mode_names, node_sum, shared_memory, sum_ways, wire
from ps.sync.modes import MODES
from ps.sync.node_sum import NodeWire
from ps.sync.shared_memory import Windows
from ps.sync.slices import Layout, Slice
from ps.sync.sum_ways import AUTO, WAYS, Chosen, Way, possible, worth_trying
from ps.sync.wire import MpichWire
from ps.text.run_facts import sum_lines
from tests.conftest import need
from tests.ranks import MPIRUN, PROGRAMS, SharedStart, finish, popen, program, records
from tests.test_modes import ORACLE, same_parameters
from workers.checkpoint.origin import Origin
from workers.launch import run_options
from workers.training.environment import are_bound
from workers.training.fit import check_fit


def on(nodes: int, largest: int) -> Any:
    return SimpleNamespace(comm=None, count=nodes, largest=largest, pretended=False, chosen={})


@pytest.fixture
def all_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sum_ways, "known_everywhere", lambda comm: ["library", "ring", "rabenseifner"])


def names(ways: list[Way]) -> list[str]:
    return [way.name for way in ways]


def test_the_option_takes_every_way() -> None:
    assert set(SUM_ALGORITHMS) == {AUTO, *WAYS}


@pytest.mark.usefixtures("all_known")
def test_what_is_tried_where() -> None:
    """The library's own way comes first: others must be clearly faster."""
    two_by_two, four_by_one = on(2, 2), on(4, 1)
    assert names(worth_trying(four_by_one, possible(four_by_one, in_memory=False, apart=True))) == [
        "library", "ring", "rabenseifner",
    ]  # fmt: skip
    assert names(worth_trying(two_by_two, possible(two_by_two, in_memory=True, apart=True))) == [
        "library", "node-all-library", "node-one-library", "ring",
    ]  # fmt: skip
    assert names(worth_trying(two_by_two, possible(two_by_two, in_memory=True, apart=False))) == [
        "node-all-library", "node-one-library",
    ]  # fmt: skip
    four_by_two = on(4, 2)
    assert "node-all-ring" in names(worth_trying(four_by_two, possible(four_by_two, in_memory=True, apart=False)))


def test_a_way_must_be_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [WAYS["library"], WAYS["ring"], WAYS["rabenseifner"]]
    monkeypatch.setattr(sum_ways, "_open_connections", lambda comm: None)
    comm: Any = None

    def chosen(**seconds: float) -> Chosen:
        monkeypatch.setattr(
            sum_ways, "_measure", lambda comm, name, budget, most, tick: [seconds[name] * 9, seconds[name]]
        )
        return sum_ways._fastest(comm, ways, lambda way, most: cast("Any", way.name), 1000, print)

    found = chosen(library=1.0, ring=0.95, rabenseifner=1.2)
    assert found.way.name == "library"
    assert [one["way"] for one in found.measured or ()] == ["ring", "library", "rabenseifner"]
    assert chosen(library=1.0, ring=0.8, rabenseifner=0.79).way.name == "ring"
    assert "library, measured at the start: ring 950 ms" in sum_lines(found.facts())[0]
    assert sum_lines(None) == []


@pytest.mark.parametrize(
    ("seconds", "most", "sums"),
    [
        ([0.01, 0.0004], 0.0016, 8),  # a first short sum says nothing
        ([0.2, 0.1], 0.05, 1),  # a long one does
        ([0.2, 0.1], 1.0, 3),
        ([0.6, 0.5], 9.0, 1),
        ([1e-5, 1e-5], 1.0, 21),
    ],
)
def test_how_often_a_way_is_tried(
    seconds: list[float], most: float, sums: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, done, ticks = [0.0], list[Any](), list[int]()

    def add() -> None:
        clock[0] += seconds[min(len(done), 1)]
        done.append(1)

    summing = SimpleNamespace(sum=add, close=lambda: done.append("closed"))
    comm: Any = SimpleNamespace(Barrier=lambda: None, Allreduce=lambda *_: None)
    monkeypatch.setattr(sum_ways, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    times = sum_ways._measure(comm, summing, 0.075, most, lambda: ticks.append(1))
    assert times == pytest.approx([seconds[0], *[seconds[1]] * (sums - 1)], rel=1e-3)
    assert done == [*[1] * sums, "closed"]
    assert len(ticks) == sums


@pytest.mark.parametrize(
    ("n_bytes", "bytes_per_s", "measured", "trials"),
    [
        (1000, 1e9, 4 << 20, 0),  # as it is
        (5 << 20, 1e9, 16 << 20, 1),  # all of it
        (1 << 30, 1e9, 16 << 20, 1),
        (1 << 30, 10e6, 4 << 20, 1),  # 0.42 s
    ],
)
def test_how_much_is_summed_to_measure(
    n_bytes: int, bytes_per_s: float, measured: int, trials: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little on a slow network, where whole packets would take minutes; each sum is a sign of life."""
    clock, ticks = [0.0], list[int]()
    comm: Any = SimpleNamespace(Barrier=lambda: None, Allreduce=lambda *_: None)
    monkeypatch.setattr(sum_ways, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def make(most_bytes: int) -> Any:
        def add() -> None:
            clock[0] += min(most_bytes, n_bytes) / bytes_per_s

        return SimpleNamespace(sum=add, close=lambda: None)

    assert sum_ways._enough(comm, make, n_bytes, lambda: ticks.append(1)) == measured
    assert len(ticks) == trials


@pytest.mark.usefixtures("all_known")
def test_who_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, then the run that is resumed, then a measurement, which is taken once for each kind of packet."""
    topology = on(2, 2)
    topology.comm, measured = None, []
    ways = possible(topology, in_memory=True, apart=True)

    def fastest(comm: Any, tried: list[Way], *_: Any) -> Chosen:
        measured.append(names(tried))
        return Chosen(WAYS["ring"], choice=True)

    monkeypatch.setattr(sum_ways, "_fastest", fastest)

    never: Any = None

    def took(wanted: str, kept: str = "", **about: Any) -> str:
        return sum_ways.choose(topology, wanted, ways, never, kind="packet", n_bytes=8, kept=kept, **about).way.name

    assert took("node-one-ring", kept="ring") == "node-one-ring"
    assert took(AUTO, kept="node-all-ring") == "node-all-ring"
    assert took(AUTO, measure=False) == "library"
    assert not measured
    assert took(AUTO, kept="not known here") == took(AUTO) == "ring"
    assert len(measured) == 1
    topology.pretended = True
    assert took(AUTO) == "library"
    without = possible(topology, in_memory=False, apart=True)
    with pytest.raises(JobError, match=r"node-all-ring is not possible here.*choose one of auto, library, ring"):
        sum_ways.choose(topology, "node-all-ring", without, never, kind="packet", n_bytes=8)
    lone = on(3, 1)  # where each node has one rank, who sends is the same
    assert (
        sum_ways.choose(
            lone, "node-one-ring", possible(lone, in_memory=False, apart=True), never, kind="", n_bytes=8
        ).way
        == (WAYS["ring"])
    )


def test_a_trial_takes_the_same_share_of_each_slice() -> None:
    """Of a model of many small layers and a large one, too; nodes agree, as they cut alike."""
    edges = [0, 8, 16, 24, 1024]
    slices = [Slice(a, b, i, 0, ()) for i, (a, b) in enumerate(itertools.pairwise(edges))]
    alone: Any = SimpleNamespace(local=SimpleNamespace(rank=0), count=2)
    summed: list[int] = []
    wire: Any = SimpleNamespace(between_bytes=lambda n, _: n, sum=lambda chunk: summed.append(len(chunk)))
    between: dict[int, Any] = dict.fromkeys(range(4))
    never: Any = None
    for most_bytes, parts in ((4096, [4, 4, 4, 500]), (8192, [8, 8, 8, 1000]), (1 << 20, [8, 8, 8, 1000])):
        way, make = WAYS["node-all-library"], lambda *_: wire
        del summed[:]
        NodeWire(alone, Layout(slices), [np.zeros(1024)], between, never, way, make, most_bytes).sum()
        assert summed == parts


def test_a_mode_has_its_own_algorithms() -> None:
    two_by_two = on(2, 2)
    found = possible(two_by_two, in_memory=True, apart=True, algorithms=MODES["reduce-bcast"].algorithms)
    assert names(found) == ["library", "node-all-library", "node-one-library"]


def test_an_algorithm_that_has_no_effect_is_refused_if_it_was_given() -> None:
    """Not the default, not for modes of which the fastest is taken, and not if the run that is resumed had it."""

    def check(mode: str, way: str, **origin: Any) -> None:
        check_fit(RunConfig(mode=mode, sum_algorithm=way), Origin(**origin), 2)

    said = "ring has no effect in mode {}; leave it out, or choose one of --mode allreduce, shared, factors"
    for mode in ("send-recv", "reduce-bcast"):
        with pytest.raises(JobError, match=said.format(mode)):
            check(mode, "ring")
    with pytest.raises(JobError, match="no effect in mode send-recv"):
        check("send-recv", "ring", folder="run", changes=[{"name": "sum_algorithm"}])
    check("send-recv", AUTO)
    check("reduce-bcast", "node-one-library")
    check("auto", "ring")
    check("send-recv", "ring", folder="run", changes=[{"name": "mode"}])


def test_who_asks_on_resume_for_auto_has_it_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_options, "saved_config", lambda resume, output: {"sum_algorithm": AUTO})

    def asked(*more: str, resume: str = "run") -> bool:
        config = run_options.parse(["--resume", resume, *more], mode_names.read())
        assert isinstance(config, RunConfig)
        return config.measure_sums

    assert not asked()
    assert asked("--sum-algorithm", AUTO)
    assert not asked("--sum-algorithm", "ring")
    assert not asked("--sum-algorithm", AUTO, resume="auto"), "a job that is queued again would have other bits"


def test_without_room_nothing_is_summed_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is asked for: then the message is that of the memory."""
    topology = on(2, 2)

    def no_room(*_: Any) -> None:
        raise JobError("shared memory: this node needs more")

    monkeypatch.setattr(node_sum, "NodeMemory", no_room)

    def allocate(**options: Any) -> Any:
        return chosen_sum.ChosenSum.allocate(topology, RunConfig(**options), 100, np.dtype(np.float64))

    assert allocate() is None
    with pytest.raises(JobError, match="this node needs more"):
        allocate(sum_algorithm="node-all-ring")


def test_memory_that_the_library_refuses_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise MPI.Exception(MPI.ERR_NO_MEM)

    windows = object.__new__(Windows)
    windows.local, windows._windows, windows._instead = None, [], "--sum-algorithm auto"  # type: ignore[assignment]
    fake = SimpleNamespace(Win=SimpleNamespace(Allocate_shared=refuse), Exception=MPI.Exception, INFO_NULL=None)
    monkeypatch.setattr(shared_memory, "MPI", fake)
    with pytest.raises(RankwiseError, match=r"cannot make it.*choose --sum-algorithm auto"):
        windows._window(4096)


def test_an_algorithm_is_set_for_a_sum_alone_even_if_it_fails() -> None:
    """A rank may die in it, and what the others agree on then must not be summed in the same way."""

    class Variable:
        value = 0

        def read(self) -> int:
            return self.value

        def write(self, value: int) -> None:
            self.value = value

    variable: Any = Variable()

    def fail(*_: Any) -> None:
        assert variable.value == 8
        raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        MpichWire(SimpleNamespace(Allreduce=fail), "ring", {variable: 8}).sum(np.zeros(1))  # type: ignore[arg-type]
    assert variable.value == 0


def test_only_what_all_ranks_know_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def summed(_: Any, values: np.ndarray, op: Any) -> None:
        assert op == MPI.MIN
        np.minimum(values, [1, 0, 1], out=values)  # of a rank whose environment rules one out

    comm: Any = SimpleNamespace(Allreduce=summed)
    monkeypatch.setattr(wire, "known_here", lambda: ["library", "ring"])
    assert wire.known_everywhere(comm) == ["library"]


def test_ranks_that_share_a_core_are_not_bound() -> None:
    assert are_bound(["a", "a", "b"], [[0], [1], [0]])
    assert not are_bound(["a", "a"], [[0, 1], [0, 1]])


ON_NODES = [
    (mode, ranks, per_node, way)
    for ranks, per_node in ((3, 2), (7, 3))
    for mode, way in (
        ("allreduce", "ring"), ("allreduce", "node-all-library"), ("allreduce", "node-one-ring"),
        ("shared", "node-one-library"), ("factors", "ring"),
    )
] + [("allreduce", 2, 0, "node-all-library")]  # fmt: skip


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SharedStart:
    jobs = {"oracle": (1, ["-m", "workers.run", *ORACLE])}
    for mode, ranks, per_node, way in ON_NODES:
        shape = ["--mode", mode, "--ranks-per-node", str(per_node), "--sum-algorithm", way]
        jobs[f"{mode}-{ranks}-{way}"] = (ranks, ["-m", "workers.run", *shape, *ORACLE])
    return SharedStart(tmp_path_factory.mktemp("sums"), jobs)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "ranks", "per_node", "way"), ON_NODES)
def test_equals_one_rank(batch: SharedStart, mode: str, ranks: int, per_node: int, way: str) -> None:
    run = batch.run(f"{mode}-{ranks}-{way}")
    same_parameters(run, batch.run("oracle"))
    header = records(run)[0]
    took = header["sync"]["sum"]["way"]
    assert took == way if mode != "factors" else took == f"node-all-{way}"
    if per_node:  # half of the nodes' packets twice, as over a real network
        epoch = next(record for record in records(run) if record["kind"] == "epoch")
        assert sum(epoch["sent_bytes"]) > 0
        assert header["timing"]["offset_error_s"] > 0


@pytest.mark.slow
def test_a_way_that_is_not_possible_is_told_with_those_that_are(job: Any, tmp_path: Path) -> None:
    result = job(2, "--elastic", "--sum-algorithm", "node-all-ring", "--epochs", "1")
    assert result.code == 2
    assert result.err.count("rankwise:") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_choice_by_measuring(tmp_path: Path) -> None:
    """Two nodes that are not marked as pretended; what was measured is kept for the next packet of that length."""
    assert program(4, "chosen_sum.py").out == "ok\n"


@pytest.mark.slow
def test_memory_that_others_take_meanwhile_ends_nothing() -> None:
    """It would by a signal where a page is written that is not there. ``auto`` sums without; else it is said."""
    need(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare (util-linux)")
    ranks = [MPIRUN, "-np", "4", sys.executable, str(PROGRAMS / "little_room.py")]
    mounted = 'mount -t tmpfs -o size=48m tmpfs /dev/shm && exec "$@"'
    result = finish(popen(["unshare", "--mount", "sh", "-c", mounted, "sh", *ranks]))
    assert result.code == 0, result.err
    said = "shared memory: no room is left in /dev/shm; end what else uses it, give it more room, or choose"
    assert result.out.count("\n") == 1  # which names the ranks, if others have got what there was
    assert result.out.endswith(f"{said} --sum-algorithm auto\n")
