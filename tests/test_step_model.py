"""What the model of a step predicts: numbers in, numbers out; and that it finds the constants it was given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.sync.mode import CostFormula
from ps.sync.modes import MODES
from workers.benchmark.step_model import Line, ModeCosts, Place, StepModel, fit_line, fit_work

COSTS = ModeCosts(Line(2e-6, 1e-10), Line(5e-5, 8e-9), 1e-5)
MODEL = StepModel(1e-4, 1e-5, dict.fromkeys(MODES, COSTS))


def test_messages_and_packets_between_nodes() -> None:
    assert MODES["allreduce"].cost.between(1, 0) == (0, 0)
    for mode in ("allreduce", "shared", "factors"):  # whatever the ranks of a node
        assert MODES[mode].cost.between(4, 3) == MODES[mode].cost.between(4, 192) == (4, 1.5)
    assert MODES["send-recv"].cost.between(4, 6) == (12, 6)
    plain = CostFormula(lambda ranks, nodes: (ranks, nodes), "P a + K m b")
    assert plain.between(4, 48) == (4, 1), "as many ranks as nodes"


def test_nodes_may_differ() -> None:
    assert (Place(8, 4).per_node, Place(8, 4).elsewhere) == (2, 6)
    first, last = Place(7, 3, largest=3, first=3), Place(7, 3, largest=3, first=1)
    assert (first.per_node, first.elsewhere, last.elsewhere) == (3, 4, 6)


def test_a_step_is_work_and_the_two_parts_of_its_sum() -> None:
    cost, n_bytes = MODES["shared"].cost, 4e6
    assert MODEL.step_s("shared", cost, Place(1), 100, n_bytes) == pytest.approx(1e-4 + 1e-3)
    inner = 4 * 2e-6 + 5 / 4 * n_bytes * 1e-10
    assert MODEL.step_s("shared", cost, Place(4), 100, n_bytes) == pytest.approx(1.1e-3 + inner)
    between = 2 * 5e-5 + n_bytes * 8e-9
    assert MODEL.step_s("shared", cost, Place(8, 2), 100, n_bytes) == pytest.approx(1.1e-3 + inner + between)
    apart = MODEL.step_s("shared", cost, Place(2, 2), 100, n_bytes)
    assert apart == pytest.approx(1.1e-3 + between), "nothing is summed within a node of one rank"


def test_ranks_without_a_core_take_turns() -> None:
    cost, n_bytes = MODES["allreduce"].cost, 4e6
    room, crowd = Place(8, 2, cores=4), Place(8, 2, cores=1)
    assert (room.crowd, room.waiting, crowd.crowd, crowd.waiting) == (1, 0, 4, 3)
    hosts_of_one_machine = Place(8, 2, cores=2, sharing=8)
    assert (hosts_of_one_machine.crowd, hosts_of_one_machine.waiting) == (4, 6)
    assert MODEL.work_s(100, crowd) == 4 * MODEL.work_s(100, room)
    inner = 2 * 3 / 4 * n_bytes * 1e-10
    more = COSTS.sum_s(cost, crowd, n_bytes) - COSTS.sum_s(cost, room, n_bytes)
    assert more == pytest.approx(3 * inner + 3 * 1e-5), "the wire does not wait for cores"


def test_efficiency_of_weak_and_strong_scaling() -> None:
    cost, free = MODES["allreduce"].cost, StepModel(0.0, 1e-5, {"allreduce": ModeCosts()})
    assert free.efficiency("allreduce", cost, Place(64, 4), 10, 4e6) == pytest.approx((1, 1))
    fixed = StepModel(1e-3, 1e-5, {"allreduce": ModeCosts()})
    weak, strong = fixed.efficiency("allreduce", cost, Place(10), 100, 4e6)
    assert weak == pytest.approx(1), "each rank does what one alone would do"
    assert strong == pytest.approx((1e-3 + 1e-2) / (10 * (1e-3 + 1e-3))), "what goes with no row is done by each"


SECONDS = st.floats(1e-9, 1e-2)


@given(SECONDS, SECONDS, st.tuples(st.integers(1, 12), st.floats(0.5, 10)))
def test_constants_are_found(latency_s: float, per_kb: float, terms: tuple[float, float]) -> None:
    line = Line(latency_s, per_kb / 1e3)
    found = fit_line(terms, {n: line.seconds(terms, n) for n in (4_000, 400_000)})
    for n in (4_000, 100_000, 1_000_000):
        assert found.seconds(terms, n) == pytest.approx(line.seconds(terms, n), rel=1e-5)


@given(st.dictionaries(st.integers(1, 10**9), st.floats(1e-7, 10), min_size=2, max_size=5))
def test_nothing_is_fitted_below_0(seconds: dict[int, float]) -> None:
    assert min(fit_work(seconds)) >= 0
    line = fit_line((2, 1.5), seconds)
    assert min(line.latency_s, line.s_per_byte) >= 0
    assert line.seconds((2, 1.5), max(seconds)) > 0


def test_one_rank_has_nothing_to_fit() -> None:
    assert fit_line((0, 0), {4: 1.0}) == Line()
